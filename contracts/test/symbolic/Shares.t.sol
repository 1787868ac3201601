// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ledger} from "../../src/Ledger.sol";
import {PayeeWord} from "../../src/libraries/PayeeWord.sol";
import {RecipeWord, recipeWord} from "../../src/libraries/RecipeWord.sol";
import {TillWord} from "../../src/libraries/TillWord.sol";
import {Symbolic} from "./Symbolic.sol";

/// Invariants 3, 10 and 11: a payment credits what it debits, to those whom its lines name, leaves every payout address, and
/// each share is the amount's rate rounded down.
contract SharesSymbolic is Symbolic {
    uint256 private constant BPS = 10_000;
    uint32 private constant PROVIDER = 1;
    uint32 private constant VERIFIER = 2;
    uint32 private constant AUTHOR = 3;

    // ------------------------------------------------------------------------------------------- one line's parts

    /// The EVM's division rounds down, and no product of 96 and 16 bits overflows.
    function check_sharesAreRatesRoundedDown(uint96 amount, uint16 royaltyBps, uint16 verifierBps) public pure {
        (uint256 fee, uint256 verifierShare, uint256 royalty) = recipeWord(1, royaltyBps, verifierBps).shares(amount);

        unchecked {
            assert(fee == uint256(amount) * 100 / BPS);
            assert(verifierShare == uint256(amount) * verifierBps / BPS);
            assert(royalty == uint256(amount) * royaltyBps / BPS);
        }
    }

    function check_termsAreWithinCaps(uint32 author, uint16 royaltyBps, uint16 verifierBps, uint32 other) public {
        (uint32 authorBefore, uint16 royaltyBefore, uint16 verifierBefore, bool before) = ledger.recipe(other);

        try ledger.addRecipe(author, royaltyBps, verifierBps) returns (uint32 id) {
            (uint32 author_, uint16 royaltyBps_, uint16 verifierBps_, bool registered) = ledger.recipe(id);
            assert(registered && author_ == author && royaltyBps_ == royaltyBps && verifierBps_ == verifierBps);
            assert(royaltyBps <= 500 && verifierBps <= 2000);
            if (other == id) return;
            (author_, royaltyBps_, verifierBps_, registered) = ledger.recipe(other);
            assert(author_ == authorBefore && royaltyBps_ == royaltyBefore);
            assert(verifierBps_ == verifierBefore && registered == before);
        } catch {}
    }

    function check_aRecipeWordKeepsItsFields(uint32 author, uint16 royaltyBps, uint16 verifierBps) public pure {
        RecipeWord word = recipeWord(author, royaltyBps, verifierBps);

        assert(word.author() == author && word.royaltyBps() == royaltyBps && word.verifierBps() == verifierBps);
        assert(word.registered());
    }

    // ------------------------------------------------------------------------------------------------- credits

    /// Whichever payee one looks at: it gains the amount if it is meant, or if it is the treasury and nobody is meant.
    function check_aCreditReachesItsPayeeAndNoOther(uint32 id, uint96 amount, uint32 seen) public {
        PayeeWord before = ledger.payeeWordOf(seen);
        uint256 gain = _if(_target(id), seen, amount);
        vm.assume(before.credit() + amount < 2 ** 96); // books are below 2^96: Ledger._arrived

        ledger.credit(id, amount);

        assert(ledger.payeeWordOf(seen).credit() == before.credit() + gain);
        assert(ledger.payeeWordOf(seen).payout() == before.payout());
    }

    /// What a payee has and what a run holds for it: adding a share raises the sum by the share, whoever is written meanwhile.
    function check_aRunLosesNothing(uint32 held, uint96 heldAmount, uint32 id, uint96 amount, uint32 seen) public {
        PayeeWord before = ledger.payeeWordOf(seen);
        uint256 owed = before.credit() + _if(_target(held), seen, heldAmount) + _if(_target(id), seen, amount);
        vm.assume(uint256(heldAmount) + amount < 2 ** 96);
        vm.assume(before.credit() + heldAmount + amount < 2 ** 96); // books are below 2^96: Ledger._arrived
        vm.assume(ledger.payeeWordOf(0).exists()); // Ledger's constructor; an address is never set to zero

        Ledger.Run memory run = ledger.add(Ledger.Run(held, heldAmount), id, amount);

        PayeeWord afterwards = ledger.payeeWordOf(seen);
        assert(afterwards.credit() + _if(_target(run.payee), seen, run.amount) == owed);
        assert(afterwards.payout() == before.payout());
    }

    /// The four gains sum to the amount, which is what check_aPaymentTakesItsTotalAndNothingElse debits.
    function check_aLinePaysItsFour(Sent calldata sent) public {
        (uint32 author, uint16 royaltyBps, uint16 verifierBps,) = ledger.recipe(sent.recipe);
        vm.assume(sent.provider == PROVIDER && sent.verifier == VERIFIER && author == AUTHOR && sent.recipe != 0);
        (uint256 fee, uint256 verifierShare, uint256 royalty) =
            recipeWord(author, royaltyBps, verifierBps).shares(sent.amount);
        uint256[4] memory before = _four();
        for (uint256 i = 0; i < 4; ++i) {
            vm.assume(before[i] + sent.amount < 2 ** 96); // books are below 2^96: Ledger._arrived
        }
        // By the caps (check_termsAreWithinCaps): 1 %, 20 % and 5 %, each rounded down. Solvers of bit vectors time out on
        // that sum; testFuzz_sharesAreExact tries it.
        vm.assume(fee + verifierShare + royalty <= sent.amount);

        ledger.share(_wire(sent));

        uint256[4] memory afterwards = _four();
        assert(afterwards[0] == before[0] + fee);
        assert(afterwards[1] == before[1] + sent.amount - fee - verifierShare - royalty);
        assert(afterwards[2] == before[2] + verifierShare);
        assert(afterwards[3] == before[3] + royalty);
    }

    function check_aCreditLeavesThePayout(uint256 word, uint96 amount) public pure {
        PayeeWord before = PayeeWord.wrap(word);
        vm.assume(before.credit() + amount < 2 ** 96);

        PayeeWord afterwards = before.credited(amount);

        assert(afterwards.payout() == before.payout());
        assert(afterwards.credit() == before.credit() + amount);
        assert(afterwards.collected().payout() == before.payout() && afterwards.collected().credit() == 0);
    }

    function check_aNewPayoutLeavesTheCredit(uint256 word, address payout) public pure {
        PayeeWord afterwards = PayeeWord.wrap(word).withPayout(payout);

        assert(afterwards.payout() == payout && afterwards.credit() == PayeeWord.wrap(word).credit());
    }

    function check_aBatchAddsItsFeesToTheTill(uint256 word, uint96 fees, bytes32 entry) public pure {
        TillWord before = TillWord.wrap(word);
        vm.assume(before.fees() + fees < 2 ** 96);

        assert(before.withBatch(fees, entry).fees() == before.fees() + fees);
        assert(before.emptied().fees() == 0 && before.emptied().history() == before.history());
    }

    // --------------------------------------------------------------------------------------------------- steps

    /// The till's fees, and the credits of three payees that exist.
    function _four() private view returns (uint256[4] memory amounts) {
        amounts[0] = ledger.till().fees();
        for (uint256 id = PROVIDER; id <= AUTHOR; ++id) {
            vm.assume(ledger.payeeWordOf(id).exists());
            amounts[id] = ledger.payeeWordOf(id).credit();
        }
    }

    /// Where an amount for this payee goes: to the treasury, 0, if there is no such payee.
    function _target(uint256 id) private view returns (uint256 target) {
        uint256 exists = PayeeWord.unwrap(ledger.payeeWordOf(id)) >> 96;
        assembly {
            target := and(id, sub(iszero(exists), 1))
        }
    }

    /// Without a branch, of which each would double the paths.
    function _if(uint256 a, uint256 b, uint256 amount) private pure returns (uint256 result) {
        assembly {
            result := and(amount, sub(0, eq(a, b)))
        }
    }
}
