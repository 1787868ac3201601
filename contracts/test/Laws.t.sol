// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ledger} from "../src/Ledger.sol";
import {LedgerTypes} from "../src/LedgerTypes.sol";
import {Market} from "./kit/Market.sol";
import {Vm} from "./kit/Vm.sol";

/// The laws of README.md that are about single calls, each over all that it speaks of. The numbers are that table's.
contract LawsTest is Market {
    uint256 private constant SECOND_SECRET = 0x5EC09D;
    uint256 private constant OWNER_SECRET = 0x0177E8;
    uint256 private constant KINDS = 6; // of bad statements
    uint256 private constant GOOD = 6;

    /// One of each thing that people sign for a Ledger.
    struct Signed {
        bytes statement;
        LedgerTypes.Reservation reservation;
        bytes opening;
        bytes withdrawal;
    }

    address private second;

    function setUp() public override {
        super.setUp();
        address owner = vm.addr(OWNER_SECRET);
        ledger.open(renter, owner, coordinator, _opening(RENTER_SECRET, owner));
        _deposit(renter, 100e6);
        second = _fund(SECOND_SECRET, 100e6);
        _settle(_statement(0, 1e6));
    }

    // ------------------------------------------------------------------------------------ 8: tampered bytes

    function testFuzz_aFlippedBitOfAStatementPaysNothing(uint256 position, uint8 bit) public {
        bytes memory statement = _statement(RENTER_SECRET, 7, FAR, bytes.concat(_line(1e6), _line(2e6)));
        bytes32 before = _state();
        _flip(statement, bound(position, 0, statement.length - 1), bit);

        (bool ok, bytes memory result) = _as(operator, abi.encodeCall(Ledger.settle, (coordinator, statement)));

        // A changed count of lines makes the statement longer or shorter than the batch.
        if (ok) vm.assertEq(abi.decode(result, (uint256)), 0);
        vm.assertEq(_state(), before);
    }

    function testFuzz_aFlippedBitOfAReservedStatementPaysNothing(uint256 position, uint8 bit) public {
        bytes memory statement = _statement(7, 1e6);
        bytes memory call = _forced(statement, _reservation(OPERATOR_SECRET, renter, 7, 10e6, 1e6));
        uint256 start = 4 + 32 + 6 * 32 + 32; // selector, offset, reservation, length
        _flip(call, start + bound(position, 0, statement.length - 1), bit);

        _assertRefused(call);
    }

    function testFuzz_aFlippedBitOfAReservationPaysNothing(uint256 position, uint8 bit) public {
        bytes memory call = _forced(_statement(7, 1e6), _reservation(OPERATOR_SECRET, renter, 7, 10e6, 1e6));
        _flip(call, 4 + 32 + bound(position, 0, 6 * 32 - 1), bit);

        _assertRefused(call);
    }

    function test_theUnchangedBytesAreWhatIsPaid() public {
        bytes memory call = _forced(_statement(7, 1e6), _reservation(OPERATOR_SECRET, renter, 7, 10e6, 1e6));

        (bool ok,) = _as(address(this), call);

        vm.assertEq(ok, true);
        vm.assertEq(_balance(renter), 98e6);
    }

    // ------------------------------------------------------------------------- 12: the provider's least part

    function testFuzz_aProviderGetsItsLeastPartOfAnyLines(uint256 seed, uint8 count, uint16 royalty, uint16 share)
        public
    {
        uint32 id = ledger.addRecipe(author, uint16(bound(royalty, 0, 500)), uint16(bound(share, 0, 2000)));
        uint256 before = _credit(provider);
        bytes memory lines = _line(provider, verifier, id, 1);
        uint256 total = 1;
        for (uint256 i = 0; i < count % 16; ++i) {
            uint96 amount = uint96(_dice(seed, i) % 6e6);
            lines = bytes.concat(lines, _line(provider, verifier, id, amount));
            total += amount;
        }

        _settle(_statement(RENTER_SECRET, 7, FAR, lines));

        uint256 most = ledger.FEE_BPS() + ledger.MAX_VERIFIER_BPS() + ledger.MAX_ROYALTY_BPS();
        vm.assertGe((_credit(provider) - before) * 10_000, total * (10_000 - most), "provider's least part");
    }

    // ------------------------------------------------------------------------------ 13, 14: withdrawals

    function testFuzz_aWithdrawalPaysTheLessOfAskedAndLeftNeverEarly(uint96 asked, uint96 spent, uint40 time) public {
        (asked, spent) = (uint96(bound(asked, 1, 200e6)), uint96(bound(spent, 1, 99e6)));
        ledger.requestWithdrawal(renter, asked, _withdrawal(asked));
        vm.assertEq(_pay(_statement(7, spent)), spent); // 14
        uint256 left = _balance(renter);
        vm.warp(NOW + bound(time, 0, 24 hours - 1));
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.StillLocked.selector, renter, NOW + 24 hours));
        ledger.withdraw(renter);
        vm.warp(NOW + 24 hours);

        vm.assertEq(ledger.withdraw(renter), asked < left ? asked : left);

        vm.assertEq(token.balanceOf(vm.addr(OWNER_SECRET)), asked < left ? asked : left);
        vm.assertEq(_balance(renter), left - (asked < left ? asked : left));
    }

    // --------------------------------------------------------------------------- 15: bad ones among good ones

    /// Bad statements of every kind, at random places; under the good ones' nonces, too, if so chosen.
    function testFuzz_badStatementsChangeNothingForTheOthers(uint256 seed, bool sharing) public {
        uint256[] memory order = _shuffled(GOOD + KINDS, seed);
        (bytes memory good, bytes memory mixed) = ("", "");
        for (uint256 i = 0; i < order.length; ++i) {
            bytes memory next = order[i] < GOOD ? _good(order[i], seed) : _bad(order[i] - GOOD + 1, sharing ? 0 : GOOD);
            mixed = bytes.concat(mixed, next);
            if (order[i] < GOOD) good = bytes.concat(good, next);
        }
        uint256 fresh = vm.snapshotState();
        (uint256 wanted,) = _settle(good);
        bytes32 state = _state();
        vm.revertToState(fresh);
        vm.recordLogs();

        (uint256 paid, uint256 skipped) = _settle(mixed);

        vm.assertEq(paid, wanted);
        vm.assertEq(skipped, KINDS);
        vm.assertEq(_state(), state);
        // One that shares a nonce with a good one may be refused for that.
        if (!sharing) vm.assertEq(_kindsSkipped(), 2 ** (KINDS + 1) - 2);
    }

    // ------------------------------------------------------------------------------------------ 16: order

    function testFuzz_theOrderOfFundedStatementsDoesNotMatter(uint256 seed) public {
        uint256[] memory order = _shuffled(GOOD, seed);
        (bytes memory sorted, bytes memory shuffled, bytes memory rest) = ("", "", "");
        for (uint256 i = 0; i < GOOD; ++i) {
            sorted = bytes.concat(sorted, _good(i, seed));
            if (i < seed % GOOD) shuffled = bytes.concat(shuffled, _good(order[i], seed));
            else rest = bytes.concat(rest, _good(order[i], seed));
        }
        uint256 fresh = vm.snapshotState();
        uint256 wanted = _pay(sorted);
        bytes32 state = _state();
        vm.revertToState(fresh);

        uint256 paid = _pay(shuffled) + _pay(rest); // nor does it matter where batches end

        vm.assertEq(paid, wanted);
        vm.assertEq(_state(), state);
    }

    // ------------------------------------------------------------------------------------------ 17: both ways

    function testFuzz_bothWaysOfSettlingGiveTheSameBooks(uint256 seed, uint32 nonce, uint8 count) public {
        nonce = uint32(bound(nonce, 1, type(uint32).max));
        bytes memory lines = "";
        for (uint256 i = 0; i <= count % 8; ++i) {
            lines = bytes.concat(lines, _anyLine(_dice(seed, i)));
        }
        bytes memory statement = _statement(RENTER_SECRET, nonce, FAR, lines);
        uint256 fresh = vm.snapshotState();
        uint256 wanted = _pay(statement);
        (bytes32 state, uint160 history) = (_state(), ledger.history());
        vm.revertToState(fresh);

        uint256 paid = ledger.settleReserved(statement, _reservation(renter, nonce, 100e6));

        vm.assertEq(paid, wanted);
        vm.assertEq(_state(), state);
        vm.assertEq(ledger.history(), history);
        vm.assertEq(ledger.nonceUsed(renter, nonce), true);
    }

    // ------------------------------------------------------------------------------------------ 26: replay

    function test_nothingThatWasSignedForAnotherChainCounts() public {
        vm.chainId(block.chainid + 1);
        Signed memory signed = _signed();
        vm.chainId(block.chainid - 1);

        _assertNothingCounts(signed);
    }

    function test_nothingThatWasSignedForAnotherLedgerCounts() public {
        Ledger here = ledger;
        ledger = new Ledger(token, TREASURY_PAYOUT, address(manager));
        Signed memory signed = _signed();
        ledger = here;

        _assertNothingCounts(signed);
    }

    function test_whatWasSignedForThisLedgerCounts() public {
        Signed memory signed = _signed();

        ledger.open(vm.addr(0xAE), OWNER, coordinator, signed.opening);
        ledger.requestWithdrawal(renter, 5e6, signed.withdrawal);
        vm.assertEq(ledger.settleReserved(signed.statement, signed.reservation), 1e6);
    }

    function _signed() private view returns (Signed memory) {
        return Signed({
            statement: _statement(7, 1e6),
            reservation: _reservation(renter, 7, 10e6),
            opening: _opening(0xAE, OWNER),
            withdrawal: _withdrawal(5e6)
        });
    }

    function _assertNothingCounts(Signed memory signed) private {
        bytes memory here = _statement(7, 1e6);
        LedgerTypes.Reservation memory reservation = _reservation(renter, 7, 10e6);
        bytes32 before = _state();

        vm.assertEq(_pay(signed.statement), 0);
        _assertRefused(_forced(signed.statement, reservation));
        _assertRefused(_forced(here, signed.reservation));
        _assertRefused(abi.encodeCall(Ledger.open, (vm.addr(0xAE), OWNER, coordinator, signed.opening)));
        _assertRefused(
            abi.encodeWithSignature("requestWithdrawal(address,uint96,bytes)", renter, 5e6, signed.withdrawal)
        );
        vm.assertEq(_state(), before);
    }

    // ------------------------------------------------------------------------------------------- how

    function _forced(bytes memory statement, LedgerTypes.Reservation memory reservation)
        private
        pure
        returns (bytes memory)
    {
        return abi.encodeCall(Ledger.settleReserved, (statement, reservation));
    }

    function _assertRefused(bytes memory call) private {
        bytes32 before = _state();
        (bool ok,) = _as(address(this), call);
        vm.assertEq(ok, false);
        vm.assertEq(_state(), before);
    }

    function _as(address who, bytes memory call) private returns (bool ok, bytes memory result) {
        vm.prank(who);
        return address(ledger).call(call);
    }

    function _flip(bytes memory data, uint256 position, uint8 bit) private pure {
        data[position] ^= bytes1(uint8(1 << (bit % 8)));
    }

    function _pay(bytes memory batch) private returns (uint256 paid) {
        (paid,) = _settle(batch);
    }

    function _withdrawal(uint96 amount) private view returns (bytes memory) {
        bytes32 request = keccak256(abi.encode(ledger.WITHDRAWAL_TYPEHASH(), renter, amount, 0));
        return _sign(OWNER_SECRET, request);
    }

    /// The i-th of some statements by two renters, with lines for anybody, under nonces near and far.
    function _good(uint256 i, uint256 seed) private view returns (bytes memory) {
        uint256 dice = _dice(seed, i);
        bytes memory lines = bytes.concat(_anyLine(dice), _anyLine(dice >> 96));
        return _statement(dice & 1 == 0 ? RENTER_SECRET : SECOND_SECRET, _nonce(i), FAR, lines);
    }

    /// Of the kind that LedgerTypes.Skip numbers so, under one of the nonces from the first.
    function _bad(uint256 kind, uint256 first) private view returns (bytes memory) {
        uint32 nonce = _nonce(first + kind - 1);
        if (kind == 1) return _statement(0xBAD, nonce, FAR, _line(1e6));
        if (kind == 2) return _statement(RENTER_SECRET, nonce, NOW - 1, _line(1e6));
        if (kind == 3) return _statement(0, 1e6);
        if (kind == 4) return _statement(RENTER_SECRET, nonce, FAR, _line(provider, verifier, 99, 1e6));
        if (kind == 5) return _statement(nonce, 0);
        return _statement(nonce, 2 ** 90);
    }

    function _nonce(uint256 i) private pure returns (uint32) {
        return uint32(i + 1 + (i % 3) * 64);
    }

    /// Pays at least 1 unit, at most about 6 dollars; payee 5 does not exist.
    function _anyLine(uint256 dice) private view returns (bytes memory) {
        return _line(uint32(dice % 6), uint32((dice >> 8) % 6), recipe, uint96(1 + (dice >> 16) % 6e6));
    }

    function _dice(uint256 seed, uint256 i) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, i)));
    }

    function _shuffled(uint256 count, uint256 seed) private pure returns (uint256[] memory order) {
        order = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) {
            uint256 place = _dice(seed, i + 1000) % (i + 1);
            order[i] = order[place];
            order[place] = i;
        }
    }

    /// Bit k stands for one statement that was skipped for reason k.
    function _kindsSkipped() private returns (uint256 kinds) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != LedgerTypes.StatementSkipped.selector) continue;
            kinds += 2 ** abi.decode(logs[i].data, (uint256));
        }
    }

    /// Both accounts, everybody's credit and the nonces that these tests use.
    function _state() private view returns (bytes32 state) {
        state = keccak256(abi.encode(ledger.account(renter), ledger.account(second)));
        for (uint32 id = 0; id < ledger.payeeCount(); ++id) {
            state = keccak256(abi.encode(state, _credit(id)));
        }
        for (uint256 i = 0; i < GOOD + KINDS; ++i) {
            (bool first, bool other) = (ledger.nonceUsed(renter, _nonce(i)), ledger.nonceUsed(second, _nonce(i)));
            state = keccak256(abi.encode(state, first, other));
        }
    }
}
