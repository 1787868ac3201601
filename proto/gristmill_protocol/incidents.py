"""What happened to a machine while it worked, as its node recorded and signed it: "who broke it", for both sides."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Literal

from eth_account.signers.local import LocalAccount
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gristmill_protocol.errors import BadRequest
from gristmill_protocol.ids import id_bytes32
from gristmill_protocol.signing import INCIDENTS_TYPE, Domain, require_signer, sign

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


_list = TypeAdapter(Annotated[tuple[Incident, ...], Field(max_length=MAX_INCIDENTS)])


def sign_incidents(account: LocalAccount, attempt_id: str, incidents: Sequence[Incident]) -> tuple[str, str]:
    """The incidents of an attempt as JSON, and the node's signature over them."""
    said = _list.dump_json(tuple(incidents)).decode()
    return said, sign(account, Domain.anywhere(), INCIDENTS_TYPE, _message(attempt_id, said))


def read_incidents(attempt_id: str, said: str, signature: str, *, key: str) -> tuple[Incident, ...]:
    """The incidents that the key's node says an attempt met.

    Raises:
        BadRequest: they cannot be read.
        BadSignature: another key signed them.
    """
    require_signer(Domain.anywhere(), INCIDENTS_TYPE, _message(attempt_id, said), signature, key)
    try:
        return _list.validate_json(said)
    except ValidationError as err:
        raise BadRequest("The incidents cannot be read.") from err


def _message(attempt_id: str, said: str) -> dict[str, object]:
    return {"attempt": id_bytes32(attempt_id), "digest": sha256(said.encode()).digest()}
