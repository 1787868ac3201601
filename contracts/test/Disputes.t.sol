// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {DisputeTypes} from "../src/DisputeTypes.sol";
import {Registry} from "../src/Registry.sol";
import {Disputing} from "./kit/Disputing.sol";

/// Until the referees: open, concede, answer.
contract PartiesTest is Disputing {
    // --------------------------------------------------------------------------------------------------- open

    function test_openingTakesABondAndKeepsTheStake() public {
        vm.expectEmit();
        emit DisputeTypes.Opened(1, provider, challenger, renter, STAKE, EVIDENCE);
        uint256 id = _dispute();

        DisputeTypes.Dispute memory dispute = _of(id);
        vm.assertEq(dispute.bond, BOND);
        vm.assertEq(dispute.deadline, NOW + 24 hours);
        vm.assertEq(token.balanceOf(address(disputes)), BOND);
        vm.assertEq(token.balanceOf(CHALLENGER), 1000e6 - BOND);
        (,,, uint96 locked) = registry.stakes(provider);
        vm.assertEq(locked, STAKE);
        _assertPhase(id, DisputeTypes.Phase.Answering);
    }

    function test_aSmallDisputeTakesTheLeastBond() public {
        vm.assertEq(_of(_dispute(1, EVIDENCE)).bond, LEAST_BOND);
        vm.assertEq(_of(_dispute(10 * LEAST_BOND, "2")).bond, LEAST_BOND);
        vm.assertEq(_of(_dispute(10 * LEAST_BOND + 10, "3")).bond, LEAST_BOND + 1);
    }

    function test_stoppedDisputesRefuseNewOnes() public {
        vm.prank(GUARDIAN);
        disputes.setPaused(true);

        vm.expectRevert(DisputeTypes.Paused.selector);
        _dispute();
        vm.prank(GUARDIAN);
        disputes.setPaused(false);
        _dispute();
    }

    function test_onlyTheGuardianStopsDisputes() public {
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, address(this)));
        disputes.setPaused(true);
    }

    function test_stoppingDisputesLeavesOpenOnesGoOn() public {
        uint256 id = _answered();
        vm.expectEmit();
        emit DisputeTypes.PausedSet(true);
        vm.prank(GUARDIAN);
        disputes.setPaused(true);

        _draw(id);
        _rule(id, 0, true);
        _rule(id, 1, true);

        _assertClosed(id, DisputeTypes.Outcome.FoundGuilty);
    }

    function test_onlyTheChallengersPayoutOpens() public {
        DisputeTypes.Work memory work = _work(EVIDENCE);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.NotPayout.selector, challenger, address(this)));
        disputes.open(challenger, provider, renter, STAKE, EVIDENCE, work);
    }

    function test_nobodyDisputesItsOwnProvider() public {
        DisputeTypes.Work memory work = _work(EVIDENCE);
        uint32 second = ledger.addPayee(PROVIDER_PAYOUT);

        vm.startPrank(PROVIDER_PAYOUT);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.OwnProvider.selector, provider));
        disputes.open(provider, provider, renter, STAKE, EVIDENCE, work);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.OwnProvider.selector, provider));
        disputes.open(second, provider, renter, STAKE, EVIDENCE, work);
    }

    function test_nobodyIsAccusedOfWorkItDidNotSign() public {
        DisputeTypes.Work memory work = _work(EVIDENCE);
        bytes32 other = "other";

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.NotItsWork.selector, provider, other));
        vm.prank(CHALLENGER);
        disputes.open(challenger, provider, renter, STAKE, EVIDENCE, DisputeTypes.Work(other, work.signature));
    }

    function test_aFormerKeysWorkCanBeDisputedForTwoWeeks() public {
        vm.prank(PROVIDER_PAYOUT);
        registry.setNode(provider, address(1), 0);

        vm.warp(NOW + 14 days);
        _dispute(1, EVIDENCE);
        vm.warp(NOW + 14 days + 1);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.NotItsWork.selector, provider, bytes32("late")));
        _dispute(1, "late");
    }

    function test_theRenterMustHaveAnAccount() public {
        DisputeTypes.Work memory work = _work(EVIDENCE);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.NotOpen.selector, OWNER));
        vm.prank(CHALLENGER);
        disputes.open(challenger, provider, OWNER, STAKE, EVIDENCE, work);
    }

    function test_onlyStakeThatIsThereIsInQuestion() public {
        vm.expectRevert(DisputeTypes.NothingAtStake.selector);
        _dispute(0, EVIDENCE);
        vm.expectRevert(abi.encodeWithSelector(Registry.StakeTooLow.selector, provider, STAKE, STAKE + 1));
        _dispute(STAKE + 1, EVIDENCE);
        vm.prank(PROVIDER_PAYOUT);
        registry.requestUnbonding(provider, STAKE);
        _dispute(STAKE, EVIDENCE);
    }

    function test_aProviderAnswersToAChallengerForTheSameEvidenceOnce() public {
        DisputeTypes.Work memory work = _work(EVIDENCE);
        _dispute(10e6, EVIDENCE);

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.AlreadyDisputed.selector, provider, EVIDENCE));
        _dispute(10e6, EVIDENCE);
        vm.prank(CHALLENGER);
        disputes.open(challenger, judges[0], renter, 1, EVIDENCE, work);
        _dispute(10e6, keccak256("other evidence"));
        _rich(address(0xC4A2));
        uint32 second = ledger.addPayee(address(0xC4A2));
        vm.prank(address(0xC4A2));
        disputes.open(second, provider, renter, 10e6, EVIDENCE, work);
    }

    function test_noStakeIsInTwoDisputes() public {
        _dispute(STAKE - 1, EVIDENCE);

        vm.expectRevert(abi.encodeWithSelector(Registry.StakeTooLow.selector, provider, 1, 2));
        _dispute(2, "2");
        _dispute(1, "2");
    }

    function test_aChallengerWithoutTheBondOpensNothing() public {
        vm.prank(CHALLENGER);
        token.transfer(address(1), 1000e6 - BOND + 1);

        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, CHALLENGER, BOND - 1, BOND)
        );
        _dispute();
        vm.assertEq(disputes.count(), 0);
    }

    // ------------------------------------------------------------------------------------------------ concede

    function test_onlyTheProviderConcedes() public {
        uint256 id = _dispute();

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.NotPayout.selector, provider, CHALLENGER));
        vm.prank(CHALLENGER);
        disputes.concede(id);
    }

    function test_aProvidersMachineConcedesAndAnswersForIt() public {
        (address machine, uint256 first) = (vm.addr(NODE_SECRET), _dispute(1e6, EVIDENCE));
        uint256 second = _dispute(1e6, "2");
        _rich(machine);

        vm.prank(machine);
        disputes.concede(first);
        vm.prank(machine);
        disputes.answer(second, 0);

        vm.assertEq(uint256(_of(first).outcome), uint256(DisputeTypes.Outcome.Conceded));
        _assertPhase(second, DisputeTypes.Phase.Ruling);
        vm.assertEq(token.balanceOf(machine), 1000e6 - _of(second).bond);
    }

    function test_whoHasAnsweredConcedesNoMore() public {
        uint256 id = _answered();

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.WrongPhase.selector, id, DisputeTypes.Phase.Ruling));
        vm.prank(PROVIDER_PAYOUT);
        disputes.concede(id);
    }

    function test_concedingDividesTheStake() public {
        uint256 id = _dispute();
        vm.warp(NOW + 30 days);

        vm.expectEmit();
        emit DisputeTypes.Closed(id, DisputeTypes.Outcome.Conceded, STAKE);
        vm.prank(PROVIDER_PAYOUT);
        disputes.concede(id);

        _assertClosed(id, DisputeTypes.Outcome.Conceded);
        vm.assertEq(_balance(renter), 50e6);
        vm.assertEq(_credit(challenger), 15e6 + BOND);
        vm.assertEq(_credit(commons.payee()), 35e6);
        vm.assertEq(registry.stakeOf(provider), 0);
    }

    // ------------------------------------------------------------------------------------------------- answer

    function test_answeringTakesAnEqualBond() public {
        uint256 id = _dispute();
        vm.warp(NOW + 24 hours);
        vm.roll(1000);

        vm.expectEmit();
        emit DisputeTypes.Answered(id, keccak256("steps"));
        _answer(id);

        DisputeTypes.Dispute memory dispute = _of(id);
        vm.assertEq(token.balanceOf(address(disputes)), 2 * BOND);
        vm.assertEq(dispute.drawBlock, 1001);
        vm.assertEq(dispute.seats, 3);
        vm.assertEq(dispute.deadline, NOW + 24 hours + 48 hours);
        _assertPhase(id, DisputeTypes.Phase.Ruling);
    }

    function test_onlyTheProviderAnswersOnceAndInTime() public {
        uint256 id = _dispute(STAKE - 1, EVIDENCE);
        uint256 second = _dispute(1, "2");

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.NotPayout.selector, provider, CHALLENGER));
        vm.prank(CHALLENGER);
        disputes.answer(id, 0);
        _answer(id);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.WrongPhase.selector, id, DisputeTypes.Phase.Ruling));
        _answer(id);
        vm.warp(NOW + 24 hours + 1);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.TooLate.selector, NOW + 24 hours));
        _answer(second);
    }

    // ------------------------------------------------------------------------------------------------- stake

    function test_stakeStaysWhileADisputeIsOpen() public {
        vm.prank(PROVIDER_PAYOUT);
        registry.requestUnbonding(provider, STAKE);
        vm.warp(NOW + 14 days - 1);
        uint256 id = _dispute(40e6, EVIDENCE);
        vm.warp(NOW + 15 days);

        vm.expectRevert(abi.encodeWithSelector(Registry.DisputesOpen.selector, provider, 40e6));
        registry.withdraw(provider);
        disputes.advance(id);

        vm.assertEq(registry.withdraw(provider), 60e6);
    }
}

contract DrawTest is Disputing {
    function test_thereIsNothingToDrawBeforeTheAnswer() public {
        uint256 id = _dispute();

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.WrongPhase.selector, id, DisputeTypes.Phase.Answering));
        disputes.draw(id);
    }

    function test_refereesAreDrawnAfterTheNamedBlock() public {
        uint256 id = _answered();

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.TooEarly.selector, block.number + 1));
        disputes.draw(id);
        vm.roll(block.number + 1);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.TooEarly.selector, block.number));
        disputes.draw(id);
    }

    function test_refereesAreDrawnOnce() public {
        uint256 id = _drawn();

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.AlreadyDrawn.selector, id));
        disputes.draw(id);
    }

    function test_theDrawIsTheSameWhoeverCallsAndWhenever() public {
        uint256 id = _answered();
        uint256 named = _of(id).drawBlock;
        vm.roll(named + 1);
        uint256 state = vm.snapshotState();
        disputes.draw(id);
        bytes32 drawn = keccak256(abi.encode(_of(id).referees));
        vm.revertToState(state);

        vm.roll(named + 256);
        vm.prank(CHALLENGER);
        disputes.draw(id);

        vm.assertEq(keccak256(abi.encode(_of(id).referees)), drawn);
    }

    function test_aForgottenBlockIsReplaced() public {
        uint256 id = _answered();
        uint256 named = _of(id).drawBlock;
        vm.roll(named + 257);

        vm.expectEmit();
        emit DisputeTypes.DrawMoved(id, named + 258);
        disputes.draw(id);

        vm.assertEq(_of(id).referees.length, 0);
        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.TooEarly.selector, named + 258));
        disputes.draw(id);
        vm.roll(named + 259);
        disputes.draw(id);
        vm.assertEq(_of(id).referees.length, 3);
    }

    function testFuzz_threeDistinctActiveRefereesAreDrawn(uint256 number) public {
        vm.roll(bound(number, 1, 1e9));
        uint256 id = _answered();

        _draw(id);

        uint32[] memory drawn = _of(id).referees;
        vm.assertEq(drawn.length, 3);
        vm.assertTrue(drawn[0] != drawn[1] && drawn[1] != drawn[2] && drawn[0] != drawn[2], "distinct");
        for (uint256 i = 0; i < 3; ++i) {
            vm.assertTrue(registry.isActive(drawn[i]), "active");
        }
    }

    /// Over many blocks every referee is drawn about equally often: 3 of 5 times.
    function test_everyRefereeIsDrawn() public {
        uint256 id = _answered();
        uint256 state = vm.snapshotState();
        uint256 first = 0;

        for (uint256 number = 1000; number < 1200; ++number) {
            vm.roll(number * 300);
            disputes.draw(id); // names another block
            _draw(id);
            for (uint256 i = 0; i < 3; ++i) {
                if (_of(id).referees[i] == judges[0]) ++first;
            }
            vm.revertToState(state);
            state = vm.snapshotState();
        }

        vm.assertGe(first, 90, "of 200, 120 expected");
        vm.assertLe(first, 150, "of 200, 120 expected");
    }

    function testFuzz_nobodyIsDrawnWhoGainsByAnOutcome(uint256 number) public {
        uint32[4] memory parties = [
            provider,
            _stake(CHALLENGER, MINIMUM_BOND),
            _stake(PROVIDER_PAYOUT, MINIMUM_BOND),
            _stake(CHALLENGER, MINIMUM_BOND)
        ];
        for (uint256 i = 0; i < 4; ++i) {
            (address payout,) = ledger.payee(parties[i]);
            vm.prank(payout);
            registry.enlist(parties[i]);
        }
        vm.roll(bound(number, 1, 1e9));
        uint256 id = _drawnAgain();

        _assertNoneOf(_of(id).referees, parties);
    }

    function testFuzz_theRentersOwnerIsNotDrawn(uint256 number) public {
        uint32 owners = _enlist(OWNER);
        vm.roll(bound(number, 1, 1e9));

        uint256 id = _drawnAgain();

        _assertNoneOf(_of(id).referees, [owners, owners, owners, owners]);
    }

    function testFuzz_twoWhoArePaidAtOneAddressAreNotBothDrawn(uint256 number) public {
        uint32[4] memory same = [_enlist(address(0x5A3E)), 0, 0, 0];
        for (uint256 i = 1; i < 4; ++i) {
            same[i] = _enlist(address(0x5A3E));
        }
        vm.roll(bound(number, 1, 1e9));
        uint256 id = _drawnAgain();

        uint256 drawn = 0;
        for (uint256 i = 0; i < _of(id).referees.length; ++i) {
            if (_isOneOf(_of(id).referees[i], same)) ++drawn;
        }

        vm.assertLe(drawn, 1, "of one address");
    }

    function test_whoIsNotActiveAnyMoreIsNotDrawn() public {
        uint32 rich = _stake(address(0x81C4), 2 * MINIMUM_BOND);
        vm.prank(address(0x81C4));
        registry.enlist(rich);
        vm.prank(MULTISIG);
        manager.schedule(
            address(registry), abi.encodeCall(registry.setMinimumBond, (2 * MINIMUM_BOND)), NOW + ADMIN_DELAY
        );
        vm.warp(NOW + ADMIN_DELAY);
        vm.prank(MULTISIG);
        manager.execute(address(registry), abi.encodeCall(registry.setMinimumBond, (2 * MINIMUM_BOND)));
        uint256 id = _drawn();

        vm.assertEq(_of(id).referees.length, 1);
        vm.assertEq(_of(id).referees[0], rich);
        _assertPhase(id, DisputeTypes.Phase.Arbitrating);
    }

    /// Who enlists when the block is named, or later, is not drawn for it; who leaves moves nobody.
    function test_nobodySteersTheDrawOnceItsBlockIsNamed() public {
        uint256 id = _answered();
        vm.roll(_of(id).drawBlock);
        uint256 state = vm.snapshotState();
        _draw(id);
        bytes32 drawn = keccak256(abi.encode(_of(id).referees));
        vm.revertToState(state);

        for (uint160 i = 0; i < 5; ++i) {
            _enlist(address(0xBAD0 + i));
        }
        _draw(id);

        vm.assertEq(keccak256(abi.encode(_of(id).referees)), drawn);
    }

    function test_aSeatTakenAgainWhenTheBlockIsNamedIsNotDrawn() public {
        uint256 id = _answered();
        vm.roll(_of(id).drawBlock);
        _resignJudges(1);
        uint32 late = _enlist(address(0xBAD0));

        _draw(id);

        _assertNoneOf(_of(id).referees, [late, late, late, judges[0]]);
    }

    function test_aQuorumOfRefereesIsEnough() public {
        _resignJudges(3);

        uint256 id = _drawn();

        vm.assertEq(_of(id).referees.length, 2);
        _rule(id, 0, false);
        _rule(id, 1, false);
        _assertClosed(id, DisputeTypes.Outcome.FoundClear);
    }

    function test_tooFewRefereesLeaveItToTheArbiter() public {
        _resignJudges(4);
        uint256 id = _answered();
        vm.roll(_of(id).drawBlock + 1);

        vm.expectEmit();
        emit DisputeTypes.Entered(id, DisputeTypes.Phase.Arbitrating, NOW + 72 hours);
        disputes.draw(id);

        _assertPhase(id, DisputeTypes.Phase.Arbitrating);
    }

    function test_noRefereesLeaveItToTheArbiter() public {
        _resignJudges(5);

        _assertPhase(_drawn(), DisputeTypes.Phase.Arbitrating);
    }

    function test_fewerThanFourOfFiveLeaveItToTheArbiter() public {
        _resignJudges(2);

        _assertPhase(_drawnAgain(), DisputeTypes.Phase.Arbitrating);
    }

    function _resignJudges(uint256 count) private {
        for (uint256 i = 0; i < count; ++i) {
            (address payout,) = ledger.payee(judges[i]);
            vm.prank(payout);
            registry.resign(judges[i]);
        }
    }

    function _assertNoneOf(uint32[] memory drawn, uint32[4] memory list) private pure {
        for (uint256 i = 0; i < drawn.length; ++i) {
            vm.assertTrue(!_isOneOf(drawn[i], list), "a party was drawn");
        }
    }

    function _isOneOf(uint32 id, uint32[4] memory list) private pure returns (bool) {
        return id == list[0] || id == list[1] || id == list[2] || id == list[3];
    }
}
