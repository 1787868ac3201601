// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {DisputeTypes} from "../src/DisputeTypes.sol";
import {Disputes} from "../src/Disputes.sol";
import {Ledger} from "../src/Ledger.sol";
import {LedgerTypes} from "../src/LedgerTypes.sol";
import {Disputing} from "./kit/Disputing.sol";
import {FeeToken, MoodyToken, ReenteringToken} from "./kit/OddTokens.sol";

contract DisputeMoneyTest is Disputing {
    function test_aGuiltyProvidersStakeAndBondAreDivided() public {
        uint256 id = _drawn();
        uint32[] memory drawn = _of(id).referees;
        _rule(id, 0, true);
        _rule(id, 1, false);
        _rule(id, 2, true);

        // Of 100 of stake 50, 15, 15 to two judges and 20; of the bond of 10 half to them.
        vm.assertEq(_balance(renter), 50e6);
        vm.assertEq(_credit(challenger), BOND + 5e6 + 15e6);
        vm.assertEq(_credit(drawn[0]), 2.5e6 + 7.5e6);
        vm.assertEq(_credit(drawn[1]), 0);
        vm.assertEq(_credit(drawn[2]), 2.5e6 + 7.5e6);
        vm.assertEq(_credit(commons.payee()), 20e6);
    }

    function test_aWrongChallengersBondIsDivided() public {
        uint256 id = _drawn();
        uint32[] memory drawn = _of(id).referees;
        _rule(id, 0, false);
        _rule(id, 1, true);
        _rule(id, 2, false);

        vm.assertEq(_credit(provider), BOND + 5e6);
        vm.assertEq(_credit(drawn[0]), 2.5e6);
        vm.assertEq(_credit(drawn[1]), 0);
        vm.assertEq(_credit(drawn[2]), 2.5e6);
        vm.assertEq(_credit(challenger), 0);
        vm.assertEq(registry.stakeOf(provider), STAKE);
    }

    function test_remaindersGoToTheParty() public {
        uint256 id = _dispute(10_000_037, EVIDENCE);
        _answer(id);
        _draw(id);
        uint32[] memory drawn = _of(id).referees;
        _rule(id, 0, true);
        _rule(id, 1, true);

        // Bond 1,000,003; to judges floor(500,001 / 2) each. Of the stake floor(1,500,005 / 2) each.
        vm.assertEq(_credit(drawn[0]), 250_000 + 750_002);
        vm.assertEq(_credit(challenger), 1_000_003 + 500_003 + 1_500_005);
        vm.assertEq(_balance(renter), 5_000_018);
        vm.assertEq(_credit(commons.payee()), 2_000_010);
    }

    function test_whatIsLeftOfTheStakeIsDivided() public {
        uint256 id = _dispute();
        _slash(STAKE - 10);

        vm.expectEmit();
        emit DisputeTypes.Closed(id, DisputeTypes.Outcome.Conceded, 10);
        vm.prank(PROVIDER_PAYOUT);
        disputes.concede(id);

        vm.assertEq(_balance(renter), 5);
        vm.assertEq(registry.stakeOf(provider), 0);
    }

    function test_aDisputeClosesWhenNoStakeIsLeft() public {
        uint256 id = _dispute();
        _slash(STAKE);

        vm.prank(PROVIDER_PAYOUT);
        disputes.concede(id);

        _assertClosed(id, DisputeTypes.Outcome.Conceded);
        vm.assertEq(_credit(challenger), BOND);
    }

    /// By another slasher.
    function _slash(uint96 amount) private {
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](1);
        awards[0] = LedgerTypes.Award(address(0), verifier, amount);
        vm.prank(address(disputes));
        registry.slash(provider, awards, 0);
    }

    /// Whatever is done and ruled: money is conserved, no more stake is lost than was in question, none if clear, and
    /// this contract keeps nothing.
    function testFuzz_bondsAreConserved(uint96 amount, uint256 dice) public {
        amount = uint96(bound(amount, 1, STAKE));
        uint256 before = _wealth();
        uint256 id = _dispute(amount, EVIDENCE);
        vm.assertEq(_wealth() + _of(id).bond, before);

        _toTheEnd(id, dice);

        vm.assertEq(_wealth(), before);
        _assertClosed(id, _of(id).outcome);
        uint256 slashed = STAKE - registry.stakeOf(provider);
        bool kept = uint256(_of(id).outcome) >= uint256(DisputeTypes.Outcome.FoundClear);
        vm.assertEq(slashed, kept ? 0 : amount);
        vm.assertEq(_balance(renter), slashed / 2);
    }

    /// Whatever anybody does: after its last deadline a stranger closes it.
    function testFuzz_everyDisputeClosesAfterItsLastDeadline(uint256 dice) public {
        uint256 id = _dispute();
        if (dice % 5 != 0) _answer(id);
        if (dice % 3 != 0 && dice % 5 != 0) _draw(id);

        uint256 calls = 0;
        for (; _of(id).phase != DisputeTypes.Phase.Closed; ++calls) {
            _late(id);
            vm.prank(address(0xA11));
            disputes.advance(id);
        }

        vm.assertLe(calls, 3, "calls");
        vm.assertLe(block.timestamp, NOW + 24 hours + 2 * 48 hours + 72 hours + 4, "time");
        _assertClosed(id, _of(id).outcome);
    }

    /// One who is provider, challenger, renter and all who judge loses at least what goes to the commons.
    function testFuzz_nobodyGainsByDisputingItsOwnStake(uint96 amount, uint256 dice) public {
        amount = uint96(bound(amount, 1, STAKE));
        uint256 before = _wealth();
        uint256 commonsBefore = _credit(commons.payee());
        uint256 id = _dispute(amount, EVIDENCE);

        _toTheEnd(id, dice);

        uint256 lost = STAKE - registry.stakeOf(provider);
        uint256 toCommons = _credit(commons.payee()) - commonsBefore;
        vm.assertGe(toCommons, lost / 5, "a fifth is gone");
        vm.assertEq(_wealth() - toCommons, before - toCommons);
    }

    function _toTheEnd(uint256 id, uint256 dice) private {
        while (_of(id).phase != DisputeTypes.Phase.Closed) {
            dice = uint256(keccak256(abi.encode(dice)));
            DisputeTypes.Phase phase = _of(id).phase;
            bool silent = dice % 4 == 0;
            if (!silent && phase == DisputeTypes.Phase.Answering) _answerOrConcede(id, dice % 3 == 0);
            else if (!silent && phase == DisputeTypes.Phase.Ruling) _ruleAll(id, dice >> 8);
            else if (!silent && phase == DisputeTypes.Phase.Arbitrating) _arbitrate(id, dice % 2 == 0);
            if (silent || _stuck(id)) {
                _late(id);
                disputes.advance(id);
            }
        }
    }

    function _answerOrConcede(uint256 id, bool conceded) private {
        if (!conceded) return _answer(id);
        vm.prank(PROVIDER_PAYOUT);
        disputes.concede(id);
    }

    function _ruleAll(uint256 id, uint256 votes) private {
        _draw(id);
        uint256 seats = _of(id).referees.length;
        for (uint256 i = 0; i < seats && _of(id).phase == DisputeTypes.Phase.Ruling; ++i) {
            _rule(id, i, (votes >> i) & 1 == 1);
        }
    }

    /// All drawn have ruled without a quorum.
    function _stuck(uint256 id) private view returns (bool) {
        return _of(id).phase == DisputeTypes.Phase.Ruling && _of(id).referees.length != 0;
    }
}

contract DisputeTokensTest is Disputing {
    function test_aTokenThatKeepsAFeeOpensNoDispute() public {
        FeeToken odd = new FeeToken();
        _around(odd);
        odd.mint(address(this), 2000e6);
        odd.mint(CHALLENGER, 1000e6);
        odd.approve(address(registry), 2000e6);
        registry.bond(provider, 100e6);
        vm.prank(CHALLENGER);
        odd.approve(address(disputes), 1000e6);

        vm.expectRevert(abi.encodeWithSelector(DisputeTypes.TransferFellShort.selector, 9e6, 8.1e6));
        _dispute(90e6, EVIDENCE);
    }

    /// In a token's transfer of the bond nothing here can be called again.
    function test_aTokenThatReentersGainsNothing() public {
        ReenteringToken odd = new ReenteringToken();
        _around(odd);
        odd.mint(address(this), 100e6);
        odd.mint(CHALLENGER, 1000e6);
        odd.approve(address(registry), 100e6);
        registry.bond(provider, 100e6);
        vm.prank(CHALLENGER);
        odd.approve(address(disputes), 1000e6);
        bytes[6] memory calls = [
            abi.encodeCall(Disputes.open, (challenger, provider, renter, 1, EVIDENCE, _work(EVIDENCE))),
            abi.encodeCall(Disputes.concede, (1)),
            abi.encodeCall(Disputes.answer, (1, EVIDENCE)),
            abi.encodeCall(Disputes.rule, (1, judges[0], true)),
            abi.encodeCall(Disputes.arbitrate, (1, true)),
            abi.encodeCall(Disputes.advance, (1))
        ];

        for (uint256 i = 0; i < calls.length; ++i) {
            odd.arm(Ledger(address(disputes)), calls[i]);
            vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
            _dispute(90e6, EVIDENCE);
        }
        vm.assertEq(disputes.count(), 0);
    }

    /// A receiver that the token refuses keeps nobody waiting: what it gets is credit in the Ledger.
    function test_aBlockedReceiverHoldsNothingUp() public {
        MoodyToken odd = new MoodyToken();
        _around(odd);
        odd.mint(address(this), 100e6);
        odd.approve(address(registry), 100e6);
        registry.bond(provider, 100e6);
        odd.mint(CHALLENGER, 1000e6);
        vm.prank(CHALLENGER);
        odd.approve(address(disputes), 1000e6);
        uint256 id = _dispute(90e6, EVIDENCE);
        odd.refuse(CHALLENGER);

        _late(id);
        disputes.advance(id);

        vm.assertEq(_credit(challenger), 13.5e6 + 9e6);
        vm.expectRevert("refused");
        ledger.collect(challenger);
    }

    /// A token that starts to keep a fee keeps disputes open until it stops; then all is paid.
    function test_aFeeThatStartsMeanwhileDelaysTheEnd() public {
        MoodyToken odd = new MoodyToken();
        _around(odd);
        odd.mint(address(this), 100e6);
        odd.approve(address(registry), 100e6);
        registry.bond(provider, 100e6);
        odd.mint(CHALLENGER, 1000e6);
        vm.prank(CHALLENGER);
        odd.approve(address(disputes), 1000e6);
        uint256 id = _dispute(90e6, EVIDENCE);
        _late(id);
        odd.setFee(true);

        vm.expectRevert();
        disputes.advance(id);
        odd.setFee(false);
        disputes.advance(id);
        vm.assertEq(_credit(challenger), 13.5e6 + 9e6);
    }

    function test_aTokenThatSaysNoOpensNothing() public {
        MoodyToken odd = new MoodyToken();
        _around(odd);
        odd.mint(address(this), 100e6);
        odd.approve(address(registry), 100e6);
        registry.bond(provider, 100e6);
        odd.setSaysNo(true);

        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(odd)));
        _dispute(90e6, EVIDENCE);
        vm.assertEq(disputes.count(), 0);
    }

    /// The same market around another token, which can try what the arbiter may, too.
    function _around(IERC20 odd) private {
        manager = new AccessManager(ADMIN);
        vm.prank(ADMIN);
        manager.grantRole(ARBITER_ROLE, address(odd), 0);
        _deploy(odd);
        vm.prank(operator);
        coordinator = ledger.addCoordinator();
        provider = ledger.addPayee(PROVIDER_PAYOUT);
        challenger = ledger.addPayee(CHALLENGER);
        _establish();
        _open(RENTER_SECRET);
        vm.prank(PROVIDER_PAYOUT);
        registry.setNode(provider, vm.addr(NODE_SECRET), 0);
    }
}
