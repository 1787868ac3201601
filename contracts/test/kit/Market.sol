// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Ledger} from "../../src/Ledger.sol";
import {LedgerTypes} from "../../src/LedgerTypes.sol";
import {Registry} from "../../src/Registry.sol";
import {TestUSD} from "../../src/dev/TestUSD.sol";
import {Test} from "./Test.sol";

/// A small market: one coordinator operated by OPERATOR, one renter, a provider, a verifier, a recipe of its author.
abstract contract Market is Test {
    uint256 internal constant OPERATOR_SECRET = 0x09E8A708;
    uint256 internal constant RENTER_SECRET = 0x8E17E8;
    uint256 internal constant NODE_SECRET = 0x40DE;
    address internal constant ADMIN = address(0xAD317);
    address internal constant TREASURY_PAYOUT = address(0x78EA5);
    address internal constant OWNER = address(0x0177E8);
    address internal constant PROVIDER_PAYOUT = address(0xB0B1);
    address internal constant VERIFIER_PAYOUT = address(0xB0B2);
    address internal constant AUTHOR_PAYOUT = address(0xB0B3);
    uint96 internal constant MINIMUM_BOND = 10e6;
    uint40 internal constant NOW = 1_800_000_000;
    uint40 internal constant FAR = NOW + 2 days;

    AccessManager internal manager;
    TestUSD internal token;
    Ledger internal ledger;
    Registry internal registry;
    address internal operator;
    address internal renter;
    uint32 internal coordinator;
    uint32 internal provider;
    uint32 internal verifier;
    uint32 internal author;
    uint32 internal recipe;

    function setUp() public virtual {
        vm.warp(NOW);
        manager = new AccessManager(ADMIN);
        token = _newToken();
        _deploy(token);
        operator = vm.addr(OPERATOR_SECRET);
        renter = vm.addr(RENTER_SECRET);
        vm.prank(operator);
        coordinator = ledger.addCoordinator();
        provider = ledger.addPayee(PROVIDER_PAYOUT);
        verifier = ledger.addPayee(VERIFIER_PAYOUT);
        author = ledger.addPayee(AUTHOR_PAYOUT);
        recipe = ledger.addRecipe(author, 300, 200);
    }

    function _newToken() internal virtual returns (TestUSD) {
        return new TestUSD();
    }

    function _deploy(IERC20 money) internal {
        ledger = new Ledger(money, TREASURY_PAYOUT, address(manager));
        registry = new Registry(ledger, MINIMUM_BOND, address(manager));
    }

    function _open(uint256 secret) internal returns (address key) {
        key = vm.addr(secret);
        ledger.open(key, OWNER, coordinator, _opening(secret, OWNER));
    }

    function _opening(uint256 secret, address owner) internal view returns (bytes memory) {
        return _sign(secret, keccak256(abi.encode(ledger.OPENING_TYPEHASH(), vm.addr(secret), owner, coordinator)));
    }

    function _fund(uint256 secret, uint256 amount) internal returns (address key) {
        key = _open(secret);
        _deposit(key, amount);
    }

    function _deposit(address key, uint256 amount) internal {
        token.mint(address(this), amount);
        token.approve(address(ledger), amount);
        ledger.deposit(key, amount);
    }

    function _line(uint32 provider_, uint32 verifier_, uint32 recipe_, uint96 amount)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodePacked(provider_, verifier_, recipe_, amount);
    }

    function _line(uint96 amount) internal view returns (bytes memory) {
        return _line(provider, verifier, recipe, amount);
    }

    function _statement(uint256 secret, uint32 nonce, uint40 deadline, bytes memory lines)
        internal
        view
        returns (bytes memory)
    {
        bytes32 hash = keccak256(
            abi.encode(
                keccak256("Statement(uint32 nonce,uint40 deadline,bytes lines)"), nonce, deadline, keccak256(lines)
            )
        );
        (bytes32 r, bytes32 vs) = vm.signCompact(secret, _digest(address(ledger), "Gristmill Ledger", hash));
        return abi.encodePacked(r, vs, nonce, deadline, uint16(lines.length / 24), lines);
    }

    function _statement(uint32 nonce, uint96 amount) internal view returns (bytes memory) {
        return _statement(RENTER_SECRET, nonce, FAR, _line(amount));
    }

    function _settle(bytes memory batch) internal returns (uint256 paid, uint256 skipped) {
        vm.prank(operator);
        return ledger.settle(coordinator, batch);
    }

    function _reservation(address key, uint32 nonce, uint96 cap)
        internal
        view
        returns (LedgerTypes.Reservation memory)
    {
        return _reservation(OPERATOR_SECRET, key, nonce, cap, 0);
    }

    function _reservation(uint256 secret, address key, uint32 nonce, uint96 cap, uint96 accepted)
        internal
        view
        returns (LedgerTypes.Reservation memory)
    {
        return _reservation(secret, coordinator, key, nonce, cap, accepted);
    }

    function _reservation(uint256 secret, uint32 where, address key, uint32 nonce, uint96 cap, uint96 accepted)
        internal
        view
        returns (LedgerTypes.Reservation memory)
    {
        bytes32 structHash = keccak256(
            abi.encode(ledger.RESERVATION_TYPEHASH(), key, where, provider, nonce, cap, accepted, NOW)
        );
        (bytes32 r, bytes32 vs) = vm.signCompact(secret, _digest(address(ledger), "Gristmill Ledger", structHash));
        return LedgerTypes.Reservation(provider, cap, accepted, NOW, r, vs);
    }

    /// r || s || v over a struct hash in the Ledger's domain.
    function _sign(uint256 secret, bytes32 structHash) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, _digest(address(ledger), "Gristmill Ledger", structHash));
        return abi.encodePacked(r, s, v);
    }

    /// EIP-712 by hand, so that the contracts' own way is checked and not repeated.
    function _digest(address contract_, string memory name, bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256("1"),
                block.chainid,
                contract_
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function _balance(address key) internal view returns (uint256) {
        return ledger.account(key).balance;
    }

    function _credit(uint32 id) internal view returns (uint256 credit) {
        (, credit) = ledger.payee(id);
    }

    function _assertSkipped(bytes memory batch, LedgerTypes.Skip why) internal {
        bytes32 before = _books();
        vm.recordLogs();
        (uint256 paid, uint256 skipped) = _settle(batch);
        vm.assertEq(paid, 0);
        vm.assertEq(skipped, 1);
        vm.assertEq(_books(), before);
        vm.assertEq(abi.decode(vm.getRecordedLogs()[0].data, (uint256)), uint256(why));
    }

    function _books() internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                ledger.account(renter),
                _credit(0),
                _credit(provider),
                _credit(verifier),
                _credit(author),
                ledger.nonceUsed(renter, 0),
                ledger.nonceUsed(renter, 7)
            )
        );
    }
}
