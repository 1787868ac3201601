// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// The cheat codes that these tests use (forge-std's npm package does not compile).
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function addr(uint256 secret) external pure returns (address);
    function sign(uint256 secret, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function signCompact(uint256 secret, bytes32 digest) external pure returns (bytes32 r, bytes32 vs);
    function prank(address sender) external;
    function startPrank(address sender) external;
    function stopPrank() external;
    function roll(uint256 block_) external;
    function warp(uint256 time) external;
    function chainId(uint256 id) external;
    function snapshotState() external returns (uint256 id);
    function revertToState(uint256 id) external returns (bool done);
    function expectRevert() external;
    function expectRevert(bytes4 selector) external;
    function expectRevert(bytes calldata reason) external;
    function expectPartialRevert(bytes4 selector) external;
    function expectEmit() external;
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function assume(bool condition) external pure;
    function assertEq(uint256 got, uint256 wanted) external pure;
    function assertEq(uint256 got, uint256 wanted, string calldata fact) external pure;
    function assertEq(string calldata got, string calldata wanted) external pure;
    function assertEq(bytes32 got, bytes32 wanted) external pure;
    function assertEq(address got, address wanted) external pure;
    function assertEq(bool got, bool wanted) external pure;
    function assertTrue(bool condition, string calldata fact) external pure;
    function assertNotEq(uint256 got, uint256 unwanted, string calldata fact) external pure;
    function assertNotEq(bytes32 got, bytes32 unwanted) external pure;
    function assertLe(uint256 got, uint256 most, string calldata fact) external pure;
    function assertGe(uint256 got, uint256 least, string calldata fact) external pure;
    function snapshotGasLastCall(string calldata group, string calldata name) external returns (uint256 gasUsed);
    function readFile(string calldata path) external view returns (string memory);
    function keyExistsJson(string calldata json, string calldata path) external view returns (bool);
    function parseJsonBytes(string calldata json, string calldata path) external pure returns (bytes memory);
    function parseJsonBytes32(string calldata json, string calldata path) external pure returns (bytes32);
    function parseJsonBytes32Array(string calldata json, string calldata path) external pure returns (bytes32[] memory);
    function parseJsonAddress(string calldata json, string calldata path) external pure returns (address);
    function parseJsonString(string calldata json, string calldata path) external pure returns (string memory);
    function parseJsonUint(string calldata json, string calldata path) external pure returns (uint256);
    function parseJsonUintArray(string calldata json, string calldata path) external pure returns (uint256[] memory);
    function parseBytes(string calldata text) external pure returns (bytes memory);
    function toString(uint256 value) external pure returns (string memory);
}
