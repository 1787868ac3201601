"""Amounts, times and texts as people write and read them."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from gristmill_protocol.api import OfferView
from gristmill_protocol.errors import BadRequest
from gristmill_protocol.jobs import ArtifactRef, GpuNeeds
from gristmill_protocol.modes import Mode
from gristmill_protocol.money import parse_usd


def budget_usd_micros(budget: str | float | Decimal) -> int:
    """Micro-USD of a job's budget; see amount_usd_micros."""
    amount = amount_usd_micros(budget)
    if amount == 0:
        raise BadRequest("The budget is 0 USD.", effect="Nothing was ordered.", todo="Name the most the job may cost.")
    return amount


def amount_usd_micros(amount: str | float | Decimal) -> int:
    """Micro-USD of "0.50", 0.5, 1 or Decimal("0.5"); a float counts as the digits Python prints for it.

    Raises:
        BadRequest: not an amount with at most six decimals.
    """
    if isinstance(amount, bool) or not isinstance(amount, str | int | float | Decimal):
        raise BadRequest(f"{amount!r} is not an amount of USD.", todo='Write it like "0.50".')
    text = amount if isinstance(amount, str) else format(Decimal(str(amount)), "f")
    if "." in text and not isinstance(amount, str):
        text = text.rstrip("0").rstrip(".")  # Decimal("0.50000000") has six decimals that matter
    return parse_usd(text)


_MEMORY = re.compile(r"([0-9]{1,4})\s*(?:GB|G)", re.IGNORECASE)


def gpu_needs(wanted: str) -> GpuNeeds:
    """What "24GB" (of graphics memory, at least) or "RTX 4090" (part of a name) asks of a machine; "" takes any.

    Raises:
        BadRequest: neither.
    """
    text = wanted.strip()
    if not text:
        return GpuNeeds()
    memory = _MEMORY.fullmatch(text)
    if memory is not None:
        return GpuNeeds(memory_bytes=int(memory[1]) * 10**9, allow_cpu=False)
    if text[0].isdigit():
        raise BadRequest(
            f"{wanted!r} is no graphics card.", todo='Write memory like "24GB", or a name like "RTX 4090".'
        )
    return GpuNeeds(names=(text,), allow_cpu=False)


def check_terms(
    mode: str | None, replicas: int, held_out: ArtifactRef | None, threshold: str | float | Decimal | None
) -> dict[str, Any]:
    """What a job's spec says of how it is checked.

    Raises:
        BadRequest: no such mode, number of replicas or share.
    """
    if mode is not None and mode not in list(Mode):
        known = ", ".join(one.value for one in Mode)
        raise BadRequest(f"There is no mode {mode!r}.", effect="Nothing was ordered.", todo=f"Choose one of {known}.")
    if replicas not in (3, 5, 7):
        what = f"{replicas!r} replicas can't be had."
        raise BadRequest(what, effect="Nothing was ordered.", todo="Choose 3, 5 or 7: an odd number has a majority.")
    terms: dict[str, Any] = {"mode": mode, "replicas": replicas, "held_out": held_out, "threshold": None}
    if threshold is not None:
        terms["threshold"] = amount_usd_micros(threshold)  # a share's millionths are written like a USD's
        if not 0 < terms["threshold"] <= 1_000_000:
            what = f"{threshold!r} is no share of the examples."
            raise BadRequest(what, effect="Nothing was ordered.", todo="Write it like 0.9.")
    return terms


def about(seconds: int) -> str:
    """A duration in the unit a person would use: 40 s, 6 min, 2.5 h, 3 days."""
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f}".removesuffix(".0") + " h"
    return f"{round(seconds / 86400)} days"


def card(offer: OfferView) -> str:
    """How an offer stands by the tests of its card, and since when or why."""
    if offer.standing not in ("proven", "provisional"):
        return f"{offer.standing}: {offer.standing_text}"
    if not offer.proven_ms:
        return offer.standing
    return f"{offer.standing} since {datetime.fromtimestamp(offer.proven_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
