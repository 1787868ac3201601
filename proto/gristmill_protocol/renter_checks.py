"""What the renter's side makes sure of before it signs: pure rules, no wire, no clock.

The coordinator proposes every message that is signed here, so each is compared with what the renter asked for.
"""

from collections import defaultdict
from collections.abc import Mapping

from gristmill_protocol.api import InfoView
from gristmill_protocol.errors import NotAllowed, QuoteExpired, RefusedToSign
from gristmill_protocol.jobs import JobSpec, JobView, Quote, Statement
from gristmill_protocol.ladder import ladder_statements
from gristmill_protocol.modes import GUARANTEES, Mode
from gristmill_protocol.money import MAX_ROYALTY_BPS, MAX_VERIFIER_BPS, earned, format_usd
from gristmill_protocol.signin import SignIn

# A provider's bond can be withdrawn after 14 days and a dispute takes 7, so no statement stays open longer than this.
MAX_DEADLINE_S = 7 * 24 * 3600
_MAX_SIGN_IN_S = 3600


def check_sign_in(message: SignIn, *, url: str, address: str) -> None:
    """Raises:
    RefusedToSign: the text is for another key, or would stay good for long.
    NotAllowed: it would open a session at another address than the one we talk to.
    """
    if message.url.rstrip("/") != url:
        raise NotAllowed(
            f"The coordinator at {url} signs people in for {message.url}.",
            effect="Nothing was signed.",
            todo=f"If you trust that address, use it: GRISTMILL_URL={message.url}",
        )
    if message.address.lower() != address.lower() or message.expires_s - message.issued_s > _MAX_SIGN_IN_S:
        raise _refuse("The sign-in text is not for this key, or would be good for more than an hour.")


def check_contracts(info: InfoView, published: Mapping[str, object]) -> None:
    """Make sure that money goes to the contracts that were published, and not to a coordinator's own.

    Args:
        published: a deployment file's content.
    Raises:
        RefusedToSign: the coordinator names others.
    """
    collectors = published.get("collectors")
    named = {
        "chain_id": (info.chain_id, published.get("chain_id")),
        "ledger": (info.ledger, published.get("ledger")),
        "token": (info.token, published.get("token")),
        "collector": (
            info.deposits.erc3009 if info.deposits else None,
            collectors.get("erc3009") if isinstance(collectors, Mapping) else None,
        ),
    }
    for name, (said, wanted) in named.items():
        if said is not None and str(said).lower() != str(wanted).lower():
            raise _refuse(f"The coordinator names the {name} {said}; the deployment says {wanted}.")


def check_quote(quote: Quote, spec: JobSpec, *, now_s: float) -> None:
    """Make sure that ordering a quote can never cost more than the renter allowed.

    Raises:
        QuoteExpired: too late to order it.
        RefusedToSign: it is for another job, or its price, cap, ladder, shares or deadline break the rules.
    """
    if now_s >= quote.expires_s:
        raise QuoteExpired("The quote has expired.", effect="Nothing was ordered.", todo="Ask for a new one.")
    if quote.spec_digest != spec.digest().hex():
        raise _refuse("The quote is for another job than the one asked for.")
    again = sum(one.price_usd_micros for one in quote.replicas)
    if not quote.candidates or quote.candidates[0].price_usd_micros + again != quote.price_usd_micros:
        raise _refuse("The quote's price is not that of its first machine and of those that run it again.")
    _check_mode(quote, spec)
    if not quote.price_usd_micros <= quote.cap_usd_micros <= spec.budget_usd_micros:
        raise _refuse(
            f"The quote's price of {format_usd(quote.price_usd_micros)} USD and cap of "
            f"{format_usd(quote.cap_usd_micros)} USD do not fit the budget of {format_usd(spec.budget_usd_micros)} USD."
        )
    if any(rung.total_usd_micros > quote.cap_usd_micros for rung in ladder_statements(quote)):
        raise _refuse("A statement of the quote would pay more than its cap.")
    if quote.verifier_bps > MAX_VERIFIER_BPS or quote.royalty_bps > MAX_ROYALTY_BPS:
        raise _refuse("The quote's shares for verifier or author are above the Ledger's limits.")
    if not now_s < quote.deadline_s <= now_s + MAX_DEADLINE_S:
        raise _refuse("The quote's statements could be settled after their time.")


def _check_mode(quote: Quote, spec: JobSpec) -> None:
    """Raises:
    RefusedToSign: it would be checked otherwise than asked for, or than the quote says.
    """
    if spec.mode not in (None, quote.mode):
        raise _refuse(f"The quote's mode is {quote.mode.value!r}, not {spec.mode!r} as asked for.")
    if quote.guarantee != GUARANTEES[quote.mode]:
        raise _refuse(f"The quote promises something else than what the mode {quote.mode.value!r} guarantees.")
    owners = {one.provider for one in quote.replicas}
    wanted = spec.replicas - 1 if quote.mode is Mode.REPLICATE else 0
    if len(owners) != wanted or owners & {one.provider for one in quote.candidates}:
        raise _refuse(f"The quote does not have the job run again by {wanted} others.")


def check_statement(wanted: Statement, quote: Quote, job: JobView) -> None:
    """Make sure that a statement beyond the ladder pays at most for accepted work, at its price, up to the cap.

    Raises:
        RefusedToSign: it pays more, somebody else, or under other terms than ordered.
    """
    if (wanted.nonce, wanted.deadline_s) != (quote.nonce, quote.deadline_s):
        raise _refuse("The statement is not the one of this order.")
    if any(line.recipe != quote.recipe_id for line in wanted.lines):
        raise _refuse("The statement pays for another recipe than the one ordered.")
    if wanted.total_usd_micros > quote.cap_usd_micros:
        raise _refuse("The statement pays more than the order's cap.")
    limits = _earned_by_provider(quote, job) | _earned_by_replicas(quote, job)
    verifiers = {candidate.verifier for candidate in quote.candidates}
    verifiers |= {audit.verifier for window in job.windows for audit in window.audits}
    if quote.replicas:  # who ran it is one of those who check the others
        verifiers |= {attempt.provider for attempt in job.attempts}
    paid: defaultdict[int, int] = defaultdict(int)
    for line in wanted.lines:
        if line.verifier not in verifiers:
            raise _refuse("The statement pays a verifier that checked nothing of this job.")
        paid[line.provider] += line.amount_usd_micros
    for provider, amount in paid.items():
        if amount > limits.get(provider, 0):
            raise _refuse(
                f"The statement pays provider {provider} {format_usd(amount)} USD; "
                f"its accepted work earned {format_usd(limits.get(provider, 0))} USD."
            )


def _earned_by_provider(quote: Quote, job: JobView) -> dict[int, int]:
    """The most each provider may be paid, micro-USD: its accepted steps at the price of the attempt that made them.

    A job may move to a machine that was not quoted, so an attempt's price is the coordinator's word; what holds it is
    the cap over all.
    """
    steps: defaultdict[tuple[int, int], int] = defaultdict(int)
    end = min(job.steps_accepted, quote.plan.steps)
    for attempt in sorted(job.attempts, key=lambda attempt: attempt.number, reverse=True):
        accepted = min(attempt.step_to, end) - attempt.step_from
        steps[attempt.provider, attempt.price_usd_micros] += max(accepted, 0)
        end = min(end, attempt.step_from)  # what came later was done by somebody else
    limits: defaultdict[int, int] = defaultdict(int)
    for (provider, price), done in steps.items():
        limits[provider] += earned(price, done, quote.plan.steps)
    return dict(limits)


def _earned_by_replicas(quote: Quote, job: JobView) -> dict[int, int]:
    """The most each machine that ran the whole job again may be paid, micro-USD: what such a machine was quoted at."""
    most = max((one.price_usd_micros for one in quote.replicas), default=0)
    audits = [audit for window in job.windows for audit in window.audits]
    return {audit.verifier: most for audit in audits if audit.why_drawn == "replica" and audit.outcome == "passed"}


def _refuse(what: str) -> RefusedToSign:
    return RefusedToSign(
        what,
        effect="Nothing was signed.",
        todo="The coordinator is faulty or dishonest: tell its operator, and order elsewhere meanwhile.",
    )
