// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LedgerTypes} from "../../src/LedgerTypes.sol";
import {AccountWord} from "../../src/libraries/AccountWord.sol";
import {Symbolic} from "./Symbolic.sol";

/// Invariants 4 to 6: no (key, nonce) is paid twice, a nonce that is used stays so, one that is unused and funded is paid,
/// and the hot word never decreases. By induction over payments: one that is used is refused on either way, paying uses it,
/// and every other nonce stays as it was.
contract NoncesSymbolic is Symbolic {
    function check_settleRefusesAUsedNonce(Sent calldata sent) public {
        _operate();
        bytes memory data = _wire(sent);
        address key = ledger.signerOf(data);
        vm.assume(ledger.nonceUsed(key, sent.nonce));
        uint256 word = AccountWord.unwrap(ledger.accountWord(key));

        (uint256 paid, uint256 skipped) = ledger.settle(COORDINATOR, data);

        assert(paid == 0 && skipped == 1);
        assert(AccountWord.unwrap(ledger.accountWord(key)) == word);
    }

    function check_settleReservedRefusesAUsedNonce(Sent calldata sent, LedgerTypes.Reservation calldata reservation)
        public
    {
        bytes memory data = _wire(sent);
        vm.assume(ledger.nonceUsed(ledger.signerOf(data), sent.nonce));

        try ledger.settleReserved(data, reservation) {
            assert(false);
        } catch {}
    }

    function check_aPaymentUsesItsNonce(address key, uint32 nonce, uint96 total) public {
        _spend(key, nonce, total);

        assert(ledger.nonceUsed(key, nonce));
    }

    function check_aUsedNonceStaysUsed(address key, uint32 nonce, uint96 total, address other, uint32 used) public {
        vm.assume(ledger.nonceUsed(other, used));

        _spend(key, nonce, total);

        assert(ledger.nonceUsed(other, used));
    }

    /// What the account keeps of words from the hot one on is nothing: check_nothingIsArchivedFromTheHotWordOn.
    function check_anotherNonceStaysUnused(address key, uint32 nonce, uint96 total, address other, uint32 unused)
        public
    {
        vm.assume(key != other || nonce != unused);
        vm.assume(!ledger.nonceUsed(other, unused));
        vm.assume(ledger.accountWord(other).hotWord() > unused >> 6 || ledger.archived(other, unused >> 6) == 0);

        _spend(key, nonce, total);

        assert(!ledger.nonceUsed(other, unused));
    }

    function check_nothingIsArchivedFromTheHotWordOn(address key, uint32 nonce, uint96 total, uint32 word) public {
        vm.assume(word < ledger.accountWord(key).hotWord() || ledger.archived(key, word) == 0);

        _spend(key, nonce, total);

        assert(word < ledger.accountWord(key).hotWord() || ledger.archived(key, word) == 0);
    }

    function check_anUnusedFundedNonceIsPaid(Sent calldata sent, address key, uint40 time) public {
        vm.warp(time);
        vm.assume(ledger.accountWord(key).coordinator() == COORDINATOR);
        vm.assume(!ledger.nonceUsed(key, sent.nonce));
        vm.assume(time <= sent.deadline);
        (,,, bool registered) = ledger.recipe(sent.recipe);
        vm.assume(registered && sent.recipe != 0); // ids are from 1
        vm.assume(sent.amount != 0 && sent.amount <= ledger.accountWord(key).balance());

        (LedgerTypes.Skip why, uint256 total) = ledger.check(COORDINATOR, key, _wire(sent));

        assert(why == LedgerTypes.Skip.None);
        assert(total == sent.amount);
    }

    function check_whatIsCheckedIsCovered(Sent calldata sent, address key, uint40 time) public {
        vm.warp(time);

        (LedgerTypes.Skip why, uint256 total) = ledger.check(COORDINATOR, key, _wire(sent));

        if (why != LedgerTypes.Skip.None) return;
        AccountWord word = ledger.accountWord(key);
        assert(word.coordinator() == COORDINATOR && time <= sent.deadline && !ledger.nonceUsed(key, sent.nonce));
        assert(total == sent.amount && total != 0 && total <= word.balance());
    }

    function check_theHotWordNeverDecreases(address key, uint32 nonce, uint96 total, address other) public {
        uint256 before = ledger.accountWord(other).hotWord();

        _spend(key, nonce, total);

        assert(ledger.accountWord(other).hotWord() >= before);
    }

    function check_aPaymentTakesItsTotalAndNothingElse(address key, uint32 nonce, uint96 total, address other) public {
        AccountWord before = ledger.accountWord(key);
        AccountWord others = ledger.accountWord(other);

        _spend(key, nonce, total);

        AccountWord afterwards = ledger.accountWord(key);
        assert(afterwards.balance() == before.balance() - total);
        assert(afterwards.coordinator() == before.coordinator());
        if (other != key) assert(AccountWord.unwrap(ledger.accountWord(other)) == AccountWord.unwrap(others));
    }

    /// A total that is paid is covered: check_whatIsCheckedIsCovered.
    function _spend(address key, uint32 nonce, uint96 total) private {
        vm.assume(total <= ledger.accountWord(key).balance());
        ledger.spend(key, nonce, total);
    }
}
