"""What the coordinator's HTTP API says besides jobs: itself, its market, an account, a session."""

from typing import Literal

from pydantic import Field

from gristmill_protocol.jobs import (
    Address,
    AuditView,
    Hex,
    JobEvent,
    Message,
    SampleBasis,
    Sha256Hex,
    UsdMicros,
    WindowState,
)
from gristmill_protocol.wallet import DepositTerms


class ChainHealth(Message):
    """How far a coordinator has read the chain."""

    block: int
    behind_s: int  # since that block was made
    trouble: str  # what is wrong with its node; "": nothing


class HealthView(Message):
    """Whether a coordinator needs a person."""

    status: Literal["ok", "chain_trouble", "alarm"]
    alarms: int  # differences between its books and the chain
    waiting_jobs: int = 0  # for a machine
    chain: ChainHealth


class NodeTerms(Message):
    """What a node needs to join. Its owner pins it in the node's settings: none of it is taken anew later."""

    grpc_address: str  # host:port that nodes dial
    disputes: Address  # the contract that challenges of work are decided in
    images: dict[str, str]  # recipe -> image by digest; none: jobs run as plain processes here
    rpc_url: str = ""  # of a node of the chain that anybody may ask; "": the operator names none


class InfoView(Message):
    """Where this coordinator settles; renters sign for this chain, this Ledger and this coordinator."""

    version: str
    url: str  # the address it signs people in under
    chain_id: int
    ledger: Address
    registry: Address
    token: Address
    coordinator: int
    recipes: dict[str, int]  # recipe -> the Ledger's recipe id
    max_artifact_bytes: int
    deposits: DepositTerms | None = None  # None: this coordinator hands nothing in
    nodes: NodeTerms | None = None  # None: as of a coordinator that no node connects to


class RecipeView(Message):
    recipe: str
    title: str
    summary: str
    settings_schema: dict[str, object]  # JSON Schema of what a renter may set


class OfferView(Message):
    """One machine of the market, as anybody may see it."""

    node_id: str
    provider: int
    provider_name: str
    device: str
    is_cpu: bool
    memory_bytes: int
    flops_per_s: int
    ask_usd_micros_per_gpu_hour: UsdMicros
    slots: int
    slots_free: int
    sandbox: str
    standing: str = "proven"  # of its card: untested, quarantined, removed, provisional, proven
    standing_text: str = ""  # why, a sentence
    proven_ms: int = 0  # when its card last passed a test; 0: never


class MachineView(Message):
    """One machine of a provider, and why it has nothing to do."""

    offer: OfferView
    connected: bool
    paused: bool
    heard_ms: int  # when it was last heard; 0: never
    idle: tuple[str, ...]  # why, in sentences, as far as the coordinator knows; empty while it works


class EarnedDay(Message):
    """What a provider was paid for in one day."""

    day: str  # of the chain's clock, UTC, as in 2026-01-31
    usd_micros: UsdMicros  # what it was left with, for work and for checks
    jobs: int


class SlashedView(Message):
    """A part of a bond that its owner lost, as the chain says."""

    provider: int
    provider_name: str
    amount_usd_micros: UsdMicros
    at_s: int
    tx: Hex


class ProviderView(Message):
    """Who sells time, as anybody may see it."""

    provider: int
    name: str  # of its machine that was heard last
    machines: int
    connected: int  # of them
    devices: tuple[str, ...]
    ask_usd_micros_per_gpu_hour: UsdMicros | None  # the lowest of its connected machines
    bonded_usd_micros: UsdMicros  # that counts: nothing while it stands accused of fraud
    clean_windows: int  # checked and right since its last fault
    frauds: int
    slashed_usd_micros: UsdMicros


class ProviderPage(Message):
    """All that the coordinator knows of one provider."""

    about: ProviderView
    machines: tuple[MachineView, ...]
    earned: tuple[EarnedDay, ...]  # days with payments, newest first; of its 2,000 newest paid jobs
    slashes: tuple[SlashedView, ...]  # newest first


class MarketView(Message):
    """The market in numbers; nothing in it names a renter or a job."""

    jobs: dict[str, int]  # by JobState
    paid_usd_micros: UsdMicros  # for all jobs so far
    accepted_steps: int
    audits: dict[str, int]  # by outcome: pending, passed, failed, ...
    windows: dict[str, int]  # by WindowState: what the verdicts were
    faults: dict[str, int]  # why windows were not accepted -> how many
    slashes: tuple[SlashedView, ...]  # newest first
    slashed_usd_micros: UsdMicros


class AccountView(Message):
    """A renter's money, as the Ledger and the running jobs leave it."""

    key: Address
    balance_usd_micros: UsdMicros  # on chain, less what is being withdrawn
    reserved_usd_micros: UsdMicros  # the caps of jobs that are not settled
    available_usd_micros: UsdMicros
    owner: Address | None = None  # who may withdraw; None: the account is not open
    outside_usd_micros: UsdMicros = 0  # what the key's own address holds, not deposited
    withdrawing_usd_micros: UsdMicros = 0  # asked for, less what jobs have taken of it since
    withdrawal_at_s: int = 0  # when that is paid, by the chain's clock; 0: nothing is asked for
    withdrawal_requests: int = 0  # so far; the next signed one carries this number
    chain_time_s: int = 0  # of the newest block


class ChallengeRequest(Message):
    address: Address


class Challenge(Message):
    message: str  # signin.SignIn.text()


class SessionRequest(Message):
    message: str = Field(max_length=4096)
    signature: Hex = Field(max_length=200)


class Session(Message):
    token: str
    expires_s: int  # unix time


class EventsView(Message):
    events: tuple[JobEvent, ...]


class Inclusion(Message):
    """merkle.InclusionProof in hex."""

    index: int = Field(ge=0)
    count: int = Field(gt=0)
    siblings: tuple[Sha256Hex, ...]


class WindowEvidence(Message):
    """All that it takes to recompute what was committed of a window and what was drawn of it; see evidence.py."""

    window_id: str
    attempt_id: str
    state: WindowState  # "sampled" until the verdict, whatever the audits say
    first_index: int
    leaves: tuple[Sha256Hex, ...]  # of its records, in order; a digest each, so that no verifier learns a result
    root: Sha256Hex | None  # None: not committed yet
    anchor_root: Sha256Hex | None
    inclusion: Inclusion | None  # of root in anchor_root
    anchor_tx: Hex | None  # the Registry's Anchored event
    beacon: Sha256Hex | None  # prevrandao of the block after the one that holds anchor_tx
    ends_job: bool  # whether its last segment reaches the job's last step
    samples_ppm: (
        int | None
    )  # drawn besides the job's first and last segment, in millionths; None: judged as a whole, or not drawn yet
    basis: SampleBasis | None  # what that number was computed from; None: no beacon yet, or judged as a whole
    drawn: tuple[int, ...]  # what the coordinator says was drawn
    doubled: tuple[int, ...]  # those of them that have two verifiers from the start
    audits: tuple[AuditView, ...]  # once there is a verdict


class AuditsView(Message):
    """A job's draws, for anybody: nothing in it names the renter, the data or, before the verdict, a verifier."""

    job_id: str
    chain_id: int
    registry: Address
    coordinator: int
    windows: tuple[WindowEvidence, ...]
