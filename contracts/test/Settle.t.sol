// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LedgerTypes} from "../src/LedgerTypes.sol";
import {TruncatedStatement} from "../src/libraries/Statement.sol";
import {Market} from "./kit/Market.sol";

contract SettleTest is Market {
    // secp256k1's order
    uint256 private constant N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function setUp() public override {
        super.setUp();
        _fund(RENTER_SECRET, 100e6);
    }

    function test_aLineIsSplitByItsRecipesRates() public {
        _settle(_statement(7, 10_000_001));

        vm.assertEq(_credit(0), 100_000); // 1 %, rounded down
        vm.assertEq(_credit(verifier), 200_000);
        vm.assertEq(_credit(author), 300_000);
        vm.assertEq(_credit(provider), 9_400_001); // and the rest
        vm.assertEq(_balance(renter), 89_999_999);
        vm.assertTrue(ledger.nonceUsed(renter, 7), "nonce used");
    }

    function test_settlingReportsTheStatement() public {
        vm.expectEmit();
        emit LedgerTypes.StatementSettled(renter, 7, 5e6);

        _settle(_statement(7, 5e6));
    }

    function test_anEmptyBatchPaysNothing() public {
        (uint256 paid, uint256 skipped) = _settle("");

        vm.assertEq(paid + skipped, 0);
    }

    function test_onlyTheOperatorSettles() public {
        bytes memory batch = _statement(7, 1e6);

        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotOperator.selector, coordinator, address(this)));
        ledger.settle(coordinator, batch);
    }

    function test_theOperatorOfAnotherCoordinatorSettlesNothing() public {
        address other = address(0x07E8);
        vm.startPrank(other);
        uint32 theirs = ledger.addCoordinator();

        (uint256 paid, uint256 skipped) = ledger.settle(theirs, _statement(7, 1e6));

        vm.assertEq(paid, 0);
        vm.assertEq(skipped, 1);
    }

    function test_aNonceIsPaidOnce() public {
        _settle(_statement(7, 1e6));

        _assertSkipped(_statement(7, 1e6), LedgerTypes.Skip.NonceUsed);
        _assertSkipped(_statement(7, 2e6), LedgerTypes.Skip.NonceUsed);
    }

    function test_theSameStatementTwiceInABatchIsPaidOnce() public {
        bytes memory statement = _statement(7, 1e6);

        (uint256 paid, uint256 skipped) = _settle(bytes.concat(statement, statement));

        vm.assertEq(paid, 1e6);
        vm.assertEq(skipped, 1);
    }

    function test_anUnfundedStatementKeepsItsNonceAndIsPaidLater() public {
        _assertSkipped(_statement(7, 200e6), LedgerTypes.Skip.Unfunded);
        _deposit(renter, 100e6);

        (uint256 paid,) = _settle(_statement(7, 200e6));

        vm.assertEq(paid, 200e6);
    }

    function test_aStatementIsGoodUntilItsDeadline() public {
        bytes memory statement = _statement(RENTER_SECRET, 7, NOW, _line(1e6));
        vm.warp(NOW + 1);
        _assertSkipped(statement, LedgerTypes.Skip.Expired);
        vm.warp(NOW);

        (uint256 paid,) = _settle(statement);

        vm.assertEq(paid, 1e6);
    }

    function test_aStatementWithoutLinesOrMoneyIsSkipped() public {
        _assertSkipped(_statement(RENTER_SECRET, 7, FAR, ""), LedgerTypes.Skip.Empty);
        _assertSkipped(_statement(7, 0), LedgerTypes.Skip.Empty);
    }

    function test_aRecipeNobodyRegisteredIsSkippedWhereverItStands() public {
        bytes memory known = _line(1e6);
        bytes memory zero = _line(provider, verifier, 0, 1e6);
        bytes memory next = _line(provider, verifier, recipe + 1, 1e6);

        bytes[4] memory cases =
            [zero, bytes.concat(zero, known), bytes.concat(known, next), bytes.concat(known, zero, known)];
        for (uint256 i = 0; i < cases.length; ++i) {
            _assertSkipped(_statement(RENTER_SECRET, 7, FAR, cases[i]), LedgerTypes.Skip.UnknownRecipe);
        }
    }

    function test_aKeyWithoutAnAccountIsSkipped() public {
        _assertSkipped(_statement(0xBAD, 7, FAR, _line(1e6)), LedgerTypes.Skip.NoAccount);
    }

    function test_anUnknownPayeesShareGoesToTheTreasury() public {
        _settle(_statement(RENTER_SECRET, 7, FAR, _line(999, 998, recipe, 10e6)));

        vm.assertEq(_credit(0), 100_000 + 200_000 + 9_400_000);
        vm.assertEq(_credit(author), 300_000);
    }

    function test_aBatchWithBadStatementsSettlesTheOthersAsIfAlone() public {
        bytes memory bad = _statement(0xBAD, 1, FAR, _line(1e6));
        bytes memory batch =
            bytes.concat(bad, _statement(1, 1e6), _statement(2, 999e6), _statement(3, 3e6), bad, _statement(1, 9e6));

        (uint256 paid, uint256 skipped) = _settle(batch);

        vm.assertEq(paid, 4e6);
        vm.assertEq(skipped, 4);
        vm.assertEq(_balance(renter), 96e6);
        vm.assertEq(_credit(provider), 94 * 4e4);
    }

    function test_aMalleatedSignatureIsSkipped() public {
        bytes memory statement = _statement(7, 1e6);
        uint256 vs;
        assembly {
            vs := mload(add(statement, 64))
        }
        uint256 s = vs & (2 ** 255 - 1);
        vs = (N - s) | ((1 - (vs >> 255)) << 255);
        assembly {
            mstore(add(statement, 64), vs)
        }

        _assertSkipped(statement, LedgerTypes.Skip.NoAccount);
    }

    function test_aTruncatedBatchReverts() public {
        bytes memory batch = _statement(7, 1e6);
        assembly {
            mstore(batch, sub(mload(batch), 1))
        }

        vm.expectRevert(abi.encodeWithSelector(TruncatedStatement.selector, 4 + 3 * 32));
        _settle(batch);
    }

    function test_aStatementOfAnotherChainPaysNothing() public {
        vm.chainId(block.chainid + 1);
        bytes memory statement = _statement(7, 1e6);
        vm.chainId(block.chainid - 1);

        _assertSkipped(statement, LedgerTypes.Skip.NoAccount);
    }

    function test_afterAForkOfTheChainItsStatementsAreForTheNewId() public {
        vm.chainId(block.chainid + 1);

        (uint256 paid,) = _settle(_statement(7, 1e6));

        vm.assertEq(paid, 1e6);
    }

    function test_onePaysOfTwoStatementsUnderOneNonce() public {
        (uint256 paid, uint256 skipped) = _settle(bytes.concat(_statement(7, 2e6), _statement(7, 3e6)));

        vm.assertEq(paid, 2e6);
        vm.assertEq(skipped, 1);
        vm.assertEq(_balance(renter), 98e6);
    }

    function test_oneKeysStatementsInABatchAddUp() public {
        (uint256 paid, uint256 skipped) =
            _settle(bytes.concat(_statement(1, 60e6), _statement(2, 40e6), _statement(3, 1)));

        vm.assertEq(paid, 100e6);
        vm.assertEq(skipped, 1); // the third has nothing left to be paid from
        vm.assertEq(_balance(renter), 0);
        vm.assertEq(ledger.nonceUsed(renter, 3), false);
    }

    function test_anAccountAtAnotherCoordinatorIsSkipped() public {
        address theirOperator = address(0x07E8);
        vm.prank(theirOperator);
        uint32 theirs = ledger.addCoordinator();
        (uint32 ours, address key) = (coordinator, vm.addr(0x5EC09D));
        coordinator = theirs;
        _fund(0x5EC09D, 10e6);
        coordinator = ours;
        bytes memory statement = _statement(0x5EC09D, 7, FAR, _line(1e6));

        _assertSkipped(statement, LedgerTypes.Skip.NoAccount);
        vm.prank(theirOperator);
        ledger.settle(theirs, statement);

        vm.assertEq(_balance(key), 9e6);
    }

    function test_aSignatureThatRecoversNobodyIsSkipped() public {
        bytes memory statement = _statement(7, 1e6);
        assembly {
            mstore(add(statement, 32), 0) // r
        }

        _assertSkipped(statement, LedgerTypes.Skip.NoAccount);
        vm.expectRevert(abi.encodeWithSelector(LedgerTypes.NotOperator.selector, 0, address(this)));
        ledger.settle(0, statement);
    }

    function test_amountsThatTogetherExceedTheBooksAreUnfunded() public {
        bytes memory lines = bytes.concat(_line(type(uint96).max), _line(type(uint96).max), _line(2));

        _assertSkipped(_statement(RENTER_SECRET, 7, FAR, lines), LedgerTypes.Skip.Unfunded);
    }

    function test_aFarNonceLeavesOlderOnesUsableOnce() public {
        _settle(bytes.concat(_statement(5, 1e6), _statement(type(uint32).max, 1e6)));

        _assertSkipped(_statement(5, 1e6), LedgerTypes.Skip.NonceUsed);
        (uint256 paid,) = _settle(bytes.concat(_statement(6, 1e6), _statement(1000, 1e6)));

        vm.assertEq(paid, 2e6);
        _assertSkipped(_statement(6, 1e6), LedgerTypes.Skip.NonceUsed);
        _assertSkipped(_statement(1000, 1e6), LedgerTypes.Skip.NonceUsed);
        _assertSkipped(_statement(type(uint32).max, 1e6), LedgerTypes.Skip.NonceUsed);
        vm.assertEq(ledger.nonceUsed(renter, type(uint32).max - 1), false);
    }

    function test_theWordsOfNoncesDoNotMix() public {
        _settle(bytes.concat(_statement(63, 1), _statement(64, 1), _statement(128, 1)));

        for (uint32 nonce = 0; nonce < 256; ++nonce) {
            vm.assertEq(ledger.nonceUsed(renter, nonce), nonce == 63 || nonce == 64 || nonce == 128);
        }
    }

    /// What a stranger can make the operator pay for is one hash and one recovery.
    function test_aLongStatementOfAStrangerCostsLittle() public {
        bytes memory lines = new bytes(1000 * 24);
        bytes memory statement = _statement(0xBAD, 7, FAR, lines);
        vm.prank(operator);
        uint256 gas = gasleft();
        ledger.settle(coordinator, statement);
        gas -= gasleft();

        vm.assertLe(gas, 300_000, "gas for 1000 lines");
    }

    /// Each share is rounded down by less than a unit, in the provider's favour: so splitting a line into many saves a
    /// unit a line and share, which is less than what a line costs in gas.
    function test_splittingALineSavesLessThanAUnitPerLineAndShare() public {
        bytes memory lines = "";
        for (uint256 i = 0; i < 50; ++i) {
            lines = bytes.concat(lines, _line(199));
        }

        _settle(_statement(RENTER_SECRET, 7, FAR, lines));

        vm.assertEq(_credit(0), 50); // of 99.5
        vm.assertEq(_credit(verifier), 150); // of 199
        vm.assertEq(_credit(author), 250); // of 298.5
        vm.assertEq(_credit(provider), 50 * 199 - 450);
    }

    // ---------------------------------------------------------------------------------------------- history

    function test_theHistoryIsAChainOverBatchesAndWhatWasSkipped() public {
        bytes memory bad = _statement(0xBAD, 1, FAR, _line(1e6));
        bytes memory batch = bytes.concat(_statement(1, 1e6), bad, _statement(2, 1e6), bad);
        bytes32 skips = keccak256(abi.encode(keccak256(abi.encode(bytes32(0), 99)), 3 * 99));

        _settle(batch);
        uint160 first = _next(0, batch, skips);
        vm.assertEq(ledger.history(), first);
        _settle(_statement(3, 1e6));

        vm.assertEq(ledger.history(), _next(first, _statement(3, 1e6), 0));
    }

    function test_anEmptyBatchJoinsTheHistory() public {
        _settle("");

        vm.assertEq(ledger.history(), _next(0, "", 0));
    }

    function test_aForcedStatementJoinsTheHistory() public {
        ledger.settleReserved(_statement(7, 1e6), _reservation(renter, 7, 10e6));

        vm.assertEq(ledger.history(), _next(0, _statement(7, 1e6), 0));
    }

    function test_collectingFeesLeavesTheHistory() public {
        _settle(_statement(7, 1e6));

        ledger.collect(0);

        vm.assertEq(ledger.history(), _next(0, _statement(7, 1e6), 0));
    }

    /// By hand, as libraries/TillWord.sol words it.
    function _next(uint160 before, bytes memory batch, bytes32 skips) private view returns (uint160) {
        bytes32 entry = keccak256(abi.encode(coordinator, keccak256(batch), skips));
        return uint160(uint256(keccak256(abi.encode(before, entry))));
    }

    // ------------------------------------------------------------------------------------------------- fuzz

    function testFuzz_anyChangedByteOfAStatementPaysNothing(uint256 position, uint8 change) public {
        bytes memory statement = _statement(7, 1e6);
        position = bound(position, 0, statement.length - 1);
        vm.assume(change != 0);
        statement[position] ^= bytes1(change);

        vm.prank(operator);
        try ledger.settle(coordinator, statement) returns (uint256 paid, uint256) {
            vm.assertEq(paid, 0);
        } catch (bytes memory reason) {
            // A changed count of lines makes the statement longer than the batch.
            vm.assertEq(bytes32(bytes4(reason)), bytes32(TruncatedStatement.selector));
        }
        vm.assertEq(_balance(renter), 100e6);
    }

    function testFuzz_unsignedBytesMoveNothing(bytes calldata garbage) public {
        vm.prank(operator);
        try ledger.settle(coordinator, garbage) returns (uint256 paid, uint256) {
            vm.assertEq(paid, 0);
        } catch {}
        vm.assertEq(_balance(renter), 100e6);
    }

    /// Rounds down every share but the provider's, at any amount and rate; so the four sum to the amount.
    function testFuzz_sharesAreExact(uint96 amount, uint16 royaltyBps, uint16 verifierBps) public {
        amount = uint96(bound(amount, 1, 2 ** 90));
        royaltyBps = uint16(bound(royaltyBps, 0, 500));
        verifierBps = uint16(bound(verifierBps, 0, 2000));
        uint32 id = ledger.addRecipe(author, royaltyBps, verifierBps);
        _deposit(renter, amount);

        _settle(_statement(RENTER_SECRET, 7, FAR, _line(provider, verifier, id, amount)));

        vm.assertEq(_credit(0), uint256(amount) / 100);
        vm.assertEq(_credit(verifier), uint256(amount) * verifierBps / 10_000);
        vm.assertEq(_credit(author), uint256(amount) * royaltyBps / 10_000);
        vm.assertEq(_credit(provider), amount - _credit(0) - _credit(verifier) - _credit(author));
        vm.assertGe(_credit(provider), uint256(amount) * 7400 / 10_000, "provider's least part");
    }

    /// Whatever payees and recipes the lines name, in whatever order, the account loses what payees gain.
    function testFuzz_debitsEqualCredits(uint256 seed, uint8 count) public {
        uint32 second = ledger.addRecipe(provider, 500, 2000);
        bytes memory lines = "";
        uint256 total = 0;
        for (uint256 i = 0; i <= count % 16; ++i) {
            uint256 dice = uint256(keccak256(abi.encode(seed, i)));
            uint96 amount = uint96(dice >> 160) % 6e6;
            total += amount;
            lines = bytes.concat(
                lines, _line(uint32(dice % 6), uint32((dice >> 32) % 6), dice >> 64 & 1 == 0 ? recipe : second, amount)
            );
        }
        vm.assume(total != 0);

        (uint256 paid,) = _settle(_statement(RENTER_SECRET, 7, FAR, lines));

        vm.assertEq(paid, total);
        vm.assertEq(_balance(renter), 100e6 - total);
        vm.assertEq(_credit(0) + _credit(provider) + _credit(verifier) + _credit(author), total);
    }

    /// Against a plain set of used nonces, in any order: near and far, up and down.
    function testFuzz_everyNonceIsPaidExactlyOnce(uint32[12] memory nonces, uint256 near) public {
        bytes memory batch = "";
        uint256 distinct = 0;
        for (uint256 i = 0; i < nonces.length; ++i) {
            if ((near >> i) & 1 == 1) nonces[i] %= 160;
            uint256 seen = 0;
            for (uint256 j = 0; j < i; ++j) {
                if (nonces[j] == nonces[i]) seen = 1;
            }
            distinct += 1 - seen;
            batch = bytes.concat(batch, _statement(nonces[i], 1));
        }

        (uint256 paid, uint256 skipped) = _settle(batch);

        vm.assertEq(paid, distinct);
        vm.assertEq(skipped, nonces.length - distinct);
        for (uint256 i = 0; i < nonces.length; ++i) {
            vm.assertTrue(ledger.nonceUsed(renter, nonces[i]), "used");
        }
    }
}
