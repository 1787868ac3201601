"""What a renter asks for, what is quoted, and what a trainer is told to do: pydantic at every edge."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gristmill_protocol.canonical import sha256_json
from gristmill_protocol.grid import Grid
from gristmill_protocol.modes import Mode

Sha256Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Hex = Annotated[str, Field(pattern=r"^0x[0-9a-f]*$")]
Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]  # EIP-55 checksummed where we make it
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# A full name in lower case: no address, no wildcard, no name of the local network.
Host = Annotated[str, Field(max_length=253, pattern=rf"^({_LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]$")]
Hosts = Annotated[tuple[Host, ...], Field(max_length=16)]
UsdMicros = Annotated[int, Field(ge=0, lt=2**96)]

EGRESS_SOCKET = "egress.sock"  # in the task's folder; there if the job may reach hosts


class Message(BaseModel):
    """Base of what crosses a border: frozen, and unknown fields are refused rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ArtifactRef(Message):
    """A file addressed by its content."""

    sha256: Sha256Hex
    size_bytes: int = Field(ge=0)


class DataStats(Message):
    """What planning needs to know of a data set; made by the recipe's check()."""

    examples: int = Field(ge=0)
    answers: dict[str, int] = {}  # examples per answer (class)
    shape: tuple[int, ...] = ()  # e.g. (channels, height, width) of the pictures
    size_bytes: int = 0


class GpuNeeds(Message):
    """Which machines may run the job."""

    memory_bytes: int = Field(default=0, ge=0)
    names: tuple[str, ...] = ()
    allow_cpu: bool = True


class JobSpec(Message):
    """What the renter wants done, once."""

    recipe: str
    settings: dict[str, Any] = {}  # what the renter chose; recipe.plan resolves the rest
    data: ArtifactRef
    stats: DataStats
    seed: int = Field(default=0, ge=0, lt=2**63)
    gpu: GpuNeeds = GpuNeeds()
    mode: Mode | None = None  # how the work is checked; None: the strongest way that the market has for it
    replicas: Literal[3, 5, 7] = 3  # replicate: how many owners' machines run it, the provider's included
    held_out: ArtifactRef | None = None  # outcome: examples that the provider is never given
    threshold: int | None = Field(default=None, gt=0, le=1_000_000)  # outcome: how many of a million must be right
    assurance: int = Field(default=0, ge=0, le=64)  # samples that each window has at least
    budget_usd_micros: UsdMicros  # the most this job may ever cost
    name: str = ""

    def digest(self) -> bytes:
        """SHA-256 of the canonical JSON: what an order signs."""
        return sha256_json(self.model_dump(mode="json"))


class Plan(Message):
    """A recipe's answer to settings, data and machine: pure arithmetic, no torch."""

    settings: dict[str, Any]  # resolved, every field present
    steps: int = Field(gt=0)
    segment_steps: int = Field(gt=0)
    end_steps: int = Field(default=0, ge=0)  # of the first and the last segment; 0: as the others
    window_segments: int = Field(default=60, gt=0)
    flops: int = Field(gt=0)
    peak_bytes: int = Field(gt=0)
    state_bytes: int = Field(gt=0)
    download_bytes: int = 0
    network: Hosts = ()  # what it must reach while it trains
    limit_s: int = Field(default=0, ge=0)  # what is paid for on any machine, whatever flops say; 0: flops decide

    @property
    def grid(self) -> Grid:
        return Grid(self.steps, self.segment_steps, self.end_steps)

    @property
    def segments(self) -> int:
        return len(self.grid)


class QuotedProvider(Message):
    """One machine the quoted price counts on, and the verifier drawn for it. Ids are the Ledger's payee ids."""

    node_id: str
    provider: int
    verifier: int
    price_usd_micros: UsdMicros  # gross, for the whole job on this machine
    device: str
    expected_seconds: int


class QuotedReplica(Message):
    """One machine that runs a replicated job again, and what it is paid, gross, if it is in the majority."""

    node_id: str
    provider: int
    price_usd_micros: UsdMicros


class Quote(Message):
    """A firm total price before start. The renter never pays more than the cap, and never for unverified steps."""

    quote_id: str
    spec_digest: Sha256Hex
    plan: Plan
    candidates: tuple[QuotedProvider, ...]  # [0] runs the job; [1], where there is one, takes over if it is lost
    replicas: tuple[QuotedReplica, ...] = ()  # in replicate mode
    price_usd_micros: UsdMicros  # candidates[0]'s and the replicas'
    cap_usd_micros: UsdMicros  # the most the job may cost, moves included; <= spec.budget_usd_micros
    seconds_low: int
    seconds_high: int
    recipe_id: int  # the Ledger's
    verifier_bps: int
    royalty_bps: int
    nonce: int  # of the statement that pays this job
    deadline_s: int  # unix time until which the statements may be settled
    expires_s: int  # unix time until which the quote may be ordered
    offers_considered: int
    excluded: dict[str, int] = {}  # requirement -> offers it excluded
    mode: Mode
    guarantee: str  # of that mode, modes.GUARANTEES
    verification: str  # one sentence: what will be checked, how much of it


class StatementLine(Message):
    """One payment of a statement; ids as in contracts/src/Ledger.sol."""

    provider: int = Field(ge=0, lt=2**32)
    verifier: int = Field(ge=0, lt=2**32)
    recipe: int = Field(ge=0, lt=2**32)
    amount_usd_micros: UsdMicros


class Statement(Message):
    """Renter-signed list of payment lines under one nonce; a ladder is the same nonce at rising totals."""

    nonce: int = Field(ge=0, lt=2**32)
    deadline_s: int = Field(ge=0, lt=2**40)
    lines: tuple[StatementLine, ...] = Field(min_length=1, max_length=65_535)

    @property
    def total_usd_micros(self) -> int:
        return sum(line.amount_usd_micros for line in self.lines)

    def share_usd_micros(self, provider: int) -> int:
        """The sum of a provider's lines, before fee and shares."""
        return sum(line.amount_usd_micros for line in self.lines if line.provider == provider)


class SignedStatement(Message):
    statement: Statement
    signature: Hex  # 65 bytes r, s, v


class Order(Message):
    """A renter's signed request: this spec, at most this much, under this nonce."""

    key: Address  # the renter's hot key, which is the account
    coordinator: int  # the Ledger's coordinator id
    spec_digest: Sha256Hex
    cap_usd_micros: UsdMicros
    nonce: int
    deadline_s: int


class SignedOrder(Message):
    order: Order
    signature: Hex


class Reservation(Message):
    """The coordinator's promise to the holder of a lease: the nonce may pay so much, and so much is accepted of it."""

    key: Address  # the renter's
    coordinator: int = Field(ge=0, lt=2**32)
    provider: int = Field(ge=0, lt=2**32)  # payee id that holds the lease
    nonce: int = Field(ge=0, lt=2**32)
    cap_usd_micros: UsdMicros  # the most that the nonce may pay, to all payees together
    accepted_usd_micros: UsdMicros  # the provider's lines, gross, in the highest statement released to it so far
    forced_from_s: int = Field(ge=0, lt=2**40)  # unix time from which others than the coordinator may settle


class SignedReservation(Message):
    reservation: Reservation
    signature: Hex


class JobSubmission(Message):
    request_id: str = Field(min_length=8, max_length=64)  # makes the submission idempotent
    quote_id: str
    spec: JobSpec
    order: SignedOrder
    ladder: tuple[SignedStatement, ...]


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    CHECKING = "checking"
    SETTLING = "settling"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def ended(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.STOPPED)


class AttemptState(StrEnum):
    OFFERED = "offered"
    PREPARING = "preparing"
    RUNNING = "running"
    FINISHED = "finished"
    YIELDED = "yielded"
    LOST = "lost"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self in (AttemptState.FINISHED, AttemptState.YIELDED, AttemptState.LOST, AttemptState.FAILED)


class WindowState(StrEnum):
    OPEN = "open"
    COMMITTED = "committed"
    SAMPLED = "sampled"
    PASSED = "passed"
    DISPUTED = "disputed"
    VOID = "void"
    PAID = "paid"


class AttemptView(Message):
    attempt_id: str
    number: int
    state: AttemptState
    reason: str  # why it is in that state, a plain sentence; "" while all is well
    provider: int
    provider_name: str
    device: str
    price_usd_micros: UsdMicros
    step_from: int
    step_to: int  # committed so far


class AuditView(Message):
    window_id: str
    segment: int
    verifier: int  # 0 until it has answered
    verifier_name: str
    outcome: Literal["pending", "passed", "mismatch", "unserved"]
    # second: a second verifier from the start
    why_drawn: Literal["first", "last", "drawn", "second", "second opinion", "replica", "measurement"]


class SampleBasis(Message):
    """What a window's number of samples was computed from; docs/verification.md has the formula."""

    price_usd_micros: UsdMicros  # of the window's steps
    lock_usd_micros: UsdMicros  # of the provider's bond, for this job
    clean_windows: int  # the provider's, audited and passed, since its last fault
    assurance: int  # the renter asked for at least so many
    second_ppm: int  # chance of a segment to have two verifiers from the start


class WindowView(Message):
    window_id: str
    attempt_id: str
    state: WindowState
    root: Sha256Hex | None
    anchor_tx: Hex | None
    beacon: Sha256Hex | None
    first_index: int
    segments: int
    samples_ppm: int | None  # drawn besides the job's first and last segment, in millionths; none before the draw
    basis: SampleBasis | None
    audits: tuple[AuditView, ...]
    reason: str


class Bill(Message):
    """Who got what, micro-USD, from the settled statement."""

    paid_usd_micros: UsdMicros
    provider_usd_micros: UsdMicros
    verifier_usd_micros: UsdMicros
    author_usd_micros: UsdMicros
    treasury_usd_micros: UsdMicros
    settle_tx: Hex | None


class SlashView(Message):
    provider: int
    provider_name: str
    amount_usd_micros: UsdMicros
    tx: Hex | None
    reason: str


class DisputeView(Message):
    """A challenge of work that did not hold, as its renter sees it."""

    window_id: str
    dispute: int | None  # its id in the contract, once it is open
    provider: int
    provider_name: str
    amount_usd_micros: UsdMicros  # of its stake in question
    reason: str
    course: str  # how it stands, a plain sentence
    closed: bool
    tx: Hex | None  # of what happened last


class JobView(Message):
    """A job as its renter sees it."""

    job_id: str
    name: str
    recipe: str
    state: JobState
    reason: str
    created_ms: int
    price_usd_micros: UsdMicros
    cap_usd_micros: UsdMicros
    mode: Mode
    guarantee: str
    steps_total: int
    steps_done: int  # reported by the running attempt
    steps_accepted: int  # verified and payable
    last_event: int  # sequence number, for /events?after=
    attempts: tuple[AttemptView, ...]
    windows: tuple[WindowView, ...]
    slashes: tuple[SlashView, ...]
    disputes: tuple[DisputeView, ...] = ()
    outputs: dict[str, ArtifactRef]  # file name -> artifact, once DONE
    final_state_root: Sha256Hex | None
    scorecard: dict[str, Any] | None
    bill: Bill | None
    signature_wanted: Statement | None  # set when the ladder does not cover what happened: sign this to go on


class JobEvent(Message):
    """One line of a job's story, for logs and progress bars."""

    seq: int
    at_ms: int
    kind: str  # "state" | "progress" | "segment" | "audit" | "log" | "payment" | "dispute" | "slash"
    text: str  # a plain sentence
    fields: dict[str, Any] = {}


class TrainTask(Message):
    """What the trainer does, as it finds it in task.json; everything that may change a bit of the result is here."""

    job_id: str
    attempt_id: str
    recipe: str
    settings: dict[str, Any]
    seed: int
    steps: int
    segment_steps: int
    end_steps: int = 0
    step_from: int = 0  # resume here from input/state.safetensors when > 0
    step_to: int | None = None  # replay: stop here, write nothing but the digests
    keep_state: bool = False  # replay: leave the end state in out/states too, and the start if none was given
    step_roots: bool = False  # replay: tell the state root after every step, too
    segment_index: int = 0  # of the first segment this task runs
    threads: int = 1
    network: Hosts = ()  # what it may reach, through the proxy at EGRESS_SOCKET
    data: ArtifactRef
    state: ArtifactRef | None = None  # the boundary state to start from
    model: dict[str, ArtifactRef] = {}  # evaluate: the files of a finished model, to be measured on the data

    @property
    def grid(self) -> Grid:
        return Grid(self.steps, self.segment_steps, self.end_steps)
