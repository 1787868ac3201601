// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Ledger} from "../src/Ledger.sol";
import {LedgerTypes} from "../src/LedgerTypes.sol";
import {Registry} from "../src/Registry.sol";
import {Market} from "./kit/Market.sol";
import {FeeToken, ReenteringToken} from "./kit/OddTokens.sol";

contract RegistryTest is Market {
    address private constant SLASHER = address(0x51A54E8);
    address private constant NODE = address(0x110DE);

    function setUp() public override {
        super.setUp();
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = Registry.slash.selector;
        vm.startPrank(ADMIN);
        manager.setTargetFunctionRole(address(registry), selectors, 1);
        manager.grantRole(1, SLASHER, 0);
        vm.stopPrank();
        _bond(100e6);
    }

    function test_aProviderIsActiveWithAKeyAndTheMinimumBond() public {
        vm.assertEq(registry.isActive(provider), false);
        _setNode(NODE);
        vm.assertEq(registry.isActive(provider), true);

        vm.prank(PROVIDER_PAYOUT);
        registry.requestUnbonding(provider, 100e6 - MINIMUM_BOND);
        vm.assertEq(registry.isActive(provider), true);
        vm.prank(PROVIDER_PAYOUT);
        registry.requestUnbonding(provider, 1);
        vm.assertEq(registry.isActive(provider), false);
    }

    function test_onlyTheProviderSetsItsNode() public {
        vm.expectRevert(abi.encodeWithSelector(Registry.NotProvider.selector, provider, address(this)));
        registry.setNode(provider, NODE, 0);
        vm.expectEmit();
        emit Registry.NodeSet(provider, NODE, keccak256("about"));
        vm.prank(PROVIDER_PAYOUT);
        registry.setNode(provider, NODE, keccak256("about"));
    }

    function test_aProviderAnswersForAFormerKeyForTwoWeeks() public {
        vm.assertEq(registry.signsFor(provider, address(0)), false);
        _setNode(NODE);
        _setNode(address(0xBEEF));

        vm.warp(NOW + 14 days);
        vm.assertEq(registry.signsFor(provider, NODE), true);
        vm.assertEq(registry.signsFor(provider, address(0)), false);
        vm.warp(NOW + 14 days + 1);
        vm.assertEq(registry.signsFor(provider, NODE), false);
        vm.assertEq(registry.signsFor(provider, address(0xBEEF)), true);
    }

    function test_aBondIsForARealProvider() public {
        vm.expectRevert(abi.encodeWithSelector(Registry.UnknownProvider.selector, 999));
        registry.bond(999, 1);
    }

    function test_aTokenThatKeepsAFeeBondsWhatArrives() public {
        FeeToken odd = new FeeToken();
        _deploy(odd);
        uint32 id = ledger.addPayee(PROVIDER_PAYOUT);
        odd.mint(address(this), 100);
        odd.approve(address(registry), 100);

        registry.bond(id, 100);

        (uint96 bonded,,,) = registry.stakes(id);
        vm.assertEq(bonded, 90);
    }

    /// Called again in a token's transfer, bonds would count what comes and goes there twice. This token may slash, too.
    function test_aTokenThatReentersGainsNothing() public {
        ReenteringToken odd = new ReenteringToken();
        _deploy(odd);
        vm.startPrank(ADMIN);
        manager.grantRole(manager.ADMIN_ROLE(), address(odd), 0);
        vm.stopPrank();
        odd.mint(address(this), 1);
        odd.approve(address(registry), 1);
        uint32 id = ledger.addPayee(PROVIDER_PAYOUT);
        bytes[3] memory calls = [
            abi.encodeCall(Registry.bond, (id, 1)),
            abi.encodeCall(Registry.withdraw, (id)),
            abi.encodeCall(Registry.slash, (id, _awards(1, 0, 0), 0))
        ];

        for (uint256 i = 0; i < calls.length; ++i) {
            odd.arm(Ledger(address(registry)), calls[i]);
            vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
            registry.bond(id, 1);
        }
        vm.assertEq(registry.stakeOf(id), 0);
    }

    function test_theRegistryHoldsLessThanItsStakesCanCount() public {
        uint256 rest = type(uint96).max - 100e6;
        _bond(rest);
        token.mint(address(this), 1);
        token.approve(address(registry), 1);

        vm.expectRevert(abi.encodeWithSelector(Registry.TokenTooLarge.selector, 2 ** 96));
        registry.bond(provider, 1);
    }

    function test_stakeLeavesTwoWeeksAfterItWasAskedFor() public {
        vm.prank(PROVIDER_PAYOUT);
        registry.requestUnbonding(provider, 40e6);

        vm.expectRevert(abi.encodeWithSelector(Registry.StillLocked.selector, provider, NOW + 14 days));
        registry.withdraw(provider);
        vm.warp(NOW + 14 days);
        vm.assertEq(registry.withdraw(provider), 40e6);

        vm.assertEq(token.balanceOf(PROVIDER_PAYOUT), 40e6);
        _assertStake(60e6, 0);
        vm.expectRevert(abi.encodeWithSelector(Registry.NothingUnbonding.selector, provider));
        registry.withdraw(provider);
    }

    function test_askingForMoreMakesAllOfItWaitAnew() public {
        vm.startPrank(PROVIDER_PAYOUT);
        registry.requestUnbonding(provider, 40e6);
        vm.warp(NOW + 13 days);
        registry.requestUnbonding(provider, 10e6);
        vm.warp(NOW + 14 days);

        vm.expectRevert(abi.encodeWithSelector(Registry.StillLocked.selector, provider, NOW + 27 days));
        registry.withdraw(provider);
    }

    function test_onlyTheProviderUnbondsAndNoMoreThanItsBond() public {
        vm.expectRevert(abi.encodeWithSelector(Registry.NotProvider.selector, provider, address(this)));
        registry.requestUnbonding(provider, 1);
        vm.expectRevert(abi.encodeWithSelector(Registry.BondTooLow.selector, provider, 100e6, 100e6 + 1));
        vm.prank(PROVIDER_PAYOUT);
        registry.requestUnbonding(provider, 100e6 + 1);
    }

    function test_aSlashTakesTheBondFirstAndReachesStakeThatIsUnbonding() public {
        _open(RENTER_SECRET);
        vm.prank(PROVIDER_PAYOUT);
        registry.requestUnbonding(provider, 70e6);

        vm.expectEmit();
        emit Registry.Slashed(provider, 80e6, keccak256("evidence"));
        vm.prank(SLASHER);
        registry.slash(provider, _awards(40e6, 24e6, 16e6), keccak256("evidence"));

        _assertStake(0, 20e6);
        vm.assertEq(_balance(renter), 40e6);
        vm.assertEq(_credit(verifier), 24e6);
        vm.assertEq(_credit(0), 16e6);
        vm.assertEq(token.balanceOf(address(registry)), 20e6);
    }

    function test_aSlashNeverExceedsTheStake() public {
        _open(RENTER_SECRET);

        vm.expectRevert(abi.encodeWithSelector(Registry.StakeTooLow.selector, provider, 100e6, 100e6 + 1));
        vm.prank(SLASHER);
        registry.slash(provider, _awards(100e6, 1, 0), 0);
    }

    function test_onlyTheSlasherSlashes() public {
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, operator));
        vm.prank(operator);
        registry.slash(provider, _awards(1, 0, 0), 0);
    }

    function test_aSlashReachesTheRenterWhileDepositsArePaused() public {
        _open(RENTER_SECRET);
        vm.prank(ADMIN);
        ledger.setPaused(true);

        vm.prank(SLASHER);
        registry.slash(provider, _awards(50e6, 0, 0), 0);

        vm.assertEq(_balance(renter), 50e6);
    }

    function test_theGuardStopsBondsAndNeverExits() public {
        vm.prank(ADMIN);
        registry.setPaused(true);

        vm.expectRevert(Registry.Paused.selector);
        registry.bond(provider, 1);
        vm.prank(PROVIDER_PAYOUT);
        registry.requestUnbonding(provider, 100e6);
        vm.warp(NOW + 14 days);
        vm.assertEq(registry.withdraw(provider), 100e6);
    }

    function test_onlyTheAuthorityPauses() public {
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, address(this)));
        registry.setPaused(true);
    }

    function test_theAuthoritySetsTheMinimumBond() public {
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, address(this)));
        registry.setMinimumBond(1);
        vm.prank(ADMIN);
        registry.setMinimumBond(1);
        vm.assertEq(registry.minimumBond(), 1);
    }

    function test_onlyACoordinatorsOperatorAnchors() public {
        vm.expectEmit();
        emit Registry.Anchored(coordinator, keccak256("root"));
        vm.prank(operator);
        registry.anchor(coordinator, keccak256("root"));

        vm.expectRevert(abi.encodeWithSelector(Registry.NotOperator.selector, coordinator, address(this)));
        registry.anchor(coordinator, keccak256("root"));
        vm.expectRevert(abi.encodeWithSelector(Registry.NotOperator.selector, 0, address(this)));
        registry.anchor(0, keccak256("root"));
    }

    function test_itsSigningDomainIsTheRegistrys() public view {
        (, string memory name, string memory version, uint256 chainId, address verifying,,) = registry.eip712Domain();

        vm.assertEq(keccak256(bytes(name)), keccak256("Gristmill Registry"));
        vm.assertEq(keccak256(bytes(version)), keccak256("1"));
        vm.assertEq(chainId, block.chainid);
        vm.assertEq(verifying, address(registry));
    }

    /// Whatever is bonded, unbonded, slashed and withdrawn, the contract holds exactly the stake that is left.
    function testFuzz_theRegistryHoldsWhatIsStaked(uint96 unbonding, uint96 slashed, bool withdrawn) public {
        _open(RENTER_SECRET);
        unbonding = uint96(bound(unbonding, 0, 100e6));
        slashed = uint96(bound(slashed, 0, 100e6));
        vm.prank(PROVIDER_PAYOUT);
        registry.requestUnbonding(provider, unbonding);
        vm.prank(SLASHER);
        registry.slash(provider, _awards(slashed, 0, 0), 0);
        (, uint96 left,,) = registry.stakes(provider);
        vm.warp(NOW + 14 days);
        if (withdrawn && left != 0) registry.withdraw(provider);

        (uint96 bonded, uint96 stillUnbonding,,) = registry.stakes(provider);
        vm.assertEq(token.balanceOf(address(registry)), uint256(bonded) + stillUnbonding);
        vm.assertEq(token.balanceOf(address(ledger)), slashed);
    }

    function _bond(uint256 amount) private {
        token.mint(address(this), amount);
        token.approve(address(registry), amount);
        registry.bond(provider, amount);
    }

    function _setNode(address key) private {
        vm.prank(PROVIDER_PAYOUT);
        registry.setNode(provider, key, 0);
    }

    function _awards(uint96 renters, uint96 verifiers, uint96 treasurys)
        private
        view
        returns (LedgerTypes.Award[] memory awards)
    {
        awards = new LedgerTypes.Award[](3);
        awards[0] = LedgerTypes.Award(renter, 0, renters);
        awards[1] = LedgerTypes.Award(address(0), verifier, verifiers);
        awards[2] = LedgerTypes.Award(address(0), 0, treasurys);
    }

    function _assertStake(uint256 bonded, uint256 unbonding) private view {
        (uint96 bonded_, uint96 unbonding_,,) = registry.stakes(provider);
        vm.assertEq(bonded_, bonded);
        vm.assertEq(unbonding_, unbonding);
    }
}
