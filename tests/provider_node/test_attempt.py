"""How long an attempt waits for what it needs."""

from gristmill_provider.attempt import WITHOUT_FILES_S, Patience


class Coordinator:
    def __init__(self) -> None:
        self.there = False
        self.now_s = 0.0
        self.patience = Patience(lambda: self.there, lambda: self.now_s, until_s=1_000_000)

    def waited_for(self, now_s: float, *, there: bool) -> bool:
        self.now_s, self.there = now_s, there
        return self.patience.left()


def test_an_outage_is_waited_for_until_the_deadline() -> None:
    coordinator = Coordinator()

    assert coordinator.waited_for(0, there=False)
    assert coordinator.waited_for(999_999, there=False)
    assert not coordinator.waited_for(1_000_000, there=False)


def test_a_coordinator_without_its_files_is_not_waited_for_as_long() -> None:
    coordinator = Coordinator()

    assert coordinator.waited_for(0, there=True)
    assert coordinator.waited_for(800, there=False)
    assert coordinator.waited_for(900, there=True)
    assert coordinator.waited_for(899 + WITHOUT_FILES_S, there=True)
    assert not coordinator.waited_for(900 + WITHOUT_FILES_S, there=True)
