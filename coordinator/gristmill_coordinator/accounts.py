"""What a renter sees of its money: what the account holds, how to pay in, and all that came in and went out.

A renter is named by the lower-case 0x address of its hot key.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from eth_utils.address import to_checksum_address

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.cursors import watched
from gristmill_coordinator.chain.port import ZERO_ADDRESS
from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.tables import blocks, jobs, ledger_events
from gristmill_coordinator.views import reserved_usd_micros
from gristmill_protocol.api import AccountView
from gristmill_protocol.errors import ChainUnavailable
from gristmill_protocol.wallet import DepositTerms, HistoryView, Movement

_KINDS = {
    "AccountOpened": "opened",
    "Deposited": "deposit",
    "StatementSettled": "payment",
    "WithdrawalRequested": "withdrawal_asked",
    "Withdrawn": "withdrawal",
}


async def account(co: Coordinator, renter: str) -> AccountView:
    """The renter's money. Raises ChainUnavailable."""
    key = to_checksum_address(renter)
    state, outside = await co.chain.account(key), await co.chain.tokens(key)
    async with co.store.read() as tx:
        reserved = await reserved_usd_micros(tx, renter)
        now_s = await tx.value(sa.select(blocks.c.at_s).where(blocks.c.number == watched()))
    return AccountView(
        key=renter,
        balance_usd_micros=state.balance_usd_micros,
        reserved_usd_micros=reserved,
        available_usd_micros=max(0, state.balance_usd_micros - reserved),
        owner=None if state.owner == ZERO_ADDRESS else state.owner,
        outside_usd_micros=outside,
        withdrawing_usd_micros=state.withdrawing_usd_micros,
        withdrawal_at_s=state.unlock_at_s,
        withdrawal_requests=state.requests,
        chain_time_s=int(now_s or co.clock()),
    )


async def deposit_terms(co: Coordinator) -> DepositTerms | None:
    """What deposits are signed for; None while the chain can't tell."""
    try:
        token = await co.chain.token_domain()
    except ChainUnavailable:
        return None
    collectors = co.chain.info.collectors
    return DepositTerms(
        sponsored=co.config.sponsor_gas,
        least_usd_micros=co.config.min_deposit_usd_micros,
        token_name=token.name,
        token_version=token.version,
        erc3009=collectors.get("erc3009"),
        permit=collectors.get("permit"),
        permit2=collectors.get("permit2"),
    )


async def history(co: Coordinator, renter: str, before: str, limit: int) -> HistoryView:
    """What happened to the account on chain, newest first.

    Args:
        before: where the last page ended, as "block-index"; "": from the newest on.
    """
    one = ledger_events.c
    which = [one.key == to_checksum_address(renter), one.contract == "ledger", one.name.in_(_KINDS)]
    if before:
        block, index = map(int, before.split("-"))
        which.append(sa.or_(one.block < block, sa.and_(one.block == block, one.log_index < index)))
    query = sa.select(ledger_events).where(*which).order_by(one.block.desc(), one.log_index.desc())
    async with co.store.read() as tx:
        rows = await tx.rows(query.limit(limit + 1))
        paid = await _jobs(tx, renter, [row.nonce for row in rows if row.name == "StatementSettled"])
    shown, more = rows[:limit], len(rows) > limit
    return HistoryView(
        movements=tuple(_movement(co, row, paid.get(row.nonce)) for row in shown),
        before=f"{shown[-1].block}-{shown[-1].log_index}" if more else None,
    )


async def _jobs(tx: Tx, renter: str, nonces: Sequence[int]) -> dict[int, Row]:
    """The renter's jobs, by the nonce under which each is paid."""
    query = sa.select(jobs.c.nonce, jobs.c.job_id, jobs.c.spec).where(jobs.c.renter == renter, jobs.c.nonce.in_(nonces))
    return {row.nonce: row for row in await tx.rows(query)}


def _movement(co: Coordinator, row: Row, job: Row | None) -> Movement:
    kind = _KINDS[row.name]
    if row.name == "Deposited" and row.args["from"] == co.chain.info.registry:
        kind = "award"  # of a slashed bond
    if row.name == "WithdrawalRequested" and not row.args["unlockAt"]:
        kind = "withdrawal_cancelled"
    job = job if row.name == "StatementSettled" else None
    return Movement.model_validate(
        {
            "kind": kind,
            "amount_usd_micros": row.amount_usd_micros or 0,
            "at_s": row.at_s,
            "tx": row.tx_hash,
            "job_id": None if job is None else job.job_id,
            "job_name": "" if job is None else job.spec.get("name", ""),
        }
    )
