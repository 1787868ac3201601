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

    /// An EIP-3009 authorization; its nonce is keccak256(abi.encode(key, salt)), so it pays into one account only.
    struct Authorization {
        address from;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 salt;
        uint8 v;
        bytes32 r;
        bytes32 s;
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
    event BatchSettled(uint32 indexed coordinator, uint256 paid, uint256 skipped);
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
    error StatementRejected(Skip why);
    error CapExceeded(uint256 total, uint256 cap);
    error MoreThanOneStatement(uint256 surplusBytes);
}
