"""What anybody recomputes of a window notices each change of it."""

from typing import Any

import pytest

from fakes.certified import Certified
from gristmill_protocol.api import Inclusion, WindowEvidence
from gristmill_protocol.evidence import check_window
from gristmill_protocol.jobs import WindowState

TRUE = Certified().evidence()
OTHER = "00" * 32


def problems(**changes: Any) -> list[str]:
    window: WindowEvidence = TRUE.model_copy(update=changes)
    return [finding.text for finding in check_window("job_1", window) if finding.mark == "wrong"]


def test_a_true_window_holds_in_every_line() -> None:
    assert {finding.mark for finding in check_window("job_1", TRUE)} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"leaves": (OTHER, *TRUE.leaves[1:])}, "its records give the root"),
        ({"leaves": TRUE.leaves[:-1]}, "its records give the root"),
        ({"root": OTHER}, "is not included in the anchored root"),
        ({"anchor_root": OTHER}, "is not included in the anchored root"),
        ({"inclusion": Inclusion(index=1, count=2, siblings=())}, "is not included in the anchored root"),
        ({"inclusion": Inclusion(index=0, count=2, siblings=TRUE.inclusion.siblings)}, "is not included"),  # type: ignore[union-attr]
        ({"beacon": "01" * 32}, "but the coordinator says"),
        ({"samples_ppm": 5_000_000}, "but the coordinator says"),
        ({"doubled": (*TRUE.drawn, 99)}, "gives two verifiers to"),
        ({"drawn": TRUE.drawn[:-1]}, "but the coordinator says"),
        ({"audits": TRUE.audits[:-1]}, "no audit of segment"),
        ({"audits": tuple(a.model_copy(update={"outcome": "mismatch"}) for a in TRUE.audits)}, "no audit of segments"),
        ({"state": WindowState.VOID, "audits": ()}, "no audit of segments"),
    ],
)
def test_a_changed_window_is_named(changes: dict[str, Any], sentence: str) -> None:
    assert any(sentence in text for text in problems(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"root": None, "beacon": None},
        {"anchor_root": None, "inclusion": None, "anchor_tx": None, "beacon": None, "drawn": (), "audits": ()},
        {"state": WindowState.SAMPLED, "audits": ()},
    ],
)
def test_what_is_not_decided_yet_is_a_note(changes: dict[str, Any]) -> None:
    assert problems(**changes) == []


def test_the_same_numbers_draw_otherwise_for_another_job() -> None:
    assert any("but the coordinator says" in f.text for n in range(9) for f in check_window(f"job_{n}", TRUE))
