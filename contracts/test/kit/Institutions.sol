// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CommonsFund} from "../../src/CommonsFund.sol";
import {Cover} from "../../src/Cover.sol";
import {DisputeTypes} from "../../src/DisputeTypes.sol";
import {Disputes} from "../../src/Disputes.sol";
import {FeeSplitter} from "../../src/FeeSplitter.sol";
import {RecipeRegistry} from "../../src/RecipeRegistry.sol";
import {Registry} from "../../src/Registry.sol";
import {Market} from "./Market.sol";

/// The market with everything around it, and the roles as gristmill_contracts.deploy grants them.
abstract contract Institutions is Market {
    uint64 internal constant SLASHER_ROLE = 1;
    uint64 internal constant GUARDIAN_ROLE = 2;
    uint64 internal constant ARBITER_ROLE = 3;
    uint64 internal constant GRANTER_ROLE = 4;
    uint64 internal constant LOCKER_ROLE = 5;
    uint32 internal constant GRANT_DELAY = 2 days;
    uint32 internal constant ADMIN_DELAY = 7 days;
    uint96 internal constant LEAST_BOND = 1e6;
    uint16 internal constant COMMONS_BPS = 2000;
    address internal constant MULTISIG = address(0x3151);
    address internal constant GUARDIAN = address(0x60A8D);
    address internal constant ARBITER = address(0xA8B1);
    address internal constant GRANTER = address(0x68A7);

    CommonsFund internal commons;
    FeeSplitter internal splitter;
    Disputes internal disputes;
    Cover internal cover;
    RecipeRegistry internal recipes;

    function setUp() public virtual override {
        super.setUp();
        _establish();
    }

    function _establish() internal {
        commons = new CommonsFund(ledger, address(manager));
        splitter = new FeeSplitter(ledger, address(commons), TREASURY_PAYOUT, COMMONS_BPS, address(manager));
        vm.prank(TREASURY_PAYOUT);
        ledger.setPayout(0, address(splitter));
        disputes = new Disputes(registry, commons.payee(), LEAST_BOND, address(manager));
        cover = new Cover(ledger, commons.payee());
        recipes = new RecipeRegistry(ledger);
        vm.startPrank(ADMIN);
        _let(SLASHER_ROLE, address(registry), Registry.slash.selector);
        _let(LOCKER_ROLE, address(registry), Registry.lock.selector);
        _let(LOCKER_ROLE, address(registry), Registry.unlock.selector);
        _let(GUARDIAN_ROLE, address(ledger), ledger.setPaused.selector);
        _let(GUARDIAN_ROLE, address(registry), registry.setPaused.selector);
        _let(GUARDIAN_ROLE, address(disputes), disputes.setPaused.selector);
        _let(ARBITER_ROLE, address(disputes), disputes.arbitrate.selector);
        _let(GRANTER_ROLE, address(commons), commons.grant.selector);
        manager.grantRole(SLASHER_ROLE, address(disputes), 0);
        manager.grantRole(LOCKER_ROLE, address(disputes), 0);
        manager.grantRole(GUARDIAN_ROLE, GUARDIAN, 0);
        manager.grantRole(ARBITER_ROLE, ARBITER, 0);
        manager.grantRole(GRANTER_ROLE, GRANTER, GRANT_DELAY);
        manager.grantRole(manager.ADMIN_ROLE(), MULTISIG, ADMIN_DELAY);
        manager.renounceRole(manager.ADMIN_ROLE(), ADMIN);
        vm.stopPrank();
    }

    /// A payee that bonds and has a node key, and so may be a referee.
    function _stake(address payout, uint256 amount) internal returns (uint32 id) {
        id = ledger.addPayee(payout);
        _bond(id, amount);
        vm.prank(payout);
        registry.setNode(id, vm.addr(NODE_SECRET), 0);
    }

    /// A record that a provider's machine signed, by its struct hash.
    function _work(bytes32 record) internal view returns (DisputeTypes.Work memory) {
        return _workBy(NODE_SECRET, record);
    }

    function _workBy(uint256 secret, bytes32 record) internal view returns (DisputeTypes.Work memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, _digest(address(registry), "Gristmill Registry", record));
        return DisputeTypes.Work(record, abi.encodePacked(r, s, v));
    }

    function _bond(uint32 id, uint256 amount) internal {
        token.mint(address(this), amount);
        token.approve(address(registry), amount);
        registry.bond(id, amount);
    }

    function _let(uint64 role, address target_, bytes4 selector) private {
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = selector;
        manager.setTargetFunctionRole(target_, selectors, role);
    }
}
