"""Amounts, durations and texts for people."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill import BadRequest
from gristmill._wording import about, budget_usd_micros, card, check_terms, gpu_needs
from gristmill_protocol.api import OfferView
from gristmill_protocol.jobs import GpuNeeds
from gristmill_protocol.money import format_usd
from gristmill_protocol.wording import printable

MICROS = st.integers(min_value=1, max_value=10**15)


@given(MICROS)
def test_budget_reads_what_is_printed(micros: int) -> None:
    assert budget_usd_micros(format_usd(micros)) == micros


@given(MICROS)
def test_budget_of_a_decimal_is_exact(micros: int) -> None:
    assert budget_usd_micros(Decimal(micros) / 10**6) == micros


@given(st.integers(min_value=1, max_value=10**9))
def test_budget_of_a_float_is_the_digits_python_prints(micros: int) -> None:
    assert budget_usd_micros(micros / 10**6) == micros


@given(st.one_of(st.text(), st.floats(), st.decimals(), st.booleans(), st.none(), st.integers(max_value=0)))
def test_budget_is_positive_or_refused(budget: object) -> None:
    try:
        amount = budget_usd_micros(budget)  # type: ignore[arg-type]
    except BadRequest:
        return
    assert amount > 0


@pytest.mark.parametrize("budget", [0, 0.0, "0", -1, "-0.5", float("nan"), float("inf"), 1e-7, 0.1 + 0.2, True, "1e3"])
def test_budget_that_is_no_exact_amount_is_refused(budget: object) -> None:
    with pytest.raises(BadRequest):
        budget_usd_micros(budget)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "said"), [(40, "40 s"), (360, "6 min"), (9000, "2.5 h"), (7200, "2 h"), (260_000, "3 days")]
)
def test_duration_is_in_a_persons_unit(seconds: int, said: str) -> None:
    assert about(seconds) == said


def test_text_of_strangers_cannot_steer_a_terminal() -> None:
    assert printable("done\x1b[2J\r\n\u202eevil") == "done [2J   evil"


@pytest.mark.parametrize(
    ("wanted", "needs"),
    [
        ("", GpuNeeds()),
        ("24GB", GpuNeeds(memory_bytes=24 * 10**9, allow_cpu=False)),
        ("8 gb", GpuNeeds(memory_bytes=8 * 10**9, allow_cpu=False)),
        ("RTX 4090", GpuNeeds(names=("RTX 4090",), allow_cpu=False)),
    ],
)
def test_a_graphics_card_is_named_by_memory_or_name(wanted: str, needs: GpuNeeds) -> None:
    assert gpu_needs(wanted) == needs


def test_a_share_is_kept_in_millionths() -> None:
    terms = check_terms("outcome", 3, None, "0.9")

    assert (terms["mode"], terms["threshold"]) == ("outcome", 900_000)


@pytest.mark.parametrize(
    ("mode", "replicas", "threshold", "said"),
    [
        ("exactly", 3, None, "no mode 'exactly'"),
        ("replicate", 4, None, "4 replicas"),
        ("outcome", 3, "0", "'0' is no share"),
        ("outcome", 3, 90, "90 is no share"),
    ],
)
def test_what_is_no_way_of_checking_is_refused(
    mode: str, replicas: int, threshold: str | float | None, said: str
) -> None:
    with pytest.raises(BadRequest, match=said):
        check_terms(mode, replicas, None, threshold)


@pytest.mark.parametrize("wanted", ["24", "24TB", "1.5GB"])
def test_what_names_no_graphics_card_is_refused(wanted: str) -> None:
    with pytest.raises(BadRequest, match="no graphics card"):
        gpu_needs(wanted)


@pytest.mark.parametrize(
    ("standing", "text", "proven_ms", "said"),
    [
        ("proven", "", 1_800_000_000_000, "proven since 2027-01-15 08:00 UTC"),
        ("provisional", "Too few are known.", 1_800_000_000_000, "provisional since 2027-01-15 08:00 UTC"),
        ("quarantined", "It gave no answer.", 1_800_000_000_000, "quarantined: It gave no answer."),
        ("untested", "It has not been tested.", 0, "untested: It has not been tested."),
    ],
)
def test_a_card_is_described_with_time_or_reason(standing: str, text: str, proven_ms: int, said: str) -> None:
    offer = OfferView(
        node_id="n", provider=1, provider_name="ann", device="CPU", is_cpu=True, memory_bytes=1, flops_per_s=1,
        ask_usd_micros_per_gpu_hour=1, slots=1, slots_free=1, sandbox="docker", standing=standing, standing_text=text,
        proven_ms=proven_ms,
    )  # fmt: skip

    assert card(offer) == said
