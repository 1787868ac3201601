// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Cover} from "../src/Cover.sol";
import {Ledger} from "../src/Ledger.sol";
import {LedgerTypes} from "../src/LedgerTypes.sol";
import {TruncatedStatement} from "../src/libraries/Statement.sol";
import {Covered} from "./kit/Covered.sol";
import {MoodyToken, ReenteringToken} from "./kit/OddTokens.sol";

contract BondTest is Covered {
    function test_aBondIsForARealCoordinator() public {
        vm.expectRevert(abi.encodeWithSelector(Cover.UnknownCoordinator.selector, 99));
        cover.bond(99, 1);
    }

    function test_aTokenThatKeepsAFeeBondsWhatArrives() public {
        MoodyToken odd = new MoodyToken();
        _deploy(odd);
        cover = new Cover(ledger, 0);
        coordinator = ledger.addCoordinator();
        odd.mint(address(this), 100);
        odd.approve(address(cover), 100);
        odd.setFee(true);

        cover.bond(coordinator, 100);

        vm.assertEq(_payable(), 45);
    }

    /// Called again in a token's transfer, bonds would count what comes and goes there twice.
    function test_aTokenThatReentersGainsNothing() public {
        ReenteringToken odd = new ReenteringToken();
        _deploy(odd);
        cover = new Cover(ledger, 0);
        coordinator = ledger.addCoordinator();
        odd.mint(address(this), 2);
        odd.approve(address(cover), 2);
        LedgerTypes.Reservation memory reservation;
        Cover.Settled memory settled;
        bytes[4] memory calls = [
            abi.encodeCall(Cover.bond, (coordinator, 1)),
            abi.encodeCall(Cover.withdraw, (coordinator)),
            abi.encodeCall(Cover.claimUnfunded, ("", reservation)),
            abi.encodeCall(Cover.claimUnderpaid, (settled, reservation))
        ];

        for (uint256 i = 0; i < calls.length; ++i) {
            odd.arm(Ledger(address(cover)), calls[i]);
            vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
            cover.bond(coordinator, 1);
        }
        vm.assertEq(_payable(), 0);
    }

    function test_bondsStayCountable() public {
        _bondCover(type(uint96).max - 2 * COVER);
        token.mint(address(this), 1);
        token.approve(address(cover), 1);

        vm.expectRevert(abi.encodeWithSelector(Cover.TokenTooLarge.selector, 2 ** 96));
        cover.bond(coordinator, 1);
    }

    function test_onlyTheOperatorUnbondsAndNoMoreThanItsBond() public {
        vm.expectRevert(abi.encodeWithSelector(Cover.NotOperator.selector, coordinator, address(this)));
        cover.requestUnbonding(coordinator, 1);
        vm.expectRevert(abi.encodeWithSelector(Cover.BondTooLow.selector, coordinator, 2 * COVER, 2 * COVER + 1));
        vm.prank(operator);
        cover.requestUnbonding(coordinator, 2 * COVER + 1);
    }

    function test_whatIsUnbondingIsNotBondedAnyMore() public {
        vm.startPrank(operator);
        cover.requestUnbonding(coordinator, 30e6);
        _assertBond(2 * COVER - 30e6, 30e6);
        cover.requestUnbonding(coordinator, 2 * COVER - 30e6);
        _assertBond(0, 2 * COVER);

        vm.expectRevert(abi.encodeWithSelector(Cover.BondTooLow.selector, coordinator, 0, 1));
        cover.requestUnbonding(coordinator, 1);
    }

    function test_aBondLeavesTwoWeeksAfterTheLastRequest() public {
        vm.startPrank(operator);
        cover.requestUnbonding(coordinator, 30e6);
        vm.warp(NOW + 1 days);
        vm.expectEmit();
        emit Cover.UnbondingRequested(coordinator, 10e6, NOW + 15 days);
        cover.requestUnbonding(coordinator, 10e6);
        vm.warp(NOW + 15 days - 1);
        vm.expectRevert(abi.encodeWithSelector(Cover.StillLocked.selector, coordinator, NOW + 15 days));
        cover.withdraw(coordinator);

        vm.warp(NOW + 15 days);
        vm.assertEq(cover.withdraw(coordinator), 40e6);
        vm.assertEq(token.balanceOf(operator), 40e6);
        vm.expectRevert(abi.encodeWithSelector(Cover.NothingUnbonding.selector, coordinator));
        cover.withdraw(coordinator);
    }

    function test_anybodyRecordsTheHistory() public {
        _fund(RENTER_SECRET, 100e6);
        _settle(_statement(7, 10e6));
        uint160 history = ledger.history();
        vm.assertEq(cover.recorded(history), false);

        vm.expectEmit();
        emit Cover.Recorded(history);
        vm.prank(address(0xA11));
        cover.record();

        vm.assertEq(cover.recorded(history), true);
        _settle(_statement(8, 10e6));
        vm.assertEq(cover.recorded(ledger.history()), false);
    }
}

/// The renter has 10; most statements ask for more.
contract UnfundedTest is Covered {
    function setUp() public override {
        super.setUp();
        _fund(RENTER_SECRET, 10e6);
    }

    // ------------------------------------------------------------------------------------------- what is refused

    function test_aReservationThatTheOperatorDidNotSignIsRefused() public {
        LedgerTypes.Reservation memory forged = _reservation(RENTER_SECRET, renter, 7, 50e6, 40e6);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, operator));
        cover.claimUnfunded(_statement(7, 40e6), forged);
    }

    function test_whatIsNoStatementIsRefused() public {
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 40e6);

        vm.expectPartialRevert(TruncatedStatement.selector);
        cover.claimUnfunded("", reservation);
    }

    function test_aStatementCountsToItsLastSecond() public {
        bytes memory statement = _statement(7, 40e6);
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 40e6);
        vm.warp(FAR + 1);

        vm.expectRevert(abi.encodeWithSelector(Cover.Expired.selector, FAR));
        cover.claimUnfunded(statement, reservation);
        vm.warp(FAR);
        vm.assertEq(cover.claimUnfunded(statement, reservation), 40e6);
    }

    function test_aUsedNonceIsRefused() public {
        _settle(_statement(7, 1e6));
        bytes memory statement = _statement(7, 40e6);
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 40e6);

        vm.expectRevert(abi.encodeWithSelector(Cover.NonceUsed.selector, 7));
        cover.claimUnfunded(statement, reservation);
    }

    function test_onlyTheAccountsOwnCoordinatorAnswersForIt() public {
        vm.prank(vm.addr(0x07E8));
        ledger.addCoordinator();
        LedgerTypes.Reservation memory others = _reservation(0x07E8, renter, 7, 50e6, 40e6);
        bytes memory statement = _statement(7, 40e6);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, operator));
        cover.claimUnfunded(statement, others);
    }

    /// It has 24 hours to settle before.
    function test_aWithdrawalIsNoExcuse() public {
        _withdraw(NOW, 5e6);
        bytes memory statement = _statement(RENTER_SECRET, 7, NOW + 3 days, _line(8e6));

        vm.assertEq(cover.claimUnfunded(statement, _promise(7, 8e6, 8e6)), 8e6);
    }

    function test_aTotalAboveTheCapIsRefused() public {
        bytes memory statement = _statement(7, 50e6 + 1);
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 40e6);

        vm.expectRevert(abi.encodeWithSelector(Cover.CapExceeded.selector, 50e6 + 1, 50e6));
        cover.claimUnfunded(statement, reservation);
        vm.assertEq(cover.claimUnfunded(_statement(7, 50e6), reservation), 40e6);
    }

    function test_aTotalThatTheBalanceCoversIsRefused() public {
        bytes memory statement = _statement(7, 10e6);
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 40e6);

        vm.expectRevert(abi.encodeWithSelector(Cover.Funded.selector, 10e6, 10e6));
        cover.claimUnfunded(statement, reservation);
        vm.assertEq(cover.claimUnfunded(_statement(7, 10e6 + 1), reservation), 10e6 + 1);
    }

    function test_whereNothingWasAcceptedNothingIsDue() public {
        bytes memory statement = _statement(7, 40e6);
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 0);

        vm.expectRevert(abi.encodeWithSelector(Cover.NothingDue.selector, 0, 0));
        cover.claimUnfunded(statement, reservation);
    }

    function test_aStatementThatPaysOthersIsNoProof() public {
        bytes memory statement = _statement(RENTER_SECRET, 7, FAR, _line(author, verifier, recipe, 40e6));
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 40e6);

        vm.expectRevert(abi.encodeWithSelector(Cover.NothingDue.selector, 0, 0));
        cover.claimUnfunded(statement, reservation);
    }

    function test_whereNoBondIsLeftNothingIsPaid() public {
        cover.claimUnfunded(_statement(7, 100e6), _promise(7, 100e6, 100e6));
        bytes memory statement = _statement(8, 40e6);
        LedgerTypes.Reservation memory reservation = _promise(8, 50e6, 40e6);

        vm.expectRevert(abi.encodeWithSelector(Cover.NoBond.selector, coordinator));
        cover.claimUnfunded(statement, reservation);
    }

    // ---------------------------------------------------------------------------------------------- what is paid

    function test_anybodyClaimsForTheProvider() public {
        bytes memory statement = _statement(7, 40e6);
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 40e6);

        vm.expectEmit();
        emit Cover.Claimed(coordinator, provider, renter, 7, 40e6);
        vm.prank(address(0xA11));
        cover.claimUnfunded(statement, reservation);

        vm.assertEq(_credit(provider), 40e6);
        vm.assertEq(_credit(commons.payee()), 40e6);
        vm.assertEq(_payable(), COVER - 40e6);
        vm.assertEq(_balance(renter), 10e6);
        vm.assertEq(ledger.nonceUsed(renter, 7), false);
    }

    function test_aClaimIsWhatTheStatementGives() public {
        bytes memory lines = bytes.concat(_line(12e6), _line(author, verifier, recipe, 9e6), _line(3e6));

        vm.assertEq(cover.claimUnfunded(_statement(RENTER_SECRET, 7, FAR, lines), _promise(7, 50e6, 40e6)), 12e6 + 3e6);
    }

    function test_aClaimIsAtMostWhatWasAccepted() public {
        vm.assertEq(cover.claimUnfunded(_statement(7, 40e6), _promise(7, 50e6, 2e6)), 2e6);
    }

    function test_whatTheBondLacksIsPaidWhenThereIsBondAgain() public {
        bytes memory statement = _statement(7, 130e6);
        LedgerTypes.Reservation memory reservation = _promise(7, 150e6, 120e6);
        vm.assertEq(cover.claimUnfunded(statement, reservation), COVER);
        _bondCover(2 * 50e6);

        vm.assertEq(cover.claimUnfunded(statement, reservation), 120e6 - COVER);

        vm.expectRevert(abi.encodeWithSelector(Cover.NothingDue.selector, 120e6, 120e6));
        cover.claimUnfunded(statement, reservation);
        vm.assertEq(_credit(provider), 120e6);
        vm.assertEq(_payable(), COVER + 50e6 - 120e6);
    }

    function test_whenMoreWasAcceptedTheDifferenceIsPaid() public {
        cover.claimUnfunded(_statement(7, 20e6), _promise(7, 50e6, 15e6));

        vm.assertEq(cover.claimUnfunded(_statement(7, 40e6), _promise(7, 50e6, 40e6)), 25e6);
        vm.assertEq(_credit(provider), 40e6);
    }

    function test_anOlderReservationClaimsNothingMore() public {
        cover.claimUnfunded(_statement(7, 40e6), _promise(7, 50e6, 40e6));
        bytes memory older = _statement(7, 20e6);
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 15e6);

        vm.expectRevert(abi.encodeWithSelector(Cover.NothingDue.selector, 15e6, 40e6));
        cover.claimUnfunded(older, reservation);
    }

    function test_aBondThatIsUnbondingAnswers() public {
        vm.prank(operator);
        cover.requestUnbonding(coordinator, 2 * COVER - 10e6);

        vm.assertEq(cover.claimUnfunded(_statement(7, 40e6), _promise(7, 50e6, 40e6)), 40e6);

        _assertBond(0, 2 * COVER - 80e6);
        vm.warp(NOW + 14 days);
        vm.assertEq(cover.withdraw(coordinator), 2 * COVER - 80e6);
        vm.assertEq(token.balanceOf(address(cover)), 0);
    }

    /// What is paid is never more than accepted, the statement's part or the stake, and conserves money.
    function testFuzz_aClaimIsBounded(uint96 balance, uint96 total, uint96 cap, uint96 accepted) public {
        total = uint96(bound(total, 0, 1e12));
        cap = uint96(bound(cap, 0, 1e12));
        _deposit(renter, bound(balance, 0, 1e12));
        uint256 held = token.balanceOf(address(cover)) + token.balanceOf(address(ledger));

        try cover.claimUnfunded(_statement(7, total), _promise(7, cap, accepted)) returns (uint256 paid) {
            vm.assertEq(paid, _least(total, accepted, COVER));
            vm.assertTrue(total <= cap && total > _balance(renter), "unfunded within the cap");
        } catch {
            vm.assertTrue(total > cap || total <= _balance(renter) || accepted == 0, "nothing was wrong");
        }

        vm.assertEq(_credit(provider) + _payable(), COVER);
        vm.assertEq(token.balanceOf(address(cover)) + token.balanceOf(address(ledger)), held);
    }

    function _withdraw(uint40 from, uint96 amount) private {
        vm.prank(OWNER);
        ledger.requestWithdrawal(renter, amount);
        vm.warp(from + 24 hours);
        ledger.withdraw(renter);
    }

    function _least(uint256 a, uint256 b, uint256 c) private pure returns (uint256 least) {
        least = a < b ? a : b;
        if (c < least) least = c;
    }
}
