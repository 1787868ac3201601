// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// A statement where it lies in calldata:   position 32 | nonce 32 | deadline 40 | count of lines 16   (to the low end)
///
/// Wire form, as written by gristmill_protocol.signing.encode_statement:
///
///     r 32 | vs 32 (EIP-2098) | nonce 4 | deadline 5 | count 2 | count x line        bytes, big-endian
type Statement is uint256;

/// One payment:   provider 32 | verifier 32 | recipe 32 | amount 96        (to the low end; 24 bytes on the wire)
type Line is uint256;

using {position, nonce, deadline, linesAt, end, total, givenTo, structHash, signer} for Statement global;
using {provider, verifier, recipe, amount} for Line global;

uint256 constant HEAD_BYTES = 75;
uint256 constant LINE_BYTES = 24;

bytes32 constant STATEMENT_TYPEHASH = keccak256("Statement(uint32 nonce,uint40 deadline,bytes lines)");

/// The batch ends inside a statement; position is in the call's data.
error TruncatedStatement(uint256 position);

/// First and last+1 position of a batch in the call's data.
function batchSpan(bytes calldata batch) pure returns (uint256 from, uint256 to) {
    assembly ("memory-safe") {
        from := batch.offset
        to := add(batch.offset, batch.length)
    }
}

/// The statement that starts at a position of the call's data and ends at or before `to`.
function readStatement(uint256 start, uint256 to) pure returns (Statement self) {
    assembly ("memory-safe") {
        self := or(shl(88, start), shr(168, calldataload(add(start, 64))))
    }
    if (start + HEAD_BYTES > to || self.end() > to) revert TruncatedStatement(start);
}

function position(Statement self) pure returns (uint256) {
    return Statement.unwrap(self) >> 88;
}

function nonce(Statement self) pure returns (uint256) {
    return uint32(Statement.unwrap(self) >> 56);
}

function deadline(Statement self) pure returns (uint256) {
    return uint40(Statement.unwrap(self) >> 16);
}

function linesAt(Statement self) pure returns (uint256) {
    unchecked {
        return self.position() + HEAD_BYTES;
    }
}

function end(Statement self) pure returns (uint256) {
    unchecked {
        return self.linesAt() + uint16(Statement.unwrap(self)) * LINE_BYTES;
    }
}

function total(Statement self) pure returns (uint256 sum) {
    uint256 to = self.end();
    // At most 2^16 amounts of 96 bits.
    unchecked {
        for (uint256 cursor = self.linesAt(); cursor < to; cursor += LINE_BYTES) {
            sum += readLine(cursor).amount();
        }
    }
}

/// What the lines give to one provider, before fees and shares.
function givenTo(Statement self, uint256 payee) pure returns (uint256 sum) {
    uint256 to = self.end();
    // At most 2^16 amounts of 96 bits.
    unchecked {
        for (uint256 cursor = self.linesAt(); cursor < to; cursor += LINE_BYTES) {
            Line line = readLine(cursor);
            if (line.provider() == payee) sum += line.amount();
        }
    }
}

function structHash(Statement self) pure returns (bytes32) {
    bytes calldata lines;
    uint256 start = self.linesAt();
    uint256 to = self.end();
    assembly ("memory-safe") {
        lines.offset := start
        lines.length := sub(to, start)
    }
    return keccak256(abi.encode(STATEMENT_TYPEHASH, self.nonce(), self.deadline(), keccak256(lines)));
}

/// The key that signed; zero for a signature that is none or is malleable.
function signer(Statement self, bytes32 domain) pure returns (address key) {
    bytes32 r;
    bytes32 vs;
    uint256 start = self.position();
    assembly ("memory-safe") {
        r := calldataload(start)
        vs := calldataload(add(start, 32))
    }
    (key,,) = ECDSA.tryRecover(MessageHashUtils.toTypedDataHash(domain, self.structHash()), r, vs);
}

/// The line that starts at a position of the call's data.
function readLine(uint256 start) pure returns (Line self) {
    assembly ("memory-safe") {
        self := shr(64, calldataload(start))
    }
}

function provider(Line self) pure returns (uint256) {
    return Line.unwrap(self) >> 160;
}

function verifier(Line self) pure returns (uint256) {
    return uint32(Line.unwrap(self) >> 128);
}

function recipe(Line self) pure returns (uint256) {
    return uint32(Line.unwrap(self) >> 96);
}

function amount(Line self) pure returns (uint256) {
    return uint96(Line.unwrap(self));
}
