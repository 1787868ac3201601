"""How a coordinator is set up: environment variables GRISTMILL_COORDINATOR_*, overridden by a file and by flags."""

import json
import os
import secrets
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from eth_account.signers.local import LocalAccount
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gristmill_coordinator.domain.gas import GWEI
from gristmill_coordinator.domain.sampling import Policy
from gristmill_coordinator.studio.settings import StudioSettings
from gristmill_protocol.errors import BadRequest, BadSettings, NotFound
from gristmill_protocol.keystore import load_key
from gristmill_protocol.money import parse_usd

_SECRET_BYTES = 32


class Config(BaseSettings):
    """Every setting of a coordinator; durations in seconds."""

    model_config = SettingsConfigDict(env_prefix="GRISTMILL_COORDINATOR_", frozen=True, extra="forbid")

    # Where things are
    data_dir: Path = Path("coordinator-data")  # artifacts, the embedded database, the token secret
    database_url: str = ""  # "": SQLite in data_dir; or postgresql+asyncpg://...
    http_address: str = "127.0.0.1:8080"
    grpc_address: str = "127.0.0.1:8081"
    public_url: str = "http://127.0.0.1:8080"  # where renters reach the HTTP API; they sign in under it
    public_grpc_address: str = ""  # host:port that nodes dial; "": public_url's host, grpc_address's port
    tls_certificate: Path | None = None  # PEM files, for both ports; needed unless both listen on loopback
    tls_key: Path | None = None

    # Chain
    rpc_url: str = "http://127.0.0.1:8545"
    public_rpc_url: str = ""  # of a node of this chain that owners of machines may ask; "": they name one themselves
    deployment: Path = Path("deployment.json")
    operator_key: Path = Path("operator.json")  # keystore of the key that sends transactions
    operator_password: SecretStr = SecretStr("")
    operator_password_file: Path | None = None  # instead of operator_password
    confirmations: int = Field(default=1, ge=1)  # blocks until a payment counts as final
    anchor_every_s: float = Field(default=5.0, ge=0)  # windows that close meanwhile share one transaction
    resend_tx_s: float = Field(default=180.0, gt=0)  # a transaction in no block by then is sent again, for more
    max_fee_gwei: float = Field(default=0.0, ge=0)  # above this price of gas nothing is sent; 0: any price
    batch_gas: int = Field(default=0, ge=0)  # most gas in one settlement; 0: a quarter of a block
    native_usd: str = ""  # of one whole native coin; "": gas costs nothing, as on a local chain
    settle_within_s: float = Field(default=86_400.0, ge=0)  # before its deadline a payment waits for no company
    stale_head_s: float = Field(default=300.0, ge=0)  # a chain without a new block is reported; 0: never
    check_books_s: float = Field(default=600.0, gt=0)  # between two comparisons of our rows with the chain

    # Nodes
    heartbeat_s: int = Field(default=3, ge=1)
    missed_heartbeats: int = Field(default=3, ge=1)  # silence after which a node counts as lost
    reconnect_s: float = Field(default=60.0, ge=0)  # after our own start; nodes try at least every 30 s
    lease_reply_s: int = Field(default=20, ge=1)
    stop_grace_s: int = Field(default=60, ge=1)  # a stopped attempt that says nothing by then counts as lost
    retry_node_s: float = Field(default=60.0, ge=0)  # a node that declined or lost a job is not asked again before
    candidate_wait_s: float = Field(
        default=30.0, ge=0
    )  # wait for a quoted machine before asking the renter for another
    max_failures: int = Field(default=5, ge=1)  # failed attempts after which a job fails
    images: dict[str, str] = {}  # recipe -> digest-pinned image; none: the process backend's
    keep_states_s: int = Field(default=86_400, ge=0)
    certificate_wait_s: float = Field(default=30.0, ge=0)  # for machines to sign it; then it says who did not

    # Checking
    sampling: Policy = Policy()
    audit_timeout_s: float = Field(default=900.0, gt=0)
    state_wait_s: float = Field(default=300.0, gt=0)
    class_operators_min: int = Field(default=5, ge=2)  # owners of one kind of machine; fewer: the renter is told

    # Cards
    test_every_s: float = Field(default=86_400.0, gt=0)  # an idle card shows again what it can do
    test_again_s: float = Field(default=600.0, gt=0)  # after a test that a card did not pass
    long_job_s: float = Field(default=3600.0, gt=0)  # longer jobs want a card that was tested within this time

    # Renters
    quote_valid_s: int = Field(default=600, ge=1)
    # Less than the Registry's unbonding time. Nodes want a day of its last third to settle without us.
    statement_valid_s: int = Field(default=6 * 86_400, ge=4 * 86_400)
    signature_grace_s: int = Field(default=86_400, ge=0)  # then the best statement held is settled

    # Renters' money: what is signed for the Ledger is handed in for them, and this coordinator pays the gas
    sponsor_gas: bool = True
    min_deposit_usd: str = "1"  # of a deposit that is handed in; who opens an account must hold as much
    relay_gas_usd: str = "1"  # the most that the gas of one may cost; counts where native_usd is set
    relays_per_day: int = Field(default=20, ge=1)  # for one account

    studio: StudioSettings | None = None  # pages for people who are not technical; none: only the API is served

    # The machine itself
    poll_s: float = Field(default=1.0, gt=0, le=1)
    batch: int = Field(default=200, ge=1)
    claim_s: float = Field(default=30.0, gt=0)  # a stage that died frees its rows after this
    max_artifact_bytes: int = Field(default=8 * 1024**3, gt=0)

    @field_validator("native_usd", "min_deposit_usd", "relay_gas_usd")
    @classmethod
    def _is_an_amount(cls, text: str) -> str:
        try:
            parse_usd(text or "0")
        except BadRequest as err:
            raise ValueError(err.what) from err
        return text

    @property
    def native_usd_micros(self) -> int:
        return parse_usd(self.native_usd or "0")

    @property
    def min_deposit_usd_micros(self) -> int:
        return parse_usd(self.min_deposit_usd or "0")

    @property
    def relay_gas_usd_micros(self) -> int:
        return parse_usd(self.relay_gas_usd or "0")

    @property
    def max_fee_wei(self) -> int | None:
        """The highest price of gas at which anything is sent; None: any."""
        return int(self.max_fee_gwei * GWEI) or None

    @property
    def store_url(self) -> str:
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir / 'coordinator.db'}"

    @property
    def nodes_address(self) -> str:
        """host:port that nodes are told to dial."""
        host, port = urlsplit(self.public_url).hostname, self.grpc_address.rpartition(":")[2]
        return self.public_grpc_address or f"{host}:{port}"

    @property
    def artifacts_dir(self) -> Path:
        return self.data_dir / "artifacts"

    def image(self, recipe: str, sandbox: str) -> str:
        """The digest-pinned image that runs a recipe; "" outside containers."""
        return self.images.get(recipe, "") if sandbox == "docker" else ""

    def operator(self) -> LocalAccount:
        """The key that sends transactions and signs reservations.

        Raises:
            NotFound, WrongKey: the keystore is missing, or the password does not open it.
        """
        password = self.operator_password.get_secret_value()
        if self.operator_password_file is not None:
            try:
                password = self.operator_password_file.read_text().rstrip("\r\n")
            except OSError as err:
                raise NotFound(f"The operator's password cannot be read: {err}.") from err
        return load_key(self.operator_key, password)

    def require_encryption(self, address: str) -> None:
        """Refuse to listen in clear where others could listen in.

        Raises:
            BadSettings: no certificate for an address that is not on this machine alone.
        """
        if not (self.tls_certificate and self.tls_key) and not _only_this_machine(address):
            raise BadSettings(
                f"Others would reach {address} without encryption.",
                effect="The coordinator was not started.",
                todo="Set tls_certificate and tls_key, or listen on loopback.",
            )

    def token_secret(self) -> bytes:
        """What signs bearer tokens: made at the first start, kept in data_dir for its owner's eyes only."""
        path = self.data_dir / "token-secret"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(_SECRET_BYTES))
        except FileExistsError:
            pass
        return path.read_bytes()


def load_config(file: Path | None = None, **flags: object) -> Config:
    """Settings from flags, then a JSON file, then the environment, then the defaults; flags that are None don't count.

    Raises:
        NotFound: no such file.
        BadSettings: naming each setting that is wrong.
    """
    values: dict[str, object] = {}
    try:
        if file is not None:
            values = json.loads(file.read_text())
        return Config(**{**values, **{name: value for name, value in flags.items() if value is not None}})  # type: ignore[arg-type]
    except FileNotFoundError as err:
        raise NotFound(f"There is no configuration at {file}.", todo="Name the right file with --config.") from err
    except json.JSONDecodeError as err:
        raise BadSettings(f"{file} is no JSON: {err}.", todo="Correct the file.") from err
    except ValidationError as err:
        wrong = "; ".join(f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}" for issue in err.errors())
        raise BadSettings(f"The configuration is not right: {wrong}.", todo="See docs/operators.md.") from err


def _only_this_machine(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if address.startswith("unix:") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
