// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {CommonsFund} from "../src/CommonsFund.sol";
import {Cover} from "../src/Cover.sol";
import {DisputeTypes} from "../src/DisputeTypes.sol";
import {Disputes} from "../src/Disputes.sol";
import {FeeSplitter} from "../src/FeeSplitter.sol";
import {Ledger} from "../src/Ledger.sol";
import {LedgerTypes} from "../src/LedgerTypes.sol";
import {Registry} from "../src/Registry.sol";
import {Disputing} from "./kit/Disputing.sol";

contract StakeThreatsTest is Disputing {
    function test_disputeSpamCostsABondEachTime() public {
        for (uint256 i = 0; i < 3; ++i) {
            uint256 id = _dispute(STAKE, bytes32(i));
            _answer(id);
            _draw(id);
            _rule(id, 0, false);
            _rule(id, 1, false);
        }

        vm.assertEq(token.balanceOf(CHALLENGER), 1000e6 - 3 * BOND);
        vm.assertEq(_credit(challenger), 0);
        vm.assertEq(_credit(provider), 3 * (BOND + BOND / 2));
        vm.assertEq(registry.stakeOf(provider), STAKE);
    }

    function test_stakeIsNotWithdrawnBeforeASlash() public {
        vm.prank(PROVIDER_PAYOUT);
        registry.requestUnbonding(provider, STAKE);
        vm.warp(NOW + 14 days - 1);
        uint256 id = _dispute();
        vm.warp(NOW + 14 days);

        vm.expectRevert(abi.encodeWithSelector(Registry.DisputesOpen.selector, provider, STAKE));
        registry.withdraw(provider);
        _late(id);
        disputes.advance(id);
        vm.assertEq(_of(id).amount, STAKE);
        vm.assertEq(registry.stakeOf(provider), 0);
    }

    function test_aSelfSlashLosesMoreThanAThird() public {
        uint256 id = _dispute();
        vm.prank(PROVIDER_PAYOUT);
        disputes.concede(id);

        // Renter, challenger and provider may be one.
        vm.assertEq(_balance(renter) + _credit(challenger) - BOND, STAKE * 65 / 100);
        vm.assertEq(_credit(commons.payee()), STAKE * 35 / 100);
    }

    /// The limit of judging by peers: a quorum of drawn seats that lie together takes an honest stake, keeps its part
    /// and risks nothing but that it is not drawn.
    function test_twoColludingSeatsOfThreeWin() public {
        uint256 id = _drawn();
        uint32[] memory drawn = _of(id).referees;

        _rule(id, 0, true);
        _rule(id, 1, true);

        vm.assertEq(registry.stakeOf(provider), 0);
        vm.assertEq(_credit(drawn[0]), 2.5e6 + 7.5e6);
        vm.assertEq(registry.stakeOf(drawn[0]), MINIMUM_BOND);
    }

    function test_oneColludingSeatOfThreeDoesNothing() public {
        uint256 id = _drawn();

        _rule(id, 0, true);
        _rule(id, 1, false);
        _rule(id, 2, false);

        vm.assertEq(registry.stakeOf(provider), STAKE);
        vm.assertEq(_credit(_of(id).referees[0]), 0);
    }

    /// Of 5 honest and n bought seats: to get two of three more often than not takes as many as there are honest ones,
    /// each with a bond that stays for 14 days.
    function test_aBondedMajorityIsNeededToWinMoreOftenThanNot() public {
        vm.assertLe(_winsOf(2), 50, "2 of 7 seats: expected 14 of 100");
        _enlistJudges(5);
        vm.assertGe(_winsOf(7), 50, "7 of 12 seats: expected 64 of 100");
    }

    /// In how many of 100 draws two of three are among the last so many who enlisted.
    function _winsOf(uint256 bought) private returns (uint256 wins) {
        if (judges.length == 5) _enlistJudges(bought);
        uint256 id = _dispute(1, bytes32(bought));
        _answer(id);
        uint256 state = vm.snapshotState();
        for (uint256 i = 1; i <= 100; ++i) {
            vm.roll(i * 300 + 1000);
            disputes.draw(id);
            _draw(id);
            if (_boughtIn(id, judges[judges.length - bought]) >= 2) ++wins;
            vm.revertToState(state);
            state = vm.snapshotState();
        }
    }

    function _boughtIn(uint256 id, uint32 first) private view returns (uint256 seats) {
        for (uint256 i = 0; i < 3; ++i) {
            if (_of(id).referees[i] >= first) ++seats;
        }
    }

    function test_timestampDriftDecidesOnlyWhoIsJustInTime() public {
        uint256 id = _dispute();
        uint256 state = vm.snapshotState();
        vm.warp(NOW + 24 hours - 15);
        _answer(id);
        vm.revertToState(state);

        vm.warp(NOW + 24 hours + 15);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.TooLate.selector, NOW + 24 hours));
        _answer(id);
        disputes.advance(id);
        _assertClosed(id, DisputeTypes.Outcome.Unanswered);
    }
}

contract RoleThreatsTest is Disputing {
    address private constant THIEF = address(0x7418F);

    struct Call {
        address to;
        bytes data;
    }

    function setUp() public override {
        super.setUp();
        _deposit(renter, 100e6);
        _settle(_statement(7, 10e6));
        token.mint(address(commons), 10e6);
    }

    function test_theSlasherIsSwappedInSevenDaysAndInSight() public {
        bytes memory swap = abi.encodeCall(AccessManager.grantRole, (SLASHER_ROLE, THIEF, 0));
        vm.startPrank(MULTISIG);
        vm.expectRevert();
        manager.grantRole(SLASHER_ROLE, THIEF, 0);
        manager.schedule(address(manager), swap, 0);
        vm.warp(NOW + 7 days - 1);
        vm.expectRevert();
        manager.execute(address(manager), swap);

        vm.warp(NOW + 7 days);
        manager.execute(address(manager), swap);
        (bool slasher,) = manager.hasRole(SLASHER_ROLE, THIEF);
        vm.assertEq(slasher, true);
    }

    function test_adminDoesNothingAtOnce() public {
        Call[] memory calls = _restricted();

        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(THIEF);
            (bool ok, bytes memory why) = calls[i].to.call(calls[i].data);
            vm.assertEq(ok, false);
            vm.assertEq(bytes32(bytes4(why)), bytes32(IAccessManaged.AccessManagedUnauthorized.selector));
            vm.prank(MULTISIG);
            (ok,) = calls[i].to.call(calls[i].data);
            vm.assertEq(ok, false);
        }
    }

    function test_noRoleLowersABalance() public {
        for (uint64 role = 1; role <= 5; ++role) {
            _asAdmin(address(manager), abi.encodeCall(AccessManager.grantRole, (role, THIEF, 0)));
        }
        uint256 id = _atArbiter();
        _bond(provider, 10e6);
        Call[] memory calls = _restricted();
        calls[7].data = abi.encodeCall(Disputes.arbitrate, (id, true));
        uint256[] memory before = _standing();

        for (uint256 i = 0; i < calls.length - 2; ++i) {
            vm.prank(THIEF);
            (bool ok,) = calls[i].to.call(calls[i].data);
            vm.assertEq(ok, true);
            _assertNoLess(_standing(), before);
        }
        for (uint256 i = calls.length - 2; i < calls.length; ++i) {
            _asAdmin(calls[i].to, calls[i].data);
            _assertNoLess(_standing(), before);
        }
    }

    function test_underAnotherAuthorityPaymentsAndExitsGoOn() public {
        AccessManager hostile = new AccessManager(THIEF);
        _asAdmin(address(manager), abi.encodeCall(AccessManager.updateAuthority, (address(ledger), address(hostile))));
        vm.prank(THIEF);
        ledger.setPaused(true);
        vm.warp(NOW + 8 days);

        _settle(_statement(RENTER_SECRET, 8, NOW + 9 days, _line(10e6)));
        ledger.collect(provider);
        vm.prank(OWNER);
        ledger.requestWithdrawal(renter, 80e6);
        vm.warp(NOW + 9 days);

        vm.assertEq(ledger.withdraw(renter), 80e6);
        vm.assertEq(token.balanceOf(PROVIDER_PAYOUT), 1000e6 + 2 * 9.4e6);
    }

    function test_donationsAreNobodys() public {
        uint256[] memory before = _standing();
        token.mint(address(ledger), 5e6);
        token.mint(address(registry), 5e6);
        token.mint(address(disputes), 5e6);

        _bond(provider, 1e6);
        _deposit(renter, 1e6);
        uint256 id = _dispute();
        vm.prank(PROVIDER_PAYOUT);
        disputes.concede(id);

        vm.assertEq(_balance(renter), before[0] + 1e6 + STAKE / 2);
        vm.assertEq(registry.stakeOf(provider), 1e6);
        vm.assertEq(token.balanceOf(address(disputes)), 5e6);
    }

    /// Every function that a role restricts; the last two are ADMIN's own.
    function _restricted() private view returns (Call[] memory calls) {
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](1);
        awards[0] = LedgerTypes.Award(address(0), verifier, 1);
        calls = new Call[](10);
        calls[0] = Call(address(ledger), abi.encodeCall(Ledger.setPaused, (true)));
        calls[1] = Call(address(registry), abi.encodeCall(Registry.setPaused, (true)));
        calls[2] = Call(address(disputes), abi.encodeCall(Disputes.setPaused, (true)));
        calls[3] = Call(address(registry), abi.encodeCall(Registry.slash, (provider, awards, 0)));
        calls[4] = Call(address(registry), abi.encodeCall(Registry.lock, (provider, 1)));
        calls[5] = Call(address(registry), abi.encodeCall(Registry.unlock, (provider, 1)));
        calls[6] = Call(address(commons), abi.encodeCall(CommonsFund.grant, (awards, 0)));
        calls[7] = Call(address(disputes), abi.encodeCall(Disputes.arbitrate, (1, true)));
        calls[8] = Call(address(registry), abi.encodeCall(Registry.setMinimumBond, (type(uint96).max)));
        calls[9] = Call(address(splitter), abi.encodeCall(FeeSplitter.setTerms, (THIEF, 0)));
    }

    /// The renter's balance and everybody's credit.
    function _standing() private view returns (uint256[] memory list) {
        list = new uint256[](1 + ledger.payeeCount());
        list[0] = _balance(renter);
        for (uint32 id = 0; id + 1 < list.length; ++id) {
            list[id + 1] = _credit(id);
        }
    }

    function _assertNoLess(uint256[] memory list, uint256[] memory before) private pure {
        for (uint256 i = 0; i < list.length; ++i) {
            vm.assertGe(list[i], before[i], "a balance or credit fell");
        }
    }

    function _asAdmin(address to, bytes memory data) private {
        vm.startPrank(MULTISIG);
        manager.schedule(to, data, 0);
        vm.warp(block.timestamp + ADMIN_DELAY);
        manager.execute(to, data);
        vm.stopPrank();
    }
}

contract PaymentThreatsTest is Disputing {
    function setUp() public override {
        super.setUp();
        _deposit(renter, 100e6);
    }

    /// Renter, provider and coordinator are one, and leave with the bond before its unbonding is over.
    function test_aCoordinatorThatClaimsFromItselfLosesHalf() public {
        _bondCover();

        cover.claimUnfunded(_statement(7, 900e6), _reservation(OPERATOR_SECRET, renter, 7, 900e6, 900e6));

        vm.assertEq(_credit(provider), 25e6);
        vm.assertEq(_credit(commons.payee()), 25e6);
        vm.assertEq(token.balanceOf(address(cover)), 0);
    }

    function test_anOvercommittedBalanceIsMadeGoodFromTheBond() public {
        _bondCover();
        LedgerTypes.Reservation memory first = _reservation(OPERATOR_SECRET, renter, 7, 100e6, 90e6);
        LedgerTypes.Reservation memory next = _reservation(OPERATOR_SECRET, renter, 8, 100e6, 20e6);
        bytes memory unfunded = _statement(8, 20e6);

        ledger.settleReserved(_statement(7, 90e6), first);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.StatementRejected.selector, LedgerTypes.Skip.Unfunded));
        ledger.settleReserved(unfunded, next);
        cover.claimUnfunded(unfunded, next);

        vm.assertEq(_credit(provider), 90e6 * 94 / 100 + 20e6);
    }

    function test_aCensoringCoordinatorIsGoneAround() public {
        vm.prank(operator);
        ledger.settle(coordinator, ""); // it settles, but never this statement

        vm.prank(PROVIDER_PAYOUT);
        ledger.settleReserved(_statement(7, 10e6), _reservation(OPERATOR_SECRET, renter, 7, 10e6, 10e6));

        vm.assertEq(_credit(provider), 9.4e6);
    }

    function test_settlingAnOlderStatementIsPaidForFromTheBond() public {
        _bondCover();
        uint160 before = ledger.history();
        bytes memory older = _statement(7, 1e6);

        _settle(older);
        cover.record();
        cover.claimUnderpaid(
            Cover.Settled(older, 0, new uint256[](0), before, new bytes32[](0)),
            _reservation(OPERATOR_SECRET, renter, 7, 10e6, 10e6)
        );

        vm.assertEq(_credit(provider), 0.94e6 + 9e6);
    }

    /// The contracts can't know which recipe ran. A coordinator refuses by not settling; but a reservation that it signed
    /// lets the two who gain settle a line with another recipe.
    function test_aLineThatNamesAFreeRecipePaysNoRoyalty() public {
        uint32 free = ledger.addRecipe(author, 0, 0);
        bytes memory statement = _statement(RENTER_SECRET, 7, FAR, _line(provider, verifier, free, 10e6));

        ledger.settleReserved(statement, _reservation(renter, 7, 10e6));

        vm.assertEq(_credit(author), 0);
        vm.assertEq(_credit(verifier), 0);
        vm.assertEq(_credit(provider), 9.9e6);
    }

    function testFuzz_aProviderKeepsItsPartWhateverTheRecipe(uint96 amount, uint16 royalty, uint16 share) public {
        amount = uint96(bound(amount, 1, 100e6));
        uint32 worst = ledger.addRecipe(author, uint16(bound(royalty, 0, 500)), uint16(bound(share, 0, 2000)));

        _settle(_statement(RENTER_SECRET, 7, FAR, _line(provider, verifier, worst, amount)));

        vm.assertGe(_credit(provider), uint256(amount) * (10_000 - 100 - 500 - 2000) / 10_000, "74 % at least");
        vm.assertEq(_credit(provider) + _credit(author) + _credit(verifier) + _credit(0), amount);
    }

    /// With anybody's signature but the renter's, its own above all.
    function testFuzz_theCoordinatorAloneRaisesNobody(uint256 secret, uint32 nonce, uint96 amount, bytes calldata junk)
        public
    {
        secret = bound(secret, 1, type(uint128).max);
        vm.assume(secret != RENTER_SECRET);
        bytes memory real = _statement(nonce, amount);
        real[real.length - 1] ^= 0x01;
        bytes memory batch = bytes.concat(_statement(secret, nonce, FAR, _line(amount)), real);
        bytes32 before = _books();

        (uint256 paid,) = _settle(batch);
        vm.prank(operator);
        try ledger.settle(coordinator, junk) {} catch {}

        vm.assertEq(paid, 0);
        vm.assertEq(_books(), before);
    }

    function test_aFormerOperatorSettlesNoMore() public {
        LedgerTypes.Reservation memory reservation = _reservation(renter, 7, 10e6);
        vm.prank(operator);
        ledger.setOperator(coordinator, address(0x2));
        bytes memory statement = _statement(7, 1e6);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotOperator.selector, coordinator, operator));
        vm.prank(operator);
        ledger.settle(coordinator, statement);
        ledger.settleReserved(statement, reservation);
        vm.assertEq(_credit(provider), 0.94e6);
    }

    function test_aStolenPayoutKeyMovesTheCreditAlong() public {
        _settle(_statement(7, 10e6));
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotPayout.selector, provider, address(0xBAD)));
        vm.prank(address(0xBAD));
        ledger.setPayout(provider, address(0xBAD));

        vm.prank(PROVIDER_PAYOUT); // whoever has its key
        ledger.setPayout(provider, address(0xBAD));

        vm.assertEq(_credit(provider), 9.4e6);
        ledger.collect(provider);
        vm.assertEq(token.balanceOf(address(0xBAD)), 9.4e6);
    }

    function _bondCover() private {
        token.mint(address(this), 50e6);
        token.approve(address(cover), 50e6);
        cover.bond(coordinator, 50e6);
    }
}
