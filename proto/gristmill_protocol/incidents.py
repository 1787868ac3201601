"""What happened to a machine while it worked, as its node recorded and signed it: "who broke it", for both sides."""

from hashlib import sha256
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gristmill_protocol.ids import id_bytes32

MAX_INCIDENTS = 20  # of an attempt; what happened last counts

IncidentKind = Literal[
    "xid",  # an error that the graphics driver reported, by NVIDIA's number
    "ecc",  # memory of the card that was wrong and could not be corrected
    "throttled",  # slowed down by heat or power
    "card_lost",  # the card or its driver stopped answering
    "card_back",
    "out_of_memory",  # the job wanted more than it may have
    "reboot",  # the machine was started anew
    "killed",  # the node was, without a chance to stop in order
    "slept",  # the machine was suspended
    "clock",  # it stepped, or differs from the coordinator's
    "standing",  # the coordinator judged the card, or checks that were not done
]


class Incident(BaseModel):
    """One thing that happened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: IncidentKind
    at_s: int = Field(ge=0)  # unix time, by the machine's clock
    text: str = Field(max_length=300)  # a plain sentence


incident_list = TypeAdapter(Annotated[tuple[Incident, ...], Field(max_length=MAX_INCIDENTS)])


def incidents_message(attempt_id: str, incidents_json: str) -> dict[str, object]:
    """What a node signs (signing.INCIDENTS_TYPE): its list of an attempt's incidents, byte by byte."""
    return {"attempt": id_bytes32(attempt_id), "digest": sha256(incidents_json.encode()).digest()}
