// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LedgerTypes} from "../src/LedgerTypes.sol";
import {Registry} from "../src/Registry.sol";
import {Market} from "./kit/Market.sol";

/// Everybody who touches the contracts, doing so at random; it counts what went in and out.
contract Everybody is Market {
    uint256 private constant RENTERS = 4;
    address private constant SLASHER = address(0x51A54E8);

    uint256 public paidIn;
    uint256 public paidOut;
    uint256 public donated;
    uint256 public settledTotal;
    uint256 public reportedTotal;
    bool public paidTwice;
    mapping(address key => mapping(uint32 nonce => bool)) private _seen;

    constructor() {
        setUp();
        for (uint256 i = 0; i < RENTERS; ++i) {
            _open(_secret(i));
        }
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = Registry.slash.selector;
        vm.startPrank(ADMIN);
        manager.setTargetFunctionRole(address(registry), selectors, 1);
        manager.grantRole(1, SLASHER, 0);
        vm.stopPrank();
    }

    function deposit(uint256 who, uint256 amount) external {
        amount = bound(amount, 0, 1e12);
        _deposit(_key(who), amount);
        paidIn += amount;
    }

    /// A statement that may be good, unfunded, expired, reused or of an unknown recipe, in one of both ways.
    function settle(uint256 who, uint256 nonceSeed, uint256 dice, bool reserved) external {
        address key = _key(who);
        uint32 nonce = uint32(bound(nonceSeed, 0, 200));
        uint40 deadline = dice % 8 == 0 ? uint40(block.timestamp - 1) : FAR;
        (bytes memory lines, uint256 total) = _lines(dice);
        bytes memory statement = _statement(_secret(who), nonce, deadline, lines);
        bool usedBefore = _seen[key][nonce];
        uint256 paid = reserved ? _settleReserved(key, nonce, statement) : _settleBatch(statement);
        if (paid == 0) return;
        if (usedBefore || paid != total) paidTwice = true;
        _seen[key][nonce] = true;
        settledTotal += paid;
    }

    function garbage(bytes calldata data) external {
        vm.prank(operator);
        try ledger.settle(coordinator, data) returns (uint256 paid, uint256) {
            reportedTotal += paid;
        } catch {}
    }

    function collect(uint256 id) external {
        paidOut += ledger.collect(uint32(bound(id, 0, 3)));
    }

    function requestWithdrawal(uint256 who, uint96 amount) external {
        vm.prank(OWNER);
        ledger.requestWithdrawal(_key(who), amount);
    }

    function withdraw(uint256 who) external {
        try ledger.withdraw(_key(who)) returns (uint256 amount) {
            paidOut += amount;
        } catch {}
    }

    function donate(uint256 amount) external {
        amount = bound(amount, 0, 1e9);
        token.mint(address(ledger), amount);
        donated += amount;
    }

    function bond(uint256 amount) external {
        amount = bound(amount, 0, 1e9);
        token.mint(address(this), amount);
        token.approve(address(registry), amount);
        registry.bond(provider, amount);
    }

    function unbond(uint256 amount) external {
        (uint96 bonded,,) = registry.stakes(provider);
        vm.prank(PROVIDER_PAYOUT);
        registry.requestUnbonding(provider, uint96(bound(amount, 0, bonded)));
    }

    function withdrawStake() external {
        try registry.withdraw(provider) {} catch {}
    }

    function slash(uint256 amount, uint256 who) external {
        (uint96 bonded, uint96 unbonding,) = registry.stakes(provider);
        amount = bound(amount, 0, uint256(bonded) + unbonding);
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](2);
        awards[0] = LedgerTypes.Award(_key(who), 0, uint96(amount / 2));
        awards[1] = LedgerTypes.Award(address(0), verifier, uint96(amount - amount / 2));
        vm.prank(SLASHER);
        registry.slash(provider, awards, 0);
        paidIn += amount;
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 0, 3 days));
    }

    // ---------------------------------------------------------------------------------------- what holds now

    function heldByLedger() external view returns (uint256) {
        return token.balanceOf(address(ledger));
    }

    function books() external view returns (uint256 sum) {
        for (uint256 i = 0; i < RENTERS; ++i) {
            sum += _balance(_key(i));
        }
        for (uint32 id = 0; id < ledger.payeeCount(); ++id) {
            sum += _credit(id);
        }
    }

    function heldByRegistry() external view returns (uint256) {
        return token.balanceOf(address(registry));
    }

    function staked() external view returns (uint256) {
        (uint96 bonded, uint96 unbonding,) = registry.stakes(provider);
        return uint256(bonded) + unbonding;
    }

    function _settleBatch(bytes memory statement) private returns (uint256 paid) {
        (paid,) = _settle(statement);
        reportedTotal += paid;
    }

    function _settleReserved(address key, uint32 nonce, bytes memory statement) private returns (uint256) {
        bytes memory reservation = _reservation(key, nonce, type(uint96).max);
        try ledger.settleReserved(coordinator, statement, type(uint96).max, reservation) returns (uint256 paid) {
            reportedTotal += paid;
            return paid;
        } catch {
            return 0;
        }
    }

    function _lines(uint256 dice) private view returns (bytes memory lines, uint256 total) {
        for (uint256 i = 0; i <= dice % 5; ++i) {
            uint256 h = uint256(keccak256(abi.encode(dice, i)));
            uint32 recipe_ = h % 16 == 0 ? 99 : recipe;
            uint96 amount = uint96((h >> 96) % 1e11);
            total += amount;
            lines = bytes.concat(lines, _line(uint32((h >> 8) % 6), uint32((h >> 40) % 6), recipe_, amount));
        }
    }

    function _secret(uint256 who) private pure returns (uint256) {
        return 0xA000 + who % RENTERS;
    }

    function _key(uint256 who) private pure returns (address) {
        return vm.addr(_secret(who));
    }
}

/// The laws of README.md that hold after any sequence of calls.
contract InvariantsTest is Market {
    Everybody private everybody;

    function setUp() public override {
        everybody = new Everybody();
        bytes4[] memory does = new bytes4[](12);
        does[0] = Everybody.deposit.selector;
        does[1] = Everybody.settle.selector;
        does[2] = Everybody.garbage.selector;
        does[3] = Everybody.collect.selector;
        does[4] = Everybody.requestWithdrawal.selector;
        does[5] = Everybody.withdraw.selector;
        does[6] = Everybody.donate.selector;
        does[7] = Everybody.bond.selector;
        does[8] = Everybody.unbond.selector;
        does[9] = Everybody.withdrawStake.selector;
        does[10] = Everybody.slash.selector;
        does[11] = Everybody.pass.selector;
        target(address(everybody), does);
    }

    function invariant_theBooksAreHeldInTokens() public view {
        vm.assertEq(everybody.books() + everybody.donated(), everybody.heldByLedger(), "held = books + donations");
    }

    function invariant_nothingIsMadeOrLost() public view {
        vm.assertEq(everybody.paidIn(), everybody.books() + everybody.paidOut(), "in = books + out");
    }

    function invariant_aNonceIsPaidOnceAndInFull() public view {
        vm.assertTrue(!everybody.paidTwice(), "paid twice or in part");
        vm.assertEq(everybody.settledTotal(), everybody.reportedTotal(), "only signed statements pay");
    }

    function invariant_theRegistryHoldsItsStake() public view {
        vm.assertEq(everybody.staked(), everybody.heldByRegistry(), "held = stake");
    }
}
