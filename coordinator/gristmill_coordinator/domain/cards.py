"""What a tested card is good for: due tests, cohorts, the time that its kind takes, and what an answer proves."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from gristmill_protocol.challenges import key

BARELY_ASKED_S = 60.0  # until a card is asked again whose first test did not take place
UNTESTED_TEXT = "Its card has not been tested yet; it gets jobs of others once it has passed."

_PROCESSOR = "processor/"
_OWNERS = 5  # whose cards have passed, before the time of the others is judged
_SLOWEST_PERCENT = 135  # of the median
_MISSED = 3  # times the usual interval without a passed test, after which a test that isn't taken counts
_COHORT = 8


class Standing(StrEnum):
    """Of an offer, by its card."""

    UNTESTED = "untested"
    QUARANTINED = "quarantined"  # nothing is proven, and nothing is held against it
    REMOVED = "removed"  # failed in a kind of card that is known to pass
    PROVISIONAL = "provisional"  # right, but too few cards of its kind are known to judge its time
    PROVEN = "proven"

    @property
    def proven(self) -> bool:
        """Whether it gets anybody's jobs."""
        return self in (Standing.PROVISIONAL, Standing.PROVEN)


class ChallengeState(StrEnum):
    REQUESTED = "requested"
    READY = "ready"
    STARTED = "started"
    COMMITTED = "committed"
    PASSED = "passed"
    SLOW = "slow"  # right, but too slow: its time is not learned from
    WRONG = "wrong"
    VOID = "void"  # it did not take place, or ended without an answer

    @property
    def ended(self) -> bool:
        return self in (ChallengeState.PASSED, ChallengeState.SLOW, ChallengeState.WRONG, ChallengeState.VOID)


OPEN = tuple(state for state in ChallengeState if not state.ended)


@dataclass(frozen=True)
class Verdict:
    state: ChallengeState
    standing: Standing
    text: str = ""


@dataclass(frozen=True)
class Card:
    """A node that may be tested now.

    Args:
        owner: its payout address.
        tested_s, proven_s: when it was last asked and when it last passed; 0: never.
    """

    node_id: str
    owner: str
    device: str
    standing: Standing
    tested_s: float
    proven_s: float
    text: str = ""  # why it stands as it does


def card(device: str, driver: str, numeric_class: str) -> str:
    """What a test is valid for."""
    return f"{device}/{driver}/{numeric_class}"


def kind(device: str, numeric_class: str, *, is_cpu: bool) -> str:
    """Cards that should take the same time; processors have no name that says so."""
    return f"{_PROCESSOR}{numeric_class}" if is_cpu else f"{device}/{numeric_class}"


def is_timed(kind: str) -> bool:
    """Whether the time of such cards can be judged."""
    return not kind.startswith(_PROCESSOR)


def due_s(node: Card, *, every_s: float, again_s: float) -> float:
    """From when on a node is to be tested."""
    if not node.tested_s:
        return 0.0
    pause_s = BARELY_ASKED_S if node.standing is Standing.UNTESTED else again_s
    return max(node.tested_s + pause_s, node.proven_s + every_s if node.standing.proven else 0.0)


def cohort(due: Sequence[Card], idle: Iterable[Card], *, before_s: float, entropy: bytes) -> list[str]:
    """Node ids to be tested at the same instant: those that are due, their owners' others, and some by chance.

    One card behind several nodes then has to answer several times at once. By chance: nodes of any owner with a device
    of the same name, since one card may also lie behind several owners' names.

    Args:
        before_s: nodes asked since then are left in peace, unless they are due.
    """
    chosen = {node.node_id for node in due}
    rested = [node for node in idle if node.node_id not in chosen and node.tested_s < before_s]
    owners, devices = {node.owner for node in due}, {node.device for node in due}
    chosen |= {node.node_id for node in rested if node.owner in owners}
    others = [node for node in rested if node.device in devices and node.node_id not in chosen and node.standing.proven]
    others.sort(key=lambda node: key(entropy, node.node_id))
    chosen |= {node.node_id for node in others[: max(0, _COHORT - len(chosen))]}
    return sorted(chosen)


def usual_ms(passed: Mapping[str, Sequence[int]], *, without: str) -> int | None:
    """The median over owners of how long their cards took; None while fewer than five others' have passed.

    Args:
        passed: owner -> times of passed tests of this kind of card.
        without: whose card is to be judged.
    """
    times = [median(one) for owner, one in passed.items() if one and owner != without]
    return round(median(times)) if len(times) >= _OWNERS else None


def judge(wrong: str, *, timed: bool, elapsed_ms: int, usual_ms: int | None, driver: str, known: bool) -> Verdict:
    """What an answer shows.

    Args:
        wrong: what is wrong with it; "": it holds.
        timed: whether the time says anything, see is_timed().
        known: whether another owner has passed with this kind of card and this driver.
    """
    if wrong and known:
        text = f"Its card failed its test: {wrong}. It is tested again; no stake is taken."
        return Verdict(ChallengeState.WRONG, Standing.REMOVED, text)
    if wrong:
        text = (
            f"Its card answered its test wrongly ({wrong}), but no other owner has passed with this card and the "
            f"driver {driver!r}: the driver may be at fault. It is tested again, and nothing is held against it."
        )
        return Verdict(ChallengeState.WRONG, Standing.QUARANTINED, text)
    if not timed:
        return Verdict(ChallengeState.PASSED, Standing.PROVEN, "Processors are not judged by their time.")
    if usual_ms is None:
        text = f"Its card answered right. Its time is judged once cards of {_OWNERS} other owners have passed."
        return Verdict(ChallengeState.PASSED, Standing.PROVISIONAL, text)
    if 100 * elapsed_ms > _SLOWEST_PERCENT * usual_ms:
        text = (
            f"Its card took {elapsed_ms / 1000:.2f} s for what cards of its kind do in {usual_ms / 1000:.2f} s; "
            f"{_SLOWEST_PERCENT} % is the limit. It is tested again; no stake is taken."
        )
        return Verdict(ChallengeState.SLOW, Standing.REMOVED, text)
    return Verdict(ChallengeState.PASSED, Standing.PROVEN)


def unanswered(node: Card, reason: str, *, begun: bool, busy: bool, now: float, every_s: float) -> Verdict:
    """What it means that a test brought no answer.

    Args:
        begun: the card had the seed.
        busy: the machine has been given a job meanwhile.
    """
    overdue = node.standing.proven and now > node.proven_s + _MISSED * every_s
    if busy or not (begun or overdue):
        text = f"{UNTESTED_TEXT} {reason}" if node.standing is Standing.UNTESTED else node.text
        return Verdict(ChallengeState.VOID, node.standing, text)
    text = f"Its card gave no answer to its test. {reason} It is tested again, and nothing is held against it."
    return Verdict(ChallengeState.VOID, Standing.QUARANTINED, text)
