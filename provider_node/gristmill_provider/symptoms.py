"""What went wrong with the machine between two looks at it, in sentences that say whose fault it is likely to be."""

from collections.abc import Iterator

from gristmill_protocol.incidents import Incident, IncidentKind
from gristmill_provider.devices import Reading
from gristmill_provider.lookout import Look

_STEP_S = 5  # a clock is corrected by less all the time
_SLEPT_S = 10

# https://docs.nvidia.com/deploy/xid-errors/: those that tell most about who broke it.
_PROGRAMS = "usually the fault of the program that ran"
_HARDWARES = "usually the fault of the card"
_XIDS = {
    13: f"the card's processors met an error, {_PROGRAMS}",
    31: f"a program read memory that was not its own, {_PROGRAMS}",
    43: f"a program stopped working, {_PROGRAMS}",
    45: "a program was ended",
    48: f"memory of the card was wrong and could not be corrected, {_HARDWARES}",
    61: f"the card's own program failed, {_HARDWARES}",
    62: f"the card's own program failed, {_HARDWARES}",
    63: "a part of the card's memory was taken out of use",
    64: f"a part of the card's memory could not be taken out of use, {_HARDWARES}",
    74: f"a link between cards failed, {_HARDWARES}",
    79: f"the card fell off the bus, {_HARDWARES}, its power or its slot",
    94: f"memory of the card was wrong; only the program that ran was hit, {_HARDWARES}",
    95: f"memory of the card was wrong, and more than one program was hit, {_HARDWARES}",
    119: "the card's own processor did not answer the driver",
    120: "the card's own processor failed",
}


def symptoms(before: Look, now: Look) -> Iterator[Incident]:
    """Everything between two looks that either side would want to know."""
    for kind, text in (*_of_the_clock(before, now), *_of_the_card(before, now)):
        yield Incident(kind=kind, at_s=int(now.wall_s), text=text)


def _of_the_clock(before: Look, now: Look) -> Iterator[tuple[IncidentKind, str]]:
    up_s = now.up_s - before.up_s
    step_s = now.wall_s - before.wall_s - up_s
    if abs(step_s) > _STEP_S:
        yield "clock", f"The machine's clock stepped {'forward' if step_s > 0 else 'back'} by {abs(step_s):.0f} s."
    slept_s = up_s - (now.awake_s - before.awake_s)
    if slept_s > _SLEPT_S:
        yield "slept", f"The machine slept for {slept_s:.0f} s."


def _of_the_card(before: Look, now: Look) -> Iterator[tuple[IncidentKind, str]]:
    if now.seen.trouble and not before.seen.trouble:
        yield "card_lost", now.seen.trouble
    if before.seen.trouble and not now.seen.trouble:
        yield "card_back", "The graphics card answers again."
    if now.reading is None:
        return
    for xid in now.reading.xids:
        yield "xid", f"The graphics driver reported error Xid {xid}: {_XIDS.get(xid, 'see its documentation')}."
    yield from _since(before.reading, now.reading)


def _since(before: Reading | None, now: Reading) -> Iterator[tuple[IncidentKind, str]]:
    if before is None:
        return
    if before.ecc_errors is not None and now.ecc_errors is not None and now.ecc_errors > before.ecc_errors:
        more = now.ecc_errors - before.ecc_errors
        yield "ecc", f"Memory of the card was wrong {more} times and could not be corrected, {_HARDWARES}."
    for limit in now.throttled:
        if limit not in before.throttled and limit != "its power limit":  # which every card meets under load
            yield "throttled", f"The card was slowed down by {limit}."
