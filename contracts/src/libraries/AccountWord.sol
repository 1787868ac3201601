// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// One renter's account in one slot:
///
///     balance 96 | nonce bits 64 | hot word 32 | coordinator 32 | 32 spare        (from the low end)
///
/// Nonce n is bit n % 64 of word n / 64. The newest word in use, the hot word, lives here; older ones are archived by
/// the Ledger when the hot word moves up. It never moves down.
type AccountWord is uint256;

using {
    balance,
    bits,
    hotWord,
    coordinator,
    withCoordinator,
    withHotWord,
    withNonce,
    credited,
    debited
} for AccountWord global;

uint256 constant BITS_AT = 96;
uint256 constant HOT_AT = 160;
uint256 constant COORDINATOR_AT = 192;

function balance(AccountWord self) pure returns (uint256) {
    return uint96(AccountWord.unwrap(self));
}

function bits(AccountWord self) pure returns (uint256) {
    return uint64(AccountWord.unwrap(self) >> BITS_AT);
}

function hotWord(AccountWord self) pure returns (uint256) {
    return uint32(AccountWord.unwrap(self) >> HOT_AT);
}

/// 0 while nobody has opened the account.
function coordinator(AccountWord self) pure returns (uint256) {
    return uint32(AccountWord.unwrap(self) >> COORDINATOR_AT);
}

function withCoordinator(AccountWord self, uint32 id) pure returns (AccountWord) {
    return AccountWord.wrap(AccountWord.unwrap(self) | (uint256(id) << COORDINATOR_AT));
}

/// Moves the hot word, which starts with no nonce used.
function withHotWord(AccountWord self, uint256 word) pure returns (AccountWord) {
    uint256 kept = AccountWord.unwrap(self) & ~(((1 << (COORDINATOR_AT - BITS_AT)) - 1) << BITS_AT);
    return AccountWord.wrap(kept | (word << HOT_AT));
}

/// Marks a nonce of the hot word as used.
function withNonce(AccountWord self, uint256 nonce) pure returns (AccountWord) {
    return AccountWord.wrap(AccountWord.unwrap(self) | (1 << (BITS_AT + (nonce & 63))));
}

/// The caller knows that the balance stays below 2^96.
function credited(AccountWord self, uint256 amount) pure returns (AccountWord) {
    unchecked {
        return AccountWord.wrap(AccountWord.unwrap(self) + amount);
    }
}

/// The caller knows that the balance covers the amount.
function debited(AccountWord self, uint256 amount) pure returns (AccountWord) {
    unchecked {
        return AccountWord.wrap(AccountWord.unwrap(self) - amount);
    }
}
