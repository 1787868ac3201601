// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {Ledger} from "../Ledger.sol";
import {Collector} from "./Collector.sol";

/// @title Deposits by EIP-2612: a permit, and a second signature that says for which account, since a permit can't.
/// @notice Somebody may hand the permit to the token first; the deposit then works all the same.
contract PermitCollector is Collector, EIP712 {
    using SafeERC20 for IERC20;

    struct Permit {
        address from;
        uint256 value;
        uint256 deadline;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    bytes32 public constant DEPOSIT_TYPEHASH =
        keccak256("Deposit(address from,address key,uint256 value,uint256 nonce,uint256 deadline)");

    /// Deposits so far; the next one must carry this number.
    mapping(address from => uint256) public nonces;

    error NotSignedBy(address expected);
    error Expired(uint256 deadline);

    constructor(Ledger ledger_) Collector(ledger_) EIP712("Gristmill Deposit", "1") {}

    /// @param signature by the payer over Deposit(from, key, value, nonce, deadline), 65 bytes r || s || v.
    function deposit(address key, Permit calldata by, bytes calldata signature) external nonReentrant {
        if (block.timestamp > by.deadline) revert Expired(by.deadline);
        bytes32 digest = _hashTypedDataV4(
            keccak256(abi.encode(DEPOSIT_TYPEHASH, by.from, key, by.value, nonces[by.from]++, by.deadline))
        );
        if (ECDSA.recover(digest, signature) != by.from) revert NotSignedBy(by.from);
        // A permit that was used already has left its allowance; if it has not, the transfer says so.
        try IERC20Permit(address(token)).permit(by.from, address(this), by.value, by.deadline, by.v, by.r, by.s) {}
            catch {}
        uint256 before = token.balanceOf(address(this));
        // The payer signed for this account and amount: checked above.
        // slither-disable-next-line arbitrary-send-erc20-permit
        token.safeTransferFrom(by.from, address(this), by.value);
        _pass(key, by.from, before);
    }
}
