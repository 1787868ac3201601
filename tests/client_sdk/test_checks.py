"""What the SDK refuses to sign, whoever asks."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill import NotAllowed, QuoteExpired, RefusedToSign
from gristmill.testing import FakeCoordinator
from gristmill_protocol.jobs import (
    AttemptState,
    AttemptView,
    AuditView,
    JobSpec,
    JobView,
    Quote,
    QuotedReplica,
    Statement,
    StatementLine,
    WindowState,
    WindowView,
)
from gristmill_protocol.ladder import Work, ladder_statements, replicated, statement_for
from gristmill_protocol.modes import Mode
from gristmill_protocol.money import earned
from gristmill_protocol.renter_checks import MAX_DEADLINE_S, check_quote, check_sign_in, check_statement
from gristmill_protocol.signin import SignIn

NOW = 1_800_000_000.0
ADDRESS = "0x" + "ab" * 20
URL = "https://mill.example.org"
STEPS = 100


@pytest.fixture(scope="module")
def ordered(mails: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[JobSpec, Quote, JobView]:
    """An order of 100 steps, as agreed, and the job as it stands in the queue."""
    with FakeCoordinator().client(tmp_path_factory.mktemp("state")) as client:
        plan = client.plan("text-sorter", data=mails, budget="0.50", rounds=100)
        assert plan.quote.plan.steps == STEPS
        return plan.spec, plan.quote, plan.start().view()


@pytest.fixture(scope="module")
def quoted(ordered: tuple[JobSpec, Quote, JobView]) -> tuple[JobSpec, Quote]:
    return ordered[:2]


def _first(quote: Quote, **changes: Any) -> dict[str, Any]:
    return {"candidates": (quote.candidates[0].model_copy(update=changes), *quote.candidates[1:])}


TAMPERINGS: dict[str, Callable[[Quote], dict[str, Any]]] = {
    "another job": lambda quote: {"spec_digest": "00" * 32},
    "cap above the budget": lambda quote: {"cap_usd_micros": 500_001},
    "price above the cap": lambda quote: {"cap_usd_micros": quote.price_usd_micros - 1},
    "price of no machine": lambda quote: {"price_usd_micros": quote.price_usd_micros - 1},
    "no machine": lambda quote: {"candidates": ()},
    "dearer first machine": lambda quote: _first(quote, price_usd_micros=quote.cap_usd_micros + 1),
    "dearer second machine": lambda quote: {
        "candidates": (
            quote.candidates[0],
            quote.candidates[1].model_copy(update={"price_usd_micros": quote.cap_usd_micros + 1}),
        )
    },
    "verifier's share": lambda quote: {"verifier_bps": 2_001},
    "author's share": lambda quote: {"royalty_bps": 501},
    "settled after the bond is gone": lambda quote: {"deadline_s": int(NOW) + MAX_DEADLINE_S + 1},
    "another way of checking": lambda quote: {"mode": Mode.TOLERANCE},
    "another guarantee": lambda quote: {"guarantee": "Nothing can go wrong."},
    "others that run it again": lambda quote: {
        "replicas": (QuotedReplica(node_id="node_9", provider=9, price_usd_micros=0),)
    },
    "settled never": lambda quote: {"deadline_s": int(NOW)},
}


def test_honest_quote_passes(quoted: tuple[JobSpec, Quote]) -> None:
    spec, quote = quoted

    check_quote(quote, spec, now_s=NOW)


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampered_quote_is_refused(quoted: tuple[JobSpec, Quote], name: str) -> None:
    spec, quote = quoted

    with pytest.raises(RefusedToSign, match="Nothing was signed"):
        check_quote(quote.model_copy(update=TAMPERINGS[name](quote)), spec, now_s=NOW)


@pytest.fixture(scope="module")
def replicated_job(tmp_path_factory: pytest.TempPathFactory) -> tuple[JobSpec, Quote, JobView]:
    """A script of three owners as quoted, and the job when two others agree with who ran it."""
    folder = tmp_path_factory.mktemp("script")
    (folder / "train.py").write_text("open('out/a', 'w').write('b')\n")
    with FakeCoordinator().client(tmp_path_factory.mktemp("state")) as client:
        plan = client.plan("script", data=folder, budget="0.50", mode="replicate")
        view = plan.start().view()
    replicas = tuple(one.model_copy(update={"price_usd_micros": 1_000}) for one in plan.quote.replicas)
    price = plan.quote.price_usd_micros + 2_000
    quote = plan.quote.model_copy(update={"replicas": replicas, "price_usd_micros": price})
    audits = tuple(
        AuditView(
            window_id="w", segment=0, verifier=payee, verifier_name="n", outcome=outcome, why_drawn="replica"
        )
        for payee, outcome in ((replicas[0].provider, "passed"), (77, "passed"), (88, "mismatch"))
    )  # fmt: skip
    window = WindowView(
        window_id="w", attempt_id="attempt_1", state=WindowState.PASSED, root=None, anchor_tx=None, beacon=None,
        samples_ppm=None, basis=None, first_index=0,
        segments=1, audits=audits, reason="",
    )  # fmt: skip
    first = quote.candidates[0]
    attempt = AttemptView(
        attempt_id="attempt_1", number=1, state=AttemptState.FINISHED, reason="", provider=first.provider,
        provider_name="n", device="d", price_usd_micros=first.price_usd_micros, step_from=0, step_to=1,
    )  # fmt: skip
    done = view.model_copy(update={"windows": (window,), "attempts": (attempt,), "steps_accepted": 1})
    return plan.spec, quote, done


def _paid(quote: Quote, *others: tuple[int, int]) -> Statement:
    payees = [(quote.candidates[0].provider, quote.candidates[0].price_usd_micros), *others]
    statement = statement_for(quote, replicated(payees, 1))
    assert statement is not None
    return statement


def test_a_replica_that_took_anothers_place_is_paid(replicated_job: tuple[JobSpec, Quote, JobView]) -> None:
    spec, quote, job = replicated_job

    check_quote(quote, spec, now_s=NOW)
    check_statement(_paid(quote, (quote.replicas[0].provider, 1_000), (77, 1_000)), quote, job)


@pytest.mark.parametrize("payee", [(77, 1_001), (88, 1_000), (99, 1_000)])
def test_a_replica_is_paid_no_more_than_quoted_and_only_for_agreeing(
    payee: tuple[int, int], replicated_job: tuple[JobSpec, Quote, JobView]
) -> None:
    _, quote, job = replicated_job

    with pytest.raises(RefusedToSign):
        check_statement(_paid(quote, (quote.replicas[0].provider, 1_000), payee), quote, job)


def test_a_quote_without_the_replicas_asked_for_is_refused(replicated_job: tuple[JobSpec, Quote, JobView]) -> None:
    spec, quote, _ = replicated_job
    fewer = {"replicas": quote.replicas[:1], "price_usd_micros": quote.price_usd_micros - 1_000}

    with pytest.raises(RefusedToSign, match="run again by 2 others"):
        check_quote(quote.model_copy(update=fewer), spec, now_s=NOW)


def test_quote_is_refused_when_it_has_expired(quoted: tuple[JobSpec, Quote]) -> None:
    spec, quote = quoted

    with pytest.raises(QuoteExpired):
        check_quote(quote, spec, now_s=quote.expires_s)


@pytest.mark.parametrize("name", TAMPERINGS)
def test_client_does_not_order_on_a_tampered_quote(mails: Path, tmp_path: Path, name: str) -> None:
    class Tampering(FakeCoordinator):
        def quote(self, renter: str, spec: JobSpec) -> Quote:
            honest = super().quote(renter, spec)
            return honest.model_copy(update=TAMPERINGS[name](honest))

    fake = Tampering()

    with fake.client(tmp_path) as client, pytest.raises(RefusedToSign):
        client.train("text-sorter", data=mails, budget="0.50")

    assert not fake.artifacts


def _sign_in(**changes: Any) -> SignIn:
    fields = {"address": ADDRESS, "url": URL, "chain_id": 1, "nonce": "a" * 8, "issued_s": 0, "expires_s": 300}
    return SignIn(**(fields | changes))


def test_sign_in_for_this_key_and_address_passes() -> None:
    check_sign_in(_sign_in(), url=URL, address=ADDRESS.upper().replace("0X", "0x"))


def test_sign_in_for_another_site_is_refused() -> None:
    with pytest.raises(NotAllowed, match=r"other\.example"):
        check_sign_in(_sign_in(url="https://other.example"), url=URL, address=ADDRESS)


@pytest.mark.parametrize("changes", [{"address": "0x" + "cd" * 20}, {"expires_s": 3601}])
def test_sign_in_for_another_key_or_for_long_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RefusedToSign):
        check_sign_in(_sign_in(**changes), url=URL, address=ADDRESS)


# Statements beyond the ladder


def _attempt(number: int, provider: int, step_from: int, step_to: int, price: int, device: str = "x") -> AttemptView:
    return AttemptView(
        attempt_id=f"attempt_{number}",
        number=number,
        state=AttemptState.LOST,
        reason="",
        provider=provider,
        provider_name="",
        device=device,
        price_usd_micros=price,
        step_from=step_from,
        step_to=step_to,
    )


@pytest.fixture(scope="module")
def moved(ordered: tuple[JobSpec, Quote, JobView]) -> tuple[Quote, JobView]:
    """60 steps on the quoted machine, of which 30 were void, and 70 on machine 7 for 90,000."""
    _, quote, view = ordered
    attempts = (_attempt(1, 1, 0, 60, quote.price_usd_micros, "fake"), _attempt(2, 7, 30, 100, 90_000))
    return quote, view.model_copy(update={"attempts": attempts, "steps_accepted": STEPS})


def _statement(quote: Quote, *lines: tuple[int, int, int], **changes: Any) -> Statement:
    made = tuple(
        StatementLine(provider=provider, verifier=verifier, recipe=changes.get("recipe", 1), amount_usd_micros=amount)
        for provider, verifier, amount in lines
    )
    return Statement(
        nonce=changes.get("nonce", quote.nonce), deadline_s=changes.get("deadline_s", quote.deadline_s), lines=made
    )


def test_statement_for_accepted_work_passes(moved: tuple[Quote, JobView]) -> None:
    quote, view = moved

    check_statement(_statement(quote, (1, 3, 24_000), (7, 4, 63_000)), quote, view)


REFUSED: dict[str, Callable[[Quote], Statement]] = {
    "void work": lambda quote: _statement(quote, (1, 3, 24_001)),
    "split to hide the sum": lambda quote: _statement(quote, (1, 3, 24_000), (1, 4, 1)),
    "work not done": lambda quote: _statement(quote, (7, 4, 63_001)),
    "stranger": lambda quote: _statement(quote, (9, 4, 1)),
    "stranger as verifier": lambda quote: _statement(quote, (1, 9, 1)),
    "another nonce": lambda quote: _statement(quote, (1, 3, 1), nonce=quote.nonce + 1),
    "another deadline": lambda quote: _statement(quote, (1, 3, 1), deadline_s=quote.deadline_s + 1),
    "another recipe": lambda quote: _statement(quote, (1, 3, 1), recipe=2),
}


@pytest.mark.parametrize("name", REFUSED)
def test_statement_that_pays_more_than_agreed_is_refused(moved: tuple[Quote, JobView], name: str) -> None:
    quote, view = moved

    with pytest.raises(RefusedToSign):
        check_statement(REFUSED[name](quote), quote, view)


def test_statement_above_the_cap_is_refused(moved: tuple[Quote, JobView]) -> None:
    quote, view = moved
    dear = view.model_copy(update={"attempts": (_attempt(1, 7, 0, 100, quote.cap_usd_micros + 1),)})

    with pytest.raises(RefusedToSign, match="cap"):
        check_statement(_statement(quote, (7, 4, quote.cap_usd_micros + 1)), quote, dear)


@given(cuts=st.lists(st.integers(1, STEPS - 1), unique=True, max_size=5), lie=st.integers(0, 5))
def test_honest_statement_always_passes_and_one_micro_more_never(
    ordered: tuple[JobSpec, Quote, JobView], cuts: list[int], lie: int
) -> None:
    _, quote, view = ordered
    edges = [0, *sorted(cuts), STEPS]
    runs = [(provider, start, end) for provider, (start, end) in enumerate(pairwise(edges), 10)]
    attempts = tuple(_attempt(provider, provider, start, end, 1_000 + provider) for provider, start, end in runs)
    view = view.model_copy(update={"attempts": attempts, "steps_accepted": STEPS})
    honest = statement_for(quote, [Work(provider, 3, 1_000 + provider, end - start) for provider, start, end in runs])
    assert honest is not None

    check_statement(honest, quote, view)

    at = lie % len(honest.lines)
    greedy = honest.lines[at].model_copy(update={"amount_usd_micros": honest.lines[at].amount_usd_micros + 1})
    lines = (*honest.lines[:at], greedy, *honest.lines[at + 1 :])
    with pytest.raises(RefusedToSign):
        check_statement(honest.model_copy(update={"lines": lines}), quote, view)


def test_every_rung_of_the_ladder_would_pass_as_a_statement(ordered: tuple[JobSpec, Quote, JobView]) -> None:
    _, quote, view = ordered
    price = quote.price_usd_micros

    for rung in ladder_statements(quote):
        paid = {line.provider: line.amount_usd_micros for line in rung.lines}
        moved_at = next(step for step in range(STEPS + 1) if earned(price, step, STEPS) == paid.get(1, 0))
        end = STEPS if 2 in paid else moved_at
        attempts = (_attempt(1, 1, 0, moved_at, price, "fake"), _attempt(2, 2, moved_at, end, price, "fake"))
        check_statement(rung, quote, view.model_copy(update={"attempts": attempts, "steps_accepted": end}))
