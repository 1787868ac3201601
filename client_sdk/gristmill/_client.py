"""The way to one coordinator, as one renter."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar

import httpx

from gristmill import _calls
from gristmill._config import load_config
from gristmill._job import Job
from gristmill._money import DepositPlan, Money
from gristmill._orders import OrderRecord, Orders
from gristmill._plan import Parcel, Plan
from gristmill._session import Key, SignedIn
from gristmill._sponsored import Sponsored
from gristmill._transport import Transport
from gristmill._wording import budget_usd_micros, check_terms, gpu_needs
from gristmill_protocol.api import AccountView, InfoView, OfferView, RecipeView
from gristmill_protocol.errors import MissingPart, NotSignedIn, TooLarge
from gristmill_protocol.jobs import ArtifactRef, JobSpec, JobView, Statement
from gristmill_protocol.renter_checks import check_quote
from gristmill_protocol.wallet import Movement
from gristmill_trainer import catalog
from gristmill_trainer.data import DataView
from gristmill_trainer.files import NOTHING_CHARGED
from gristmill_trainer.recipe import Gpu, report_on

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

T = TypeVar("T")

# Stands for "no limit of mine": the quote still comes with a cap, and that is what an order signs.
_NO_BUDGET_USD_MICROS = 10**12


@dataclass(frozen=True)
class TestMode:
    """What a Client uses where its caller names nothing; set by gristmill.testing."""

    __test__ = False  # for pytest: not a test

    url: str = ""
    key: "LocalAccount | None" = None
    state: Path | None = None
    wire: httpx.BaseTransport | None = None
    clock: Callable[[], float] | None = None
    pause: Callable[[float], None] = time.sleep


_test_mode: ContextVar[TestMode | None] = ContextVar("gristmill_test_mode", default=None)


@contextmanager
def test_mode(mode: TestMode) -> Iterator[None]:
    """Let every Client made meanwhile use this."""
    before = _test_mode.set(mode)
    try:
        yield
    finally:
        _test_mode.reset(before)


class Client:
    """A coordinator and a key.

    Args:
        url: of the coordinator; by default $GRISTMILL_URL, then ~/.config/gristmill/config.toml.
        key: a keystore's path, or an eth_account account; by default as configured.
        password: of the keystore; by default as configured, or asked for when it is first needed.
        state: folder for the records of what was ordered, and for sign-ins; by default ~/.local/state/gristmill.
        wire: what carries the requests instead of the network; for tests.
        clock: unix seconds.
    Raises:
        BadSettings: no usable address.
    """

    def __init__(
        self,
        url: str | None = None,
        key: "str | Path | LocalAccount | None" = None,
        *,
        password: str | None = None,
        state: Path | None = None,
        wire: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        fixed = _test_mode.get() or TestMode()
        config = load_config(os.environ)
        source = key or fixed.key or config.keystore
        if isinstance(source, str | Path):
            source = Path(source).expanduser()
            config = replace(config, keystore=source)
        state = state or fixed.state or config.state
        self.clock = fixed.clock or clock
        self.orders = Orders(state / "jobs")
        url = (url or fixed.url or config.require_url()).rstrip("/")
        self._transport = Transport(url, wire=wire or fixed.wire, pause=fixed.pause)
        self._key = Key(source, lambda: config.require_password() if password is None else password)
        self._signed_in = SignedIn(self._transport, self._key, state / "sessions", self.clock)
        self._info: InfoView | None = None

    @property
    def url(self) -> str:
        return self._transport.url

    @property
    def address(self) -> str:
        """The address of the key, which is the account."""
        return self._key.address

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def plan(
        self,
        recipe: str,
        *,
        data: str | Path,
        quality: str = "balanced",
        budget: str | float | Decimal | None = None,
        name: str = "",
        seed: int = 0,
        gpu: str = "",
        assurance: int = 0,
        text_column: str | None = None,
        answer_column: str | None = None,
        mode: str | None = None,
        replicas: int = 3,
        held_out: str | Path | None = None,
        threshold: str | float | Decimal | None = None,
        **settings: Any,
    ) -> Plan:
        """Look at the data and get a firm price; nothing is uploaded, ordered or charged.

        Args:
            recipe: id of an installed recipe, such as "image-sorter".
            data: a folder with one folder per answer, a zip of that, or a table (CSV, TSV, JSON Lines, XLSX);
                for "script" a folder with train.py and what it reads.
            budget: the most the job may cost, in USD; without one, the plan's cap is the limit.
            gpu: memory like "24GB" or a name like "RTX 4090"; without it any machine will do, one without a card too.
            assurance: segments of each window that are run again at least, besides the job's first.
            text_column, answer_column: of a table, where they cannot be guessed.
            mode: how the work is checked: "bitwise", "replicate", "outcome"; the strongest possible by default.
            replicas: replicate: how many owners' machines run it; 3, 5 or 7.
            held_out: outcome: examples like the data, which the provider is never given.
            threshold: outcome: the share of them that must be right, such as 0.9.
            settings: of the recipe.
        Raises:
            BadRequest: the job can't be checked in that mode.
            UnknownRecipe, BadSettings, BadData: with what to change.
            TooLarge: more data than the coordinator takes.
            BudgetBelowQuote, NoOfferFits: no machine does it for that.
            RefusedToSign: the coordinator's quote breaks the rules.
        """
        budget_micros = _NO_BUDGET_USD_MICROS if budget is None else budget_usd_micros(budget)
        found = catalog.find(recipe)
        view = DataView.open(data, text_column=text_column, answer_column=answer_column, plain=found.info.whole)
        # A recipe need not have qualities; one that was chosen all the same is refused with the other settings.
        graded = "quality" in found.Settings.model_fields or quality != "balanced"
        chosen = {"quality": quality, **settings} if graded else settings
        report = report_on(found, view)
        report.raise_if_unusable()
        found.plan(chosen, report.stats, Gpu())  # a wrong setting is found here, not after a round trip
        parcels = [Parcel(view)]
        if held_out is not None:
            hidden = DataView.open(held_out, text_column=text_column, answer_column=answer_column)
            report_on(found, hidden).raise_if_unusable()
            parcels.append(Parcel(hidden))
        for parcel in parcels:
            self._require_size(parcel)
        spec = JobSpec(
            recipe=recipe,
            settings=chosen,
            data=parcels[0].ref,
            stats=report.stats,
            seed=seed,
            gpu=gpu_needs(gpu),
            **check_terms(mode, replicas, parcels[1].ref if held_out is not None else None, threshold),
            assurance=assurance,
            budget_usd_micros=budget_micros,
            name=name,
        )
        quote = self.send(_calls.quote(spec))
        check_quote(quote, spec, now_s=self.clock())
        remarks = tuple(finding.sentence for finding in report.findings)
        return Plan(spec, quote, remarks, _start=lambda plan: self._order(plan, parcels))

    def train(self, recipe: str, *, data: str | Path, budget: str | float | Decimal, **options: Any) -> Job:
        """Plan a job and order it at once; options are those of plan()."""
        return self.plan(recipe, data=data, budget=budget, **options).start()

    def job(self, job_id: str) -> Job:
        """A job by its id.

        Raises:
            NotFound: no such job of this key.
        """
        return Job(self, job_id, self.send(_calls.job(job_id)))

    def jobs(self) -> list[Job]:
        """This key's jobs, newest first."""
        return [Job(self, view.job_id, view) for view in self.job_views()]

    def job_views(self) -> list[JobView]:
        """What the coordinator says of each of this key's jobs, newest first."""
        return self.send(_calls.jobs())

    def account(self) -> AccountView:
        """What the key's account holds and what of it is reserved."""
        return self.send(_calls.account())

    @property
    def money(self) -> Money:
        """All that moves money in and out of the account; the methods below are its."""
        return Money(Sponsored(self, self._key, self._transport))

    def plan_deposit(self, amount: str | float | Decimal, *, owner: str = "") -> DepositPlan:
        """What a deposit would do; nothing is signed. See Money.plan_deposit."""
        return self.money.plan_deposit(amount, owner=owner)

    def deposit(self, amount: str | float | Decimal, *, owner: str = "") -> AccountView:
        """Move so many USD of the key's stablecoin into its account, and wait until they are there; needs no gas."""
        return self.plan_deposit(amount, owner=owner).start()

    def withdraw(self, amount: str | float | Decimal | None = None) -> AccountView:
        """Ask to withdraw so many USD, or all; they come in 24 hours. See Money.withdraw."""
        return self.money.withdraw(amount)

    def cancel_withdrawal(self) -> AccountView:
        """Take back what was asked for. See Money.cancel_withdrawal."""
        return self.money.cancel_withdrawal()

    def history(self) -> Iterator[Movement]:
        """What happened to the account on chain, newest first."""
        return self.money.history()

    def market(self) -> list[OfferView]:
        """What the connected machines offer, cheapest first."""
        return self.send(_calls.market())

    def recipes(self) -> list[RecipeView]:
        """What this coordinator can train."""
        return self.send(_calls.recipes())

    def info(self) -> InfoView:
        """Which chain, contracts and recipes the coordinator works with."""
        if self._info is None or self._info.deposits is None:
            self._info = self.send(_calls.info())
        return self._info

    def send(self, call: _calls.Call[T]) -> T:
        """A call's result, signed in where it needs that."""
        if not call.signed_in:
            return self._transport.send(call, None)
        return self._as_renter(lambda token: self._transport.send(call, token))

    def pause(self, seconds: float) -> None:
        """Let time pass between two questions."""
        self._transport.pause(seconds)

    def fetch(self, ref: ArtifactRef, file: BinaryIO) -> None:
        """Fill an empty file with an artifact; the caller checks its hash."""
        self._as_renter(lambda token: self._transport.get_artifact(ref, file, token))

    def add_statement(self, job_id: str, wanted: Statement, record: OrderRecord) -> JobView:
        """Sign a statement that has been checked, and hand it in."""
        from gristmill_protocol.renter_key import ledger_domain

        signed = self._key.wallet().sign_statement(wanted, ledger_domain(record.info))
        return self.send(_calls.add_statement(job_id, signed))

    def _order(self, plan: Plan, parcels: list[Parcel]) -> Job:
        from gristmill_protocol.renter_key import ledger_domain

        spec, quote, info = plan.spec, plan.quote, self.info()
        check_quote(quote, spec, now_s=self.clock())
        wallet, ledger = self._key.wallet(), ledger_domain(info)
        for parcel in parcels:
            self._upload(parcel)
        submission = wallet.submission(quote, spec, coordinator=info.coordinator, ledger=ledger)
        view = self.send(_calls.submit(submission))
        self.orders.save(view.job_id, OrderRecord(url=self.url, spec=spec, quote=quote, info=info))
        return Job(self, view.job_id, view)

    def _require_size(self, parcel: Parcel) -> None:
        limit = self.info().max_artifact_bytes
        if parcel.ref.size_bytes > limit:
            raise TooLarge(
                f"The data are {parcel.ref.size_bytes:,} bytes when packed; this coordinator takes {limit:,}.",
                effect=NOTHING_CHARGED,
                todo="Bring fewer or smaller examples.",
            )

    def _upload(self, parcel: Parcel) -> None:
        sha256 = parcel.ref.sha256
        if not self._as_renter(lambda token: self._transport.has_artifact(sha256, token)):
            self._as_renter(lambda token: self._transport.put_artifact(sha256, parcel.path, token))

    def _as_renter(self, do: Callable[[str], T]) -> T:
        """What do gives for a good token; a token that the coordinator no longer knows is renewed once."""
        try:
            return do(self._signed_in.token())
        except NotSignedIn:
            return do(self._signed_in.renew())


def direct_money(
    rpc_url: str, deployment: Path, key: "Path | LocalAccount | None" = None, *, account: str = ""
) -> Money:
    """The configured key's money without a coordinator: the key pays its own gas.

    Args:
        account: of another key, whose owner this key is.
    Raises:
        MissingPart: gristmill[chain] is not installed.
        NotFound, BadSettings: the deployment file is missing or wrong, or the node is of another chain.
        ChainUnavailable: the node does not answer.
    """
    try:
        from gristmill_contracts.own_money import OwnMoney
    except ImportError as err:
        raise MissingPart(
            f"The way without a coordinator lacks a library: {err}.",
            effect="Nothing was signed.",
            todo="pip install 'gristmill[chain]'",
        ) from err
    config = load_config(os.environ)
    fixed = _test_mode.get() or TestMode()
    source = Key(key or fixed.key or config.keystore, config.require_password)
    return Money(OwnMoney(source.address, lambda: source.wallet().account, rpc_url, deployment, account=account))


def default_client() -> Client:
    """The client of the environment's configuration; the same one as long as that names the same."""
    if _test_mode.get() is not None:
        return Client()
    config = load_config(os.environ)
    return _client_of(config.require_url(), config.keystore)


@lru_cache(maxsize=8)
def _client_of(url: str, keystore: Path) -> Client:
    return Client(url, keystore)
