"""What a trainer says on stdout, one JSON object a line; the node reads it, signs the segments and passes it on."""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from gristmill_protocol.challenges import Commitment, Opening
from gristmill_protocol.jobs import ArtifactRef, Message, Sha256Hex


class Started(Message):
    event: Literal["started"] = "started"
    numeric_class: Sha256Hex
    state_root: Sha256Hex  # of the state the run starts from
    step: int


class Progress(Message):
    """At most a few a second; numbers are for people, not for verification."""

    event: Literal["progress"] = "progress"
    step: int
    metrics: dict[str, float] = Field(default_factory=dict)


class SegmentDone(Message):
    """A segment's claim, without job, time and class, which the node adds."""

    event: Literal["segment"] = "segment"
    index: int
    step_from: int
    step_to: int
    state_root_prev: Sha256Hex
    state_root: Sha256Hex
    data_root: Sha256Hex
    metrics_root: Sha256Hex
    micro_root: Sha256Hex
    started_ms: int
    ended_ms: int
    state_file: str  # relative to the task folder
    state_sha256: Sha256Hex  # of that file


class Finished(Message):
    event: Literal["finished"] = "finished"
    step: int
    state_root: Sha256Hex
    scorecard: dict[str, Any]
    files: dict[str, Sha256Hex]  # path relative to the task folder's out/result -> content hash


class Stopped(Message):
    """The trainer was asked to leave (SIGTERM) and saved; it exits with 75."""

    event: Literal["stopped"] = "stopped"
    step: int


class Replayed(Message):
    """A verifier's answer; it never saw the claimed digests."""

    event: Literal["replayed"] = "replayed"
    step_from: int
    step_to: int
    state_root_prev: Sha256Hex
    state_root: Sha256Hex
    data_root: Sha256Hex
    metrics_root: Sha256Hex
    state: ArtifactRef | None = None  # out/states/<segment>.safetensors, where the task says keep_state
    start: ArtifactRef | None = None  # out/states/start.safetensors, where the task had no state to start from
    step_roots: tuple[Sha256Hex, ...] = ()  # after each step, where the task asks for them
    files: dict[str, Sha256Hex] = Field(default_factory=dict)  # as in Finished, where the segment ends the job
    scorecard_sha256: Sha256Hex | None = None  # of the canonical JSON of Finished's, where the segment ends the job


class Evaluated(Message):
    """A verifier's answer: how a model does on examples that its provider never saw."""

    event: Literal["evaluated"] = "evaluated"
    correct: int = Field(ge=0)
    examples: int = Field(gt=0)

    @property
    def millionths(self) -> int:
        return min(self.correct, self.examples) * 1_000_000 // self.examples


class Failed(Message):
    event: Literal["failed"] = "failed"
    code: str  # of gristmill_protocol.errors
    what: str
    effect: str = ""
    todo: str = ""


class Probed(Message):
    """Answer of `probe`: which machines this one agrees with bit for bit, and how fast it trains."""

    event: Literal["probed"] = "probed"
    numeric_class: Sha256Hex
    flops_per_s: int


class ChallengeReady(Message):
    """Answers of `challenge`, in this order: everything is loaded, the seed may come."""

    event: Literal["challenge_ready"] = "challenge_ready"


class ChallengeCommitted(Message):
    event: Literal["challenge_committed"] = "challenge_committed"
    commitment: Commitment


class ChallengeOpened(Message):
    event: Literal["challenge_opened"] = "challenge_opened"
    opening: Opening


TrainerEvent = Annotated[
    Started
    | Progress
    | SegmentDone
    | Finished
    | Stopped
    | Replayed
    | Evaluated
    | Failed
    | Probed
    | ChallengeReady
    | ChallengeCommitted
    | ChallengeOpened,
    Field(discriminator="event"),
]
trainer_event: TypeAdapter[TrainerEvent] = TypeAdapter(TrainerEvent)

EXIT_PREEMPTED = 75  # EX_TEMPFAIL: saved, resumable
