"""What the coordinator's HTTP API says besides jobs: itself, its market, an account, a session."""

from pydantic import Field

from gristmill_protocol.jobs import Address, Hex, JobEvent, Message, UsdMicros


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


class AccountView(Message):
    """A renter's money, as the Ledger and the running jobs leave it."""

    key: Address
    balance_usd_micros: UsdMicros  # on chain
    reserved_usd_micros: UsdMicros  # the caps of jobs that are not settled
    available_usd_micros: UsdMicros


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
