"""What stages ask of the events that the watcher has seen."""

from collections.abc import Collection

import sqlalchemy as sa

from gristmill_coordinator.chain.cursors import final_block
from gristmill_coordinator.config import Config
from gristmill_coordinator.store.store import Row, Tx
from gristmill_coordinator.store.tables import ledger_events

_MANY = 500  # more are cheaper to read all

Nonce = tuple[str, int]  # of an account: its checksummed key and the statement's nonce


async def payments(tx: Tx, config: Config, wanted: Collection[Nonce]) -> dict[Nonce, Row]:
    """The final StatementSettled events of these nonces."""
    return await _by_nonce(tx, wanted, "StatementSettled", ledger_events.c.block <= await final_block(tx, config))


async def skipped(tx: Tx, wanted: Collection[Nonce], tx_hash: str) -> dict[Nonce, int]:
    """Why a transaction did not pay these nonces: LedgerTypes.Skip, for those that it skipped."""
    found = await _by_nonce(tx, wanted, "StatementSkipped", ledger_events.c.tx_hash == tx_hash)
    return {nonce: row.args["why"] for nonce, row in found.items()}


async def dispute(tx: Tx, config: Config, provider: int, evidence: str, challenger: int) -> list[Row]:
    """The final events of the dispute that a challenger opened with this evidence, in order; none before it is open."""
    one = ledger_events.c
    final = sa.and_(one.contract == "disputes", one.block <= await final_block(tx, config))
    opened = await tx.rows(sa.select(ledger_events).where(final, one.name == "Opened", one.payee == provider))
    ours = {"evidence": "0x" + evidence, "challenger": challenger}
    first = next((row for row in opened if ours.items() <= row.args.items()), None)
    if first is None:
        return []
    mine = sa.select(ledger_events).where(final, one.key.is_(None), one.nonce == first.nonce)
    return list(await tx.rows(mine.order_by(one.block, one.log_index)))


async def funders(tx: Tx, providers: Collection[int]) -> dict[int, set[str]]:
    """Providers -> the addresses (lower case) that paid for their bonds, final or not."""
    one = ledger_events.c
    query = sa.select(one.payee, one.args).where(one.name == "Bonded")
    if len(providers) <= _MANY:
        query = query.where(one.payee.in_(providers))
    found: dict[int, set[str]] = {}
    for row in await tx.rows(query):
        found.setdefault(row.payee, set()).add(row.args["from"].lower())
    return found


async def patrons(tx: Tx, key: str) -> set[str]:
    """The addresses (lower case) behind an account: its key, its owner and who paid into it.

    Args:
        key: checksummed.
    """
    one = ledger_events.c
    names = one.name.in_(("AccountOpened", "Deposited"))
    rows = await tx.rows(sa.select(one.args).where(one.key == key, one.contract == "ledger", names))
    found = {row.args.get(name) for row in rows for name in ("owner", "from")} | {key}
    return {address.lower() for address in found if address is not None}


async def withdrawals(tx: Tx) -> dict[str, Row]:
    """Accounts' keys -> the WithdrawalRequested event of the money that is on its way out, final or not."""
    one = ledger_events.c
    about = one.name.in_(("WithdrawalRequested", "Withdrawn"))
    newest = sa.select(one.key, sa.func.max(one.block).label("block")).where(about).group_by(one.key).subquery()
    latest = sa.and_(one.key == newest.c.key, one.block == newest.c.block)
    query = sa.select(ledger_events).join(newest, latest).where(about).order_by(one.log_index)
    last = {row.key: row for row in await tx.rows(query)}
    return {key: row for key, row in last.items() if row.args.get("unlockAt")}


async def _by_nonce(tx: Tx, wanted: Collection[Nonce], name: str, which: sa.ColumnElement[bool]) -> dict[Nonce, Row]:
    one = ledger_events.c
    these = sa.and_(one.key.in_({key for key, _ in wanted}), one.nonce.in_({nonce for _, nonce in wanted}))
    rows = await tx.rows(sa.select(ledger_events).where(these, one.name == name, which))
    return {(row.key, row.nonce): row for row in rows if (row.key, row.nonce) in wanted}
