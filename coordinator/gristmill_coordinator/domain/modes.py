"""What each way of checking demands of the draw and of those who check."""

from dataclasses import dataclass

from gristmill_protocol.modes import Mode


@dataclass(frozen=True)
class Demands:
    """How work is checked in a mode that runs drawn segments again."""

    samples_factor: int  # how many times the usual number of segments is drawn
    verifiers: int  # for each drawn segment, from the start
    same_class: bool  # their machines compute the same bits as the provider's; else none of them does
    keep_state: bool  # they hand over the state they came to


DEMANDS = {
    Mode.BITWISE: Demands(samples_factor=1, verifiers=1, same_class=True, keep_state=False),
    Mode.TOLERANCE: Demands(samples_factor=2, verifiers=2, same_class=False, keep_state=True),
}
