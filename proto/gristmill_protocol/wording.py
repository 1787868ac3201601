"""Amounts, numbers and strangers' texts as people read them, in every part alike."""

from gristmill_protocol.money import format_usd


def usd(amount_usd_micros: int) -> str:
    return f"{format_usd(amount_usd_micros)} USD"


def counted(number: int, one: str, many: str = "") -> str:
    """The number with what is counted, in the singular or the plural (one + "s", if none is given)."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def printable(text: str) -> str:
    """The text without control characters, so that what a stranger's machine says cannot steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
