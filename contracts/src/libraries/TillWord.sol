// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// What every batch writes, in one slot:   fees 96 | history 160        (from the low end)
///
/// Fees are the treasury's, not yet credited to it. The history is a hash chain over all batches, so that what a
/// coordinator settled can be shown later without having been stored (Cover):
///
///     history' = low 160 bits of keccak256(history || entry)
///     entry    = keccak256(coordinator || keccak256(batch) || skips)
type TillWord is uint256;

using {fees, history, emptied, withBatch} for TillWord global;

function fees(TillWord self) pure returns (uint256) {
    return uint96(TillWord.unwrap(self));
}

function history(TillWord self) pure returns (uint160) {
    return uint160(TillWord.unwrap(self) >> 96);
}

function emptied(TillWord self) pure returns (TillWord) {
    return TillWord.wrap((TillWord.unwrap(self) >> 96) << 96);
}

/// The caller knows that the fees stay below 2^96.
function withBatch(TillWord self, uint256 fees_, bytes32 entry) pure returns (TillWord) {
    unchecked {
        return TillWord.wrap((uint256(nextHistory(self.history(), entry)) << 96) | (self.fees() + fees_));
    }
}

function nextHistory(uint160 before, bytes32 entry) pure returns (uint160) {
    return uint160(uint256(keccak256(abi.encode(before, entry))));
}

/// @param batch digest of the batch.
/// @param skips digest of where in it the statements start that were not paid (withSkip); zero for none.
function historyEntry(uint256 coordinator, bytes32 batch, bytes32 skips) pure returns (bytes32) {
    return keccak256(abi.encode(coordinator, batch, skips));
}

/// @param offset in the batch of a statement that was not paid.
function withSkip(bytes32 skips, uint256 offset) pure returns (bytes32) {
    return keccak256(abi.encode(skips, offset));
}
