// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Merkle} from "../src/libraries/Merkle.sol";
import {StateDigest} from "../src/libraries/StateDigest.sol";
import {Line, Statement, batchSpan, readLine, readStatement} from "../src/libraries/Statement.sol";
import {Test} from "./kit/Test.sol";

/// Turns memory into calldata for the functions that read it there.
contract Reader {
    function read(bytes calldata wire, bytes32 domain)
        external
        pure
        returns (address key, uint256 nonce, uint256 deadline, uint256 count, uint256 total)
    {
        (uint256 start, uint256 to) = batchSpan(wire);
        Statement statement = readStatement(start, to);
        for (uint256 cursor = statement.linesAt(); cursor < statement.end(); cursor += 24) {
            total += readLine(cursor).amount();
            ++count;
        }
        return (statement.signer(domain), statement.nonce(), statement.deadline(), count, total);
    }

    function line(bytes calldata wire, uint256 index) external pure returns (uint256[4] memory fields) {
        (uint256 start, uint256 to) = batchSpan(wire);
        Line line_ = readLine(readStatement(start, to).linesAt() + 24 * index);
        return [line_.provider(), line_.verifier(), line_.recipe(), line_.amount()];
    }

    function rootOf(bytes32 leaf, uint256 index, uint256 count, bytes32[] calldata siblings)
        external
        pure
        returns (bytes32)
    {
        return Merkle.rootOf(leaf, index, count, siblings);
    }
}

/// Python and Solidity agree: both are held to vectors that neither of them made.
contract VectorsTest is Test {
    Reader private reader;
    string private digests;
    string private statements;

    function setUp() public {
        reader = new Reader();
        digests = vm.readFile("../tests/vectors/digests.json");
        statements = vm.readFile("../tests/vectors/statements.json");
    }

    function test_merkleRoots() public view {
        uint256 seen = 0;
        for (; _has(digests, ".merkle", seen); ++seen) {
            string memory tree = _item(".merkle", seen);
            bytes32[] memory leaves = vm.parseJsonBytes32Array(digests, string.concat(tree, ".leaves"));
            bytes32 root = vm.parseJsonBytes32(digests, string.concat(tree, ".root"));

            vm.assertEq(Merkle.root(leaves), root);
        }
        vm.assertGe(seen, 7, "trees seen");
    }

    function test_stateLeavesAndRoots() public view {
        uint256 seen = 0;
        for (uint256 i = 0; _has(digests, ".state", i); ++i) {
            string memory state = _item(".state", i);
            bytes32[] memory leaves = vm.parseJsonBytes32Array(digests, string.concat(state, ".leaves"));
            for (uint256 j = 0; j < leaves.length; ++j) {
                vm.assertEq(_leaf(_item(string.concat(state, ".tensors"), j)), leaves[j]);
                ++seen;
            }

            vm.assertEq(Merkle.root(leaves), vm.parseJsonBytes32(digests, string.concat(state, ".root")));
        }
        vm.assertGe(seen, 6, "leaves seen");
    }

    function test_statementsAreReadAsSigned() public view {
        bytes32 domain = _domain();
        address signer = vm.parseJsonAddress(statements, ".key");
        uint256 seen = 0;
        for (; _has(statements, ".statements", seen); ++seen) {
            string memory item = _item(".statements", seen);
            bytes memory wire = vm.parseJsonBytes(statements, string.concat(item, ".wire"));
            (address key, uint256 nonce, uint256 deadline, uint256 count, uint256 total) = reader.read(wire, domain);

            vm.assertEq(key, signer);
            vm.assertEq(nonce, vm.parseJsonUint(statements, string.concat(item, ".nonce")));
            vm.assertEq(deadline, vm.parseJsonUint(statements, string.concat(item, ".deadline_s")));
            vm.assertEq(total, vm.parseJsonUint(statements, string.concat(item, ".total")));
            for (uint256 i = 0; i < count; ++i) {
                string memory line = string.concat(item, ".lines[", vm.toString(i), "]");
                uint256[] memory wanted = vm.parseJsonUintArray(statements, line);
                uint256[4] memory got = reader.line(wire, i);
                for (uint256 j = 0; j < 4; ++j) {
                    vm.assertEq(got[j], wanted[j]);
                }
            }
        }
        vm.assertEq(seen, 3);
    }

    /// A proof of any leaf of any tree gives the root; another leaf, place or length of proof doesn't.
    function testFuzz_merkleProofs(uint256 seed, uint8 size, uint256 index) public {
        uint256 count = bound(size, 1, 70);
        index = bound(index, 0, count - 1);
        bytes32[] memory leaves = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            leaves[i] = keccak256(abi.encode(seed, i));
        }
        bytes32 leaf = leaves[index];
        bytes32[] memory siblings = _prove(leaves, index);
        bytes32 root = Merkle.root(leaves);

        vm.assertEq(reader.rootOf(leaf, index, count, siblings), root);
        vm.assertTrue(reader.rootOf(~leaf, index, count, siblings) != root, "another leaf");
        vm.expectRevert(abi.encodeWithSelector(Merkle.NoSuchLeaf.selector, count, count));
        reader.rootOf(leaf, count, count, siblings);
        bytes32[] memory longer = new bytes32[](siblings.length + 1);
        vm.expectRevert(abi.encodeWithSelector(Merkle.WrongProofLength.selector, longer.length));
        reader.rootOf(leaf, index, count, longer);
        if (siblings.length == 0) return;
        vm.expectRevert(abi.encodeWithSelector(Merkle.WrongProofLength.selector, 0));
        reader.rootOf(leaf, index, count, new bytes32[](0));
    }

    /// Siblings from leaf to root, made level by level from copies.
    function _prove(bytes32[] memory leaves, uint256 index) private pure returns (bytes32[] memory siblings) {
        bytes32[] memory level = leaves;
        bytes32[] memory found = new bytes32[](8);
        uint256 used = 0;
        for (; level.length > 1; index /= 2) {
            if (index ^ 1 < level.length) found[used++] = level[index ^ 1];
            bytes32[] memory next = new bytes32[]((level.length + 1) / 2);
            for (uint256 i = 0; i < next.length; ++i) {
                next[i] = 2 * i + 1 < level.length ? Merkle.node(level[2 * i], level[2 * i + 1]) : level[2 * i];
            }
            level = next;
        }
        siblings = new bytes32[](used);
        for (uint256 i = 0; i < used; ++i) {
            siblings[i] = found[i];
        }
    }

    function _leaf(string memory tensor) private view returns (bytes32) {
        string memory name = vm.parseJsonString(digests, string.concat(tensor, ".name"));
        uint8 code = uint8(vm.parseJsonUint(digests, string.concat(tensor, ".code")));
        uint256[] memory shape = vm.parseJsonUintArray(digests, string.concat(tensor, ".shape"));
        bytes memory data = bytes("");
        string memory hexData = vm.parseJsonString(digests, string.concat(tensor, ".data"));
        if (bytes(hexData).length != 0) data = vm.parseBytes(string.concat("0x", hexData));
        uint64[] memory dims = new uint64[](shape.length);
        for (uint256 i = 0; i < shape.length; ++i) {
            dims[i] = uint64(shape[i]);
        }
        return StateDigest.leaf(name, code, dims, uint64(data.length), _content(data));
    }

    /// Merkle root of the chunks; the vectors' tensors have one at most.
    function _content(bytes memory data) private pure returns (bytes32) {
        bytes32[] memory chunks = new bytes32[](data.length == 0 ? 0 : 1);
        if (data.length != 0) chunks[0] = StateDigest.chunk(data);
        return Merkle.root(chunks);
    }

    function _domain() private view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Gristmill Ledger"),
                keccak256("1"),
                vm.parseJsonUint(statements, ".chain_id"),
                vm.parseJsonAddress(statements, ".ledger")
            )
        );
    }

    function _has(string memory json, string memory list, uint256 index) private view returns (bool) {
        return vm.keyExistsJson(json, _item(list, index));
    }

    function _item(string memory list, uint256 index) private pure returns (string memory) {
        return string.concat(list, "[", vm.toString(index), "]");
    }
}
