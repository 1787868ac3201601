"""What a transaction may cost, and which payments are worth one: wei per gas, micro-USD for money, integers only."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

WEI = 10**18  # of one whole native coin
GWEI = 10**9


class Outcome(StrEnum):
    """What became of a transaction that we meant to send, once it can't change any more."""

    PENDING = ""
    SUCCEEDED = "succeeded"
    REVERTED = "reverted"
    REFUSED = "refused"  # the contract would not take it: it was not sent and had no nonce
    DISPLACED = "displaced"  # somebody else with the same key used its nonce
    TOO_DEAR = "too_dear"  # its gas would cost more than it is worth


@dataclass(frozen=True)
class Bid:
    """What is offered per gas, as in EIP-1559."""

    max_fee_wei: int
    tip_wei: int


def offer(*, base_fee_wei: int, tip_wei: int, cap_wei: int | None) -> Bid | None:
    """A bid that stays good while the base fee doubles, which takes six full blocks; None above the cap."""
    if cap_wei is None:
        return Bid(2 * base_fee_wei + tip_wei, tip_wei)
    if base_fee_wei + tip_wei > cap_wei:
        return None
    return Bid(min(2 * base_fee_wei + tip_wei, cap_wei), tip_wei)


def outbid(last: Bid, live: Bid, *, cap_wei: int | None) -> Bid | None:
    """The least bid that replaces the last one and is good at live prices; None above the cap.

    Nodes take a replacement only if both fees are higher by a tenth (geth) to an eighth (others).
    """
    bid = Bid(
        max(live.max_fee_wei, _an_eighth_more(last.max_fee_wei)), max(live.tip_wei, _an_eighth_more(last.tip_wei))
    )
    return None if cap_wei is not None and bid.max_fee_wei > cap_wei else bid


def cost_usd_micros(gas: int, wei_per_gas: int, native_usd_micros: int) -> int:
    """What gas costs, rounded up."""
    return -(-gas * wei_per_gas * native_usd_micros // WEI)


def ceiling_wei(worth_usd_micros: int, gas: int, native_usd_micros: int) -> int | None:
    """The highest price per gas at which this gas costs no more than it is worth; None where gas costs nothing."""
    if native_usd_micros == 0:
        return None
    return worth_usd_micros * WEI // (gas * native_usd_micros)


def cheapest(*caps_wei: int | None) -> int | None:
    """The lowest of these caps; None if there is none."""
    return min((cap for cap in caps_wei if cap is not None), default=None)


def bearing(fees: Sequence[int], *, fixed: int, each: int) -> list[int]:
    """The most payments whose fees together cover one transaction, as positions; none if no set does.

    The dearest gas is the transaction's own, so one large payment carries small ones along.

    Args:
        fixed: what a transaction costs without any payment, micro-USD.
        each: what a payment adds.
    """
    order = sorted(range(len(fees)), key=lambda at: -fees[at])
    best, surplus = 0, -fixed
    for count, at in enumerate(order, start=1):
        surplus += fees[at] - each
        if surplus >= 0:
            best = count
    return order[:best]


def outweighing(totals: Sequence[int], *, fixed: int, each: int) -> list[int]:
    """The most payments of which each exceeds its equal part of one transaction's gas, as positions."""
    order = sorted(range(len(totals)), key=lambda at: -totals[at])
    best = 0
    for count, at in enumerate(order, start=1):
        if (totals[at] - each) * count > fixed:
            best = count
    return order[:best]


def _an_eighth_more(fee_wei: int) -> int:
    return max(fee_wei + 1, -(-fee_wei * 9 // 8))
