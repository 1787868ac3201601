// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// Somebody who is paid, in one slot:   credit 96 | payout address 160        (from the low end)
type PayeeWord is uint256;

using {credit, payout, exists, withPayout, credited, collected} for PayeeWord global;

function payeeWord(address payout_) pure returns (PayeeWord) {
    return PayeeWord.wrap(uint256(uint160(payout_)) << 96);
}

function credit(PayeeWord self) pure returns (uint256) {
    return uint96(PayeeWord.unwrap(self));
}

function payout(PayeeWord self) pure returns (address) {
    return address(uint160(PayeeWord.unwrap(self) >> 96));
}

function exists(PayeeWord self) pure returns (bool) {
    return PayeeWord.unwrap(self) >> 96 != 0;
}

function withPayout(PayeeWord self, address payout_) pure returns (PayeeWord) {
    return PayeeWord.wrap(PayeeWord.unwrap(payeeWord(payout_)) | self.credit());
}

/// The caller knows that the credit stays below 2^96.
function credited(PayeeWord self, uint256 amount) pure returns (PayeeWord) {
    unchecked {
        return PayeeWord.wrap(PayeeWord.unwrap(self) + amount);
    }
}

function collected(PayeeWord self) pure returns (PayeeWord) {
    return payeeWord(self.payout());
}
