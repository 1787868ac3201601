// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {DisputeTypes} from "../src/DisputeTypes.sol";
import {Disputing} from "./kit/Disputing.sol";

contract RulingTest is Disputing {
    // --------------------------------------------------------------------------------------------------- rule

    function test_nobodyRulesBeforeTheDraw() public {
        uint256 id = _answered();

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.NotToRule.selector, id, challenger));
        vm.prank(CHALLENGER);
        disputes.rule(id, challenger, true);
    }

    function test_aRefereeRulesItself() public {
        uint256 id = _drawn();
        uint32 referee = _of(id).referees[0];

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.NotPayout.selector, referee, CHALLENGER));
        vm.prank(CHALLENGER);
        disputes.rule(id, referee, true);
    }

    function test_whoWasNotDrawnDoesNotRule() public {
        uint256 id = _drawn();
        uint32 late = _enlist(address(0x1A7E));

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.NotToRule.selector, id, late));
        vm.prank(address(0x1A7E));
        disputes.rule(id, late, true);
    }

    function test_aRefereeRulesOnce() public {
        uint256 id = _drawn();
        uint32 referee = _of(id).referees[0];
        (address payout,) = ledger.payee(referee);
        vm.expectEmit();
        emit DisputeTypes.Ruled(id, referee, true);
        _rule(id, 0, true);

        vm.startPrank(payout);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.NotToRule.selector, id, referee));
        disputes.rule(id, referee, true);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.NotToRule.selector, id, referee));
        disputes.rule(id, referee, false);
    }

    function test_aRulingCountsToTheLastSecond() public {
        uint256 id = _drawn();
        _rule(id, 0, true);
        vm.warp(NOW + 48 hours + 1);
        uint32 referee = _of(id).referees[1];
        (address payout,) = ledger.payee(referee);

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.TooLate.selector, NOW + 48 hours));
        vm.prank(payout);
        disputes.rule(id, referee, true);
        vm.warp(NOW + 48 hours);
        _rule(id, 1, true);
        _assertClosed(id, DisputeTypes.Outcome.FoundGuilty);
    }

    function test_twoOfThreeFindGuilty() public {
        uint256 id = _drawn();
        _rule(id, 0, true);
        _rule(id, 1, false);
        _assertPhase(id, DisputeTypes.Phase.Ruling);

        _rule(id, 2, true);

        _assertClosed(id, DisputeTypes.Outcome.FoundGuilty);
    }

    function test_twoOfThreeFindClear() public {
        uint256 id = _drawn();
        _rule(id, 0, false);
        _rule(id, 1, true);

        _rule(id, 2, false);

        _assertClosed(id, DisputeTypes.Outcome.FoundClear);
        vm.assertEq(registry.stakeOf(provider), STAKE);
    }

    function test_theThirdComesTooLate() public {
        uint256 id = _drawn();
        _rule(id, 0, false);
        _rule(id, 1, false);
        uint32 referee = _of(id).referees[2];
        (address payout,) = ledger.payee(referee);

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.WrongPhase.selector, id, DisputeTypes.Phase.Closed));
        vm.prank(payout);
        disputes.rule(id, referee, false);
    }

    function test_fourOfFiveFindGuilty() public {
        uint256 id = _drawnAgain();
        _rule(id, 0, false);
        for (uint256 i = 1; i < 4; ++i) {
            _rule(id, i, true);
        }
        _assertPhase(id, DisputeTypes.Phase.Ruling);

        _rule(id, 4, true);

        _assertClosed(id, DisputeTypes.Outcome.FoundGuilty);
    }

    function test_fourOfFiveFindClear() public {
        uint256 id = _drawnAgain();

        for (uint256 i = 0; i < 4; ++i) {
            _rule(id, i, false);
        }

        _assertClosed(id, DisputeTypes.Outcome.FoundClear);
    }

    function test_threeOfFiveDecideNothing() public {
        uint256 id = _drawnAgain();
        for (uint256 i = 0; i < 5; ++i) {
            _rule(id, i, i < 3);
        }
        _late(id);

        disputes.advance(id);

        _assertPhase(id, DisputeTypes.Phase.Arbitrating);
    }

    /// Votes of the first three count for nothing when the five rule.
    function test_theFiveStartAnew() public {
        uint256 id = _drawn();
        _rule(id, 0, true);
        _late(id);
        disputes.advance(id);

        vm.assertEq(_of(id).guilty.length + _of(id).clear.length + _of(id).referees.length, 0);
        vm.assertEq(_of(id).seats, 5);
    }

    // ------------------------------------------------------------------------------------------------ advance

    function test_thereIsNothingToAdvanceWhereThereIsNoDispute() public {
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.WrongPhase.selector, 1, DisputeTypes.Phase.None));
        disputes.advance(1);
        uint256 id = _dispute();
        _late(id);
        disputes.advance(id);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.WrongPhase.selector, id, DisputeTypes.Phase.Closed));
        disputes.advance(id);
    }

    function test_everyPhaseLastsToItsLastSecond() public {
        uint256 id = _dispute();
        _assertTooEarly(id);
        _answer(id);
        _assertTooEarly(id);
        vm.warp(_of(id).deadline + 1);
        disputes.advance(id);
        _assertTooEarly(id);
        vm.warp(_of(id).deadline + 1);
        disputes.advance(id);
        _assertTooEarly(id);
    }

    function test_aProviderThatDoesNotAnswerHasLost() public {
        uint256 id = _dispute();
        _late(id);

        vm.prank(address(0xA11));
        disputes.advance(id);

        _assertClosed(id, DisputeTypes.Outcome.Unanswered);
        vm.assertEq(_balance(renter), 50e6);
        vm.assertEq(_credit(challenger), 15e6 + BOND);
        vm.assertEq(_credit(commons.payee()), 35e6);
    }

    function test_refereesWhoDoNotRuleAreReplacedByFive() public {
        uint256 id = _drawn();
        _late(id);
        vm.roll(5000);

        disputes.advance(id);

        _assertPhase(id, DisputeTypes.Phase.Ruling);
        vm.assertEq(_of(id).seats, 5);
        vm.assertEq(_of(id).drawBlock, 5001);
        vm.assertEq(_of(id).deadline, NOW + 96 hours + 1);
    }

    function test_anArbiterWhoDoesNotRuleEndsIt() public {
        uint256 id = _atArbiter();
        _late(id);

        vm.expectEmit();
        emit DisputeTypes.Closed(id, DisputeTypes.Outcome.Undecided, 0);
        disputes.advance(id);

        _assertClosed(id, DisputeTypes.Outcome.Undecided);
        vm.assertEq(_credit(challenger), BOND);
        vm.assertEq(_credit(provider), BOND);
        vm.assertEq(registry.stakeOf(provider), STAKE);
    }

    // ---------------------------------------------------------------------------------------------- arbitrate

    function test_onlyTheArbiterArbitrates() public {
        uint256 id = _atArbiter();

        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, MULTISIG));
        vm.prank(MULTISIG);
        disputes.arbitrate(id, true);
    }

    function test_theArbiterWaitsForItsTurnAndKeepsItsTime() public {
        uint256 id = _drawn();
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.WrongPhase.selector, id, DisputeTypes.Phase.Ruling));
        _arbitrate(id, true);
        _late(id);
        disputes.advance(id);
        _late(id);
        disputes.advance(id);
        uint40 deadline = _of(id).deadline;

        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.TooLate.selector, deadline));
        _arbitrate(id, true);
        vm.warp(deadline);
        _arbitrate(id, true);
        _assertClosed(id, DisputeTypes.Outcome.FoundGuilty);
    }

    function test_theArbiterFindsGuiltyAndRefereesGetNothing() public {
        uint256 id = _drawnAgain();
        _rule(id, 0, true);
        _late(id);
        disputes.advance(id);

        _arbitrate(id, true);

        _assertClosed(id, DisputeTypes.Outcome.FoundGuilty);
        vm.assertEq(_credit(challenger), 15e6 + 2 * BOND);
        vm.assertEq(_balance(renter), 50e6);
        vm.assertEq(_credit(commons.payee()), 35e6);
    }

    function test_theArbiterFindsClearAndRefereesGetNothing() public {
        uint256 id = _drawnAgain();
        _rule(id, 0, false);
        _late(id);
        disputes.advance(id);

        _arbitrate(id, false);

        _assertClosed(id, DisputeTypes.Outcome.FoundClear);
        vm.assertEq(_credit(provider), 2 * BOND);
        vm.assertEq(registry.stakeOf(provider), STAKE);
    }

    function _assertTooEarly(uint256 id) private {
        uint256 deadline = _of(id).deadline;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.TooEarly.selector, deadline));
        disputes.advance(id);
    }
}
