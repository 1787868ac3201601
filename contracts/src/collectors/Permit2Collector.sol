// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ledger} from "../Ledger.sol";
import {Collector} from "./Collector.sol";

/// The part of Uniswap's Permit2 that is used here (https://docs.uniswap.org/contracts/permit2/reference/signature-transfer).
interface ISignatureTransfer {
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    struct SignatureTransferDetails {
        address to;
        uint256 requestedAmount;
    }

    function permitWitnessTransferFrom(
        PermitTransferFrom calldata permit,
        SignatureTransferDetails calldata transferDetails,
        address owner,
        bytes32 witness,
        string calldata witnessTypeString,
        bytes calldata signature
    ) external;
}

/// @title Deposits by Permit2, for tokens that know no signatures themselves: the signed witness names the account.
contract Permit2Collector is Collector {
    bytes32 public constant DEPOSIT_TYPEHASH = keccak256("Deposit(address key)");
    string public constant WITNESS_TYPE =
        "Deposit witness)Deposit(address key)TokenPermissions(address token,uint256 amount)";

    ISignatureTransfer public immutable permit2;

    constructor(Ledger ledger_, ISignatureTransfer permit2_) Collector(ledger_) {
        permit2 = permit2_;
    }

    /// @param signature by the payer over PermitWitnessTransferFrom with witness Deposit(key) and this contract as spender.
    function deposit(
        address key,
        address from,
        uint256 value,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrant {
        uint256 before = token.balanceOf(address(this));
        permit2.permitWitnessTransferFrom(
            ISignatureTransfer.PermitTransferFrom(
                ISignatureTransfer.TokenPermissions(address(token), value), nonce, deadline
            ),
            ISignatureTransfer.SignatureTransferDetails(address(this), value),
            from,
            keccak256(abi.encode(DEPOSIT_TYPEHASH, key)),
            WITNESS_TYPE,
            signature
        );
        _pass(key, from, before);
    }
}
