// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Cover} from "../../src/Cover.sol";
import {LedgerTypes} from "../../src/LedgerTypes.sol";
import {Institutions} from "./Institutions.sol";

/// The market with a coordinator that has a bond, and a way to prove what it settled.
abstract contract Covered is Institutions {
    /// What providers can be paid from the coordinator's bond, which is twice as much.
    uint96 internal constant COVER = 100e6;

    function setUp() public virtual override {
        super.setUp();
        _bondCover(2 * COVER);
    }

    function _bondCover(uint256 amount) internal {
        token.mint(address(this), amount);
        token.approve(address(cover), amount);
        cover.bond(coordinator, amount);
    }

    function _payable() internal view returns (uint256) {
        (uint96 bonded, uint96 unbonding,) = cover.bonds(coordinator);
        return (uint256(bonded) + unbonding) / 2;
    }

    function _assertBond(uint256 bonded, uint256 unbonding) internal view {
        (uint96 bonded_, uint96 unbonding_,) = cover.bonds(coordinator);
        vm.assertEq(bonded_, bonded);
        vm.assertEq(unbonding_, unbonding);
    }

    /// The coordinator's promise about the renter's nonce.
    function _promise(uint32 nonce, uint96 cap, uint96 accepted)
        internal
        view
        returns (LedgerTypes.Reservation memory)
    {
        return _reservation(OPERATOR_SECRET, renter, nonce, cap, accepted);
    }

    /// The same for any provider and time; they are taken from the reservation.
    function _promise(uint32 nonce, LedgerTypes.Reservation memory made)
        internal
        view
        returns (LedgerTypes.Reservation memory)
    {
        bytes32 hash = keccak256(
            abi.encode(
                ledger.RESERVATION_TYPEHASH(),
                renter,
                coordinator,
                made.provider,
                nonce,
                made.cap,
                made.accepted,
                made.forcedFrom
            )
        );
        (made.r, made.vs) = vm.signCompact(OPERATOR_SECRET, _digest(address(ledger), "Gristmill Ledger", hash));
        return made;
    }

    /// A batch that is the last one in the recorded history and in which every statement was paid.
    function _settled(bytes memory batch, uint256 offset, uint160 before) internal pure returns (Cover.Settled memory) {
        return Cover.Settled(batch, offset, new uint256[](0), before, new bytes32[](0));
    }

    /// By hand, so that the contracts' own way is checked and not repeated.
    function _entry(uint32 coordinator_, bytes memory batch, uint256[] memory skips) internal pure returns (bytes32) {
        bytes32 digest = 0;
        for (uint256 i = 0; i < skips.length; ++i) {
            digest = keccak256(abi.encode(digest, skips[i]));
        }
        return keccak256(abi.encode(coordinator_, keccak256(batch), digest));
    }

    function _one(uint256 value) internal pure returns (uint256[] memory list) {
        list = new uint256[](1);
        list[0] = value;
    }
}
