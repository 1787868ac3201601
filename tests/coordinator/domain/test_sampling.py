"""How many samples: enough that no share of faked work pays, and no more than that."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from gristmill_coordinator.config import Config
from gristmill_coordinator.domain.sampling import Policy, deterring, lock_usd_micros, samples_ppm
from gristmill_protocol.commitments import PPM
from gristmill_protocol.jobs import Plan, SampleBasis

SEGMENTS = 60


def basis(**changes: int) -> SampleBasis:
    values = {"price_usd_micros": 100, "lock_usd_micros": 100, "clean_windows": 50, "assurance": 0, "second_ppm": 0}
    return SampleBasis.model_validate(values | changes)


def found(faked: Fraction, samples: int, colluding: Fraction) -> Fraction:
    """The chance that one of so many drawn segments is a faked one whose verifier says so."""
    return 1 - (1 - faked * (1 - colluding)) ** samples


policies = st.builds(
    Policy,
    cost_ppm=st.integers(1, PPM),
    margin_ppm=st.integers(1, PPM),
    colluding_ppm=st.integers(0, 600_000),
    least_ppm=st.just(0),
)


@given(policies, st.integers(1, 10**9), st.integers(0, 10**10), st.integers(0, 80), st.integers(1, PPM))
def test_no_share_of_faked_work_pays(policy: Policy, price: int, lock: int, clean: int, faked_ppm: int) -> None:
    at_stake = 1 + Fraction(lock, price)
    assume(deterring(at_stake, policy) is not None)
    drawn_ppm = samples_ppm(basis(price_usd_micros=price, lock_usd_micros=lock, clean_windows=clean), 500, policy)
    whole, more = divmod(drawn_ppm, PPM)
    faked, colluding = Fraction(faked_ppm, PPM), Fraction(policy.colluding_ppm, PPM)
    chance = Fraction(more, PPM)

    caught = (1 - chance) * found(faked, whole, colluding) + chance * found(faked, whole + 1, colluding)
    gain = faked * Fraction(policy.cost_ppm, PPM) - caught * at_stake

    assert drawn_ppm < 500 * PPM
    assert gain < 0


@given(policies, st.integers(10, 1_000))
def test_it_asks_for_no_more_than_the_margin(policy: Policy, stake_percent: int) -> None:
    at_stake = 1 + Fraction(stake_percent, 100)
    samples = deterring(at_stake, policy)
    assume(samples is not None)
    assert samples is not None
    whole, colluding = int(samples), Fraction(policy.colluding_ppm, PPM)
    caught = found(Fraction(1), whole, colluding)
    caught += (samples - whole) * (found(Fraction(1), whole + 1, colluding) - caught)

    assert caught * at_stake == Fraction(policy.cost_ppm, PPM) * (1 + Fraction(policy.margin_ppm, PPM))


@pytest.mark.parametrize(
    ("changes", "samples"),
    [
        ({}, 750_000),
        ({"clean_windows": 49}, 1_125_000),
        ({"clean_windows": 9}, 2_250_000),
        ({"lock_usd_micros": 10**6}, 200_000),  # the floor
        ({"assurance": 4}, 4_000_000),
        ({"lock_usd_micros": 25}, 2_000_000),
        ({"lock_usd_micros": 20}, SEGMENTS * PPM),  # no number deters as much as is wanted: 1.5 x 0.8 / 1.2 = 1
        ({"lock_usd_micros": 0}, SEGMENTS * PPM),
        ({"price_usd_micros": 0}, 200_000),
    ],
)
def test_samples_by_stake_and_standing(changes: dict[str, int], samples: int) -> None:
    assert samples_ppm(basis(**changes), SEGMENTS, Policy()) == samples


def test_the_lock_is_the_price_of_the_largest_window() -> None:
    def plan(steps: int) -> Plan:
        return Plan(
            settings={}, steps=steps, segment_steps=10, window_segments=60, flops=1, peak_bytes=1, state_bytes=1
        )

    assert lock_usd_micros(1_000, plan(80)) == 1_000
    assert lock_usd_micros(1_000, plan(1_800)) == 334


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    assert Config(sampling={"margin_ppm": 250_000}).sampling == Policy(margin_ppm=250_000)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="colluding_ppm"):
        Config(sampling={"colluding_ppm": PPM})  # type: ignore[arg-type]
