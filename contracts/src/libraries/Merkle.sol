// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Merkle trees over SHA-256, the same as gristmill_protocol.merkle.
/// @notice A node is SHA256(0x02 || left || right); an odd node is promoted unchanged; the empty tree is SHA256(0x03).
/// Leaves are 32-byte digests, domain-separated by whoever made them.
library Merkle {
    /// SHA256(0x03)
    bytes32 internal constant EMPTY_ROOT = 0x084fed08b978af4d7d196a7446a86b58009e636b611db16211b65a9aadff29c5;

    /// No leaf has this index.
    error NoSuchLeaf(uint256 index, uint256 count);
    /// The proof has more or fewer siblings than a tree of this count has at this index.
    error WrongProofLength(uint256 given);

    /// @notice Root of the tree over the leaves. Overwrites them.
    function root(bytes32[] memory leaves) internal pure returns (bytes32) {
        uint256 count = leaves.length;
        if (count == 0) return EMPTY_ROOT;
        for (; count > 1; count = (count + 1) / 2) {
            for (uint256 i = 0; i + 1 < count; i += 2) {
                leaves[i / 2] = node(leaves[i], leaves[i + 1]);
            }
            if (count % 2 == 1) leaves[count / 2] = leaves[count - 1];
        }
        return leaves[0];
    }

    /// @notice The root that a proof gives for a leaf. Compare it with the committed one.
    /// @param count leaves in the tree; it must come from the commitment, not from whoever proves.
    /// @param siblings from leaf to root; a level where the node was promoted has none.
    function rootOf(bytes32 leaf, uint256 index, uint256 count, bytes32[] calldata siblings)
        internal
        pure
        returns (bytes32 result)
    {
        if (index >= count) revert NoSuchLeaf(index, count);
        result = leaf;
        uint256 used = 0;
        for (; count > 1; (index, count) = (index / 2, (count + 1) / 2)) {
            bool promoted = index % 2 == 0 && index + 1 == count;
            if (promoted) continue;
            if (used == siblings.length) revert WrongProofLength(siblings.length);
            bytes32 sibling = siblings[used++];
            result = index % 2 == 1 ? node(sibling, result) : node(result, sibling);
        }
        if (used != siblings.length) revert WrongProofLength(siblings.length);
    }

    function node(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(uint8(2), left, right));
    }
}
