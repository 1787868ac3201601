// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Ledger} from "../Ledger.sol";

/// @title What collectors share: they take a holder's tokens by its signature and deposit them, so that whoever calls
/// pays the gas. They hold nothing between calls and are trusted with nothing; a new kind of signature needs a new
/// collector, not a new Ledger.
abstract contract Collector is ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    Ledger public immutable ledger;
    IERC20 public immutable token;

    event Relayed(address indexed key, address indexed from, uint256 amount);

    constructor(Ledger ledger_) {
        ledger = ledger_;
        token = ledger_.token();
        token.forceApprove(address(ledger_), type(uint256).max);
    }

    /// Deposits what came in since.
    function _pass(address key, address from, uint256 before) internal {
        uint256 arrived = token.balanceOf(address(this)) - before;
        ledger.deposit(key, arrived);
        emit Relayed(key, from, arrived);
    }
}
