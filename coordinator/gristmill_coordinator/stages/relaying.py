"""What a renter signed for the Ledger is handed in for it, and the operator pays the gas: opening, deposit, withdrawal.

What the contracts would refuse is refused here, in plain words, before anything is written. The rest goes the way of
all our transactions: chain/sender.py. A relay is known by what was signed, so the same again is the same relay.
"""

import re

import sqlalchemy as sa
import structlog
from eth_utils.address import to_checksum_address

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.port import (
    CALL,
    ZERO_ADDRESS,
    AccountState,
    DepositCall,
    OpenCall,
    RelayCall,
    RequestWithdrawalCall,
)
from gristmill_coordinator.chain.sender import submit
from gristmill_coordinator.domain.gas import Outcome
from gristmill_coordinator.stages.quoting import lock_renter
from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.tables import relays, transactions
from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.errors import BadRequest, BadSignature, Conflict, GristmillError, NotFound, Unavailable
from gristmill_protocol.money import format_usd
from gristmill_protocol.signing import OPENING_TYPE, require_signer
from gristmill_protocol.wallet import Authorization, RelayView, SignedDeposit, SignedOpening, SignedWithdrawal

logger = structlog.get_logger()

_DAY_S = 86_400
_HAND_IN_S = 120  # a signature must hold so much longer to be in a block in time
_NOTHING = "Nothing was sent."
_DIRECT = "Wait a while, or pay the gas yourself: `gristmill wallet ... --rpc URL --deployment FILE`."

_VERBS = {"open": "opening", "deposit": "deposit", "request_withdrawal": "request to withdraw"}
_STATES = {Outcome.PENDING: "pending", Outcome.SUCCEEDED: "done"}
_REASONS = {
    Outcome.REVERTED: "The contract refused it after all.",
    Outcome.DISPLACED: "Another transaction took its place.",
    Outcome.TOO_DEAR: "Gas costs more at the moment than this coordinator pays for one request.",
}
# The contracts' errors that our own checks leave over, in plain words.
_IN_WORDS = {
    "NotSignedBy": "The signature is not by who has to sign this.",
    "Paused": "New accounts and deposits are stopped at the moment; payments and withdrawals go on.",
    "AlreadyOpen": "The account is open already.",
    "NotOpen": "The account is not open yet.",
    "Expired": "The signature has expired.",
    "ERC3009InvalidSignature": "The signature is not the payer's.",
    "ERC3009UsedAuthorization": "This signature was used already.",
    "ERC3009InvalidAuthorizationTime": "The signature does not hold at this time.",
    "ERC20InsufficientBalance": "The payer does not hold that much.",
    "ERC20InsufficientAllowance": "The payer's permit does not cover that much.",
}
_WRONG_SIGNER = ("NotSignedBy", "ERC3009InvalidSignature")
_NAME = re.compile(r"refused: (\w+)")


async def open_account(co: Coordinator, renter: str, by: SignedOpening) -> RelayView:
    """Open the renter's account, by its signature.

    Raises:
        BadSignature, BadRequest, Conflict, Unavailable: nothing was sent.
    """
    key = to_checksum_address(renter)
    call = OpenCall(key=key, opening=by)
    known = await _known(co, call)
    if known is not None:
        return known
    account, coordinator = await co.chain.account(key), co.chain.info.coordinator_id
    if account.owner != ZERO_ADDRESS:
        raise Conflict("The account is open already.", effect=_NOTHING, todo="Deposit into it.")
    message = {"key": key, "owner": by.owner, "coordinator": coordinator}
    require_signer(co.chain.info.ledger_domain, OPENING_TYPE, message, by.signature, key)
    held = sum([await co.chain.tokens(holder) for holder in {key, to_checksum_address(by.owner)}])
    if held < co.config.min_deposit_usd_micros:
        raise BadRequest(
            f"{key} holds {format_usd(held)} USD; this coordinator opens accounts for who can deposit at least "
            f"{format_usd(co.config.min_deposit_usd_micros)} USD.",
            effect=_NOTHING,
            todo=f"Send stablecoin to {key} first (token {co.chain.info.token}).",
        )
    return await _relay(co, renter, call)


async def deposit(co: Coordinator, renter: str, by: SignedDeposit) -> RelayView:
    """Move tokens of whoever signed into the renter's account.

    Raises:
        BadSignature, BadRequest, Conflict, Unavailable: nothing was sent.
    """
    key, amount = to_checksum_address(renter), by.amount_usd_micros
    call = DepositCall(key=key, by=by)
    known = await _known(co, call)
    if known is not None:
        return known
    if by.kind not in co.chain.info.collectors:
        kinds = ", ".join(co.chain.info.collectors)
        raise BadRequest(f"There is no collector of {by.kind} deposits here.", effect=_NOTHING, todo=f"Use: {kinds}.")
    least = co.config.min_deposit_usd_micros
    if amount < least:
        raise BadRequest(
            f"{format_usd(amount)} USD is less than this coordinator pays gas for.",
            effect=_NOTHING,
            todo=f"Deposit at least {format_usd(least)} USD.",
            least_usd_micros=least,
        )
    _require_ours(co, key, await co.chain.account(key))
    await _require_time(co, by)
    held = await co.chain.tokens(by.payer)
    if held < amount:
        raise BadRequest(
            f"{by.payer} holds {format_usd(held)} USD, not {format_usd(amount)} USD.",
            effect=_NOTHING,
            todo=f"Send it {format_usd(amount - held)} USD more (token {co.chain.info.token}).",
            held_usd_micros=held,
        )
    return await _relay(co, renter, call)


async def withdraw(co: Coordinator, by: SignedWithdrawal) -> RelayView:
    """Ask to withdraw, for the account's owner; who hands it in does not matter, only who signed.

    Raises:
        BadSignature, BadRequest, Conflict, Unavailable: nothing was sent.
    """
    key, amount = to_checksum_address(by.key), by.amount_usd_micros
    call = RequestWithdrawalCall(signed=by.model_copy(update={"key": key}))
    known = await _known(co, call)
    if known is not None:
        return known
    account = await co.chain.account(key)
    _require_ours(co, key, account)
    if by.request != account.requests:
        raise Conflict(
            f"This was signed as request {by.request}; the account's next one is {account.requests}.",
            effect=_NOTHING,
            todo="Look at the account, and sign again.",
        )
    whole = account.balance_usd_micros + account.withdrawing_usd_micros
    if amount > whole:
        raise BadRequest(
            f"The account holds {format_usd(whole)} USD, not {format_usd(amount)} USD.",
            effect=_NOTHING,
            todo=f"Withdraw at most {format_usd(whole)} USD.",
            balance_usd_micros=whole,
        )
    if amount == 0 and not account.unlock_at_s:
        raise Conflict("There is no withdrawal to take back.", effect=_NOTHING)
    return await _relay(co, key.lower(), call)


async def view(co: Coordinator, renter: str, relay_id: str) -> RelayView:
    """What became of a relay.

    Raises:
        NotFound: no such relay for this renter's account.
    """
    async with co.store.read() as tx:
        found = await _row(tx, relay_id)
    if found is None or found.renter != renter:
        raise NotFound(f"You have handed in no {relay_id}.")
    return _view(found)


async def write(
    co: Coordinator, tx: Tx, renter: str, relay_id: str, call: RelayCall, *, worth_usd_micros: int | None
) -> None:
    """Leave a relay for the sender; in place of an earlier one of the same id, which has failed."""
    transaction_id = await submit(co, tx, call, worth_usd_micros=worth_usd_micros)
    values = {"renter": renter, "kind": call.kind, "transaction_id": transaction_id, "created_s": co.clock()}
    if not await tx.add(relays, {"relay_id": relay_id, **values}):
        await tx.run(sa.update(relays).where(relays.c.relay_id == relay_id).values(**values))
    logger.info("relay_taken", relay_id=relay_id, kind=call.kind, transaction_id=transaction_id)


async def _relay(co: Coordinator, renter: str, call: RelayCall) -> RelayView:
    if not co.config.sponsor_gas:
        raise Unavailable("This coordinator pays nobody's gas.", effect=_NOTHING, todo=_DIRECT)
    try:
        await co.chain.estimate(call)
    except Conflict as err:
        raise _in_words(err) from err
    relay_id = _id(call)
    async with co.store.write() as tx:
        await lock_renter(tx, renter)
        known = await _row(tx, relay_id)
        if known is None or _failed(known):
            await _require_allowed(co, tx, renter, call)
            worth = co.config.relay_gas_usd_micros
            await write(co, tx, renter, relay_id, call, worth_usd_micros=worth)
        row = await _row(tx, relay_id)
    assert row is not None
    return _view(row)


async def _require_allowed(co: Coordinator, tx: Tx, renter: str, call: RelayCall) -> None:
    """One at a time, and so many a day. The renter is locked."""
    one, mine = relays.c, relays.c.renter == renter
    joined = sa.select(one.relay_id).join(transactions, transactions.c.transaction_id == one.transaction_id)
    under_way = joined.where(mine, one.kind == call.kind, transactions.c.outcome == Outcome.PENDING)
    if await tx.row(under_way) is not None:
        raise Conflict(
            f"An earlier {_VERBS[call.kind]} of this account is still under way.",
            effect="It goes on; the new one was not taken.",
            todo="Wait until it is through: `gristmill wallet history` shows it.",
        )
    today = sa.select(sa.func.count()).select_from(relays).where(mine, one.created_s > co.clock() - _DAY_S)
    if int(await tx.value(today)) >= co.config.relays_per_day:
        raise Conflict(
            f"This coordinator pays the gas for {co.config.relays_per_day} requests of an account in a day.",
            effect=_NOTHING,
            todo=_DIRECT,
        )


def _require_ours(co: Coordinator, key: str, account: AccountState) -> None:
    if account.owner == ZERO_ADDRESS:
        raise Conflict(f"The account {key} is not open.", effect=_NOTHING, todo="Open it first.")
    if account.coordinator != co.chain.info.coordinator_id:
        raise Conflict(
            f"The account {key} is open at coordinator {account.coordinator}, not here.",
            effect=_NOTHING,
            todo="Use that coordinator, or pay the gas yourself.",
        )


async def _require_time(co: Coordinator, by: SignedDeposit) -> None:
    until_s = by.valid_before_s if isinstance(by, Authorization) else by.deadline_s
    if until_s < (await co.chain.head()).at_s + _HAND_IN_S:
        raise BadRequest(
            f"The signature holds until {until_s} (unix time), which is too soon or over.",
            effect=_NOTHING,
            todo="Sign again, for an hour from the chain's time.",
        )


def _in_words(refused: Conflict) -> GristmillError:
    """Why a contract would refuse, for a person."""
    match = _NAME.search(refused.what)
    name = match[1] if match else ""
    return (BadSignature if name in _WRONG_SIGNER else Conflict)(_IN_WORDS.get(name, refused.what), effect=_NOTHING)


def _id(call: RelayCall) -> str:
    return sha256_json(CALL.dump_python(call, mode="json")).hex()


async def _known(co: Coordinator, call: RelayCall) -> RelayView | None:
    """What was handed in before and has not failed."""
    async with co.store.read() as tx:
        row = await _row(tx, _id(call))
    return None if row is None or _failed(row) else _view(row)


async def _row(tx: Tx, relay_id: str) -> Row | None:
    sent = transactions.c
    query = sa.select(relays, sent.outcome, sent.reason, sent.sends, sent.tx_hash)
    joined = query.join(transactions, sent.transaction_id == relays.c.transaction_id)
    return await tx.row(joined.where(relays.c.relay_id == relay_id))


def _failed(row: Row) -> bool:
    return row.outcome not in _STATES


def _view(row: Row) -> RelayView:
    reason = ""
    if _failed(row):
        reason = _REASONS.get(row.outcome) or _in_words(Conflict(row.reason)).what
    return RelayView(
        relay_id=row.relay_id,
        kind=row.kind,
        state=_STATES.get(row.outcome, "failed"),
        reason=reason,
        tx=row.tx_hash or (row.sends[-1]["hash"] if row.sends else None),
    )
