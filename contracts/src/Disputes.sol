// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {DisputeTypes} from "./DisputeTypes.sol";
import {Ledger} from "./Ledger.sol";
import {LedgerTypes} from "./LedgerTypes.sol";
import {Registry} from "./Registry.sol";

/// @title Whether a provider's work was what it claimed, where a verifier says it was not.
/// @notice A challenger posts a bond and names the stake that the fault should cost. The provider concedes, answers with
/// a bond of its own, or loses by silence. Referees drawn by a later block's hash rule: two of three, else four of five,
/// else the arbiter; when nobody rules, both bonds go back. Only stake is ever at risk here, never a renter's balance,
/// and no part of it in two disputes.
/// Everything is paid as credit in the Ledger, so no receiver can hold a dispute up.
///
/// Slashed stake: half to the renter, 15 % to the challenger, 15 % to the referees who ruled so, the rest to the commons.
/// A lost bond: half to those referees, the rest to the winner. So who slashes itself, to leave before its unbonding is
/// over, loses 35 %.
contract Disputes is DisputeTypes, AccessManaged, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint256 public constant ANSWER_TIME = 24 hours;
    uint256 public constant RULING_TIME = 48 hours;
    uint256 public constant ARBITER_TIME = 72 hours;
    uint256 public constant RENTER_BPS = 5000;
    uint256 public constant CHALLENGER_BPS = 1500;
    uint256 public constant REFEREES_BPS = 1500;
    uint256 public constant BOND_BPS = 1000; // of the stake in question
    uint256 private constant BPS = 10_000;
    /// Draws for one seat before it stays empty.
    uint256 private constant MAX_TRIES = 32;
    /// How long the chain remembers a block's hash.
    uint256 private constant HASH_BLOCKS = 256;

    Ledger public immutable ledger;
    Registry public immutable registry;
    IERC20 public immutable token;
    uint96 public immutable leastBond;
    /// The payee of the commons.
    uint32 public immutable commons;

    /// Whether new disputes are stopped.
    bool public paused;
    uint256 public count;

    mapping(uint256 id => Dispute) private _disputes; // from 1
    /// A provider answers to a challenger for the same work once.
    mapping(bytes32 subject => bool) private _known;

    constructor(Registry registry_, uint32 commons_, uint96 leastBond_, address authority) AccessManaged(authority) {
        (registry, ledger, token) = (registry_, registry_.ledger(), registry_.token());
        (commons, leastBond) = (commons_, leastBond_);
        token.forceApprove(address(ledger), type(uint256).max);
    }

    // --------------------------------------------------------------------------------------------- the parties

    /// @notice Open a dispute, as the challenger's payout address, which pays the bond. Keeps the provider's stake.
    /// @param renter account that gets its part of the stake; it must be open.
    /// @param amount of stake that the fault should cost.
    /// @param evidence digest of all that shows the fault.
    /// @param work what is in question. Silence costs the stake, so nobody is accused by strangers who never had work
    /// from it.
    function open(
        uint32 challenger,
        uint32 provider,
        address renter,
        uint96 amount,
        bytes32 evidence,
        Work calldata work
    ) external nonReentrant returns (uint256 id) {
        if (paused) revert Paused();
        _requireWork(provider, work);
        _requirePayout(challenger);
        if (challenger == provider || _payout(provider) == msg.sender) revert OwnProvider(provider);
        if (ledger.account(renter).owner == address(0)) revert NotOpen(renter);
        if (amount == 0) revert NothingAtStake();
        bytes32 subject = keccak256(abi.encode(challenger, provider, work.record));
        if (_known[subject]) revert AlreadyDisputed(provider, work.record);
        _known[subject] = true;
        id = ++count;
        Dispute storage dispute = _disputes[id];
        uint256 bond = amount * BOND_BPS / BPS;
        dispute.bond = bond < leastBond ? leastBond : uint96(bond);
        (dispute.challenger, dispute.provider, dispute.renter) = (challenger, provider, renter);
        (dispute.amount, dispute.evidence) = (amount, evidence);
        _enter(id, dispute, Phase.Answering, ANSWER_TIME);
        emit Opened(id, provider, challenger, renter, amount, evidence);
        registry.lock(provider, amount);
        _takeBond(dispute.bond);
    }

    /// @notice Admit the fault, as the provider or its machines, before it has answered.
    function concede(uint256 id) external nonReentrant {
        Dispute storage dispute = _in(id, Phase.Answering);
        _requireParty(dispute.provider);
        _close(id, dispute, Outcome.Conceded);
    }

    /// @notice Deny the fault, as the provider or its machines, with a bond as large as the challenger's.
    /// @param evidence digest of the provider's step digests.
    function answer(uint256 id, bytes32 evidence) external nonReentrant {
        Dispute storage dispute = _in(id, Phase.Answering);
        _requireParty(dispute.provider);
        if (block.timestamp > dispute.deadline) revert TooLate(dispute.deadline);
        dispute.answered = true;
        emit Answered(id, evidence);
        _toReferees(id, dispute, 3);
        _takeBond(dispute.bond);
    }

    // --------------------------------------------------------------------------------------------- the judges

    /// @notice Draw the referees, by the hash of the block that was named for it. Anybody may call it, from the block
    /// after that one on; if nobody does while the chain remembers the hash, another block is named.
    function draw(uint256 id) external {
        Dispute storage dispute = _in(id, Phase.Ruling);
        if (dispute.referees.length != 0) revert AlreadyDrawn(id);
        if (block.number <= dispute.drawBlock) revert TooEarly(dispute.drawBlock);
        if (block.number > dispute.drawBlock + HASH_BLOCKS) {
            dispute.drawBlock = uint40(block.number + 1);
            emit DrawMoved(id, dispute.drawBlock);
            return;
        }
        _draw(dispute, blockhash(dispute.drawBlock));
        emit Drawn(id, dispute.referees);
        if (dispute.referees.length < _quorum(dispute.seats)) _toArbiter(id, dispute);
    }

    /// @notice Rule, as a drawn referee's payout address; once each. A quorum ends the dispute.
    function rule(uint256 id, uint32 referee, bool guilty) external nonReentrant {
        Dispute storage dispute = _in(id, Phase.Ruling);
        _requirePayout(referee);
        if (block.timestamp > dispute.deadline) revert TooLate(dispute.deadline);
        (uint32[] storage votes, uint32[] storage others) =
            guilty ? (dispute.guilty, dispute.clear) : (dispute.clear, dispute.guilty);
        if (!_holds(dispute.referees, referee) || _holds(votes, referee) || _holds(others, referee)) {
            revert NotToRule(id, referee);
        }
        votes.push(referee);
        emit Ruled(id, referee, guilty);
        if (votes.length >= _quorum(dispute.seats)) {
            _close(id, dispute, guilty ? Outcome.FoundGuilty : Outcome.FoundClear);
        }
    }

    /// @notice Rule, as the arbiter, where the referees could not.
    function arbitrate(uint256 id, bool guilty) external restricted nonReentrant {
        Dispute storage dispute = _in(id, Phase.Arbitrating);
        if (block.timestamp > dispute.deadline) revert TooLate(dispute.deadline);
        (dispute.guilty, dispute.clear) = (new uint32[](0), new uint32[](0));
        _close(id, dispute, guilty ? Outcome.FoundGuilty : Outcome.FoundClear);
    }

    // --------------------------------------------------------------------------------------------- what silence does

    /// @notice Go on where somebody's time is over; whoever calls. A provider that did not answer has lost. Three
    /// referees who did not decide give way to five, drawn from all again, so that the same ones may be among them, and
    /// these to the arbiter; an arbiter who did not rule ends the dispute.
    function advance(uint256 id) external nonReentrant {
        Dispute storage dispute = _disputes[id];
        if (dispute.phase == Phase.None || dispute.phase == Phase.Closed) revert WrongPhase(id, dispute.phase);
        if (block.timestamp <= dispute.deadline) revert TooEarly(dispute.deadline);
        if (dispute.phase == Phase.Answering) _close(id, dispute, Outcome.Unanswered);
        else if (dispute.phase == Phase.Arbitrating) _close(id, dispute, Outcome.Undecided);
        else if (dispute.seats == 3) _toReferees(id, dispute, 5);
        else _toArbiter(id, dispute);
    }

    // --------------------------------------------------------------------------------------------- guard and views

    /// @notice Stop or resume new disputes. Open ones go on.
    function setPaused(bool paused_) external restricted {
        paused = paused_;
        emit PausedSet(paused_);
    }

    function disputeOf(uint256 id) external view returns (Dispute memory) {
        return _disputes[id];
    }

    // --------------------------------------------------------------------------------------------- phases

    function _in(uint256 id, Phase phase) private view returns (Dispute storage dispute) {
        dispute = _disputes[id];
        if (dispute.phase != phase) revert WrongPhase(id, dispute.phase);
    }

    function _enter(uint256 id, Dispute storage dispute, Phase phase, uint256 time) private {
        dispute.phase = phase;
        dispute.deadline = uint40(block.timestamp + time);
        emit Entered(id, phase, dispute.deadline);
    }

    function _toReferees(uint256 id, Dispute storage dispute, uint8 seats) private {
        (dispute.referees, dispute.guilty, dispute.clear) = (new uint32[](0), new uint32[](0), new uint32[](0));
        (dispute.seats, dispute.drawBlock) = (seats, uint40(block.number + 1));
        dispute.candidates = uint32(registry.seatCount());
        _enter(id, dispute, Phase.Ruling, RULING_TIME);
    }

    function _toArbiter(uint256 id, Dispute storage dispute) private {
        _enter(id, dispute, Phase.Arbitrating, ARBITER_TIME);
    }

    /// Draws distinct active referees, each of those who were enlisted before the block was named with equal chance: what
    /// anybody does after its hash is known moves nobody else's seat. Those who gain by an outcome may not judge, nor two
    /// who are paid at one address.
    function _draw(Dispute storage dispute, bytes32 seed) private {
        address[] memory taken = new address[](dispute.seats + 3);
        (taken[0], taken[1]) = (_payout(dispute.challenger), _payout(dispute.provider));
        taken[2] = ledger.account(dispute.renter).owner;
        uint256 known = 3;
        for (uint256 seat = 0; seat < dispute.seats; ++seat) {
            for (uint256 i = 0; i < MAX_TRIES && dispute.candidates != 0; ++i) {
                // A block's proposer can withhold it, for its reward; that is all a draw can cost here.
                // slither-disable-next-line weak-prng
                uint256 position = uint256(keccak256(abi.encode(seed, seat, i))) % dispute.candidates;
                (uint32 referee, uint40 since) = registry.seats(position);
                if (since >= dispute.drawBlock || !registry.isActive(referee)) continue;
                address payout = _payout(referee);
                if (_holds(taken, payout)) continue;
                taken[known++] = payout;
                dispute.referees.push(referee);
                break;
            }
        }
    }

    /// Two thirds, rounded up.
    function _quorum(uint256 seats) private pure returns (uint256) {
        return (2 * seats + 2) / 3;
    }

    // --------------------------------------------------------------------------------------------- money

    function _takeBond(uint256 bond) private {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), bond);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != bond) revert TransferFellShort(bond, received);
    }

    function _close(uint256 id, Dispute storage dispute, Outcome outcome) private {
        dispute.phase = Phase.Closed;
        dispute.outcome = outcome;
        registry.unlock(dispute.provider, dispute.amount);
        uint256 slashed = 0;
        if (outcome == Outcome.Undecided) {
            _payBonds(dispute.challenger, dispute.bond, 0, new uint32[](0));
            _payBonds(dispute.provider, dispute.bond, 0, new uint32[](0));
        } else if (outcome == Outcome.FoundClear) {
            _payBonds(dispute.provider, dispute.bond, dispute.bond, dispute.clear);
        } else {
            _payBonds(dispute.challenger, dispute.bond, dispute.answered ? dispute.bond : 0, dispute.guilty);
            slashed = _slash(dispute);
        }
        emit Closed(id, outcome, slashed);
    }

    /// Gives a party its own bond and what the judges leave of the lost one.
    function _payBonds(uint32 party, uint256 own, uint256 lost, uint32[] memory judges) private {
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](1 + judges.length);
        uint256 toJudges = _toEach(awards, 1, judges, lost / 2);
        awards[0] = LedgerTypes.Award(address(0), party, uint96(own + lost - toJudges));
        ledger.award(awards);
    }

    /// Takes the stake in question, or what is left of it, and divides it.
    function _slash(Dispute storage dispute) private returns (uint256 total) {
        total = registry.stakeOf(dispute.provider);
        if (total > dispute.amount) total = dispute.amount;
        uint32[] memory judges = dispute.guilty;
        LedgerTypes.Award[] memory awards = new LedgerTypes.Award[](3 + judges.length);
        uint256 toRenter = total * RENTER_BPS / BPS;
        uint256 toChallenger = total * CHALLENGER_BPS / BPS;
        uint256 toJudges = _toEach(awards, 3, judges, total * REFEREES_BPS / BPS);
        awards[0] = LedgerTypes.Award(dispute.renter, 0, uint96(toRenter));
        awards[1] = LedgerTypes.Award(address(0), dispute.challenger, uint96(toChallenger));
        awards[2] = LedgerTypes.Award(address(0), commons, uint96(total - toRenter - toChallenger - toJudges));
        registry.slash(dispute.provider, awards, dispute.evidence);
    }

    /// Writes an equal part of an amount for each judge into the awards from a position on; gives the parts' sum.
    function _toEach(LedgerTypes.Award[] memory awards, uint256 from, uint32[] memory judges, uint256 amount)
        private
        pure
        returns (uint256 sum)
    {
        if (judges.length == 0) return 0;
        uint256 each = amount / judges.length;
        for (uint256 i = 0; i < judges.length; ++i) {
            awards[from + i] = LedgerTypes.Award(address(0), judges[i], uint96(each));
        }
        // What is really given: the rounded part, so many times.
        // slither-disable-next-line divide-before-multiply
        return each * judges.length;
    }

    // --------------------------------------------------------------------------------------------- who is who

    function _payout(uint32 payee) private view returns (address payout) {
        (payout,) = ledger.payee(payee);
    }

    function _requirePayout(uint32 payee) private view {
        if (_payout(payee) != msg.sender) revert NotPayout(payee, msg.sender);
    }

    /// The key of its machines acts for a provider too: the payout address may be one that nobody watches.
    function _requireParty(uint32 provider) private view {
        (address key,) = registry.nodes(provider);
        if (key != msg.sender) _requirePayout(provider);
    }

    function _requireWork(uint32 provider, Work calldata work) private view {
        bytes32 digest = MessageHashUtils.toTypedDataHash(registry.domainSeparator(), work.record);
        address signer = ECDSA.recover(digest, work.signature);
        if (!registry.signsFor(provider, signer)) revert NotItsWork(provider, work.record);
    }

    function _holds(uint32[] storage list, uint32 wanted) private view returns (bool) {
        for (uint256 i = 0; i < list.length; ++i) {
            if (list[i] == wanted) return true;
        }
        return false;
    }

    function _holds(address[] memory list, address wanted) private pure returns (bool) {
        for (uint256 i = 0; i < list.length; ++i) {
            if (list[i] == wanted) return true;
        }
        return false;
    }
}
