"""What a job costs on a machine, what verified work earns, who gets which part. Integers of micro-USD throughout."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gristmill_protocol.jobs import Bill, Plan, Quote, SignedStatement, Statement
from gristmill_protocol.ladder import Work, statement_for
from gristmill_protocol.money import BPS, MS_PER_HOUR, cost_usd_micros, gross_for_net, split_line

# Getting the inputs and starting the trainer. Measured link speeds do not exist yet: a slow home line is assumed.
STARTUP_MS = 15_000
DOWNLOAD_BYTES_PER_S = 5_000_000

# Room for one move to a dearer machine; see docs/decisions.md 2.
CAP_NUMERATOR, CAP_DENOMINATOR = 3, 2


@dataclass(frozen=True)
class Price:
    """What a whole job costs on one machine, and how long it takes there."""

    usd_micros: int
    duration_ms: int


def price(
    plan: Plan, *, ask_usd_micros_per_gpu_hour: int, flops_per_s: int, verifier_bps: int, royalty_bps: int
) -> Price:
    """The renter's total, such that the provider is left with its ask times the expected time, or the time limit."""
    download_ms = plan.download_bytes * 1000 // DOWNLOAD_BYTES_PER_S
    work_ms = plan.limit_s * 1000 if plan.limit_s else -(-plan.flops * 1000 // flops_per_s)
    duration_ms = STARTUP_MS + download_ms + work_ms
    net = cost_usd_micros(ask_usd_micros_per_gpu_hour, duration_ms)
    return Price(gross_for_net(net, verifier_bps=verifier_bps, royalty_bps=royalty_bps), duration_ms)


def flops_on(plan: Plan, flops_per_s: int) -> int:
    """How much work the job is on a machine of this speed: with a time limit the more, the faster it is."""
    return plan.limit_s * flops_per_s or plan.flops


def usd_micros_per_ms(ask_usd_micros_per_gpu_hour: float, *, verifier_bps: int, royalty_bps: int) -> float:
    """About what a millisecond costs the renter: for ordering offers, never for billing."""
    return (
        ask_usd_micros_per_gpu_hour
        / MS_PER_HOUR
        * gross_for_net(BPS, verifier_bps=verifier_bps, royalty_bps=royalty_bps)
        / BPS
    )


def cap(price_usd_micros: int, next_price_usd_micros: int, budget_usd_micros: int) -> int:
    """The most a job may cost, never more than the budget: half as much again as quoted, or the price of the next
    owner's machine where that is more, so that a cheap machine that is lost does not strand the job.
    """
    room = price_usd_micros * CAP_NUMERATOR // CAP_DENOMINATOR
    return min(budget_usd_micros, max(room, next_price_usd_micros))


def total(quote: Quote, work: Sequence[Work]) -> int:
    """What verified work costs the renter."""
    statement = statement_for(quote, work)
    return 0 if statement is None else statement.total_usd_micros


def fits_cap(quote: Quote, accepted: Sequence[Work], work: Work) -> bool:
    """Whether a machine may do this much more without the job's total passing its cap."""
    again = sum(one.price_usd_micros for one in quote.replicas)
    return total(quote, [*accepted, work]) + again <= quote.cap_usd_micros


def choose(wanted: Statement, held: Sequence[SignedStatement]) -> SignedStatement | None:
    """The signed statement that pays exactly what is wanted."""
    return next((signed for signed in held if signed.statement == wanted), None)


def best_below(wanted: Statement, held: Sequence[SignedStatement]) -> SignedStatement | None:
    """The signed statement that pays most of what is wanted and no payee more than it earned.

    For a renter who has gone: the ladder pays up to what it covers, never past it.
    """
    earned = {(line.provider, line.verifier, line.recipe): line.amount_usd_micros for line in wanted.lines}

    def covered(statement: Statement) -> bool:
        paid: dict[tuple[int, int, int], int] = {}
        for line in statement.lines:
            payees = (line.provider, line.verifier, line.recipe)
            paid[payees] = paid.get(payees, 0) + line.amount_usd_micros
        return all(amount <= earned.get(payees, 0) for payees, amount in paid.items())

    below = [signed for signed in held if covered(signed.statement)]
    return max(below, key=lambda signed: signed.statement.total_usd_micros, default=None)


def bill(
    statement: Statement, *, verifier_bps: int, royalty_bps: int, settle_tx: str | None, ran_by: Collection[int]
) -> Bill:
    """Who got what of a settled statement; the parts sum to its total.

    Args:
        ran_by: payee ids of the providers that had the job; the lines of others pay for having run it again.
    """
    splits = [
        split_line(line.amount_usd_micros, verifier_bps=verifier_bps, royalty_bps=royalty_bps)
        for line in statement.lines
    ]
    own = [split.provider for line, split in zip(statement.lines, splits, strict=True) if line.provider in ran_by]
    again = sum(split.provider for split in splits) - sum(own)
    return Bill(
        paid_usd_micros=statement.total_usd_micros,
        provider_usd_micros=sum(own),
        verifier_usd_micros=again + sum(split.verifier for split in splits),
        author_usd_micros=sum(split.author for split in splits),
        treasury_usd_micros=sum(split.treasury for split in splits),
        settle_tx=settle_tx,
    )
