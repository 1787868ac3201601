"""Which statements pay for which verified work; renter and coordinator compute them alike.

A renter signs the ladder of a quote when ordering, so that a job is paid up to its last verified step even if the
renter goes offline: every rung of the quoted machine, and every way the job can move once to the next candidate. All
rungs share one nonce, so that at most one of them is ever paid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from gristmill_protocol.jobs import Quote, QuotedProvider, Statement, StatementLine
from gristmill_protocol.money import earned


@dataclass(frozen=True)
class Work:
    """Verified steps of one provider, checked by one verifier, at that provider's price for the whole job."""

    provider: int
    verifier: int
    price_usd_micros: int
    steps: int


def statement_for(quote: Quote, work: Sequence[Work]) -> Statement | None:
    """The statement that pays exactly this work, or None if nothing was earned.

    Work of the same provider and verifier at the same price is one line, so that rounding never depends on where
    windows were cut.
    """
    steps: dict[tuple[int, int, int], int] = {}
    for part in work:
        key = (part.provider, part.verifier, part.price_usd_micros)
        steps[key] = steps.get(key, 0) + part.steps
    lines = tuple(
        StatementLine(provider=provider, verifier=verifier, recipe=quote.recipe_id, amount_usd_micros=amount)
        for (provider, verifier, price), done in steps.items()
        if (amount := earned(price, done, quote.plan.steps)) > 0
    )
    return Statement(nonce=quote.nonce, deadline_s=quote.deadline_s, lines=lines) if lines else None


def ladder_statements(quote: Quote) -> tuple[Statement, ...]:
    """Every statement to sign with an order: first the rungs of candidates[0], then one move to candidates[1]."""
    if quote.replicas:
        return _majorities(quote)
    ends = list(quote.plan.grid.ends())
    first, *others = quote.candidates
    works = [[_work(first, done)] for done in ends]
    works += [[_work(first, done), _work(other, ends[-1] - done)] for other in others for done in (0, *ends[:-1])]
    statements = [statement_for(quote, [part for part in work if part.steps]) for work in works]
    return tuple(statement for statement in statements if statement is not None)


def replicated(payees: Sequence[tuple[int, int]], steps: int) -> list[Work]:
    """Who is paid for a replicated job: each for all of it, and each checked by the next.

    Args:
        payees: (payee id, price) of the machine that ran it, then of the replicas that agree with it.
    """
    checked_by = [*payees[1:], *payees[:1]]
    return [Work(who, by, price, steps) for (who, price), (by, _) in zip(payees, checked_by, strict=True)]


def _majorities(quote: Quote) -> tuple[Statement, ...]:
    """One statement for each machine and each set of replicas that makes a majority with it."""
    others = [(one.provider, one.price_usd_micros) for one in quote.replicas]
    sets = [some for count in range(len(others) // 2, len(others) + 1) for some in combinations(others, count)]
    runners = [(one.provider, one.price_usd_micros) for one in quote.candidates]
    paid = [replicated([runner, *some], quote.plan.steps) for runner in runners for some in sets]
    statements = [statement_for(quote, work) for work in paid]
    return tuple(statement for statement in statements if statement is not None)


def _work(candidate: QuotedProvider, steps: int) -> Work:
    return Work(candidate.provider, candidate.verifier, candidate.price_usd_micros, steps)
