"""Amounts, times and counts as people who are not technical read them."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from gristmill_protocol.money import USD_MICROS, format_usd

_CENT = USD_MICROS // 100


def money(usd_micros: int, *, up: bool = True) -> str:
    """An amount: $1.20, or in cents where it is less than a dime, so that nothing real is shown as nothing.

    Args:
        up: how it is rounded; what is to be paid is rounded up, what somebody has is rounded down.
    """
    rounding = ROUND_CEILING if up else ROUND_FLOOR
    if usd_micros <= 0:
        return "$0"
    if usd_micros >= 10 * _CENT:
        return f"${(Decimal(usd_micros) / USD_MICROS).quantize(Decimal('0.01'), rounding):,}"
    places = Decimal("0.1") if usd_micros >= _CENT else Decimal("0.0001")
    cents = f"{(Decimal(usd_micros) / _CENT).quantize(places, rounding):f}".rstrip("0").rstrip(".")
    return f"{cents} {'cent' if cents == '1' else 'cents'}"


def exact(usd_micros: int) -> str:
    """An amount to the last place."""
    return f"${format_usd(usd_micros)}"


def about(seconds: float) -> str:
    """A length of time, roughly."""
    if seconds < 50:
        return "less than a minute"
    if seconds < 90:
        return "about a minute"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} minutes"
    if seconds < 36 * 3_600:
        return f"about {round(seconds / 3_600)} hours"
    return f"about {round(seconds / 86_400)} days"


def size(size_bytes: int) -> str:
    if size_bytes < 10**6:
        return f"{max(1, round(size_bytes / 1000)):,} KB"
    return f"{size_bytes / 10**6:,.1f} MB" if size_bytes < 10**9 else f"{size_bytes / 10**9:,.1f} GB"


def chances(right: float) -> str:
    """How sure, in words, of a share between 0 and 1."""
    if right >= 0.95:
        return "very sure"
    if right >= 0.8:
        return "quite sure"
    return "not so sure" if right >= 0.5 else "guessing"
