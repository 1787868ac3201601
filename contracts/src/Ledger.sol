// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {LedgerTypes, totalOf} from "./LedgerTypes.sol";
import {AccountWord} from "./libraries/AccountWord.sol";
import {PayeeWord, payeeWord} from "./libraries/PayeeWord.sol";
import {FEE_BPS as FEE, RecipeWord, recipeWord} from "./libraries/RecipeWord.sol";
import {LINE_BYTES, Line, Statement, batchSpan, readLine, readStatement} from "./libraries/Statement.sol";
import {TillWord, historyEntry, withSkip} from "./libraries/TillWord.sol";

/// @title Renters' balances, and the only way out of them: statements signed by the renter, or its owner's withdrawal.
/// @notice An account is named by its hot key, which signs statements; its owner alone can withdraw. A coordinator
/// settles statements in batches but can neither make nor change one; when it does not, whoever holds its reservation
/// can. What payees earned is theirs to collect; anyone may trigger that, and it goes to the stored address only. Nobody
/// owns the contract or can move, freeze or upgrade anything in it; the authority can stop new accounts and deposits,
/// never a payment or an exit.
///
/// Assumptions about the token, chosen at deployment: balances change only by transfers (no rebasing); it holds less
/// than 2^96 base units. Fees on transfer, re-entering tokens and blocked receivers are coped with.
contract Ledger is LedgerTypes, AccessManaged, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// Consecutive shares of one payee, written to storage once.
    struct Run {
        uint256 payee;
        uint256 amount;
    }

    /// A batch on its way: what it has paid but not yet written, and the recipe it read last.
    struct Batch {
        uint256 coordinator;
        bytes32 domain;
        Run providers;
        Run verifiers;
        Run authors;
        uint256 fees;
        uint256 recipeId; // 0: none was read
        RecipeWord recipe;
        uint256 paid;
        uint256 skipped;
        bytes32 skips; // libraries/TillWord.sol
    }

    uint256 public constant FEE_BPS = FEE;
    uint256 public constant MAX_VERIFIER_BPS = 2000;
    uint256 public constant MAX_ROYALTY_BPS = 500;
    uint256 public constant WITHDRAWAL_DELAY = 24 hours;
    /// In which reservations of an operator's former key still count; longer than any statement's promise.
    uint256 public constant ROTATION_GRACE = 14 days;
    uint256 public constant TREASURY = 0;

    bytes32 public constant OPENING_TYPEHASH = keccak256("Opening(address key,address owner,uint32 coordinator)");
    bytes32 public constant WITHDRAWAL_TYPEHASH = keccak256("Withdrawal(address key,uint96 amount,uint32 request)");
    bytes32 public constant RESERVATION_TYPEHASH = keccak256(
        "Reservation(address key,uint32 coordinator,uint32 provider,uint32 nonce,uint96 cap,uint96 accepted,uint40 forcedFrom)"
    );

    IERC20 public immutable token;

    /// Whether new accounts and deposits are stopped.
    bool public paused;
    uint32 public payeeCount;
    uint32 public recipeCount;
    uint32 public coordinatorCount;

    mapping(address key => AccountWord) internal _accounts;
    mapping(address key => mapping(uint256 word => uint256 bits)) internal _archive;
    mapping(address key => Owner) private _owners;
    mapping(uint256 id => PayeeWord) internal _payees; // 0 is the treasury
    mapping(uint256 id => RecipeWord) private _recipes; // from 1
    mapping(uint256 id => address) public operatorOf; // coordinators, from 1
    mapping(uint256 id => mapping(address operator => uint256 time)) public formerUntil; // until when its reservations count
    TillWord internal _till;

    constructor(IERC20 token_, address treasury, address authority)
        AccessManaged(authority)
        EIP712("Gristmill Ledger", "1")
    {
        token = token_;
        _addPayee(treasury);
    }

    // ---------------------------------------------------------------------------------------------- accounts

    /// @notice Open the account of a hot key. The key's signature keeps others from opening it in their own name.
    /// @param signature by the key, 65 bytes r || s || v over Opening(key, owner, coordinator).
    function open(address key, address owner, uint32 coordinator, bytes calldata signature) external {
        if (paused) revert Paused();
        if (owner == address(0)) revert ZeroAddress();
        if (operatorOf[coordinator] == address(0)) revert UnknownCoordinator(coordinator);
        if (_owners[key].owner != address(0)) revert AlreadyOpen(key, _owners[key].owner);
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(OPENING_TYPEHASH, key, owner, coordinator)));
        if (ECDSA.recover(digest, signature) != key) revert NotSignedBy(key);
        _owners[key].owner = owner;
        _accounts[key] = _accounts[key].withCoordinator(coordinator);
        emit AccountOpened(key, owner, coordinator);
    }

    /// @notice Move the caller's tokens into an account. Credits what arrives. Who has no gas signs for a collector
    /// (collectors/), which calls this.
    function deposit(address key, uint256 amount) external nonReentrant {
        if (paused) revert Paused();
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        _credit(key, _arrived(before), msg.sender);
    }

    /// @notice Hand out the caller's tokens to accounts and payees: slashed stake, refunds, grants.
    function award(Award[] calldata awards) external nonReentrant {
        uint256 total = totalOf(awards);
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), total);
        uint256 received = _arrived(before);
        if (received != total) revert TransferFellShort(total, received);
        for (uint256 i = 0; i < awards.length; ++i) {
            if (awards[i].account != address(0)) _credit(awards[i].account, awards[i].amount, msg.sender);
            else _award(awards[i].payee, awards[i].amount);
        }
    }

    // ------------------------------------------------------------------------------------------- withdrawals

    /// @notice Ask to withdraw, as the account's owner. Replaces an earlier request and starts its delay again;
    /// statements settle meanwhile. Zero takes the request back.
    function requestWithdrawal(address key, uint96 amount) external {
        if (_owners[key].owner != msg.sender) revert NotOwner(key, msg.sender);
        _request(key, amount);
    }

    /// @notice The same by the owner's signature over Withdrawal(key, amount, requests), an EIP-1271 one included.
    function requestWithdrawal(address key, uint96 amount, bytes calldata signature) external {
        Owner storage account_ = _owners[key];
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(WITHDRAWAL_TYPEHASH, key, amount, account_.requests)));
        if (
            account_.owner == address(0)
                || !SignatureChecker.isValidSignatureNowCalldata(account_.owner, digest, signature)
        ) revert NotSignedBy(account_.owner);
        _request(key, amount);
    }

    /// @notice Pay a withdrawal whose delay is over to the account's owner: what was asked, or what is left of it.
    function withdraw(address key) external nonReentrant returns (uint256 amount) {
        Owner storage account_ = _owners[key];
        (uint256 pending, uint256 unlockAt) = (account_.pending, account_.unlockAt);
        if (unlockAt == 0) revert NothingPending(key);
        if (block.timestamp < unlockAt) revert StillLocked(key, unlockAt);
        AccountWord word = _accounts[key];
        amount = pending < word.balance() ? pending : word.balance();
        (account_.pending, account_.unlockAt) = (0, 0);
        _accounts[key] = word.debited(amount);
        emit Withdrawn(key, account_.owner, amount);
        token.safeTransfer(account_.owner, amount);
    }

    function _request(address key, uint96 amount) private {
        Owner storage account_ = _owners[key];
        uint40 unlockAt = amount == 0 ? 0 : uint40(block.timestamp + WITHDRAWAL_DELAY);
        (account_.pending, account_.unlockAt) = (amount, unlockAt);
        ++account_.requests;
        emit WithdrawalRequested(key, amount, unlockAt);
    }

    // -------------------------------------------------------------------------------- payees, recipes, operators

    /// @notice Register an address to be paid; gives its id.
    function addPayee(address payout) external returns (uint32 id) {
        return _addPayee(payout);
    }

    /// @notice Change where a payee is paid, as its present address. Credit not yet collected goes with it.
    function setPayout(uint32 id, address payout) external {
        PayeeWord word = _payees[id];
        if (word.payout() != msg.sender) revert NotPayout(id, msg.sender);
        if (payout == address(0)) revert ZeroAddress();
        _payees[id] = word.withPayout(payout);
        emit PayoutChanged(id, payout);
    }

    /// @notice Pay a payee's whole credit to its address.
    function collect(uint32 id) external nonReentrant returns (uint256 amount) {
        PayeeWord word = _payees[id];
        if (id == TREASURY) (word, _till) = (word.credited(_till.fees()), _till.emptied());
        amount = word.credit();
        if (amount == 0) return 0;
        _payees[id] = word.collected();
        emit Collected(id, word.payout(), amount);
        token.safeTransfer(word.payout(), amount);
    }

    /// @notice Register a recipe's terms, for ever; gives its id.
    function addRecipe(uint32 author, uint16 royaltyBps, uint16 verifierBps) external returns (uint32 id) {
        if (!_payees[author].exists()) revert UnknownPayee(author);
        if (royaltyBps > MAX_ROYALTY_BPS) revert RateTooHigh(royaltyBps, MAX_ROYALTY_BPS);
        if (verifierBps > MAX_VERIFIER_BPS) revert RateTooHigh(verifierBps, MAX_VERIFIER_BPS);
        id = ++recipeCount;
        _recipes[id] = recipeWord(author, royaltyBps, verifierBps);
        emit RecipeAdded(id, author, royaltyBps, verifierBps);
    }

    /// @notice Register a coordinator, operated by the caller; gives its id.
    function addCoordinator() external returns (uint32 id) {
        id = ++coordinatorCount;
        operatorOf[id] = msg.sender;
        emit CoordinatorAdded(id, msg.sender);
    }

    /// @notice Hand a coordinator to another key, as its present operator. What the former key has reserved counts for
    /// ROTATION_GRACE more.
    function setOperator(uint32 id, address operator) external {
        if (operatorOf[id] != msg.sender) revert NotOperator(id, msg.sender);
        if (operator == address(0)) revert ZeroAddress();
        formerUntil[id][msg.sender] = block.timestamp + ROTATION_GRACE;
        operatorOf[id] = operator;
        emit OperatorChanged(id, operator);
    }

    function _addPayee(address payout) private returns (uint32 id) {
        if (payout == address(0)) revert ZeroAddress();
        id = payeeCount++;
        _payees[id] = payeeWord(payout);
        emit PayeeAdded(id, payout);
    }

    // -------------------------------------------------------------------------------------------- settlement

    /// @notice Pay a batch of statements, as the coordinator's operator. A statement that can't be paid is skipped with
    /// an event and changes nothing. The batch joins the history, by which Cover judges it.
    /// @param data statements in wire form (libraries/Statement.sol), one after the other; costs least when ordered so
    /// that lines with equal payees follow one another.
    /// @return paid sum of the totals paid.
    /// @return skipped how many statements were not paid.
    function settle(uint32 coordinator, bytes calldata data) external returns (uint256 paid, uint256 skipped) {
        if (operatorOf[coordinator] != msg.sender) revert NotOperator(coordinator, msg.sender);
        Batch memory batch;
        (batch.coordinator, batch.domain) = (coordinator, _domainSeparatorV4());
        (uint256 from, uint256 to) = batchSpan(data);
        for (uint256 cursor = from; cursor < to;) {
            Statement statement = readStatement(cursor, to);
            address key = statement.signer(batch.domain);
            (Skip why,) = _settleOne(batch, statement, key, _accounts[key]);
            if (why != Skip.None) {
                ++batch.skipped;
                batch.skips = withSkip(batch.skips, cursor - from);
                emit StatementSkipped(key, statement.nonce(), why);
            }
            cursor = statement.end();
        }
        _finish(batch, data);
        return (batch.paid, batch.skipped);
    }

    /// @notice Pay one statement for which the coordinator signed a reservation, whoever calls, from the time on that the
    /// reservation names. So a coordinator that is gone or unwilling can't keep a provider from its money. The statement
    /// must give the provider what the coordinator accepted: a smaller one would use up the nonce.
    /// @param reservation about the statement's key and nonce.
    function settleReserved(bytes calldata data, Reservation calldata reservation) external returns (uint256 paid) {
        (uint256 from, uint256 to) = batchSpan(data);
        Statement statement = readStatement(from, to);
        if (statement.end() != to) revert MoreThanOneStatement(to - statement.end());
        Batch memory batch;
        batch.domain = _domainSeparatorV4();
        address key = statement.signer(batch.domain);
        AccountWord account_ = _accounts[key];
        batch.coordinator = account_.coordinator();
        _requireReserved(batch, key, statement.nonce(), reservation);
        if (block.timestamp < reservation.forcedFrom) revert TooEarly(reservation.forcedFrom);
        Skip why;
        (why, paid) = _settleOne(batch, statement, key, account_);
        if (why != Skip.None) revert StatementRejected(why);
        if (paid > reservation.cap) revert CapExceeded(paid, reservation.cap);
        uint256 given = statement.givenTo(reservation.provider);
        if (given < reservation.accepted) revert LessThanAccepted(given, reservation.accepted);
        _finish(batch, data);
    }

    /// @notice Reverts unless the reservation is signed for this key and nonce by the operator of the account's
    /// coordinator, or by its former one within ROTATION_GRACE. Gives the coordinator.
    function requireReserved(address key, uint32 nonce, Reservation calldata reservation)
        external
        view
        returns (uint32 coordinator)
    {
        coordinator = uint32(_accounts[key].coordinator());
        Batch memory batch;
        (batch.coordinator, batch.domain) = (coordinator, _domainSeparatorV4());
        _requireReserved(batch, key, nonce, reservation);
    }

    function _requireReserved(Batch memory batch, address key, uint256 nonce, Reservation calldata reservation)
        private
        view
    {
        uint256 coordinator = batch.coordinator;
        bytes32 structHash = keccak256(
            abi.encode(
                RESERVATION_TYPEHASH,
                key,
                coordinator,
                reservation.provider,
                nonce,
                reservation.cap,
                reservation.accepted,
                reservation.forcedFrom
            )
        );
        bytes32 digest = MessageHashUtils.toTypedDataHash(batch.domain, structHash);
        address signer = ECDSA.recover(digest, reservation.r, reservation.vs);
        if (signer == operatorOf[coordinator]) return;
        if (block.timestamp > formerUntil[coordinator][signer]) revert NotSignedBy(operatorOf[coordinator]);
    }

    /// Pays a statement into the batch, or says why it can't be paid and changes nothing.
    function _settleOne(Batch memory batch, Statement statement, address key, AccountWord account_)
        private
        returns (Skip why, uint256 total)
    {
        (why, total) = _check(batch, statement, key, account_);
        if (why != Skip.None) return (why, 0);
        _spend(key, account_, statement.nonce(), total);
        _share(batch, statement);
        // Totals are covered by balances, which the token's supply bounds.
        unchecked {
            batch.paid += total;
        }
        emit StatementSettled(key, statement.nonce(), total);
    }

    /// Whether a statement can be paid, and its total. An account that is not open has coordinator 0, which no operator
    /// has, so a key recovered from a bad signature never gets further.
    function _check(Batch memory batch, Statement statement, address key, AccountWord account_)
        internal
        view
        returns (Skip why, uint256 total)
    {
        if (account_.coordinator() != batch.coordinator) return (Skip.NoAccount, 0);
        if (block.timestamp > statement.deadline()) return (Skip.Expired, 0);
        if (_isUsed(account_, key, statement.nonce())) return (Skip.NonceUsed, 0);
        uint256 to = statement.end();
        // At most 2^16 amounts of 96 bits, at positions inside the call's data: nothing overflows.
        unchecked {
            for (uint256 cursor = statement.linesAt(); cursor < to; cursor += LINE_BYTES) {
                Line line = readLine(cursor);
                if (!_recipe(batch, line.recipe()).registered()) return (Skip.UnknownRecipe, 0);
                total += line.amount();
            }
        }
        if (total == 0) return (Skip.Empty, 0);
        if (total > account_.balance()) return (Skip.Unfunded, 0);
    }

    /// Divides a checked statement's total among those whom its lines name.
    function _share(Batch memory batch, Statement statement) internal {
        uint256 to = statement.end();
        // The shares of a line sum to at most its amount, and the amounts to a balance of 96 bits.
        unchecked {
            for (uint256 cursor = statement.linesAt(); cursor < to; cursor += LINE_BYTES) {
                Line line = readLine(cursor);
                RecipeWord recipe_ = _recipe(batch, line.recipe());
                (uint256 fee, uint256 verifierShare, uint256 royalty) = recipe_.shares(line.amount());
                batch.fees += fee;
                _add(batch.authors, recipe_.author(), royalty);
                _add(batch.verifiers, line.verifier(), verifierShare);
                _add(batch.providers, line.provider(), line.amount() - fee - verifierShare - royalty);
            }
        }
    }

    function _recipe(Batch memory batch, uint256 id) private view returns (RecipeWord) {
        if (batch.recipeId != id) (batch.recipeId, batch.recipe) = (id, _recipes[id]);
        return batch.recipe;
    }

    /// Debits a checked total and marks its nonce as used.
    function _spend(address key, AccountWord account_, uint256 nonce, uint256 total) internal {
        account_ = account_.debited(total);
        uint256 word = nonce >> 6;
        uint256 hot = account_.hotWord();
        if (word > hot) {
            if (account_.bits() != 0) _archive[key][hot] = account_.bits();
            account_ = account_.withHotWord(word);
        }
        if (word >= hot) account_ = account_.withNonce(nonce);
        else _archive[key][word] |= 1 << (nonce & 63);
        _accounts[key] = account_;
    }

    function _isUsed(AccountWord account_, address key, uint256 nonce) internal view returns (bool) {
        uint256 word = nonce >> 6;
        uint256 hot = account_.hotWord();
        if (word > hot) return false;
        uint256 bits = word == hot ? account_.bits() : _archive[key][word];
        return (bits >> (nonce & 63)) & 1 == 1;
    }

    function _add(Run memory run, uint256 payee_, uint256 amount) internal {
        if (run.payee != payee_) {
            _creditPayee(run.payee, run.amount);
            (run.payee, run.amount) = (payee_, amount);
        } else {
            // Part of a total that a balance of 96 bits covers.
            unchecked {
                run.amount += amount;
            }
        }
    }

    /// Writes what a batch has still to credit, and puts it into the history.
    function _finish(Batch memory batch, bytes calldata data) internal {
        _creditPayee(batch.authors.payee, batch.authors.amount);
        _creditPayee(batch.verifiers.payee, batch.verifiers.amount);
        _creditPayee(batch.providers.payee, batch.providers.amount);
        _till = _till.withBatch(batch.fees, historyEntry(batch.coordinator, keccak256(data), batch.skips));
    }

    // ------------------------------------------------------------------------------------------------ credits

    /// Payee ids come from signed lines: what goes to one that does not exist goes to the treasury, never nowhere.
    function _creditPayee(uint256 id, uint256 amount) internal {
        if (amount == 0) return;
        PayeeWord word = _payees[id];
        if (!word.exists()) (id, word) = (TREASURY, _payees[TREASURY]);
        _payees[id] = word.credited(amount);
    }

    function _award(uint32 id, uint256 amount) private {
        if (!_payees[id].exists()) revert UnknownPayee(id);
        _creditPayee(id, amount);
        emit PayeeCredited(id, msg.sender, amount);
    }

    function _credit(address key, uint256 amount, address from) private {
        if (_owners[key].owner == address(0)) revert NotOpen(key);
        _accounts[key] = _accounts[key].credited(amount);
        emit Deposited(key, from, amount);
    }

    /// What came in since. The books never exceed what is held, so while that is below 2^96, so is every sum in them.
    function _arrived(uint256 before) private view returns (uint256) {
        uint256 held = token.balanceOf(address(this));
        if (held > type(uint96).max) revert TokenTooLarge(held);
        return held - before;
    }

    // ------------------------------------------------------------------------------------------------- guard

    /// @notice Stop or resume new accounts and deposits. Payments and exits can't be stopped.
    function setPaused(bool paused_) external restricted {
        paused = paused_;
        emit PausedSet(paused_);
    }

    // ------------------------------------------------------------------------------------------------- views

    function account(address key) external view returns (Account memory) {
        Owner memory by = _owners[key];
        AccountWord word = _accounts[key];
        (uint96 balance, uint32 coordinator) = (uint96(word.balance()), uint32(word.coordinator()));
        return Account(balance, by.pending, by.unlockAt, coordinator, by.requests, by.owner);
    }

    /// @notice Digest of all batches settled so far (libraries/TillWord.sol).
    function history() external view returns (uint160) {
        return _till.history();
    }

    /// @notice The EIP-712 domain of statements and reservations.
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    function payee(uint32 id) external view returns (address payout, uint256 credit) {
        (payout, credit) = (_payees[id].payout(), _payees[id].credit());
        if (id == TREASURY) credit += _till.fees();
    }

    function recipe(uint32 id)
        external
        view
        returns (uint32 author, uint16 royaltyBps, uint16 verifierBps, bool registered)
    {
        RecipeWord word = _recipes[id];
        return (uint32(word.author()), uint16(word.royaltyBps()), uint16(word.verifierBps()), word.registered());
    }

    function nonceUsed(address key, uint32 nonce) external view returns (bool) {
        return _isUsed(_accounts[key], key, nonce);
    }
}
