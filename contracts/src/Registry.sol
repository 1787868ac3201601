// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {Ledger} from "./Ledger.sol";
import {LedgerTypes, totalOf} from "./LedgerTypes.sol";

/// @title Stake and keys of providers, verifiers and coordinators, and the roots that are anchored before anybody knows
/// what will be checked.
/// @notice Whoever stakes is a payee of the Ledger and acts here from that payee's payout address. Stake leaves by its
/// owner's unbonding, after a delay in which it can still be slashed, or by a slash, whose awards go into the Ledger:
/// so no receiver can block one. While a dispute is open, none leaves to its owner. Same assumptions about the token as
/// the Ledger's.
///
/// EIP-712: nodes sign their records, receipts and greetings in this contract's domain.
contract Registry is AccessManaged, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    struct Stake {
        uint96 bonded;
        uint96 unbonding;
        uint40 unlockAt; // of what is unbonding
        // slot 1
        uint96 locked; // what open disputes are about; may be more than is left after a slash
    }

    struct Node {
        address key; // signs for the provider's machines
        bytes32 metadata; // SHA-256 of the provider's public description
    }

    struct Seat {
        uint32 provider; // 0: nobody's
        uint40 since; // block
    }

    uint256 public constant UNBONDING_DELAY = 14 days;

    Ledger public immutable ledger;
    IERC20 public immutable token;

    /// Below it a provider is not active.
    uint96 public minimumBond;
    /// Whether new bonds are stopped.
    bool public paused;

    mapping(uint32 provider => Stake) public stakes;
    mapping(uint32 provider => Node) public nodes;
    /// Until when a provider answers for what a former key of its machines signed.
    mapping(uint32 provider => mapping(address key => uint256 time)) public formerUntil;

    /// Who may be drawn to judge disputes: one seat for each, so that stake, in units of the minimum bond, is what counts.
    /// A seat keeps its position; one that was left is taken by the next who enlists.
    Seat[] public seats;
    uint256[] private _freeSeats;
    mapping(uint32 provider => uint256) private _seatOf; // position in seats + 1

    event Bonded(uint32 indexed provider, address indexed from, uint256 amount);
    event UnbondingRequested(uint32 indexed provider, uint256 amount, uint256 unlockAt);
    event Withdrawn(uint32 indexed provider, address indexed payout, uint256 amount);
    event NodeSet(uint32 indexed provider, address indexed key, bytes32 metadata);
    event Locked(uint32 indexed provider, uint256 amount);
    event RefereeSet(uint32 indexed provider, bool enlisted);
    event Slashed(uint32 indexed provider, uint256 amount, bytes32 indexed evidence);
    event Anchored(uint32 indexed coordinator, bytes32 indexed root);
    event MinimumBondSet(uint96 amount);
    event PausedSet(bool paused);

    error Paused();
    error NotProvider(uint32 provider, address caller);
    error NotOperator(uint32 coordinator, address caller);
    error UnknownProvider(uint32 provider);
    error BondTooLow(uint32 provider, uint256 bonded, uint256 wanted);
    error NothingUnbonding(uint32 provider);
    error StillLocked(uint32 provider, uint256 unlockAt);
    error StakeTooLow(uint32 provider, uint256 stake, uint256 wanted);
    error DisputesOpen(uint32 provider, uint256 locked);
    error NotActive(uint32 provider);
    error TokenTooLarge(uint256 held);

    constructor(Ledger ledger_, uint96 minimumBond_, address authority)
        AccessManaged(authority)
        EIP712("Gristmill Registry", "1")
    {
        ledger = ledger_;
        token = ledger_.token();
        minimumBond = minimumBond_;
    }

    // -------------------------------------------------------------------------------------------------- stake

    /// @notice Add the caller's tokens to a provider's bond. Bonds what arrives.
    function bond(uint32 provider, uint256 amount) external nonReentrant {
        if (paused) revert Paused();
        if (_payout(provider) == address(0)) revert UnknownProvider(provider);
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 held = token.balanceOf(address(this));
        // All stake is held, so while that is below 2^96, so is every sum of it.
        if (held > type(uint96).max) revert TokenTooLarge(held);
        stakes[provider].bonded += uint96(held - before);
        emit Bonded(provider, msg.sender, held - before);
    }

    /// @notice Start to take bond out, as the provider. It stays slashable until withdrawn; what was unbonding before
    /// waits anew.
    function requestUnbonding(uint32 provider, uint96 amount) external {
        _requireProvider(provider);
        Stake storage stake = stakes[provider];
        if (amount > stake.bonded) revert BondTooLow(provider, stake.bonded, amount);
        stake.bonded -= amount;
        stake.unbonding += amount;
        stake.unlockAt = uint40(block.timestamp + UNBONDING_DELAY);
        emit UnbondingRequested(provider, amount, stake.unlockAt);
        if (!isActive(provider)) _unseat(provider);
    }

    /// @notice Pay what has finished unbonding to the provider's payout address.
    function withdraw(uint32 provider) external nonReentrant returns (uint256 amount) {
        Stake storage stake = stakes[provider];
        amount = stake.unbonding;
        if (amount == 0) revert NothingUnbonding(provider);
        if (block.timestamp < stake.unlockAt) revert StillLocked(provider, stake.unlockAt);
        if (stake.locked != 0) revert DisputesOpen(provider, stake.locked);
        (stake.unbonding, stake.unlockAt) = (0, 0);
        address payout = _payout(provider);
        emit Withdrawn(provider, payout, amount);
        token.safeTransfer(payout, amount);
    }

    /// @notice Take the sum of the awards from a provider's stake, bonded first, and hand them out through the Ledger.
    /// @param evidence digest of what proves the fault.
    function slash(uint32 provider, LedgerTypes.Award[] calldata awards, bytes32 evidence)
        external
        restricted
        nonReentrant
    {
        uint256 total = totalOf(awards);
        Stake storage stake = stakes[provider];
        (uint256 bonded, uint256 unbonding) = (stake.bonded, stake.unbonding);
        if (total > bonded + unbonding) revert StakeTooLow(provider, bonded + unbonding, total);
        uint256 fromBond = total < bonded ? total : bonded;
        stake.bonded = uint96(bonded - fromBond);
        stake.unbonding = uint96(unbonding - (total - fromBond));
        emit Slashed(provider, total, evidence);
        if (!isActive(provider)) _unseat(provider);
        token.forceApprove(address(ledger), total);
        ledger.award(awards);
    }

    /// @notice Keep all of a provider's stake from leaving while a part of it is in dispute. No part is in two disputes.
    function lock(uint32 provider, uint96 amount) external restricted {
        Stake storage stake = stakes[provider];
        uint256 free = stakeOf(provider);
        free = free > stake.locked ? free - stake.locked : 0;
        if (amount > free) revert StakeTooLow(provider, free, amount);
        stake.locked += amount;
        emit Locked(provider, stake.locked);
    }

    function unlock(uint32 provider, uint96 amount) external restricted {
        stakes[provider].locked -= amount;
        emit Locked(provider, stakes[provider].locked);
    }

    /// @notice What can be slashed from a provider.
    function stakeOf(uint32 provider) public view returns (uint256) {
        return uint256(stakes[provider].bonded) + stakes[provider].unbonding;
    }

    // -------------------------------------------------------------------------------------------------- nodes

    /// @notice Name the key that signs for a provider's machines, as the provider. It answers for its former key's
    /// signatures as long as its stake could not leave.
    function setNode(uint32 provider, address key, bytes32 metadata) external {
        _requireProvider(provider);
        formerUntil[provider][nodes[provider].key] = block.timestamp + UNBONDING_DELAY;
        nodes[provider] = Node(key, metadata);
        emit NodeSet(provider, key, metadata);
        if (!isActive(provider)) _unseat(provider);
    }

    /// @notice Whether a provider answers for what a key signed.
    function signsFor(uint32 provider, address key) external view returns (bool) {
        return key != address(0) && (nodes[provider].key == key || block.timestamp <= formerUntil[provider][key]);
    }

    /// @notice The EIP-712 domain of what nodes sign.
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @notice Whether a provider has a node key and at least the minimum bond.
    function isActive(uint32 provider) public view returns (bool) {
        return nodes[provider].key != address(0) && stakes[provider].bonded >= minimumBond;
    }

    /// @notice Offer to judge disputes, as an active provider.
    function enlist(uint32 provider) external {
        _requireProvider(provider);
        if (!isActive(provider)) revert NotActive(provider);
        if (_seatOf[provider] != 0) return;
        uint256 position = seats.length;
        if (_freeSeats.length == 0) {
            seats.push();
        } else {
            position = _freeSeats[_freeSeats.length - 1];
            _freeSeats.pop();
        }
        seats[position] = Seat(provider, uint40(block.number));
        _seatOf[provider] = position + 1;
        emit RefereeSet(provider, true);
    }

    /// @notice Leave the referees. One whose bond falls below the minimum, or who has no node key, leaves by that.
    function resign(uint32 provider) external {
        _requireProvider(provider);
        _unseat(provider);
    }

    function seatCount() external view returns (uint256) {
        return seats.length;
    }

    // ------------------------------------------------------------------------------------------------ anchors

    /// @notice Publish a window's root, as the coordinator's operator. The first block after the one that holds a root's
    /// first anchor is its beacon; anchoring it again changes nothing.
    function anchor(uint32 coordinator, bytes32 root) external {
        if (ledger.operatorOf(coordinator) != msg.sender) revert NotOperator(coordinator, msg.sender);
        emit Anchored(coordinator, root);
    }

    // -------------------------------------------------------------------------------------------------- guard

    function setMinimumBond(uint96 amount) external restricted {
        minimumBond = amount;
        emit MinimumBondSet(amount);
    }

    /// @notice Stop or resume new bonds. Unbonding and withdrawing can't be stopped.
    function setPaused(bool paused_) external restricted {
        paused = paused_;
        emit PausedSet(paused_);
    }

    /// Frees a referee's seat, if it has one.
    function _unseat(uint32 provider) private {
        uint256 seat = _seatOf[provider];
        if (seat == 0) return;
        delete seats[seat - 1];
        delete _seatOf[provider];
        _freeSeats.push(seat - 1);
        emit RefereeSet(provider, false);
    }

    function _requireProvider(uint32 provider) private view {
        if (_payout(provider) != msg.sender) revert NotProvider(provider, msg.sender);
    }

    function _payout(uint32 provider) private view returns (address payout) {
        (payout,) = ledger.payee(provider);
    }
}
