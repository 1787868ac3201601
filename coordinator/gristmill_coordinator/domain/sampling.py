"""How many segments of a window are run again, so that faking any share of it costs more than it saves.

A window's price is 1. Honest work on it costs c of that; whoever fakes a share f of it saves f c. Each of the k
segments drawn finds out with d = 1 - kappa, kappa being the share of verifiers that collude; what is lost then is A:
the window's pay, 1, and the lock, in window prices. With D(f) the chance to be found, EV = f c - D(f) A. D is concave
in f and D(0) = 0, so D(f) >= f D(1), and EV < 0 for every f as soon as D(1) A > c. The policy asks for (1 + mu) c.

Source: docs/verification.md. Integers and fractions only: anybody gets the same number from the same basis.
"""

from dataclasses import dataclass
from fractions import Fraction

from gristmill_protocol.commitments import PPM
from gristmill_protocol.jobs import Plan, SampleBasis

# Windows that were audited and passed, below which so many times the samples are drawn.
_REPUTATION = ((10, Fraction(3)), (50, Fraction(3, 2)))

_MOST_COLLUDING_PPM = 900_000


@dataclass(frozen=True)
class Policy:
    """What the market's operator assumes and wants; millionths.

    Args:
        cost_ppm: c, what honest work costs a provider, of its price.
        margin_ppm: mu, by how much more than it saves a fake has to cost.
        colluding_ppm: kappa.
        least_ppm: samples of a window, whatever the formula says.
        second_ppm: chance of a drawn segment to have two verifiers from the start.
    """

    cost_ppm: int = 800_000
    margin_ppm: int = 500_000
    colluding_ppm: int = 200_000
    least_ppm: int = 200_000
    second_ppm: int = 100_000

    def __post_init__(self) -> None:
        if not (0 < self.cost_ppm <= PPM and 0 <= self.colluding_ppm <= _MOST_COLLUDING_PPM):
            raise ValueError("cost_ppm has to be above 0 and at most 1000000, colluding_ppm at most 900000")
        if min(self.margin_ppm, self.least_ppm, self.second_ppm) < 0:
            raise ValueError("margin_ppm, least_ppm and second_ppm can't be negative")


def lock_usd_micros(price_usd_micros: int, plan: Plan) -> int:
    """The part of its bond that a provider stakes on a job: the price of its largest window, rounded up."""
    steps = min(plan.window_segments * plan.segment_steps, plan.steps)
    return -(-price_usd_micros * steps // plan.steps)


def deterring(at_stake: Fraction, policy: Policy) -> Fraction | None:
    """k: the samples of a window that keep a provider honest; None if no number does.

    k is drawn as n or n + 1, so D(1) runs straight between its values at whole numbers, 1 - kappa^n, and so does k.

    Args:
        at_stake: A, what is lost by being found out, in window prices.
    """
    kappa = Fraction(policy.colluding_ppm, PPM)
    wanted = Fraction(policy.cost_ppm, PPM) * (1 + Fraction(policy.margin_ppm, PPM)) / at_stake
    if wanted >= 1:
        return None
    whole = 0
    while 1 - kappa ** (whole + 1) < wanted:
        whole += 1
    found = 1 - kappa**whole
    return whole + (wanted - found) / (kappa**whole * (1 - kappa))


def reputation(clean_windows: int) -> Fraction:
    """m: how many times as much of a provider's work is sampled, by the windows that were audited and passed."""
    return next((times for below, times in _REPUTATION if clean_windows < below), Fraction(1))


def samples_ppm(basis: SampleBasis, segments: int, policy: Policy) -> int:
    """How many of a window's segments to draw besides the job's first, in millionths, rounded up; at most all."""
    at_stake = 1 + Fraction(basis.lock_usd_micros, max(1, basis.price_usd_micros))
    needed = deterring(at_stake, policy)
    if needed is None:
        return segments * PPM
    k_ppm = needed * reputation(basis.clean_windows) * PPM
    return min(segments * PPM, max(-(-k_ppm.numerator // k_ppm.denominator), policy.least_ppm, basis.assurance * PPM))
