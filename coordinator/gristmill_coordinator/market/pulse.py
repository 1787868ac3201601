"""When each node was last heard, doing what; in memory, because beats are many and worth nothing once late."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Beat:
    at_s: float
    attempts: frozenset[str]
    audits: frozenset[str]


class Pulse:
    """The last heartbeat of each node that beats here."""

    def __init__(self) -> None:
        self._beats: dict[str, Beat] = {}
        self._unwritten: set[str] = set()
        self._missing: dict[str, float] = {}
        self._shown: dict[str, float] = {}
        self._numbers_shown: dict[str, float] = {}

    def beat(self, node_id: str, at_s: float, attempts: frozenset[str], audits: frozenset[str]) -> None:
        self._beats[node_id] = Beat(at_s, attempts, audits)
        self._unwritten.add(node_id)

    def heard_s(self, node_id: str) -> float:
        beat = self._beats.get(node_id)
        return 0.0 if beat is None else beat.at_s

    def attempts(self, node_id: str) -> frozenset[str] | None:
        """The attempts the node last said it had, None if it never said."""
        beat = self._beats.get(node_id)
        return None if beat is None else beat.attempts

    def beats(self) -> dict[str, Beat]:
        return dict(self._beats)

    def take_unwritten(self) -> dict[str, float]:
        """Node id -> when it was last heard, for those heard since the last call."""
        unwritten, self._unwritten = self._unwritten, set()
        return {node_id: self._beats[node_id].at_s for node_id in unwritten}

    def unlisted_since(self, attempt_id: str, node_id: str, now: float) -> float:
        """Since when the node's beats have not listed an attempt it should have; now if the last one did."""
        attempts = self.attempts(node_id)
        if attempts is None or attempt_id in attempts:
            self._missing.pop(attempt_id, None)
            return now
        return self._missing.setdefault(attempt_id, now)

    def may_show(self, attempt_id: str, now: float, every_s: float) -> bool:
        """Whether an attempt's progress was not shown within the last every_s; it counts as shown now."""
        if now < self._shown.get(attempt_id, 0.0) + every_s:
            return False
        self._shown[attempt_id] = now
        return True

    def may_show_numbers(self, attempt_id: str, now: float, every_s: float) -> bool:
        """The same for the numbers of a job whose only step takes as long as the job."""
        if now < self._numbers_shown.get(attempt_id, 0.0) + every_s:
            return False
        self._numbers_shown[attempt_id] = now
        return True

    def forget(self, attempt_id: str) -> None:
        """The attempt has ended."""
        self._missing.pop(attempt_id, None)
        self._shown.pop(attempt_id, None)
        self._numbers_shown.pop(attempt_id, None)
