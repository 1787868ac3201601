// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccountWord} from "../src/libraries/AccountWord.sol";
import {PayeeWord, payeeWord} from "../src/libraries/PayeeWord.sol";
import {RecipeWord, recipeWord} from "../src/libraries/RecipeWord.sol";
import {Line, Statement, batchSpan, readLine, readStatement} from "../src/libraries/Statement.sol";
import {TillWord, historyEntry, nextHistory, withSkip} from "../src/libraries/TillWord.sol";
import {Test} from "./kit/Test.sol";

/// Each operation on a packed word changes its own field, and no other, whatever else is in the word.
contract WordsTest is Test {
    // ------------------------------------------------------------------------------------------- accounts

    function testFuzz_anAccountsMoneyMovesAlone(uint256 raw, uint96 amount) public pure {
        AccountWord word = AccountWord.wrap(raw);
        AccountWord less = word.debited(amount = uint96(bound(amount, 0, word.balance())));

        vm.assertEq(less.balance(), word.balance() - amount);
        vm.assertEq(AccountWord.unwrap(less) >> 96, raw >> 96);
        vm.assertEq(AccountWord.unwrap(less.credited(amount)), raw);
    }

    function testFuzz_markingANonceSetsOneBit(uint256 raw, uint32 nonce) public pure {
        AccountWord word = AccountWord.wrap(raw);
        AccountWord marked = word.withNonce(nonce);

        vm.assertEq(marked.bits(), word.bits() | (1 << (nonce % 64)));
        vm.assertEq(
            AccountWord.unwrap(marked) & ~(uint256(type(uint64).max) << 96), raw & ~(uint256(type(uint64).max) << 96)
        );
    }

    function testFuzz_aHotWordStartsWithNoNonceUsed(uint256 raw, uint32 hot) public pure {
        AccountWord word = AccountWord.wrap(raw);
        AccountWord moved = word.withHotWord(hot);

        vm.assertEq(moved.hotWord(), hot);
        vm.assertEq(moved.bits(), 0);
        vm.assertEq(moved.balance(), word.balance());
        vm.assertEq(AccountWord.unwrap(moved) >> 192, raw >> 192);
    }

    function testFuzz_aCoordinatorIsNamedOnce(uint256 raw, uint32 id) public pure {
        AccountWord word = AccountWord.wrap(raw & ~(uint256(type(uint32).max) << 192));
        AccountWord named = word.withCoordinator(id);

        vm.assertEq(word.coordinator(), 0);
        vm.assertEq(named.coordinator(), id);
        vm.assertEq(AccountWord.unwrap(named) ^ (uint256(id) << 192), AccountWord.unwrap(word));
    }

    // --------------------------------------------------------------------------------------------- payees

    function testFuzz_aCreditNeverChangesThePayout(address payout, uint96 credit, uint96 more) public pure {
        more = uint96(bound(more, 0, type(uint96).max - credit));
        PayeeWord word = payeeWord(payout).credited(credit).credited(more);

        vm.assertEq(word.payout(), payout);
        vm.assertEq(word.credit(), uint256(credit) + more);
        vm.assertEq(word.exists(), payout != address(0));
        vm.assertEq(PayeeWord.unwrap(word.collected()), PayeeWord.unwrap(payeeWord(payout)));
    }

    function testFuzz_aNewPayoutKeepsTheCredit(uint256 raw, address payout) public pure {
        PayeeWord word = PayeeWord.wrap(raw);

        vm.assertEq(word.withPayout(payout).payout(), payout);
        vm.assertEq(word.withPayout(payout).credit(), word.credit());
    }

    // -------------------------------------------------------------------------------------------- recipes

    function testFuzz_aRecipesTermsAreReadAsWritten(uint32 author, uint16 royalty, uint16 share) public pure {
        RecipeWord word = recipeWord(author, royalty, share);

        vm.assertEq(word.author(), author);
        vm.assertEq(word.royaltyBps(), royalty);
        vm.assertEq(word.verifierBps(), share);
        vm.assertEq(word.registered(), true);
        vm.assertEq(RecipeWord.wrap(0).registered(), false);
    }

    function testFuzz_sharesAreRoundedDown(uint96 amount, uint16 royalty, uint16 share) public pure {
        (royalty, share) = (uint16(bound(royalty, 0, 500)), uint16(bound(share, 0, 2000)));
        (uint256 fee, uint256 verifiers, uint256 authors) = recipeWord(1, royalty, share).shares(amount);

        vm.assertEq(fee, uint256(amount) * 100 / 10_000);
        vm.assertEq(verifiers, uint256(amount) * share / 10_000);
        vm.assertEq(authors, uint256(amount) * royalty / 10_000);
        vm.assertLe(fee + verifiers + authors, uint256(amount) * 2600 / 10_000, "26 % at most");
    }

    // ------------------------------------------------------------------------------------------------ till

    function testFuzz_aBatchAddsItsFeesAndItsEntry(uint256 raw, uint96 fees, bytes32 entry) public pure {
        TillWord till = TillWord.wrap(raw);
        fees = uint96(bound(fees, 0, type(uint96).max - till.fees()));
        TillWord next = till.withBatch(fees, entry);

        vm.assertEq(next.fees(), till.fees() + fees);
        vm.assertEq(next.history(), uint160(uint256(keccak256(abi.encode(till.history(), entry)))));
        vm.assertEq(nextHistory(till.history(), entry), next.history());
    }

    function testFuzz_emptyingTheTillLeavesTheHistory(uint256 raw) public pure {
        TillWord till = TillWord.wrap(raw);

        vm.assertEq(till.emptied().fees(), 0);
        vm.assertEq(till.emptied().history(), till.history());
    }

    function testFuzz_anEntryNamesCoordinatorBatchAndSkips(uint32 coordinator, bytes32 batch, uint256 offset)
        public
        pure
    {
        bytes32 skips = keccak256(abi.encode(bytes32(0), offset));

        vm.assertEq(withSkip(0, offset), skips);
        vm.assertEq(historyEntry(coordinator, batch, skips), keccak256(abi.encode(coordinator, batch, skips)));
    }

    // ------------------------------------------------------------------------------------------ statements

    function testFuzz_aStatementIsReadAsWritten(uint32 nonce, uint40 deadline, uint96[5] calldata amounts) public view {
        bytes memory lines = "";
        uint256 sum = 0;
        for (uint32 i = 0; i < amounts.length; ++i) {
            lines = bytes.concat(lines, abi.encodePacked(i % 2, i + 10, i + 20, amounts[i]));
            sum += amounts[i];
        }
        bytes memory wire = abi.encodePacked(bytes32(0), bytes32(0), nonce, deadline, uint16(amounts.length), lines);

        this.read(wire, nonce, deadline, sum, uint256(amounts[0]) + amounts[2] + amounts[4]);
    }

    function read(bytes calldata wire, uint256 nonce, uint256 deadline, uint256 sum, uint256 even) external pure {
        (uint256 from, uint256 to) = batchSpan(wire);
        Statement statement = readStatement(from, to);
        Line second = readLine(statement.linesAt() + 24);

        vm.assertEq(statement.position(), from);
        vm.assertEq(statement.end(), to);
        vm.assertEq(statement.nonce(), nonce);
        vm.assertEq(statement.deadline(), deadline);
        vm.assertEq(statement.total(), sum);
        vm.assertEq(statement.givenTo(0), even);
        vm.assertEq(statement.givenTo(1), sum - even);
        vm.assertEq(second.provider(), 1);
        vm.assertEq(second.verifier(), 11);
        vm.assertEq(second.recipe(), 21);
    }
}
