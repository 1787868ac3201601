// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Cover} from "../src/Cover.sol";
import {LedgerTypes} from "../src/LedgerTypes.sol";
import {Covered} from "./kit/Covered.sol";

/// Each statement settles 10 for the provider, of 16 that were accepted.
contract UnderpaidTest is Covered {
    uint256 private constant BYTES = 99; // of a statement with one line

    bytes private batch;
    uint160 private before;

    function setUp() public override {
        super.setUp();
        _fund(RENTER_SECRET, 100e6);
        _settleFirst();
        before = ledger.history();
        batch = bytes.concat(_statement(7, 10e6), _statement(8, 10e6), _statement(9, 10e6));
    }

    // ------------------------------------------------------------------------------------------- what is refused

    function test_aReservationThatTheOperatorDidNotSignIsRefused() public {
        _settleAndRecord();
        LedgerTypes.Reservation memory forged = _reservation(RENTER_SECRET, renter, 7, 50e6, 16e6);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, operator));
        cover.claimUnderpaid(_settled(batch, 0, before), forged);
    }

    function test_anOffsetWhereNoStatementStartsIsRefused() public {
        _settleAndRecord();
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 16e6);
        uint256[5] memory offsets = [1, BYTES - 1, BYTES + 1, 3 * BYTES, type(uint256).max];

        for (uint256 i = 0; i < offsets.length - 1; ++i) {
            vm.expectRevert(abi.encodeWithSelector(Cover.NoStatementAt.selector, offsets[i]));
            cover.claimUnderpaid(_settled(batch, offsets[i], before), reservation);
        }
        vm.expectRevert();
        cover.claimUnderpaid(_settled(batch, offsets[4], before), reservation);
    }

    /// The renter signs a statement whose lines, read from their third byte on, are a statement of 1 unit.
    function test_aStatementInsideAnothersLinesIsRefused() public {
        bytes memory hidden = _statement(7, 1);
        bytes memory lines = bytes.concat(hex"0000", hidden, new bytes(5 * 24 - 2 - BYTES));
        batch = _statement(RENTER_SECRET, 6, FAR, lines);
        _settleAndRecord();
        Cover.Settled memory settled = _settled(batch, 75 + 2, before);
        settled.skips = _one(0);
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 16e6);

        vm.expectRevert(abi.encodeWithSelector(Cover.NoStatementAt.selector, 75 + 2));
        cover.claimUnderpaid(settled, reservation);
    }

    function test_aSkippedStatementIsRefused() public {
        batch = bytes.concat(_statement(7, 10e6), _statement(8, 90e6));
        _settleAndRecord();
        Cover.Settled memory settled = _settled(batch, BYTES, before);
        settled.skips = _one(BYTES);
        LedgerTypes.Reservation memory reservation = _promise(8, 99e6, 99e6);

        vm.expectRevert(abi.encodeWithSelector(Cover.NotSettled.selector, BYTES));
        cover.claimUnderpaid(settled, reservation);
    }

    function test_aSkipCannotBeLeftOutOrMadeUp() public {
        batch = bytes.concat(_statement(7, 10e6), _statement(8, 90e6));
        _settleAndRecord();
        LedgerTypes.Reservation memory reservation = _promise(8, 99e6, 99e6);
        Cover.Settled memory settled = _settled(batch, BYTES, before);

        _expectNotRecorded(_next(before, _entry(coordinator, batch, settled.skips)));
        cover.claimUnderpaid(settled, reservation);
        settled.skips = _one(0);
        _expectNotRecorded(_next(before, _entry(coordinator, batch, settled.skips)));
        cover.claimUnderpaid(settled, reservation);
    }

    function test_aHistoryThatNobodyRecordedIsRefused() public {
        _settle(batch);
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 16e6);

        _expectNotRecorded(ledger.history());
        cover.claimUnderpaid(_settled(batch, 0, before), reservation);
    }

    function test_laterBatchesCannotBeLeftOutSwappedOrMadeUp() public {
        _settle(batch);
        bytes32[] memory later = _settleTwoMore();
        cover.record();
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 16e6);
        Cover.Settled memory settled = _settled(batch, 0, before);

        vm.expectPartialRevert(Cover.NotRecorded.selector);
        cover.claimUnderpaid(settled, reservation);
        settled.later = new bytes32[](2);
        (settled.later[0], settled.later[1]) = (later[1], later[0]);
        vm.expectPartialRevert(Cover.NotRecorded.selector);
        cover.claimUnderpaid(settled, reservation);
        (settled.later[0], settled.later[1]) = (later[0], keccak256("none"));
        vm.expectPartialRevert(Cover.NotRecorded.selector);
        cover.claimUnderpaid(settled, reservation);
    }

    function test_aBatchOfAnotherCoordinatorIsRefused() public {
        vm.prank(operator);
        uint32 other = ledger.addCoordinator();
        vm.prank(operator);
        ledger.settle(other, batch);
        cover.record();
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 16e6);

        _expectNotRecorded(_next(before, _entry(coordinator, batch, new uint256[](0))));
        cover.claimUnderpaid(_settled(batch, 0, before), reservation);
    }

    function test_whatWasSettledByForceIsInTheHistory() public {
        batch = _statement(7, 10e6);
        ledger.settleReserved(batch, _promise(7, 50e6, 10e6));
        cover.record();

        vm.assertEq(cover.claimUnderpaid(_settled(batch, 0, before), _promise(7, 50e6, 16e6)), 6e6);
    }

    function test_whereTheProviderWasPaidNothingIsDue() public {
        bytes memory lines = bytes.concat(_line(9e6), _line(author, verifier, recipe, 1e6), _line(7e6));
        batch = _statement(RENTER_SECRET, 7, FAR, lines);
        _settleAndRecord();
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 16e6);

        vm.expectRevert(abi.encodeWithSelector(Cover.NothingDue.selector, 16e6, 16e6));
        cover.claimUnderpaid(_settled(batch, 0, before), reservation);
    }

    // ---------------------------------------------------------------------------------------------- what is paid

    function test_everyStatementOfABatchCanBeShown() public {
        _settleAndRecord();

        for (uint32 i = 0; i < 3; ++i) {
            vm.expectEmit();
            emit Cover.Claimed(coordinator, provider, renter, 7 + i, 6e6);
            uint256 paid = cover.claimUnderpaid(_settled(batch, i * BYTES, before), _promise(7 + i, 50e6, 16e6));
            vm.assertEq(paid, 6e6);
        }

        vm.assertEq(_payable(), COVER - 3 * 6e6);
    }

    function test_aBatchCanBeShownWhenOthersFollowed() public {
        _settle(batch);
        Cover.Settled memory settled = _settled(batch, 2 * BYTES, before);
        settled.later = _settleTwoMore();
        cover.record();
        _settle(_statement(11, 1e6));

        vm.assertEq(cover.claimUnderpaid(settled, _promise(9, 50e6, 16e6)), 6e6);
    }

    function test_aStatementCanBeShownNextToSkippedOnes() public {
        batch = bytes.concat(_statement(7, 10e6), _statement(7, 10e6), _statement(8, 10e6), _statement(9, 90e6));
        _settleAndRecord();
        Cover.Settled memory settled = _settled(batch, 2 * BYTES, before);
        settled.skips = new uint256[](2);
        (settled.skips[0], settled.skips[1]) = (BYTES, 3 * BYTES);

        vm.assertEq(cover.claimUnderpaid(settled, _promise(8, 50e6, 16e6)), 6e6);
    }

    function test_itIsPaidOnce() public {
        _settleAndRecord();
        LedgerTypes.Reservation memory reservation = _promise(7, 50e6, 16e6);
        cover.claimUnderpaid(_settled(batch, 0, before), reservation);

        vm.expectRevert(abi.encodeWithSelector(Cover.NothingDue.selector, 6e6, 6e6));
        cover.claimUnderpaid(_settled(batch, 0, before), reservation);
    }

    function test_whatAClaimAsUnfundedPaidCounts() public {
        LedgerTypes.Reservation memory reservation = _promise(7, 150e6, 140e6);
        cover.claimUnfunded(_statement(7, 140e6), reservation); // all the stake: 100
        _bondCover(2 * COVER);
        _settleAndRecord(); // 10 of 140

        vm.assertEq(cover.claimUnderpaid(_settled(batch, 0, before), reservation), 30e6);
        vm.assertEq(cover.paidFor(keccak256(abi.encode(coordinator, renter, uint32(7), provider))), 130e6);
    }

    // -------------------------------------------------------------------------------------- an operator's former key

    function test_aFormerKeysReservationsCountWithinTheGrace() public {
        _settleAndRecord();
        vm.prank(operator);
        ledger.setOperator(coordinator, address(0x2));
        bytes memory unfunded = _statement(RENTER_SECRET, 10, NOW + 30 days, _line(90e6));
        vm.warp(NOW + 14 days);

        vm.assertEq(cover.claimUnderpaid(_settled(batch, 0, before), _promise(7, 50e6, 16e6)), 6e6);
        vm.assertEq(cover.claimUnfunded(unfunded, _promise(10, 90e6, 50e6)), 50e6);
    }

    function test_aFormerKeysReservationsDoNotCountAfterTheGrace() public {
        _settleAndRecord();
        vm.prank(operator);
        ledger.setOperator(coordinator, address(0x2));
        bytes memory unfunded = _statement(RENTER_SECRET, 10, NOW + 30 days, _line(90e6));
        (LedgerTypes.Reservation memory first, LedgerTypes.Reservation memory second) =
            (_promise(7, 50e6, 16e6), _promise(10, 90e6, 50e6));
        vm.warp(NOW + 14 days + 1);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, address(0x2)));
        cover.claimUnderpaid(_settled(batch, 0, before), first);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotSignedBy.selector, address(0x2)));
        cover.claimUnfunded(unfunded, second);
    }

    function test_aFormerKeysReservationsCountWhenHandedOnOnceMore() public {
        _settleAndRecord();
        vm.prank(operator);
        ledger.setOperator(coordinator, address(0x2));
        vm.prank(address(0x2));
        ledger.setOperator(coordinator, address(0x3));

        vm.assertEq(cover.claimUnderpaid(_settled(batch, 0, before), _promise(7, 50e6, 16e6)), 6e6);
    }

    // -------------------------------------------------------------------------------------------------- its parts

    function _settleFirst() private {
        _settle(_statement(1, 1e6));
    }

    function _settleAndRecord() private {
        _settle(batch);
        cover.record();
    }

    /// One of another coordinator, one with a skip.
    function _settleTwoMore() private returns (bytes32[] memory later) {
        later = new bytes32[](2);
        vm.startPrank(address(0x2));
        uint32 other = ledger.addCoordinator();
        bytes memory theirs = _statement(3, 1e6);
        ledger.settle(other, theirs);
        vm.stopPrank();
        bytes memory ours = bytes.concat(_statement(4, 1e6), _statement(7, 1e6));
        _settle(ours);
        (later[0], later[1]) = (_entry(other, theirs, _one(0)), _entry(coordinator, ours, _one(BYTES)));
    }

    function _next(uint160 history, bytes32 entry) private pure returns (uint160) {
        return uint160(uint256(keccak256(abi.encode(history, entry))));
    }

    function _expectNotRecorded(uint160 history) private {
        vm.expectRevert(abi.encodeWithSelector(Cover.NotRecorded.selector, history));
    }
}

/// A coordinator that reserves no more than there is, and settles no less than it accepted.
contract HonestCoordinatorTest is Covered {
    uint32 private constant NONCES = 4;

    struct Lease {
        bool open;
        uint96 cap;
        uint96[2] accepted; // of each provider
    }

    struct SettledLease {
        bytes batch;
        uint32 nonce;
        bool first; // in its batch
        uint160 before;
    }

    Lease[NONCES] private leases;
    uint32[2] private providers;
    SettledLease[] private settledLeases;
    bytes32[] private entries;
    uint256 private dice;

    function setUp() public override {
        super.setUp();
        _fund(RENTER_SECRET, 100e6);
        providers = [provider, author];
        vm.prank(OWNER);
        ledger.requestWithdrawal(renter, 60e6);
    }

    /// forge-config: deep.fuzz.runs = 10000
    function testFuzz_anHonestCoordinatorPaysNothing(uint256 seed) public {
        dice = seed;

        for (uint256 step = 0; step < 16; ++step) {
            _doSomething(uint32(_roll(NONCES)));
            if (step % 4 == 3) _claimUnfunded(uint32(_roll(NONCES)), _roll(2));
        }
        for (uint32 i = 0; i < 2 * NONCES; ++i) {
            _claimUnfunded(i / 2, i % 2);
        }
        cover.record();
        for (uint256 i = 0; i < settledLeases.length; ++i) {
            _claimUnderpaid(i);
        }

        vm.assertEq(_payable(), COVER);
    }

    function _doSomething(uint32 nonce) private {
        uint256 what = _roll(24);
        if (what < 8) _reserve(nonce);
        else if (what < 16) _accept(nonce);
        else if (what < 20) _settleLease(nonce);
        else if (what == 20) _settleByForce(nonce);
        else if (what == 21) _deposit(renter, _roll(50e6));
        else if (what == 22) _withdraw();
    }

    /// At most what the balance has over all that is reserved.
    function _reserve(uint32 nonce) private {
        if (leases[nonce].cap != 0) return;
        uint256 reserved = 0;
        for (uint32 i = 0; i < NONCES; ++i) {
            if (leases[i].open) reserved += leases[i].cap;
        }
        if (reserved >= _balance(renter)) return;
        leases[nonce] = Lease(true, uint96(_roll(_balance(renter) - reserved + 1)), [uint96(0), 0]);
    }

    function _accept(uint32 nonce) private {
        Lease storage lease = leases[nonce];
        if (!lease.open) return;
        lease.accepted[_roll(2)] += uint96(_roll(lease.cap - lease.accepted[0] - lease.accepted[1] + 1));
    }

    /// With a statement before or after it that is skipped.
    function _settleLease(uint32 nonce) private {
        Lease storage lease = leases[nonce];
        uint256 total = lease.accepted[0] + lease.accepted[1];
        if (!lease.open || total == 0 || total > _balance(renter)) return;
        bytes memory good = _paying(nonce, lease.accepted[0], lease.accepted[1]);
        bytes memory bad = _statement(RENTER_SECRET, 100, FAR, _line(provider, verifier, 99, 1));
        bool first = _roll(2) == 0;
        bytes memory batch = first ? bytes.concat(good, bad) : bytes.concat(bad, good);
        uint160 before = ledger.history();
        _settle(batch);
        lease.open = false;
        settledLeases.push(SettledLease(batch, nonce, first, before));
        entries.push(_entry(coordinator, batch, _one(first ? good.length : 0)));
    }

    /// An older statement, by a provider that is paid for more by now: it comes too early or gives too little.
    function _settleByForce(uint32 nonce) private {
        Lease storage lease = leases[nonce];
        bytes memory older = _paying(nonce, lease.accepted[0] / 2, lease.accepted[1] / 2);
        try ledger.settleReserved(older, _reserved(nonce, 0)) {
            vm.assertTrue(false, "settled by force");
        } catch {}
    }

    /// Before it is paid the coordinator settles what it accepted and gives up what it reserved.
    function _withdraw() private {
        if (block.timestamp != NOW) return;
        for (uint32 i = 0; i < NONCES; ++i) {
            _settleLease(i);
            leases[i].open = false;
        }
        vm.warp(NOW + 24 hours);
        ledger.withdraw(renter);
    }

    function _claimUnfunded(uint32 nonce, uint256 who) private {
        uint96 cap = leases[nonce].cap;
        bytes memory all = _statement(RENTER_SECRET, nonce, FAR, _line(providers[who], verifier, recipe, cap));
        bytes memory twice = _statement(RENTER_SECRET, nonce, FAR, _line(providers[who], verifier, recipe, 2 * cap + 1));
        LedgerTypes.Reservation memory reservation = _reserved(nonce, who);
        try cover.claimUnfunded(all, reservation) {
            vm.assertTrue(false, "an honest coordinator paid: all of the cap");
        } catch {}
        try cover.claimUnfunded(twice, reservation) {
            vm.assertTrue(false, "an honest coordinator paid: above the cap");
        } catch {}
    }

    function _claimUnderpaid(uint256 i) private {
        bytes32[] memory later = new bytes32[](entries.length - i - 1);
        for (uint256 j = 0; j < later.length; ++j) {
            later[j] = entries[i + 1 + j];
        }
        SettledLease memory it = settledLeases[i];
        (uint256 offset, uint256 skip) = it.first ? (0, it.batch.length - 99) : (99, 0);
        Cover.Settled memory settled = Cover.Settled(it.batch, offset, _one(skip), it.before, later);
        for (uint256 who = 0; who < 2; ++who) {
            try cover.claimUnderpaid(settled, _reserved(it.nonce, who)) {
                vm.assertTrue(false, "an honest coordinator paid: underpaid");
            } catch (bytes memory why) {
                vm.assertEq(bytes32(bytes4(why)), bytes32(Cover.NothingDue.selector));
            }
        }
    }

    function _paying(uint32 nonce, uint96 first, uint96 second) private view returns (bytes memory) {
        bytes memory lines =
            bytes.concat(_line(providers[0], verifier, recipe, first), _line(providers[1], verifier, recipe, second));
        return _statement(RENTER_SECRET, nonce, FAR, lines);
    }

    function _reserved(uint32 nonce, uint256 who) private view returns (LedgerTypes.Reservation memory) {
        Lease storage lease = leases[nonce];
        return _promise(nonce, LedgerTypes.Reservation(providers[who], lease.cap, lease.accepted[who], FAR, 0, 0));
    }

    function _roll(uint256 sides) private returns (uint256) {
        dice = uint256(keccak256(abi.encode(dice)));
        return dice % sides;
    }
}
