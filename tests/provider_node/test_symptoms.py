from dataclasses import replace

import pytest

from gristmill_provider.lookout import Look
from gristmill_provider.rules import Seen
from gristmill_provider.symptoms import symptoms

BEFORE = Look(Seen(), None, wall_s=1_000_000, up_s=5_000, awake_s=4_000)


@pytest.mark.parametrize(
    ("wall_s", "up_s", "awake_s", "told"),
    [
        (2, 2, 2, []),
        (6.9, 2, 2, []),
        (3_602, 2, 2, ["The machine's clock stepped forward by 3600 s."]),
        (-3_598, 2, 2, ["The machine's clock stepped back by 3600 s."]),
        (3_602, 3_602, 2, ["The machine slept for 3600 s."]),
    ],
)
def test_a_clock_that_steps_is_told_from_a_machine_that_slept(
    wall_s: float, up_s: float, awake_s: float, told: list[str]
) -> None:
    now = replace(BEFORE, wall_s=BEFORE.wall_s + wall_s, up_s=BEFORE.up_s + up_s, awake_s=BEFORE.awake_s + awake_s)

    assert [incident.text for incident in symptoms(BEFORE, now)] == told
