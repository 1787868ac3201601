"""What anybody can recompute of a window: its root, its place under the anchored root, what was drawn, what came of it.

Nothing here asks anybody; what only the chain knows (that a root was anchored, and the beacon) is checked elsewhere.
"""

from dataclasses import dataclass
from typing import Literal

from gristmill_protocol.api import WindowEvidence
from gristmill_protocol.commitments import draw_seconds, draw_seed, draw_segments
from gristmill_protocol.jobs import Message, WindowState
from gristmill_protocol.merkle import InclusionProof, merkle_root

ACCEPTED = (WindowState.PASSED, WindowState.PAID)

Mark = Literal["ok", "wrong", "note"]


class Finding(Message):
    """One line of a check: it holds, it doesn't, or it is something that was not proven."""

    mark: Mark
    text: str


def ok(text: str) -> Finding:
    return Finding(mark="ok", text=text)


def wrong(text: str) -> Finding:
    return Finding(mark="wrong", text=text)


def note(text: str) -> Finding:
    return Finding(mark="note", text=text)


def held(holds: bool, text: str, otherwise: str) -> Finding:
    return ok(text) if holds else wrong(otherwise)


@dataclass(frozen=True)
class Drawn:
    """What the public numbers draw of a window.

    Args:
        doubled: the segments that have two verifiers from the start.
    """

    segments: tuple[int, ...]
    doubled: tuple[int, ...]


def drawn(job_id: str, window: WindowEvidence) -> Drawn | None:
    """The draw made again; None where nothing is drawn: before there is a beacon, or of what is judged as a whole."""
    if window.root is None or window.beacon is None or window.samples_ppm is None or window.basis is None:
        return None
    root, beacon = bytes.fromhex(window.root), bytes.fromhex(window.beacon)
    seed = draw_seed(beacon=beacon, job_id=job_id, window_id=window.window_id, root=root)
    segments_ = draw_segments(
        seed,
        first_index=window.first_index,
        count=len(window.leaves),
        samples_ppm=window.samples_ppm,
        ends_job=window.ends_job,
    )
    return Drawn(segments_, draw_seconds(seed, segments_, second_ppm=window.basis.second_ppm))


def check_window(job_id: str, window: WindowEvidence) -> list[Finding]:
    """Everything about a window that needs no chain: commitment, draw and audits, a sentence each."""
    name = name_of(window)
    if window.root is None:
        return [note(f"{name} is not committed yet: there is nothing to check.")]
    return [*check_commitment(window), check_draw(job_id, window), *check_audits(window)]


def check_commitment(window: WindowEvidence) -> list[Finding]:
    """Whether the records' leaves give the root, and the root lies under the anchored one."""
    name = name_of(window)
    root = merkle_root([bytes.fromhex(leaf) for leaf in window.leaves]).hex()
    found = [
        held(
            root == window.root,
            f"{name}: its {len(window.leaves)} records give its root {_short(window.root)}.",
            f"{name}: its records give the root {_short(root)}, not {_short(window.root)}.",
        )
    ]
    if window.root is None or window.inclusion is None or window.anchor_root is None:
        return [*found, note(f"{name}: its root is not anchored yet.")]
    siblings = tuple(bytes.fromhex(sibling) for sibling in window.inclusion.siblings)
    proof = InclusionProof(window.inclusion.index, window.inclusion.count, siblings)
    under = _root_of(proof, bytes.fromhex(window.root))
    included = held(
        under == window.anchor_root,
        f"{name}: its root is included in the anchored root {_short(window.anchor_root)}.",
        f"{name}: its root is not included in the anchored root {_short(window.anchor_root)}.",
    )
    return [*found, included]


def check_draw(job_id: str, window: WindowEvidence) -> Finding:
    """Whether the segments said to be drawn are those that the beacon draws."""
    name, again = name_of(window), drawn(job_id, window)
    if window.beacon is None:
        return note(f"{name}: nothing is drawn yet, there is no beacon.")
    if again is None:
        return note(f"{name}: nothing is drawn of it, the job is judged as a whole.")
    if again.doubled != window.doubled:
        said = segments(window.doubled)
        text = f"{name}: the beacon gives two verifiers to {segments(again.doubled)}, but the coordinator says {said}."
        return wrong(text)
    return held(
        again.segments == window.drawn,
        f"{name}: the beacon draws {segments(again.segments)}, as the coordinator says.",
        f"{name}: the beacon draws {segments(again.segments)}, but the coordinator says {segments(window.drawn)}.",
    )


def check_audits(window: WindowEvidence) -> list[Finding]:
    """Whether every drawn segment was run again, with an outcome that fits the verdict."""
    name = name_of(window)
    if window.beacon is None:
        return []
    if window.state not in (*ACCEPTED, WindowState.VOID):
        return [note(f"{name}: there is no verdict yet.")]
    answered = {audit.segment for audit in window.audits if audit.outcome != "pending"}
    passed = {audit.segment for audit in window.audits if audit.outcome == "passed"}
    if window.samples_ppm is None:
        agree = sum(audit.outcome == "passed" for audit in window.audits)
        text = f"{name}: {agree} of {len(window.audits)} who judged the whole job agree with it."
        return [held(window.state is WindowState.VOID or agree > 0, text, text)]
    if window.state is WindowState.VOID:
        missing = set(window.drawn) - answered
        return [held(not missing, f"{name}: it is void, nothing of it counts.", _unanswered(name, missing))]
    missing = set(window.drawn) - passed
    matched = "every drawn segment was run again and matched" if window.drawn else "no segment of it was drawn"
    return [held(not missing, f"{name}: {matched}.", _unanswered(name, missing))]


def made_again(window: WindowEvidence) -> bool:
    """Whether a verifier ran the job's last segment, and so made the result again, and came to the same."""
    last = window.first_index + len(window.leaves) - 1
    passed = any(audit.segment == last and audit.outcome == "passed" for audit in window.audits)
    return window.ends_job and passed and window.state in ACCEPTED


def name_of(window: WindowEvidence) -> str:
    last = window.first_index + max(1, len(window.leaves)) - 1
    return f"Window {window.window_id[-6:]} (segments {window.first_index} to {last})"


def segments(indices: tuple[int, ...]) -> str:
    return f"segment{'s' * (len(indices) != 1)} {', '.join(map(str, indices)) or 'none'}"


def _unanswered(name: str, missing: set[int]) -> str:
    return f"{name}: no audit of {segments(tuple(sorted(missing)))} says that it matched."


def _root_of(proof: InclusionProof, leaf: bytes) -> str | None:
    """None for a proof of the wrong length."""
    try:
        return proof.root(leaf).hex()
    except (StopIteration, RuntimeError):
        return None


def _short(digest: str | None) -> str:
    return f"{digest[:12]}…" if digest else "none"
