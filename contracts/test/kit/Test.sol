// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "./Vm.sol";

/// What forge looks for in a test contract, and nothing else.
abstract contract Test {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    bool public constant IS_TEST = true;

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    address[] private _targets;
    FuzzSelector[] private _selectors;

    function targetContracts() external view returns (address[] memory) {
        return _targets;
    }

    function targetSelectors() external view returns (FuzzSelector[] memory) {
        return _selectors;
    }

    /// Fuzz these functions of a contract, and no other contract.
    function target(address addr, bytes4[] memory selectors) internal {
        _targets.push(addr);
        _selectors.push(FuzzSelector(addr, selectors));
    }

    function bound(uint256 x, uint256 least, uint256 most) internal pure returns (uint256) {
        uint256 span = most - least;
        return span == type(uint256).max ? x : least + x % (span + 1);
    }
}
