// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What the Ledger takes, gives, reports and refuses.
interface LedgerTypes {
    /// Why a statement of a batch was not paid.
    enum Skip {
        None,
        NoAccount, // whoever signed, if anybody, has no account at this coordinator
        Expired,
        NonceUsed,
        UnknownRecipe,
        Empty, // it pays nothing
        Unfunded // the balance is too low; the nonce stays unused
    }

    struct Owner {
        address owner;
        uint96 pending; // asked to be withdrawn
        // slot 1
        uint40 unlockAt; // 0: no withdrawal is pending
        uint32 requests; // so far; the next signed request must carry this number
    }

    struct Account {
        uint96 balance;
        uint96 pending;
        uint40 unlockAt;
        uint32 coordinator;
        uint32 requests;
        address owner;
    }

    /// A coordinator's promise to a provider about one nonce of one account; both are named by the statement that it goes
    /// with, and the account names the coordinator.
    struct Reservation {
        uint32 provider; // payee that holds the lease
        uint96 cap; // a balance backs statements under the nonce up to this total
        uint96 accepted; // work for which a statement paying the provider this much has been released to it
        uint40 forcedFrom; // when others than the coordinator may settle, always after the job
        bytes32 r; // the operator's signature, as in EIP-2098
        bytes32 vs;
    }

    /// Money for an account, or where that is zero, for a payee.
    struct Award {
        address account;
        uint32 payee;
        uint96 amount;
    }

    event AccountOpened(address indexed key, address indexed owner, uint32 indexed coordinator);
    event Deposited(address indexed key, address indexed from, uint256 amount);
    event WithdrawalRequested(address indexed key, uint256 amount, uint256 unlockAt);
    event Withdrawn(address indexed key, address indexed owner, uint256 amount);
    event PayeeAdded(uint32 indexed id, address indexed payout);
    event PayoutChanged(uint32 indexed id, address indexed payout);
    event PayeeCredited(uint32 indexed id, address indexed from, uint256 amount);
    event Collected(uint32 indexed id, address indexed payout, uint256 amount);
    event RecipeAdded(uint32 indexed id, uint32 indexed author, uint16 royaltyBps, uint16 verifierBps);
    event CoordinatorAdded(uint32 indexed id, address indexed operator);
    event OperatorChanged(uint32 indexed id, address indexed operator);
    event StatementSettled(address indexed key, uint256 indexed nonce, uint256 total);
    event StatementSkipped(address indexed key, uint256 indexed nonce, Skip why);
    event PausedSet(bool paused);

    error ZeroAddress();
    error Paused();
    error AlreadyOpen(address key, address owner);
    error NotOpen(address key);
    error NotOwner(address key, address caller);
    error NotPayout(uint32 payee, address caller);
    error NotOperator(uint256 coordinator, address caller);
    error NotSignedBy(address expected);
    error UnknownCoordinator(uint32 id);
    error UnknownPayee(uint32 id);
    error RateTooHigh(uint256 bps, uint256 most);
    error TokenTooLarge(uint256 held);
    error TransferFellShort(uint256 expected, uint256 received);
    error NothingPending(address key);
    error StillLocked(address key, uint256 unlockAt);
    error TooEarly(uint256 from);
    error StatementRejected(Skip why);
    error CapExceeded(uint256 total, uint256 cap);
    error LessThanAccepted(uint256 given, uint256 accepted);
    error MoreThanOneStatement(uint256 surplusBytes);
}

function totalOf(LedgerTypes.Award[] calldata awards) pure returns (uint256 total) {
    for (uint256 i = 0; i < awards.length; ++i) {
        total += awards[i].amount;
    }
}
