"""Money is an int of micro-USD, the base unit of a 6-decimals stablecoin; no float ever touches it."""

import re
from dataclasses import dataclass

from gristmill_protocol.errors import BadRequest

USD_MICROS = 1_000_000
BPS = 10_000
MS_PER_HOUR = 3_600_000

# Constants of contracts/src/Ledger.sol; tests/contracts compares them with the deployed bytecode.
FEE_BPS = 100
MAX_VERIFIER_BPS = 2_000
MAX_ROYALTY_BPS = 500

_USD = re.compile(r"([0-9]{1,24})(?:\.([0-9]{1,6}))?")


def parse_usd(text: str) -> int:
    """Micro-USD of a plain decimal such as "0.50"; never rounds.

    Raises:
        BadRequest: not a decimal with at most six places.
    """
    match = _USD.fullmatch(text.strip().removeprefix("$"))
    if match is None:
        raise BadRequest(f"{text!r} is not an amount of USD.", todo='Write it like "0.50", with at most six decimals.')
    whole, places = match.groups(default="")
    return int(whole) * USD_MICROS + int(places.ljust(6, "0"))


def format_usd(amount_usd_micros: int) -> str:
    """Decimal text with at least two places and no needless zeros: 0.50, 0.001234."""
    sign = "-" if amount_usd_micros < 0 else ""
    whole, micros = divmod(abs(amount_usd_micros), USD_MICROS)
    places = f"{micros:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{places}"


def cost_usd_micros(ask_usd_micros_per_gpu_hour: int, duration_ms: int, gpus: int = 1) -> int:
    """What a lease's time costs, rounded up to a whole micro-USD."""
    return -(-ask_usd_micros_per_gpu_hour * duration_ms * gpus // MS_PER_HOUR)


@dataclass(frozen=True)
class LineSplit:
    """How one statement line's amount is divided, micro-USD; the four sum to the amount."""

    provider: int
    verifier: int
    author: int
    treasury: int


def split_line(amount: int, *, verifier_bps: int, royalty_bps: int) -> LineSplit:
    """Divide a line as Ledger.settle does: shares rounded down, the remainder is the provider's.

    Source: contracts/src/Ledger.sol.
    """
    treasury = amount * FEE_BPS // BPS
    verifier = amount * verifier_bps // BPS
    author = amount * royalty_bps // BPS
    return LineSplit(amount - treasury - verifier - author, verifier, author, treasury)


def gross_for_net(net: int, *, verifier_bps: int, royalty_bps: int) -> int:
    """The smallest simple amount whose provider part is at least net: net / (1 - shares), rounded up."""
    kept_bps = BPS - FEE_BPS - verifier_bps - royalty_bps
    return -(-net * BPS // kept_bps)


def earned(total: int, steps_done: int, steps_total: int) -> int:
    """The part of a job's total that steps_done of steps_total earn, rounded down; exact at the end."""
    return total * steps_done // steps_total
