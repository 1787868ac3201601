// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Ledger} from "./Ledger.sol";
import {LedgerTypes} from "./LedgerTypes.sol";
import {Statement, batchSpan, readStatement} from "./libraries/Statement.sol";
import {historyEntry, nextHistory, withSkip} from "./libraries/TillWord.sol";

/// @title Coordinators' bonds: a provider that a coordinator let down is paid from its bond, on proof alone.
/// @notice What a coordinator signs in a reservation binds it: work that it accepted must be covered by the renter's
/// balance until it is settled, and must not be settled for less. Both are shown by what it signed and what the chain
/// holds; nobody judges and nobody can stop it. As much as the provider gets goes to the commons: a coordinator that
/// claims from itself, to leave before its unbonding is over, loses half.
///
/// A coordinator keeps clear of this by settling what it accepted before the reservation's forcedFrom, and within the 24
/// hours that a withdrawal takes.
contract Cover is ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    struct Bond {
        uint96 bonded;
        uint96 unbonding;
        uint40 unlockAt; // of what is unbonding
    }

    /// Where a statement was settled: the batch, and how the history went on from it to a recorded digest.
    struct Settled {
        bytes batch;
        uint256 offset; // of the statement in the batch
        uint256[] skips; // offsets of the statements that were not paid, in order
        uint160 before; // history before the batch
        bytes32[] later; // entries of the batches after it
    }

    uint256 public constant UNBONDING_DELAY = 14 days;

    Ledger public immutable ledger;
    IERC20 public immutable token;
    /// The payee of the commons.
    uint32 public immutable commons;

    mapping(uint32 coordinator => Bond) public bonds;
    /// Digests that the Ledger's history had.
    mapping(uint160 history => bool) public recorded;
    /// What a provider was paid so far, by digest of coordinator, key, nonce and provider.
    mapping(bytes32 claim => uint256 amount) public paidFor;

    event Bonded(uint32 indexed coordinator, address indexed from, uint256 amount);
    event UnbondingRequested(uint32 indexed coordinator, uint256 amount, uint256 unlockAt);
    event Withdrawn(uint32 indexed coordinator, address indexed operator, uint256 amount);
    event Recorded(uint160 history);
    event Claimed(uint32 indexed coordinator, uint32 indexed provider, address indexed key, uint32 nonce, uint256 paid);

    error UnknownCoordinator(uint32 coordinator);
    error NotOperator(uint32 coordinator, address caller);
    error TokenTooLarge(uint256 held);
    error BondTooLow(uint32 coordinator, uint256 bonded, uint256 wanted);
    error NothingUnbonding(uint32 coordinator);
    error StillLocked(uint32 coordinator, uint256 unlockAt);
    error NoBond(uint32 coordinator);
    error NonceUsed(uint32 nonce);
    error Expired(uint256 deadline);
    error Funded(uint256 balance, uint256 total);
    error CapExceeded(uint256 total, uint256 cap);
    error NothingDue(uint256 due, uint256 paid);
    error NoStatementAt(uint256 offset);
    error NotSettled(uint256 offset);
    error NotRecorded(uint160 history);

    constructor(Ledger ledger_, uint32 commons_) {
        (ledger, token, commons) = (ledger_, ledger_.token(), commons_);
        token.forceApprove(address(ledger_), type(uint256).max);
    }

    // ------------------------------------------------------------------------------------------------- bonds

    /// @notice Add the caller's tokens to a coordinator's bond. Bonds what arrives.
    function bond(uint32 coordinator, uint256 amount) external nonReentrant {
        if (ledger.operatorOf(coordinator) == address(0)) revert UnknownCoordinator(coordinator);
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 held = token.balanceOf(address(this));
        // All bonds are held, so while that is below 2^96, so is every sum of them.
        if (held > type(uint96).max) revert TokenTooLarge(held);
        bonds[coordinator].bonded += uint96(held - before);
        emit Bonded(coordinator, msg.sender, held - before);
    }

    /// @notice Start to take bond out, as the coordinator's operator. It can be claimed from until withdrawn; what was
    /// unbonding before waits anew.
    function requestUnbonding(uint32 coordinator, uint96 amount) external {
        if (ledger.operatorOf(coordinator) != msg.sender) revert NotOperator(coordinator, msg.sender);
        Bond storage held = bonds[coordinator];
        if (amount > held.bonded) revert BondTooLow(coordinator, held.bonded, amount);
        held.bonded -= amount;
        held.unbonding += amount;
        held.unlockAt = uint40(block.timestamp + UNBONDING_DELAY);
        emit UnbondingRequested(coordinator, amount, held.unlockAt);
    }

    /// @notice Pay what has finished unbonding to the coordinator's operator.
    function withdraw(uint32 coordinator) external nonReentrant returns (uint256 amount) {
        Bond storage held = bonds[coordinator];
        amount = held.unbonding;
        if (amount == 0) revert NothingUnbonding(coordinator);
        if (block.timestamp < held.unlockAt) revert StillLocked(coordinator, held.unlockAt);
        (held.unbonding, held.unlockAt) = (0, 0);
        address operator = ledger.operatorOf(coordinator);
        emit Withdrawn(coordinator, operator, amount);
        token.safeTransfer(operator, amount);
    }

    // ------------------------------------------------------------------------------------------------ claims

    /// @notice Keep the Ledger's present history digest, so that proofs can end in it.
    function record() external {
        uint160 history = ledger.history();
        recorded[history] = true;
        emit Recorded(history);
    }

    /// @notice Over-commitment: accepted work whose statement the balance does not cover. Pays the reservation's provider
    /// what the statement gives it, at most what was accepted.
    /// @param data the renter's statement in wire form, not expired, its nonce unused.
    function claimUnfunded(bytes calldata data, LedgerTypes.Reservation calldata reservation)
        external
        nonReentrant
        returns (uint256 paid)
    {
        (uint256 from, uint256 to) = batchSpan(data);
        Statement statement = readStatement(from, to);
        address key = statement.signer(ledger.domainSeparator());
        uint32 nonce = uint32(statement.nonce());
        uint32 coordinator = ledger.requireReserved(key, nonce, reservation);
        if (block.timestamp > statement.deadline()) revert Expired(statement.deadline());
        if (ledger.nonceUsed(key, nonce)) revert NonceUsed(nonce);
        uint256 total = statement.total();
        if (total > reservation.cap) revert CapExceeded(total, reservation.cap);
        uint256 balance = ledger.account(key).balance;
        if (total <= balance) revert Funded(balance, total);
        uint256 given = statement.givenTo(reservation.provider);
        uint256 due = given < reservation.accepted ? given : reservation.accepted;
        return _pay(coordinator, key, nonce, reservation.provider, due);
    }

    /// @notice Under-settlement: a statement was settled that gives the provider less than the coordinator had accepted.
    /// Pays the difference.
    function claimUnderpaid(Settled calldata settled, LedgerTypes.Reservation calldata reservation)
        external
        nonReentrant
        returns (uint256 paid)
    {
        Statement statement = _statementAt(settled.batch, settled.offset);
        address key = statement.signer(ledger.domainSeparator());
        uint32 nonce = uint32(statement.nonce());
        uint32 coordinator = ledger.requireReserved(key, nonce, reservation);
        _requireSettled(settled, coordinator);
        uint256 given = statement.givenTo(reservation.provider);
        if (given >= reservation.accepted) revert NothingDue(reservation.accepted, given);
        return _pay(coordinator, key, nonce, reservation.provider, reservation.accepted - given);
    }

    /// The statement that starts at an offset, which must be where one of the batch's statements starts: bytes inside one
    /// could be made to look like another.
    function _statementAt(bytes calldata batch, uint256 offset) private pure returns (Statement statement) {
        (uint256 cursor, uint256 to) = batchSpan(batch);
        uint256 wanted = cursor + offset;
        for (; cursor < to; cursor = statement.end()) {
            statement = readStatement(cursor, to);
            if (cursor == wanted) return statement;
        }
        revert NoStatementAt(offset);
    }

    /// Whether the batch is in the history and the statement was not skipped.
    function _requireSettled(Settled calldata settled, uint32 coordinator) private view {
        bytes32 skips = 0;
        for (uint256 i = 0; i < settled.skips.length; ++i) {
            if (settled.skips[i] == settled.offset) revert NotSettled(settled.offset);
            skips = withSkip(skips, settled.skips[i]);
        }
        bytes32 entry = historyEntry(coordinator, keccak256(settled.batch), skips);
        uint160 history = nextHistory(settled.before, entry);
        for (uint256 i = 0; i < settled.later.length; ++i) {
            history = nextHistory(history, settled.later[i]);
        }
        if (!recorded[history]) revert NotRecorded(history);
    }

    /// Takes twice what the provider is still due, or what bond there is: half for the provider, half for the commons.
    function _pay(uint32 coordinator, address key, uint32 nonce, uint32 provider, uint256 due)
        private
        returns (uint256 paid)
    {
        bytes32 claim = keccak256(abi.encode(coordinator, key, nonce, provider));
        if (due <= paidFor[claim]) revert NothingDue(due, paidFor[claim]);
        Bond storage held = bonds[coordinator];
        (uint256 bonded, uint256 unbonding) = (held.bonded, held.unbonding);
        paid = due - paidFor[claim];
        if (2 * paid > bonded + unbonding) paid = (bonded + unbonding) / 2;
        if (paid == 0) revert NoBond(coordinator);
        paidFor[claim] += paid;
        uint256 fromBond = 2 * paid < bonded ? 2 * paid : bonded;
        held.bonded = uint96(bonded - fromBond);
        held.unbonding = uint96(unbonding - (2 * paid - fromBond));
        emit Claimed(coordinator, provider, key, nonce, paid);
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](2);
        awards[0] = LedgerTypes.Award(address(0), provider, uint96(paid));
        awards[1] = LedgerTypes.Award(address(0), commons, uint96(paid));
        ledger.award(awards);
    }
}
