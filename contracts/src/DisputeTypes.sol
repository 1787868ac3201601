// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What Disputes takes, gives, reports and refuses.
interface DisputeTypes {
    enum Phase {
        None,
        Answering, // the provider may concede or answer
        Ruling, // referees are drawn and rule
        Arbitrating,
        Closed
    }

    enum Outcome {
        None,
        Conceded,
        Unanswered,
        FoundGuilty,
        FoundClear,
        Undecided
    }

    struct Dispute {
        uint32 provider;
        uint32 challenger;
        Phase phase;
        Outcome outcome;
        bool answered; // the provider has posted a bond, too
        uint8 seats; // referees to draw: 3, later 5
        uint40 deadline; // of the phase
        uint40 drawBlock; // its hash draws the referees
        uint32 candidates; // seats to draw from
        // slot 1
        uint96 amount; // of stake that the fault should cost
        uint96 bond; // of each party
        // slot 2
        address renter;
        // slot 3
        bytes32 evidence;
        // slots 4 to 6
        uint32[] referees;
        uint32[] guilty; // who ruled so
        uint32[] clear;
    }

    /// What the provider's machine claimed.
    struct Work {
        bytes32 record; // EIP-712 struct hash of a segment's record, in the Registry's domain
        bytes signature; // over it by a key of the provider's machines, 65 bytes r || s || v
    }

    event Opened(
        uint256 indexed id,
        uint32 indexed provider,
        uint32 indexed challenger,
        address renter,
        uint256 amount,
        bytes32 evidence
    );
    event Entered(uint256 indexed id, Phase phase, uint256 deadline);
    event Answered(uint256 indexed id, bytes32 evidence);
    event DrawMoved(uint256 indexed id, uint256 drawBlock);
    event Drawn(uint256 indexed id, uint32[] referees);
    event Ruled(uint256 indexed id, uint32 indexed referee, bool guilty);
    event Closed(uint256 indexed id, Outcome outcome, uint256 slashed);
    event PausedSet(bool paused);

    error Paused();
    error NotPayout(uint32 payee, address caller);
    error OwnProvider(uint32 provider);
    error NotOpen(address renter);
    error NothingAtStake();
    error NotItsWork(uint32 provider, bytes32 record);
    error AlreadyDisputed(uint32 provider, bytes32 record);
    error AlreadyDrawn(uint256 id);
    error NotToRule(uint256 id, uint32 referee);
    error WrongPhase(uint256 id, Phase phase);
    error TooEarly(uint256 until);
    error TooLate(uint256 deadline);
    error TransferFellShort(uint256 expected, uint256 received);
}
