// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LedgerTypes} from "../../src/LedgerTypes.sol";
import {DisputeTypes} from "../../src/DisputeTypes.sol";
import {Registry} from "../../src/Registry.sol";
import {Institutions} from "../kit/Institutions.sol";

interface Blocks {
    function roll(uint256 number) external;
}

/// Attacks that once worked.
contract FindingsTest is Institutions {
    address private constant CHEAT = address(0xC4EA7);
    address private constant SOCK = address(0x50C);
    address private constant CHALLENGER = address(0xC4A1);
    uint96 private constant STAKE = 1000e6;

    function setUp() public override {
        super.setUp();
        _fund(RENTER_SECRET, 100e6);
    }

    // --------------------------------------------------------------------------------------- reservations

    function test_twoRotationsDoNotVoidAReservation() public {
        bytes memory statement = _statement(7, 10e6);
        LedgerTypes.Reservation memory backing = _reservation(OPERATOR_SECRET, renter, 7, 10e6, 10e6);

        vm.prank(operator);
        ledger.setOperator(coordinator, address(0xA));
        vm.prank(address(0xA));
        ledger.setOperator(coordinator, address(0xB));

        vm.assertEq(ledger.settleReserved(statement, backing), 10e6);
    }

    /// The provider's call is public before it is mined; its renter answers with a smaller statement of its own.
    function test_aRenterCannotUseAReservationToUnderpay() public {
        LedgerTypes.Reservation memory backing = _reservation(OPERATOR_SECRET, renter, 7, 10e6, 10e6);
        bytes memory real = _statement(7, 10e6);
        bytes memory tiny = _statement(RENTER_SECRET, 7, NOW, _line(1));

        vm.prank(address(0xF407));
        try ledger.settleReserved(tiny, backing) {} catch {}
        try ledger.settleReserved(real, backing) {} catch {}

        vm.assertEq(_credit(provider), 9.4e6);
    }

    /// When a statement can be forced is the coordinator's to say: a deadline is the renter's.
    function test_aProviderThatLeftCannotUseUpTheNonceEarly() public {
        vm.warp(NOW - 1);
        LedgerTypes.Reservation memory left = _reservation(OPERATOR_SECRET, renter, 7, 10e6, 0);
        bytes memory real = _statement(RENTER_SECRET, 7, NOW + 6 days, _line(10e6));
        bytes memory tiny = _statement(RENTER_SECRET, 7, NOW, _line(1));

        try ledger.settleReserved(tiny, left) {} catch {}
        (uint256 paid,) = _settle(real);

        vm.assertEq(paid, 10e6);
    }

    /// Coordinator and renter together: the nonce goes without a trace in the history by which Cover judges.
    function test_everySettlementUnderpayingAReservationCanBeShown() public {
        uint160 before = ledger.history();
        LedgerTypes.Reservation memory socks = _reservation(OPERATOR_SECRET, renter, 7, 1, 0);

        ledger.settleReserved(_statement(RENTER_SECRET, 7, NOW, _line(1)), socks);

        vm.assertTrue(ledger.history() != before, "in the history");
    }

    // ---------------------------------------------------------------------------------------------- cover

    function test_aWithdrawalOfNothingDoesNotFreeTheCoordinator() public {
        _bondCover();
        bytes memory owed = _statement(RENTER_SECRET, 7, NOW + 3 days, _line(80e6));
        LedgerTypes.Reservation memory backing = _reservation(OPERATOR_SECRET, renter, 7, 80e6, 80e6);
        vm.prank(OWNER);
        ledger.requestWithdrawal(renter, 1);
        _settle(_statement(8, 100e6)); // the over-commitment
        vm.warp(NOW + 1 days);
        ledger.withdraw(renter); // pays nothing: nothing is left

        vm.assertEq(cover.claimUnfunded(owed, backing), 80e6);
    }

    // ------------------------------------------------------------------------------------------- disputes

    /// Waits for the seed, then tries how many of its socks to enlist until the seats are its own.
    function test_theDrawIsFixedBeforeItsSeedIsKnown() public {
        for (uint160 i = 1; i <= 60; ++i) {
            _enlist(address(0x11E000 + i));
        }
        uint32[] memory socks = new uint32[](24);
        for (uint160 i = 0; i < socks.length; ++i) {
            socks[i] = _stake(address(0x50C000 + i), MINIMUM_BOND);
        }
        uint32 cheat = _stake(CHEAT, STAKE);
        uint256 id = _dispute(CHALLENGER, cheat, STAKE, "proof");
        _answer(id, CHEAT);
        Blocks(address(vm)).roll(block.number + 2);
        bytes32 fair = _drawn(id);

        for (uint256 i = 0; i < socks.length; ++i) {
            vm.prank(address(uint160(0x50C000 + i)));
            registry.enlist(socks[i]);

            vm.assertEq(_drawn(id), fair);
        }
    }

    /// Two thirds of a stake went to whoever accused an owner who did not look for a day.
    function test_aStrangerCannotAccuseAProviderThatSleeps() public {
        uint32 sleeper = _stake(CHEAT, STAKE);
        uint32 sock = ledger.addPayee(SOCK);
        token.mint(SOCK, STAKE);
        vm.startPrank(SOCK);
        token.approve(address(disputes), STAKE);

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.NotItsWork.selector, sleeper, bytes32("made up")));
        disputes.open(sock, sleeper, renter, STAKE, "made up", _workBy(RENTER_SECRET, "made up"));
    }

    function test_evidenceCannotBeUsedUpBySomebodyElse() public {
        uint32 cheat = _stake(CHEAT, STAKE);
        uint256 id = _dispute(SOCK, cheat, 1, "proof"); // sent first, having seen the challenger's
        vm.prank(CHEAT);
        disputes.concede(id);

        uint256 real = _dispute(CHALLENGER, cheat, STAKE / 2, "proof");

        vm.assertEq(disputes.disputeOf(real).amount, STAKE / 2);
    }

    function test_aLaterDisputeDoesNotTakeTheStakeOfAnEarlierOne() public {
        uint32 cheat = _stake(CHEAT, STAKE);
        _dispute(CHALLENGER, cheat, STAKE, "proof");
        uint32 sock = ledger.addPayee(SOCK); // renter, challenger and provider are one
        DisputeTypes.Work memory work = _work("own");

        vm.expectRevert(abi.encodeWithSelector(Registry.StakeTooLow.selector, cheat, 0, STAKE));
        vm.prank(SOCK);
        disputes.open(sock, cheat, renter, STAKE, "own", work);
    }

    // ---------------------------------------------------------------------------------------------- steps

    function _bondCover() private {
        token.mint(address(this), STAKE);
        token.approve(address(cover), STAKE);
        cover.bond(coordinator, STAKE);
    }

    function _enlist(address payout) private {
        uint32 id = _stake(payout, MINIMUM_BOND);
        vm.prank(payout);
        registry.enlist(id);
    }

    function _dispute(address by, uint32 against, uint96 amount, bytes32 evidence) private returns (uint256 id) {
        uint32 challenger = ledger.addPayee(by);
        DisputeTypes.Work memory work = _work(evidence);
        token.mint(by, 1000e6);
        vm.startPrank(by);
        token.approve(address(disputes), 1000e6);
        id = disputes.open(challenger, against, renter, amount, evidence, work);
        vm.stopPrank();
    }

    function _answer(uint256 id, address by) private {
        token.mint(by, 1000e6);
        vm.startPrank(by);
        token.approve(address(disputes), 1000e6);
        disputes.answer(id, "denied");
        vm.stopPrank();
    }

    /// Whom a draw now would seat.
    function _drawn(uint256 id) private returns (bytes32 seats) {
        uint256 before = vm.snapshotState();
        disputes.draw(id);
        seats = keccak256(abi.encode(disputes.disputeOf(id).referees));
        vm.revertToState(before);
    }
}
