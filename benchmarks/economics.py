"""What cheating costs: the table of sample sizes, and a simulation in which every strategy loses against honest work.

Money is in prices of a window. Everything is drawn from one seed, so each run prints the same.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from gristmill_coordinator.domain.sampling import Policy, deterring, samples_ppm
from gristmill_protocol.commitments import PPM
from gristmill_protocol.jobs import SampleBasis
from gristmill_protocol.money import FEE_BPS

SEED = 20_260_801
POLICY = Policy()
COST = POLICY.cost_ppm / PPM
SEGMENTS = 60  # of a window
CAREER = 60  # windows of a provider who stays
TRIALS = 10_000
FEES = (FEE_BPS + 600) / 10_000  # of a window's price: the treasury's and the verifiers'
FAKED = (1 / SEGMENTS, 0.1, 0.25, 0.5, 1.0)
STANDINGS = (0, 10, 50)
COLLUDING = (0.0, 0.1, 0.2, 0.3, 0.4)

Numbers = NDArray[np.float64]
Career = Callable[[int], float]  # a window's number -> the share of it that is faked


@dataclass(frozen=True)
class Foe:
    """A way to cheat.

    Args:
        faked: share of the windows' segments that it makes up.
        colluding: share of the verifiers, by drawn weight, that vouch for it.
        begins: clean windows that its standing has already.
        windows: after which it leaves.
        farmed: windows for which it rented its own machines before, under names that seem unrelated.
        identities: it comes back under so many names, each with a bond of its own, when it is found out.
    """

    faked: Career
    colluding: float = POLICY.colluding_ppm / PPM
    begins: int = 0
    windows: int = CAREER
    identities: int = 1
    farmed: int = 0


def drawn(clean_windows: int) -> float:
    """Samples of a window, when the lock is one window price."""
    basis = SampleBasis(
        price_usd_micros=PPM, lock_usd_micros=PPM, clean_windows=clean_windows, assurance=0, second_ppm=0
    )
    return samples_ppm(basis, SEGMENTS, POLICY) / PPM


def missed(random: np.random.Generator, fakes: int, samples: Numbers, colluding: float) -> NDArray[np.bool_]:
    """For each number of samples, whether nobody finds the fakes: draws without replacement, some verified twice."""
    count = samples.astype(np.int64) + (random.random(len(samples)) < samples % 1)
    hits = random.hypergeometric(fakes, SEGMENTS - fakes, count)
    doubled = random.binomial(hits, POLICY.second_ppm / PPM)
    silent: NDArray[np.bool_] = random.random(len(samples)) < colluding ** (hits + doubled).astype(np.float64)
    return silent


def earnings(foe: Foe, random: np.random.Generator) -> Numbers:
    """What each of TRIALS such providers has in the end: paid windows less its work and the locks it lost."""
    samples = np.array([drawn(clean) for clean in range(CAREER + STANDINGS[-1])])
    money = np.full(TRIALS, -foe.farmed * (COST + FEES))
    standing = np.full(TRIALS, foe.begins + foe.farmed)
    names = np.full(TRIALS, foe.identities)
    for number in range(foe.windows):
        here = np.flatnonzero(names)
        fakes = round(foe.faked(number) * SEGMENTS)
        passed = missed(random, fakes, samples[standing[here]], foe.colluding)
        money[here] += np.where(passed, 1.0, -1.0) - COST * (1 - fakes / SEGMENTS)  # the price, or the lock
        names[here] -= ~passed
        standing[here] = np.where(passed, standing[here] + 1, 0)
    return money


def honest(foe: Foe) -> float:
    """What honest work in the same windows leaves."""
    return (foe.farmed + foe.windows) * (1 - COST)


def strategies() -> dict[str, Foe]:
    """Every way to cheat that is simulated, by name."""
    named = {
        f"fakes {faked:.0%} of every window, standing {clean}": Foe(lambda _, f=faked: f, begins=clean)  # type: ignore[misc]
        for faked in FAKED
        for clean in STANDINGS
    }
    for after in (10, 50):
        name = f"honest for {after} windows, then fakes everything and leaves"
        named[name] = Foe(lambda number, after=after: float(number >= after), windows=after + 1)  # type: ignore[misc]
    for share in COLLUDING:
        named[f"{share:.0%} of the verifiers collude, fakes everything"] = Foe(lambda _: 1.0, share, begins=50)
    for names in (3, 10):
        named[f"{names} identities, each fakes everything until it is found"] = Foe(lambda _: 1.0, identities=names)
    farm = "rents its own machines for {} windows, then fakes everything"
    return named | {farm.format(windows): Foe(lambda _: 1.0, farmed=windows) for windows in (10, 50)}


def sample_sizes() -> str:
    """The samples of a window by what is at stake and by the share of verifiers that collude."""
    stakes = ("1.25", "1.5", "2", "3", "5", "10")
    lines = ["samples of a window for a known provider (x1.5 below 50 clean windows, x3 below 10), at least 0.2"]
    lines.append(f"{'at stake, in window prices':<28}" + "".join(f"{stake:>8}" for stake in stakes))
    for colluding in (0, 10, 20, 30, 40):
        policy = Policy(colluding_ppm=colluding * 10_000)
        needed = [deterring(Fraction(stake), policy) for stake in stakes]
        cells = ["never" if k is None else f"{max(float(k), POLICY.least_ppm / PPM):.2f}" for k in needed]
        lines.append(f"{f'{colluding} % of verifiers collude':<28}" + "".join(f"{cell:>8}" for cell in cells))
    return "\n".join(lines)


def results() -> dict[str, tuple[float, float]]:
    """Strategy -> what it earns on average, and what honest work earns in the same time."""
    random = np.random.default_rng(SEED)
    return {name: (float(earnings(foe, random).mean()), honest(foe)) for name, foe in strategies().items()}


def main() -> int:
    print(sample_sizes())
    print(f"\n{'strategy, on average over 10,000 providers':<62}{'earns':>8}{'honest':>8}{'ratio':>8}")
    pays = 0
    for name, (earned, fair) in results().items():
        print(f"{name:<62}{earned:>8.2f}{fair:>8.2f}{earned / fair:>8.2f}")
        pays += earned >= fair
    print("every strategy earns less than honest work" if not pays else f"{pays} strategies pay")
    return pays


if __name__ == "__main__":
    sys.exit(main())
