"""What to ask for an hour: what others get for the same speed, and never less than the electricity."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_high

from gristmill_protocol.api import OfferView
from gristmill_protocol.money import format_usd
from gristmill_provider.devices import Device

_CPU_WATTS = 65
_CARD_WATTS = 300  # of a card whose driver does not tell
_WITHOUT_A_MARKET = 2  # times the electricity
_BAD = ("quarantined", "removed")


@dataclass(frozen=True)
class Machine:
    """What is offered, as the market sees it."""

    device: str
    is_cpu: bool
    flops_per_s: int


@dataclass(frozen=True)
class Suggestion:
    """A price, micro-USD an hour, and why it is that.

    Args:
        floor_usd_micros: what the electricity costs.
    """

    ask_usd_micros: int
    floor_usd_micros: int
    why: str


def watts_at_work(device: Device | None) -> int:
    """The most that a card draws, by its driver; what a processor usually does where device is None."""
    if device is None or device.is_cpu:
        return _CPU_WATTS
    return device.power_limits_w[1] if device.power_limits_w else _CARD_WATTS


def suggest(market: Sequence[OfferView], machine: Machine, floor_usd_micros: int) -> Suggestion:
    """A price for a machine: the median of what others with the same device ask for as much work.

    Where nobody offers such a device, of what all others ask; where nobody offers anything, twice the electricity.
    """
    trusted = [offer for offer in market if offer.standing not in _BAD and offer.flops_per_s > 0]
    alike = [offer for offer in trusted if _alike(offer, machine)]
    compared = alike or trusted
    if not compared:
        alone = _WITHOUT_A_MARKET * floor_usd_micros
        return Suggestion(alone, floor_usd_micros, "Nobody else offers anything yet: it is twice your electricity.")
    asks = sorted(offer.ask_usd_micros_per_gpu_hour * machine.flops_per_s // offer.flops_per_s for offer in compared)
    whom = f"{len(alike)} other {machine.device} in the market" if alike else f"{len(compared)} other machines"
    spread = f"{_cents(asks[0])} to {_cents(asks[-1])}" if len(asks) > 1 else _cents(asks[0])
    why = f"{whom}: {spread} USD for as much work an hour."
    ask = round_usd_micros(median_high(asks))
    if ask >= floor_usd_micros:
        return Suggestion(ask, floor_usd_micros, f"It is the middle of {why}")
    return Suggestion(
        round_usd_micros(floor_usd_micros, up=True),
        floor_usd_micros,
        f"It is your electricity, which costs more than the market pays. There are {why}",
    )


def round_usd_micros(amount: int, *, up: bool = False) -> int:
    """Two significant digits, as people name prices."""
    unit: int = 10 ** max(0, len(str(amount)) - 2)
    return (-(-amount // unit) if up else (amount + unit // 2) // unit) * unit


def _alike(offer: OfferView, machine: Machine) -> bool:
    return offer.is_cpu == machine.is_cpu and (machine.is_cpu or offer.device == machine.device)


def _cents(amount_usd_micros: int) -> str:
    return format_usd(round_usd_micros(amount_usd_micros))
