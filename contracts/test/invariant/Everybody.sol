// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Disputes} from "../../src/Disputes.sol";
import {Ledger} from "../../src/Ledger.sol";
import {LedgerTypes} from "../../src/LedgerTypes.sol";
import {Registry} from "../../src/Registry.sol";
import {DisputeTypes} from "../../src/DisputeTypes.sol";
import {TestUSD} from "../../src/dev/TestUSD.sol";
import {HostileUSD} from "../kit/HostileUSD.sol";
import {Institutions} from "../kit/Institutions.sol";

/// Everybody who touches the contracts, doing so at random: five renters with their owner, eight providers, two
/// coordinators, referees, an attacker. It keeps books of its own and says in `broken` which law was broken first.
contract Everybody is Institutions {
    uint256 private constant RENTERS = 5;
    uint256 private constant PROVIDERS = 8;
    uint256 private constant SECOND_SECRET = 0x5EC09D;
    address private constant ATTACKER = address(0xBAD);
    bool public immutable hostile;

    string public broken;
    uint256 public paidIn; // to accounts and payees, from outside of the Ledger
    uint256 public paidOut; // of accounts and credits
    uint256 public donated;
    address[RENTERS] private _keys;
    uint32[] private _providers;
    uint32 private _second;
    address private _secondOperator;
    mapping(address key => uint256) private _balances;
    mapping(address key => mapping(uint32 nonce => bool)) private _paid;
    mapping(uint32 payee => address) private _payouts;
    uint32[] private _paidNonces;
    address[] private _paidKeys;
    uint256[] private _running; // disputes
    uint256 private _evidence;

    constructor(bool hostile_) {
        hostile = hostile_;
        setUp();
        vm.prank(vm.addr(SECOND_SECRET));
        _second = ledger.addCoordinator();
        _secondOperator = vm.addr(SECOND_SECRET);
        for (uint256 i = 0; i < RENTERS; ++i) {
            _keys[i] = vm.addr(_secret(i));
            _openAt(_secret(i), _coordinator(i));
        }
        for (uint256 i = 0; i < PROVIDERS; ++i) {
            address payout = address(uint160(0xB0000 + i));
            _providers.push(_stake(payout, MINIMUM_BOND));
            vm.startPrank(payout);
            registry.enlist(_providers[i]);
            token.approve(address(disputes), type(uint256).max);
            vm.stopPrank();
            token.mint(payout, 1e12);
        }
        for (uint32 id = 0; id < ledger.payeeCount(); ++id) {
            (_payouts[id],) = ledger.payee(id);
        }
        token.mint(address(this), 1e18);
        token.approve(address(ledger), type(uint256).max);
        token.approve(address(registry), type(uint256).max);
        token.approve(address(cover), type(uint256).max);
    }

    function _newToken() internal override returns (TestUSD) {
        return hostile ? new HostileUSD() : new TestUSD();
    }

    // ------------------------------------------------------------------------------------------------ renters

    function deposit(uint256 who, uint256 amount) external {
        address key = _key(who);
        uint256 before = token.balanceOf(address(ledger));
        if (!_call(address(this), address(ledger), abi.encodeCall(Ledger.deposit, (key, bound(amount, 0, 1e12))))) {
            return;
        }
        uint256 arrived = token.balanceOf(address(ledger)) - before;
        _balances[key] += arrived;
        paidIn += arrived;
    }

    function requestWithdrawal(uint256 who, uint96 amount) external {
        vm.prank(OWNER);
        ledger.requestWithdrawal(_key(who), amount);
    }

    /// Laws 7 and 13.
    function withdraw(uint256 who) external {
        address key = _key(who);
        LedgerTypes.Account memory before = ledger.account(key);
        uint256 owned = token.balanceOf(OWNER);
        if (!_call(ATTACKER, address(ledger), abi.encodeCall(Ledger.withdraw, (key)))) return;
        uint256 amount = before.balance - ledger.account(key).balance;
        if (before.unlockAt == 0 || block.timestamp < before.unlockAt) _break("a withdrawal was paid early");
        if (amount > before.pending) _break("more was withdrawn than was asked");
        if (!hostile && token.balanceOf(OWNER) - owned != amount) _break("a withdrawal went elsewhere");
        _balances[key] -= amount;
        paidOut += amount;
    }

    // ------------------------------------------------------------------------------------------- coordinators

    /// A statement that may be good, unfunded, expired, reused or of an unknown recipe, in one of both ways. Laws 3, 4,
    /// 5, 7 and 14.
    function settle(uint256 who, uint256 nonceSeed, uint256 dice, bool reserved) external {
        address key = _key(who);
        uint32 nonce = uint32(bound(nonceSeed, 0, 200));
        (bytes memory lines, uint256 total, bool known) = _lines(dice);
        uint40 deadline = dice % 8 == 0 ? uint40(block.timestamp - 1) : uint40(block.timestamp + dice % 3 days);
        bool payable_ =
            known && total != 0 && deadline >= block.timestamp && !_paid[key][nonce] && total <= _balance(key);
        uint256 sum = books();
        bytes memory statement = _statement(_secret(who), nonce, deadline, lines);
        uint256 paid = reserved ? _settleReserved(who, nonce, statement) : _settleBatch(who, statement);
        if (books() != sum) _break("settling changed the books' sum");
        if (paid != (payable_ ? total : 0)) _break("a statement was not paid exactly when it should be");
        if (paid == 0) return;
        _paid[key][nonce] = true;
        _paidKeys.push(key);
        _paidNonces.push(nonce);
        _balances[key] -= paid;
    }

    /// Laws 8 and 9: a changed byte pays nothing, from whichever coordinator.
    function tamper(uint256 who, uint256 nonceSeed, uint256 position, uint8 change) external {
        uint32 nonce = uint32(bound(nonceSeed, 201, 300));
        bytes memory statement =
            _statement(_secret(who), nonce, uint40(block.timestamp), _line(_providers[0], 0, recipe, 1));
        position %= statement.length;
        statement[position] ^= bytes1(change == 0 ? 1 : change);
        vm.prank(_operator(who));
        try ledger.settle(_coordinator(who), statement) returns (uint256 paid, uint256) {
            if (paid != 0) _break("a changed statement was paid");
        } catch {}
    }

    function garbage(bytes calldata data) external {
        vm.prank(operator);
        try ledger.settle(coordinator, data) returns (uint256 paid, uint256) {
            if (paid != 0) _break("bytes that nobody signed were paid");
        } catch {}
    }

    function rotate(uint256 who) external {
        // To another key and back, so that the rest of the world goes on.
        address operator_ = _operator(who);
        vm.prank(operator_);
        ledger.setOperator(_coordinator(who), ATTACKER);
        vm.prank(ATTACKER);
        ledger.setOperator(_coordinator(who), operator_);
    }

    function bondCover(uint256 amount) external {
        _call(address(this), address(cover), abi.encodeCall(cover.bond, (coordinator, bound(amount, 0, 1e9))));
    }

    // --------------------------------------------------------------------------------------------- providers

    /// Laws 10 and 18.
    function collect(uint256 seed) external {
        uint32 id = uint32(seed % ledger.payeeCount());
        (address payout, uint256 credit) = ledger.payee(id);
        if (!_call(ATTACKER, address(ledger), abi.encodeCall(Ledger.collect, (id)))) return;
        (address after_, uint256 left) = ledger.payee(id);
        // A hook of a hostile token may have settled or awarded meanwhile; here it can't.
        if (left != 0 || after_ != payout) _break("collecting left credit or changed the payout");
        paidOut += credit;
    }

    function setPayout(uint256 seed) external {
        uint32 id = _providers[seed % PROVIDERS];
        vm.prank(_payouts[id]);
        ledger.setPayout(id, _payouts[id]);
    }

    function bond(uint256 seed, uint256 amount) external {
        uint32 id = _providers[seed % PROVIDERS];
        _call(address(this), address(registry), abi.encodeCall(Registry.bond, (id, bound(amount, 0, 1e9))));
    }

    function unbond(uint256 seed, uint256 amount) external {
        uint32 id = _providers[seed % PROVIDERS];
        (uint96 bonded,,,) = registry.stakes(id);
        vm.prank(_payouts[id]);
        registry.requestUnbonding(id, uint96(bound(amount, 0, bonded)));
    }

    /// Law 21.
    function withdrawStake(uint256 seed) external {
        uint32 id = _providers[seed % PROVIDERS];
        (,,, uint96 locked) = registry.stakes(id);
        if (_call(ATTACKER, address(registry), abi.encodeCall(Registry.withdraw, (id))) && locked != 0) {
            _break("stake left while it was in dispute");
        }
    }

    // ---------------------------------------------------------------------------------------------- disputes

    function dispute(uint256 challenger, uint256 accused, uint256 who, uint256 amount) external {
        (uint32 from, uint32 to) = (_providers[challenger % PROVIDERS], _providers[accused % PROVIDERS]);
        uint256 stake = registry.stakeOf(to);
        if (from == to || stake == 0) return;
        amount = bound(amount, 1, stake);
        bytes32 record = bytes32(++_evidence);
        bytes memory data = abi.encodeCall(Disputes.open, (from, to, _key(who), uint96(amount), record, _work(record)));
        if (_call(_payouts[from], address(disputes), data)) _running.push(disputes.count());
    }

    /// One of the next steps of a dispute: concede, answer, draw, rule, arbitrate, or go on when time is over. Law 20.
    function judge(uint256 seed, uint256 dice) external {
        if (_running.length == 0) return;
        uint256 id = _running[seed % _running.length];
        DisputeTypes.Dispute memory one = disputes.disputeOf(id);
        if (one.phase == DisputeTypes.Phase.Closed) return;
        uint256 stake = registry.stakeOf(one.provider);
        uint256 held = token.balanceOf(address(ledger));
        uint256 least = _balance(one.renter) - _dueToHooks(one.renter);
        bytes memory data = abi.encodeCall(Disputes.advance, (id));
        address caller = ATTACKER;
        if (one.phase == DisputeTypes.Phase.Answering && dice % 3 != 0) {
            caller = _payouts[one.provider];
            data = dice % 3 == 1
                ? abi.encodeCall(Disputes.concede, (id))
                : abi.encodeCall(Disputes.answer, (id, bytes32(dice)));
        } else if (one.phase == DisputeTypes.Phase.Ruling && one.referees.length == 0) {
            vm.roll(one.drawBlock + 1);
            data = abi.encodeCall(Disputes.draw, (id));
        } else if (one.phase == DisputeTypes.Phase.Ruling && dice % 4 != 0) {
            uint32 referee = one.referees[dice % one.referees.length];
            caller = _payouts[referee];
            data = abi.encodeCall(Disputes.rule, (id, referee, dice % 2 == 0));
        } else if (one.phase == DisputeTypes.Phase.Arbitrating && dice % 2 == 0) {
            caller = ARBITER;
            data = abi.encodeCall(Disputes.arbitrate, (id, dice % 4 == 0));
        }
        if (!_call(caller, address(disputes), data)) return;
        if (stake - registry.stakeOf(one.provider) > one.amount) _break("more was slashed than was in dispute");
        uint256 holds = token.balanceOf(address(ledger));
        // A hostile token's hooks may have collected more meanwhile than the dispute's end brought in.
        _awarded(one.renter, least, holds < held ? 0 : holds - held);
    }

    // ------------------------------------------------------------------------------------------------- others

    /// Law 24 and 25: calls that only others may make, and calls that anybody may, by somebody with no right to anything.
    function attack(uint256 dice, uint256 who, uint32 id, uint96 amount) external {
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](1);
        awards[0] = LedgerTypes.Award(address(0), _providers[0], amount);
        bytes[8] memory calls = [
            abi.encodeCall(Ledger.setPayout, (id, ATTACKER)),
            abi.encodeCall(Ledger.setOperator, (coordinator, ATTACKER)),
            abi.encodeWithSignature("requestWithdrawal(address,uint96)", _key(who), amount),
            abi.encodeCall(Ledger.setPaused, (true)),
            abi.encodeCall(Ledger.award, (awards)),
            abi.encodeCall(Registry.slash, (_providers[dice % PROVIDERS], awards, bytes32(0))),
            abi.encodeCall(Registry.unlock, (_providers[dice % PROVIDERS], amount)),
            abi.encodeCall(Registry.requestUnbonding, (_providers[dice % PROVIDERS], amount))
        ];
        uint256 which = dice % 8;
        bool done = _call(ATTACKER, which < 5 ? address(ledger) : address(registry), calls[which]);
        // Giving away nothing is allowed to everybody, and so is a payee id that is the attacker's own.
        if (done && !(which == 4 && amount == 0)) _break("an attacker's call went through");
    }

    function mood(uint256 dice, uint256 seed) external {
        if (!hostile) return;
        address refused = dice % 4 == 0 ? _payouts[_providers[seed % PROVIDERS]] : address(0);
        bytes[4] memory reentries = [
            abi.encodeCall(Ledger.collect, (uint32(seed % 8))),
            abi.encodeCall(Ledger.withdraw, (_key(seed))),
            abi.encodeCall(Ledger.deposit, (_key(seed), 1)),
            abi.encodeCall(Registry.withdraw, (_providers[seed % PROVIDERS]))
        ];
        address reenters = (dice >> 8) % 2 == 0 ? address(0) : seed % 4 == 3 ? address(registry) : address(ledger);
        HostileUSD(address(token)).setMood(dice % 3 == 0, dice % 5 == 0, refused, reenters, reentries[seed % 4]);
    }

    function donate(uint256 amount) external {
        amount = bound(amount, 0, 1e9);
        token.mint(address(ledger), amount);
        donated += amount;
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 0, 3 days));
    }

    // ---------------------------------------------------------------------------------------- what holds now

    function books() public view returns (uint256 sum) {
        for (uint256 i = 0; i < RENTERS; ++i) {
            sum += _balance(_key(i));
        }
        for (uint32 id = 0; id < ledger.payeeCount(); ++id) {
            sum += _credit(id);
        }
    }

    function heldByLedger() external view returns (uint256) {
        return token.balanceOf(address(ledger));
    }

    function staked() external view returns (uint256 sum, uint256 held) {
        for (uint256 i = 0; i < PROVIDERS; ++i) {
            sum += registry.stakeOf(_providers[i]);
        }
        return (sum, token.balanceOf(address(registry)));
    }

    function bondsOfDisputes() external view returns (uint256 sum, uint256 held) {
        for (uint256 i = 0; i < _running.length; ++i) {
            DisputeTypes.Dispute memory one = disputes.disputeOf(_running[i]);
            if (one.phase != DisputeTypes.Phase.Closed) sum += one.answered ? 2 * uint256(one.bond) : one.bond;
        }
        return (sum, token.balanceOf(address(disputes)));
    }

    function covered() external view returns (uint256 sum, uint256 held) {
        (uint96 bonded_, uint96 unbonding,) = cover.bonds(coordinator);
        return (uint256(bonded_) + unbonding, token.balanceOf(address(cover)));
    }

    /// Every account's balance is what was paid in and awarded less what its key signed and its owner withdrew.
    function balancesAreExplained() external view returns (bool) {
        for (uint256 i = 0; i < RENTERS; ++i) {
            if (_balance(_key(i)) != _balances[_key(i)]) return false;
        }
        return true;
    }

    /// What was paid once is used for good; a payee's address is whoever it was.
    function settledStaysSettled() external view returns (bool) {
        for (uint256 i = 0; i < _paidKeys.length; ++i) {
            if (!ledger.nonceUsed(_paidKeys[i], _paidNonces[i])) return false;
        }
        for (uint32 id = 0; id < ledger.payeeCount(); ++id) {
            (address payout,) = ledger.payee(id);
            if (payout != _payouts[id]) return false;
        }
        return true;
    }

    // ------------------------------------------------------------------------------------------------ how

    function _break(string memory law) private {
        if (bytes(broken).length == 0) broken = law;
    }

    function _call(address from, address to, bytes memory data) private returns (bool ok) {
        vm.prank(from);
        (ok,) = to.call(data);
    }

    /// What a hostile token's hook can have withdrawn, for the owner, inside of a call about something else.
    function _dueToHooks(address key) private view returns (uint256) {
        LedgerTypes.Account memory account = ledger.account(key);
        if (!hostile || account.unlockAt == 0 || block.timestamp < account.unlockAt) return 0;
        return account.pending < account.balance ? account.pending : account.balance;
    }

    /// What a dispute's end brought into the Ledger; the renter's part is read, not trusted: it only grows.
    function _awarded(address renter_, uint256 least, uint256 arrived) private {
        uint256 now_ = _balance(renter_);
        if (now_ < least) _break("a dispute lowered a balance");
        _balances[renter_] = now_;
        paidIn += arrived;
    }

    function _settleBatch(uint256 who, bytes memory statement) private returns (uint256 paid) {
        vm.prank(_operator(who));
        (paid,) = ledger.settle(_coordinator(who), statement);
    }

    function _settleReserved(uint256 who, uint32 nonce, bytes memory statement) private returns (uint256) {
        bool first = _coordinator(who) == coordinator;
        LedgerTypes.Reservation memory reservation = _reservation(
            first ? OPERATOR_SECRET : SECOND_SECRET, _coordinator(who), _key(who), nonce, type(uint96).max, 0
        );
        try ledger.settleReserved(statement, reservation) returns (uint256 paid) {
            return paid;
        } catch {
            return 0;
        }
    }

    function _lines(uint256 dice) private view returns (bytes memory lines, uint256 total, bool known) {
        known = true;
        for (uint256 i = 0; i <= dice % 5; ++i) {
            uint256 h = uint256(keccak256(abi.encode(dice, i)));
            uint32 recipe_ = h % 16 == 0 ? 99 : recipe;
            if (recipe_ != recipe) known = false;
            uint96 amount = uint96((h >> 96) % 1e11);
            total += amount;
            // Payees 20 and above don't exist: what they would get is the treasury's.
            lines = bytes.concat(lines, _line(uint32((h >> 8) % 24), uint32((h >> 40) % 24), recipe_, amount));
        }
    }

    function _openAt(uint256 secret, uint32 where) private {
        address key = vm.addr(secret);
        ledger.open(
            key, OWNER, where, _sign(secret, keccak256(abi.encode(ledger.OPENING_TYPEHASH(), key, OWNER, where)))
        );
    }

    function _coordinator(uint256 who) private view returns (uint32) {
        return who % RENTERS == RENTERS - 1 ? _second : coordinator;
    }

    function _operator(uint256 who) private view returns (address) {
        return _coordinator(who) == coordinator ? operator : _secondOperator;
    }

    function _secret(uint256 who) private pure returns (uint256) {
        return 0xA000 + who % RENTERS;
    }

    function _key(uint256 who) private view returns (address) {
        return _keys[who % RENTERS];
    }
}
