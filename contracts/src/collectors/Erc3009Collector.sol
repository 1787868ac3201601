// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC3009} from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";

import {Ledger} from "../Ledger.sol";
import {Collector} from "./Collector.sol";

/// @title Deposits by EIP-3009 (USDC and its like): one signature, no approval.
contract Erc3009Collector is Collector {
    /// The authorization's nonce is keccak256(abi.encode(key, salt)), so it pays into one account only; its receiver is
    /// this contract.
    struct Authorization {
        address from;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 salt;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    constructor(Ledger ledger_) Collector(ledger_) {}

    function deposit(address key, Authorization calldata by) external nonReentrant {
        uint256 before = token.balanceOf(address(this));
        IERC3009(address(token))
            .receiveWithAuthorization(
                by.from,
                address(this),
                by.value,
                by.validAfter,
                by.validBefore,
                keccak256(abi.encode(key, by.salt)),
                by.v,
                by.r,
                by.s
            );
        _pass(key, by.from, before);
    }
}
