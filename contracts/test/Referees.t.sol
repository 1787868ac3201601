// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {LedgerTypes} from "../src/LedgerTypes.sol";
import {Registry} from "../src/Registry.sol";
import {Institutions} from "./kit/Institutions.sol";

contract RefereesTest is Institutions {
    uint32[] private ids;
    bool[6] private enlisted;

    function setUp() public override {
        super.setUp();
        for (uint160 i = 0; i < 6; ++i) {
            ids.push(_stake(address(0xE0 + i), 2 * MINIMUM_BOND));
        }
    }

    // -------------------------------------------------------------------------------------------------- locks

    function test_onlyTheLockerLocks() public {
        vm.startPrank(MULTISIG);
        vm.expectPartialRevert(IAccessManaged.AccessManagedUnauthorized.selector);
        registry.lock(ids[0], 1);
        vm.expectPartialRevert(IAccessManaged.AccessManagedUnauthorized.selector);
        registry.unlock(ids[0], 1);
    }

    function test_stakeStaysUntilUnlockedAsOftenAsLocked() public {
        _unbond(0, MINIMUM_BOND);
        vm.startPrank(address(disputes));
        registry.lock(ids[0], 1);
        registry.lock(ids[0], 1);
        vm.warp(NOW + 14 days);
        vm.expectRevert(abi.encodeWithSelector(Registry.DisputesOpen.selector, ids[0], 2));
        registry.withdraw(ids[0]);
        registry.unlock(ids[0], 1);
        vm.expectRevert(abi.encodeWithSelector(Registry.DisputesOpen.selector, ids[0], 1));
        registry.withdraw(ids[0]);

        vm.expectEmit();
        emit Registry.Locked(ids[0], 0);
        registry.unlock(ids[0], 1);

        vm.assertEq(registry.withdraw(ids[0]), MINIMUM_BOND);
    }

    function test_whatIsNotLockedCannotBeUnlocked() public {
        vm.expectRevert();
        vm.prank(address(disputes));
        registry.unlock(ids[0], 1);
    }

    // ----------------------------------------------------------------------------------------------- referees

    function test_onlyAnActiveProviderEnlists() public {
        vm.expectRevert(abi.encodeWithSelector(Registry.NotProvider.selector, ids[0], address(this)));
        registry.enlist(ids[0]);
        vm.expectRevert(abi.encodeWithSelector(Registry.NotActive.selector, provider));
        vm.prank(PROVIDER_PAYOUT);
        registry.enlist(provider);
    }

    function test_aProviderHasOneSeat() public {
        vm.expectEmit();
        emit Registry.RefereeSet(ids[0], true);
        _enlist(0);
        _enlist(0);

        vm.assertEq(_seated(), 1);
        vm.assertEq(_at(0), ids[0]);
    }

    function test_onlyTheProviderResigns() public {
        _enlist(0);

        vm.expectRevert(abi.encodeWithSelector(Registry.NotProvider.selector, ids[0], address(this)));
        registry.resign(ids[0]);
    }

    function test_aFreeSeatIsTakenAgainAndNobodyMoves() public {
        for (uint256 i = 0; i < 3; ++i) {
            _enlist(i);
        }
        vm.roll(77);
        _resign(0);
        vm.assertEq(_seated(), 2);

        _enlist(3);

        vm.assertEq(registry.seatCount(), 3);
        vm.assertTrue(_at(0) == ids[3] && _at(1) == ids[1] && _at(2) == ids[2], "seats");
        (, uint40 since) = registry.seats(0);
        vm.assertEq(since, 77);
    }

    function test_noMoreIsLockedThanIsFree() public {
        vm.startPrank(address(disputes));
        registry.lock(ids[0], 2 * MINIMUM_BOND - 1);
        vm.expectRevert(abi.encodeWithSelector(Registry.StakeTooLow.selector, ids[0], 1, 2));
        registry.lock(ids[0], 2);
        vm.stopPrank();
        _slash(0, 2);
        vm.expectRevert(abi.encodeWithSelector(Registry.StakeTooLow.selector, ids[0], 0, 1));
        vm.prank(address(disputes));
        registry.lock(ids[0], 1);
    }

    function test_whoHasNoSeatResignsFromNothing() public {
        vm.recordLogs();

        _resign(0);

        vm.assertEq(vm.getRecordedLogs().length, 0);
    }

    function test_aRefereeLeavesWhenItUnbondsBelowTheMinimum() public {
        _enlist(0);
        _unbond(0, MINIMUM_BOND);
        vm.assertEq(_seated(), 1);

        _unbond(0, 1);

        vm.assertEq(_seated(), 0);
    }

    function test_aRefereeLeavesWhenItIsSlashedBelowTheMinimum() public {
        _enlist(0);
        _slash(0, MINIMUM_BOND);
        vm.assertEq(_seated(), 1);

        _slash(0, 1);

        vm.assertEq(_seated(), 0);
    }

    function test_aRefereeLeavesWithItsNodeKey() public {
        _enlist(0);
        _setNode(0, address(1));
        vm.assertEq(_seated(), 1);

        vm.expectEmit();
        emit Registry.RefereeSet(ids[0], false);
        _setNode(0, address(0));

        vm.assertEq(_seated(), 0);
    }

    function testFuzz_everyEnlistedProviderHasOneSeat(uint256 dice) public {
        for (uint256 step = 0; step < 24; ++step) {
            dice = uint256(keccak256(abi.encode(dice)));
            _doSomething(dice % 6, (dice >> 8) % 7);
        }

        uint256 wanted = 0;
        for (uint256 i = 0; i < 6; ++i) {
            vm.assertEq(_seatsOf(ids[i]), enlisted[i] ? 1 : 0);
            if (enlisted[i]) ++wanted;
        }
        vm.assertEq(_seated(), wanted);
    }

    function _doSomething(uint256 i, uint256 what) private {
        (uint96 bonded,,,) = registry.stakes(ids[i]);
        if (what < 3) {
            if (!registry.isActive(ids[i])) return;
            _enlist(i);
            enlisted[i] = true;
        } else if (what == 3) {
            _resign(i);
            enlisted[i] = false;
        } else {
            if (what == 4) _unbond(i, bonded / 2);
            else if (what == 5) _slash(i, bonded / 2);
            else _setNode(i, address(uint160(bonded % 2)));
            if (!registry.isActive(ids[i])) enlisted[i] = false;
            _bond(ids[i], MINIMUM_BOND / 2);
        }
    }

    function _seatsOf(uint32 id) private view returns (uint256 found) {
        for (uint256 i = 0; i < registry.seatCount(); ++i) {
            if (_at(i) == id) ++found;
        }
    }

    function _seated() private view returns (uint256) {
        return registry.seatCount() - _seatsOf(0);
    }

    function _at(uint256 position) private view returns (uint32 who) {
        (who,) = registry.seats(position);
    }

    function _enlist(uint256 i) private {
        vm.prank(address(uint160(0xE0 + i)));
        registry.enlist(ids[i]);
    }

    function _resign(uint256 i) private {
        vm.prank(address(uint160(0xE0 + i)));
        registry.resign(ids[i]);
    }

    function _unbond(uint256 i, uint96 amount) private {
        vm.prank(address(uint160(0xE0 + i)));
        registry.requestUnbonding(ids[i], amount);
    }

    function _setNode(uint256 i, address key) private {
        vm.prank(address(uint160(0xE0 + i)));
        registry.setNode(ids[i], key, 0);
    }

    function _slash(uint256 i, uint96 amount) private {
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](1);
        awards[0] = LedgerTypes.Award(address(0), verifier, amount);
        vm.prank(address(disputes));
        registry.slash(ids[i], awards, 0);
    }
}
