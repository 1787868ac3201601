// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title The digests a training state is made of, the same as gristmill_protocol.state.
library StateDigest {
    /// @notice Digest of up to 4 MiB of a tensor's raw bytes: SHA256(0x00 || data).
    function chunk(bytes memory data) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(uint8(0), data));
    }

    /// @notice A tensor's leaf: SHA256(0x01 || len(name) u64le || name || dtype u8 || ndim u8 || dims u64le ||
    /// nbytes u64le || Merkle root of its chunks).
    /// @param name section and qualified name, UTF-8.
    /// @param dtype code of gristmill_protocol.state.DTYPES.
    function leaf(string memory name, uint8 dtype, uint64[] memory dims, uint64 nbytes, bytes32 chunksRoot)
        internal
        pure
        returns (bytes32)
    {
        bytes memory shape = "";
        for (uint256 i = 0; i < dims.length; ++i) {
            shape = bytes.concat(shape, littleEndian(dims[i]));
        }
        bytes8 length = littleEndian(uint64(bytes(name).length));
        uint8 ndim = SafeCast.toUint8(dims.length);
        bytes memory head = abi.encodePacked(uint8(1), length, name, dtype, ndim, shape);
        return sha256(abi.encodePacked(head, littleEndian(nbytes), chunksRoot));
    }

    function littleEndian(uint64 value) internal pure returns (bytes8) {
        value = ((value & 0xff00ff00ff00ff00) >> 8) | ((value & 0x00ff00ff00ff00ff) << 8);
        value = ((value & 0xffff0000ffff0000) >> 16) | ((value & 0x0000ffff0000ffff) << 16);
        return bytes8((value >> 32) | (value << 32));
    }
}
