"""A coordinator inside your test: it checks signatures and keeps the books as the real one does, but trains nothing.

from gristmill.testing import FakeCoordinator

fake = FakeCoordinator()
client = fake.client(tmp_path)
job = client.train("text-sorter", data="mails.csv", budget="0.50")
fake.finish(job.id, files={"model.safetensors": b"..."}, scorecard={"accuracy": 0.97})
assert job.result() == {"accuracy": 0.97}
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from gristmill._fake_money import FakeAccounts
from gristmill._fake_wire import FakeWire
from gristmill_protocol.api import (
    AccountView,
    AuditsView,
    Challenge,
    ChallengeRequest,
    EventsView,
    InfoView,
    Session,
    SessionRequest,
)
from gristmill_protocol.errors import (
    BadRequest,
    BalanceBelowCap,
    BudgetBelowQuote,
    Conflict,
    NotFinished,
    NotFound,
    NotSignedIn,
    QuoteExpired,
    WrongHash,
)
from gristmill_protocol.jobs import (
    ArtifactRef,
    AttemptState,
    AttemptView,
    Bill,
    JobEvent,
    JobSpec,
    JobState,
    JobSubmission,
    JobView,
    Quote,
    QuotedProvider,
    QuotedReplica,
    SignedStatement,
    Statement,
)
from gristmill_protocol.ladder import ladder_statements
from gristmill_protocol.modes import GUARANTEES, Mode
from gristmill_protocol.money import USD_MICROS, earned, split_line
from gristmill_protocol.renter_checks import MAX_DEADLINE_S
from gristmill_protocol.signin import SignIn
from gristmill_protocol.wallet import (
    Authorization,
    DepositTerms,
    HistoryView,
    RelayView,
    SignedOpening,
    SignedWithdrawal,
)
from gristmill_trainer import catalog
from gristmill_trainer.recipe import Gpu

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from gristmill._client import Client
    from gristmill_protocol.signing import Domain

_URL = "http://127.0.0.1:1"  # nothing is sent there
_NOW_S = 1_800_000_000
_SHARES_BPS = {"verifier_bps": 600, "royalty_bps": 300}
_INFO = InfoView(
    version="fake",
    url=_URL,
    chain_id=31_337,
    ledger="0x" + "11" * 20,
    registry="0x" + "22" * 20,
    token="0x" + "33" * 20,
    coordinator=1,
    recipes={},
    max_artifact_bytes=2**30,
    deposits=DepositTerms(
        sponsored=True,
        least_usd_micros=USD_MICROS,
        token_name="Test USD",
        token_version="1",
        erc3009="0x" + "44" * 20,
        permit=None,
        permit2=None,
    ),
)


@dataclass
class _Held:
    """A job as the fake keeps it."""

    renter: str
    submission: JobSubmission
    quote: Quote
    view: JobView
    events: list[JobEvent]


class FakeCoordinator:
    """Takes orders from any number of keys; jobs move only when a test says so.

    Args:
        price_usd_micros: what every job costs.
        balance_usd_micros: what every account holds.
        opened: whether every key has an account; else it holds nothing until the key opens it.
    """

    def __init__(
        self, *, price_usd_micros: int = 80_000, balance_usd_micros: int = 100 * USD_MICROS, opened: bool = True
    ) -> None:
        self.now_s = float(_NOW_S)
        self.artifacts: dict[str, bytes] = {}
        self.certificates: dict[str, bytes] = {}  # job id -> what its renter is given; b"": not yet
        self.audit_views: dict[str, AuditsView] = {}  # job id -> what anybody is told of its checks
        self.statements: list[SignedStatement] = []  # handed in beyond the ladders
        self._price = price_usd_micros
        self._accounts = FakeAccounts(_INFO, lambda: self.now_s, balance_usd_micros=balance_usd_micros, opened=opened)
        self._asked = 0
        self._challenges: set[str] = set()
        self._tokens: dict[str, str] = {}  # token -> renter
        self._quotes: dict[str, tuple[JobSpec, Quote]] = {}
        self._jobs: dict[str, _Held] = {}

    def client(self, state: Path, key: "LocalAccount | None" = None) -> "Client":
        """A client of this coordinator.

        Args:
            state: folder for its records, such as pytest's tmp_path.
            key: by default a fresh one.
        """
        from gristmill._client import Client

        with self.installed(state, key):
            return Client()

    @contextmanager
    def installed(self, state: Path, key: "LocalAccount | None" = None) -> Iterator[None]:
        """Let gristmill.train() and every Client() meanwhile work with this coordinator; arguments as client()."""
        from eth_account import Account

        from gristmill._client import TestMode, test_mode

        mode = TestMode(
            url=_URL,
            key=key or Account.create(),
            state=state,
            wire=FakeWire(self),
            clock=lambda: self.now_s,
            pause=self.pause,
        )
        with test_mode(mode):
            yield

    # What a test makes happen

    def pause(self, seconds: float) -> None:
        """Let time pass; waiting clients do it too, so that no test ever sleeps."""
        self.now_s += seconds

    def give(self, address: str, usd_micros: int) -> None:
        """Let an address hold so much more, outside its account."""
        self._accounts.of(address.lower()).outside_usd_micros += usd_micros

    def progress(self, job_id: str, *, steps_done: int, steps_accepted: int) -> None:
        """Have a machine train up to one step, and have the checks accept up to another."""
        quoted = self._jobs[job_id].quote.candidates[0]
        attempt = AttemptView(
            attempt_id="attempt_1",
            number=1,
            state=AttemptState.RUNNING,
            reason="",
            provider=quoted.provider,
            provider_name="fake",
            device=quoted.device,
            price_usd_micros=quoted.price_usd_micros,
            step_from=0,
            step_to=steps_done,
        )
        self.update(
            job_id, state=JobState.RUNNING, attempts=(attempt,), steps_done=steps_done, steps_accepted=steps_accepted
        )
        self.tell(job_id, "progress", f"Step {steps_done}.")

    def finish(self, job_id: str, *, files: Mapping[str, bytes], scorecard: Mapping[str, object]) -> None:
        """Have all the work accepted and paid, with these files as the result."""
        steps = self._jobs[job_id].view.steps_total
        self.progress(job_id, steps_done=steps, steps_accepted=steps)
        outputs = {name: self._keep(content) for name, content in files.items()}
        bill = self._charge(job_id)
        self.update(job_id, state=JobState.DONE, outputs=outputs, scorecard=dict(scorecard), bill=bill)
        self.tell(job_id, "state", "The job is done.")

    def fail(self, job_id: str, reason: str) -> None:
        """End the job without a result."""
        self.update(job_id, state=JobState.FAILED, reason=reason, bill=self._charge(job_id))
        self.tell(job_id, "state", reason)

    def ask_signature(self, job_id: str, statement: Statement) -> None:
        """Have the job wait for a statement that the ladder did not hold."""
        self.update(job_id, signature_wanted=statement)

    def forget_sessions(self) -> None:
        """Have every client sign in again, as after a change of the coordinator's secret."""
        self._tokens.clear()

    def update(self, job_id: str, **fields: object) -> None:
        """Set fields of what the renter sees, sensible or not."""
        held = self._jobs[job_id]
        held.view = held.view.model_copy(update=fields)

    def tell(self, job_id: str, kind: str, text: str) -> None:
        """Add an event to the job's story."""
        held = self._jobs[job_id]
        event = JobEvent(seq=len(held.events) + 1, at_ms=int(self.now_s * 1000), kind=kind, text=text)
        held.events.append(event)
        self.update(job_id, last_event=event.seq)

    # What renters ask; see _fake_wire.Books

    def info(self) -> InfoView:
        return _INFO

    def challenge(self, wanted: ChallengeRequest) -> Challenge:
        now = int(self.now_s)
        self._asked += 1
        nonce = f"{self._asked:08d}"
        text = SignIn(wanted.address, _URL, _INFO.chain_id, nonce, now, now + 300).text()
        self._challenges.add(text)
        return Challenge(message=text)

    def session(self, signed: SessionRequest) -> Session:
        if signed.message not in self._challenges:
            raise NotSignedIn("This sign-in was not asked for.")
        self._challenges.remove(signed.message)
        message = SignIn.parse(signed.message)
        message.require_signature(signed.signature)
        token = f"token-{message.nonce}"
        self._tokens[token] = message.address.lower()
        return Session(token=token, expires_s=int(self.now_s) + 3600)

    def renter(self, token: str) -> str:
        if token not in self._tokens:
            raise NotSignedIn("This needs a sign-in.")
        return self._tokens[token]

    def account(self, renter: str) -> AccountView:
        return self._accounts.view(renter, reserved_usd_micros=self._reserved(renter))

    def open_account(self, renter: str, by: SignedOpening) -> RelayView:
        return self._accounts.open(renter, by)

    def deposit(self, renter: str, by: Authorization) -> RelayView:
        return self._accounts.deposit(renter, by)

    def withdraw(self, by: SignedWithdrawal) -> RelayView:
        return self._accounts.withdraw(by)

    def relay(self, renter: str, relay_id: str) -> RelayView:
        return self._accounts.relay(renter, relay_id)

    def history(self, renter: str, before: str, limit: int) -> HistoryView:
        return self._accounts.history(renter, before, limit)

    def quote(self, renter: str, spec: JobSpec) -> Quote:
        if self._price > spec.budget_usd_micros:
            raise BudgetBelowQuote("The job costs more than the budget.", price_usd_micros=self._price)
        number, mode = len(self._quotes) + 1, spec.mode or Mode.REPUTATION
        quote = Quote(
            quote_id=f"quote_{number:024d}",
            spec_digest=spec.digest().hex(),
            plan=catalog.find(spec.recipe).plan(spec.settings, spec.stats, Gpu()),
            candidates=(self._machine(1), self._machine(2)),
            price_usd_micros=self._price,
            cap_usd_micros=min(spec.budget_usd_micros, self._price * 3 // 2),
            seconds_low=300,
            seconds_high=480,
            recipe_id=1,
            **_SHARES_BPS,
            nonce=number,
            deadline_s=int(self.now_s) + MAX_DEADLINE_S - 3600,
            expires_s=int(self.now_s) + 600,
            offers_considered=2,
            replicas=tuple(self._replica(number) for number in range(1, spec.replicas))
            if mode is Mode.REPLICATE
            else (),
            mode=mode,
            guarantee=GUARANTEES[mode],
            verification="Nothing is checked: this coordinator is a fake.",
        )
        self._quotes[quote.quote_id] = (spec, quote)
        return quote

    def submit(self, renter: str, submission: JobSubmission) -> JobView:
        known = [held for held in self._jobs.values() if held.submission.request_id == submission.request_id]
        if known:
            return known[0].view
        spec, quote = self._quotes[submission.quote_id]
        self._require_agreed(renter, submission, spec, quote)
        view = _queued(f"job_{len(self._jobs) + 1:024d}", spec, quote, created_ms=int(self.now_s * 1000))
        self._jobs[view.job_id] = _Held(renter, submission, quote, view, [])
        self.tell(view.job_id, "state", "The job is queued.")
        return self._jobs[view.job_id].view

    def jobs(self, renter: str) -> list[JobView]:
        return [held.view for held in self._jobs.values() if held.renter == renter][::-1]

    def job(self, renter: str, job_id: str) -> JobView:
        return self._mine(renter, job_id).view

    def events(self, renter: str, job_id: str, after: int, wait_s: float) -> EventsView:
        found = tuple(event for event in self._mine(renter, job_id).events if event.seq > after)
        if not found:
            self.pause(wait_s)
        return EventsView(events=found)

    def certificate(self, renter: str, job_id: str) -> bytes:
        self._mine(renter, job_id)
        if job_id not in self.certificates:
            raise NotFound("This coordinator is a fake: it certifies nothing.")
        if not self.certificates[job_id]:
            raise NotFinished("There is no certificate yet: the machines are being asked to sign it.")
        return self.certificates[job_id]

    def audits(self, job_id: str) -> AuditsView:
        if job_id not in self.audit_views:
            raise NotFound("This coordinator is a fake: it checks nothing.")
        return self.audit_views[job_id]

    def stop(self, renter: str, job_id: str) -> JobView:
        held = self._mine(renter, job_id)
        if not held.view.state.ended:
            self.update(job_id, state=JobState.STOPPED, reason="You stopped it.", bill=self._charge(job_id))
            self.tell(job_id, "state", "You stopped the job.")
        return held.view

    def add_statement(self, renter: str, job_id: str, signed: SignedStatement) -> JobView:
        held = self._mine(renter, job_id)
        if signed.statement != held.view.signature_wanted:
            raise Conflict("This is not the statement that was asked for.")
        self._require_signed(signed, renter)
        self.statements.append(signed)
        self.update(job_id, signature_wanted=None)
        return held.view

    def put(self, digest: str, content: bytes) -> ArtifactRef:
        if sha256(content).hexdigest() != digest:
            raise WrongHash("The file has another hash.")
        return self._keep(content)

    def get(self, digest: str) -> bytes:
        if digest not in self.artifacts:
            raise NotFound("There is no such artifact.")
        return self.artifacts[digest]

    def _require_agreed(self, renter: str, submission: JobSubmission, spec: JobSpec, quote: Quote) -> None:
        from gristmill_protocol.signing import ORDER_TYPE, order_message, require_signer

        if self.now_s >= quote.expires_s:
            raise QuoteExpired("The quote has expired.")
        if self.account(renter).available_usd_micros < quote.cap_usd_micros:
            raise BalanceBelowCap("The account does not cover the cap.")
        if submission.spec != spec or spec.data.sha256 not in self.artifacts:
            raise BadRequest("The order is for another job, or its data are missing.")
        order = submission.order
        require_signer(_ledger(), ORDER_TYPE, order_message(order.order), order.signature, renter)
        if tuple(rung.statement for rung in submission.ladder) != ladder_statements(quote):
            raise BadRequest("The ladder is not the quote's.")
        for rung in submission.ladder:
            self._require_signed(rung, renter)

    def _require_signed(self, signed: SignedStatement, renter: str) -> None:
        from gristmill_protocol.signing import STATEMENT_TYPE, require_signer, statement_message

        message = statement_message(signed.statement)
        require_signer(_ledger(), STATEMENT_TYPE, message, signed.signature, renter)

    def _machine(self, number: int) -> QuotedProvider:
        return QuotedProvider(
            node_id=f"node_{number}",
            provider=number,
            verifier=number + 2,
            price_usd_micros=self._price,
            device="fake",
            expected_seconds=360,
        )

    def _replica(self, number: int) -> QuotedReplica:
        return QuotedReplica(node_id=f"replica_{number}", provider=number + 4, price_usd_micros=0)

    def _keep(self, content: bytes) -> ArtifactRef:
        digest = sha256(content).hexdigest()
        self.artifacts[digest] = content
        return ArtifactRef(sha256=digest, size_bytes=len(content))

    def _charge(self, job_id: str) -> Bill:
        """Take what the accepted work costs from the renter's account."""
        held = self._jobs[job_id]
        view = held.view
        paid = earned(view.price_usd_micros, view.steps_accepted, view.steps_total)
        split = split_line(paid, **_SHARES_BPS)
        self._accounts.charge(held.renter, paid, job_id=job_id, job_name=view.name)
        return Bill(
            paid_usd_micros=paid,
            provider_usd_micros=split.provider,
            verifier_usd_micros=split.verifier,
            author_usd_micros=split.author,
            treasury_usd_micros=split.treasury,
            settle_tx=None,
        )

    def _reserved(self, renter: str) -> int:
        mine = [held for held in self._jobs.values() if held.renter == renter and not held.view.state.ended]
        return sum(held.quote.cap_usd_micros for held in mine)

    def _mine(self, renter: str, job_id: str) -> _Held:
        held = self._jobs.get(job_id)
        if held is None or held.renter != renter:
            raise NotFound(f"You have no job {job_id}.")
        return held


def _ledger() -> "Domain":
    from gristmill_protocol.renter_key import ledger_domain

    return ledger_domain(_INFO)


def _queued(job_id: str, spec: JobSpec, quote: Quote, *, created_ms: int) -> JobView:
    return JobView(
        job_id=job_id,
        name=spec.name,
        recipe=spec.recipe,
        state=JobState.QUEUED,
        reason="",
        created_ms=created_ms,
        price_usd_micros=quote.price_usd_micros,
        cap_usd_micros=quote.cap_usd_micros,
        mode=quote.mode,
        guarantee=quote.guarantee,
        steps_total=quote.plan.steps,
        steps_done=0,
        steps_accepted=0,
        last_event=0,
        attempts=(),
        windows=(),
        slashes=(),
        outputs={},
        final_state_root=None,
        scorecard=None,
        bill=None,
        signature_wanted=None,
    )
