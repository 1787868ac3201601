"""Which payments go into which transaction: as many as a batch's gas allows, and none that costs more than it brings.

A batch goes when the protocol fees of its payments cover its gas at the live price; until then payments wait for
company. One whose deadline is near waits for none: it goes if it is worth more than its own gas.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.chain.port import SettleCall, TooMuchGas
from gristmill_coordinator.domain.gas import bearing, cost_usd_micros, outweighing
from gristmill_protocol.jobs import SignedStatement
from gristmill_protocol.money import split_line

logger = structlog.get_logger()

_BLOCK_SHARE = 4  # by default a settlement takes a fourth of a block
_MOST_GAS = 2**24 * 4 // 5  # of one transaction, by EIP-7825, with the sender's spare gas


@dataclass(frozen=True)
class Payment:
    """A job's statement that is to be settled."""

    job_id: str
    signed: SignedStatement
    urgent: bool = False

    @property
    def total_usd_micros(self) -> int:
        return self.signed.statement.total_usd_micros

    @property
    def fee_usd_micros(self) -> int:
        lines = self.signed.statement.lines
        return sum(split_line(line.amount_usd_micros, verifier_bps=0, royalty_bps=0).treasury for line in lines)


@dataclass(frozen=True)
class Batch:
    """Payments for one transaction.

    Args:
        worth_usd_micros: what its gas may cost at most; None where gas costs nothing.
    """

    payments: Sequence[Payment]
    worth_usd_micros: int | None


async def plan(co: Coordinator, payments: Sequence[Payment]) -> list[Batch]:
    """What to send now; a payment in no batch waits.

    Raises:
        ChainUnavailable, Conflict: as Chain.estimate().
    """
    block = await co.chain.head()
    limit = co.config.batch_gas or min(block.gas_limit // _BLOCK_SHARE, _MOST_GAS)
    # The contract writes the shares of equal payees that follow one another once.
    ordered = sorted(payments, key=lambda one: [(line.provider, line.verifier) for line in one.signed.statement.lines])
    fitting = await _fitting(co, ordered, limit)
    if not co.config.native_usd_micros:
        return [Batch(part, None) for part, _ in fitting]
    return [batch for part, gas in fitting for batch in await _worthwhile(co, part, gas)]


async def _fitting(co: Coordinator, payments: Sequence[Payment], limit: int) -> list[tuple[Sequence[Payment], int]]:
    """The payments in their order, in parts that each keep within the limit, and the gas of each part."""
    fitting, rest, size = [], payments, len(payments)
    while rest:
        part = rest[:size]
        try:
            gas = await _gas(co, part)
        except TooMuchGas:
            gas = 2 * limit
            if len(part) == 1:
                logger.error("statement_fits_no_block", job_id=part[0].job_id)
                rest = rest[1:]
                continue
        if gas > limit and len(part) > 1:
            size = max(1, min(len(part) - 1, len(part) * limit // gas))
            continue
        fitting.append((part, gas))
        rest = rest[size:]
    return fitting


async def _worthwhile(co: Coordinator, payments: Sequence[Payment], gas: int) -> list[Batch]:
    fees = sum(one.fee_usd_micros for one in payments)
    if fees >= await _cost(co, gas):
        return [Batch(payments, fees)]
    fixed, each = await _shares(co, payments, gas)
    carried = [payments[at] for at in bearing([one.fee_usd_micros for one in payments], fixed=fixed, each=each)]
    batches = []
    if carried and sum(one.fee_usd_micros for one in carried) >= await _cost(co, await _gas(co, carried)):
        batches.append(Batch(carried, sum(one.fee_usd_micros for one in carried)))
    else:
        carried = []
    urgent = [one for one in payments if one.urgent and one not in carried]
    chosen = [urgent[at] for at in outweighing([one.total_usd_micros for one in urgent], fixed=fixed, each=each)]
    while chosen:
        cost = await _cost(co, await _gas(co, chosen))
        if chosen[-1].total_usd_micros * len(chosen) > cost:
            batches.append(Batch(chosen, sum(one.total_usd_micros for one in chosen)))
            break
        chosen.pop()  # the smallest
    return batches


async def _shares(co: Coordinator, payments: Sequence[Payment], gas: int) -> tuple[int, int]:
    """What a transaction costs by itself, and what a payment adds, on average; micro-USD."""
    if len(payments) == 1:
        return await _cost(co, gas), 0
    lone = await _gas(co, payments[:1])
    each = max(0, gas - lone) // (len(payments) - 1)
    return await _cost(co, lone - each), await _cost(co, each)


async def _gas(co: Coordinator, payments: Sequence[Payment]) -> int:
    return await co.chain.estimate(SettleCall(batch=tuple(one.signed for one in payments)))


async def _cost(co: Coordinator, gas: int) -> int:
    """What gas costs at the live price, micro-USD."""
    fees = await co.chain.fees()
    return cost_usd_micros(gas, fees.base_fee_wei + fees.tip_wei, co.config.native_usd_micros)
