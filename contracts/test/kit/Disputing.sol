// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DisputeTypes} from "../../src/DisputeTypes.sol";
import {Institutions} from "./Institutions.sol";

/// The market with an accused provider, a challenger and referees, each with money for its bonds.
abstract contract Disputing is Institutions {
    address internal constant CHALLENGER = address(0xC4A1);
    uint96 internal constant STAKE = 100e6;
    uint96 internal constant BOND = 10e6; // for all of the stake
    bytes32 internal constant EVIDENCE = keccak256("evidence");

    uint32 internal challenger;
    uint32[] internal judges;

    function setUp() public virtual override {
        super.setUp();
        _open(RENTER_SECRET);
        _bond(provider, STAKE);
        vm.prank(PROVIDER_PAYOUT);
        registry.setNode(provider, vm.addr(NODE_SECRET), 0);
        challenger = ledger.addPayee(CHALLENGER);
        _rich(CHALLENGER);
        _rich(PROVIDER_PAYOUT);
        _enlistJudges(5);
    }

    function _rich(address who) internal {
        token.mint(who, 1000e6);
        vm.prank(who);
        token.approve(address(disputes), type(uint256).max);
    }

    function _enlistJudges(uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            judges.push(_enlist(address(uint160(0x3D6E0 + judges.length))));
        }
    }

    function _enlist(address payout) internal returns (uint32 id) {
        id = _stake(payout, MINIMUM_BOND);
        vm.prank(payout);
        registry.enlist(id);
    }

    function _dispute() internal returns (uint256) {
        return _dispute(STAKE, EVIDENCE);
    }

    function _dispute(uint96 amount, bytes32 evidence) internal returns (uint256) {
        vm.prank(CHALLENGER);
        return disputes.open(challenger, provider, renter, amount, evidence, _work(evidence));
    }

    function _answered() internal returns (uint256 id) {
        id = _dispute();
        _answer(id);
    }

    function _answer(uint256 id) internal {
        vm.prank(PROVIDER_PAYOUT);
        disputes.answer(id, keccak256("steps"));
    }

    /// Answered, and its referees drawn.
    function _drawn() internal returns (uint256 id) {
        id = _answered();
        _draw(id);
    }

    function _draw(uint256 id) internal {
        vm.roll(_of(id).drawBlock + 1);
        disputes.draw(id);
    }

    /// A dispute that three referees left undecided and for which five are drawn.
    function _drawnAgain() internal returns (uint256 id) {
        id = _answered();
        _late(id);
        disputes.advance(id);
        _draw(id);
    }

    function _atArbiter() internal returns (uint256 id) {
        id = _drawnAgain();
        _late(id);
        disputes.advance(id);
    }

    function _late(uint256 id) internal {
        vm.warp(_of(id).deadline + 1);
    }

    /// The i-th drawn referee rules.
    function _rule(uint256 id, uint256 i, bool guilty) internal {
        uint32 referee = _of(id).referees[i];
        (address payout,) = ledger.payee(referee);
        vm.prank(payout);
        disputes.rule(id, referee, guilty);
    }

    function _arbitrate(uint256 id, bool guilty) internal {
        vm.prank(ARBITER);
        disputes.arbitrate(id, guilty);
    }

    function _of(uint256 id) internal view returns (DisputeTypes.Dispute memory) {
        return disputes.disputeOf(id);
    }

    function _assertPhase(uint256 id, DisputeTypes.Phase phase) internal view {
        vm.assertEq(uint256(_of(id).phase), uint256(phase));
    }

    function _assertClosed(uint256 id, DisputeTypes.Outcome outcome) internal view {
        _assertPhase(id, DisputeTypes.Phase.Closed);
        vm.assertEq(uint256(_of(id).outcome), uint256(outcome));
        vm.assertEq(token.balanceOf(address(disputes)), 0);
        (,,, uint96 locked) = registry.stakes(provider);
        vm.assertEq(locked, 0);
    }

    /// All that the parties, the judges, the renter and the commons have, wherever it is.
    function _wealth() internal view returns (uint256 sum) {
        sum = token.balanceOf(CHALLENGER) + token.balanceOf(PROVIDER_PAYOUT) + _balance(renter)
            + registry.stakeOf(provider);
        for (uint32 id = 0; id < ledger.payeeCount(); ++id) {
            sum += _credit(id);
        }
    }
}
