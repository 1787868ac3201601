"""The HTTP API for renters: authenticate, call the stage, nothing else."""

from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, FastAPI, Path, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from gristmill_coordinator import accounts, certificates, evidence, public, views
from gristmill_coordinator.api import artifacts_http
from gristmill_coordinator.api.auth import RenterSignIn
from gristmill_coordinator.api.callers import Co, Renter
from gristmill_coordinator.api.errors import BodyLimit, add_error_handlers
from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.stages import intake, relaying, settlement
from gristmill_coordinator.studio.pages import drafts
from gristmill_coordinator.studio.parts import Studio
from gristmill_coordinator.studio.web import make_studio
from gristmill_protocol.api import (
    AccountView,
    AuditsView,
    Challenge,
    ChallengeRequest,
    EventsView,
    HealthView,
    InfoView,
    MarketView,
    NodeTerms,
    OfferView,
    ProviderPage,
    ProviderView,
    RecipeView,
    Session,
    SessionRequest,
)
from gristmill_protocol.jobs import JobSpec, JobSubmission, JobView, Quote, SignedStatement
from gristmill_protocol.wallet import HistoryView, RelayView, SignedDeposit, SignedOpening, SignedWithdrawal
from gristmill_trainer import catalog

# An order carries its whole ladder: about 450 bytes a rung, two rungs a segment.
_MAX_BODY_BYTES = 16 * 1024 * 1024
_MAX_WAIT_S = 30.0
_PLACE = r"^([0-9]{1,15}-[0-9]{1,9})?$"  # HistoryView.before

router = APIRouter()


def make_app(co: Coordinator, studio: Studio | None = None) -> FastAPI:
    """The ASGI application for a coordinator's renters, its nodes' artifacts, and the pages if there are any."""
    app = FastAPI(title="Gristmill coordinator", version=version("gristmill"), docs_url=None, redoc_url=None)
    app.state.coordinator = co
    app.state.sign_in = RenterSignIn(
        secret=co.secret, public_url=co.config.public_url, chain_id=co.chain.info.chain_id, clock=co.clock
    )
    app.include_router(router)
    app.include_router(artifacts_http.router)
    app.add_middleware(BodyLimit, max_bytes=_MAX_BODY_BYTES, unless=_limits_itself)
    add_error_handlers(app)
    if studio is not None:
        app.add_api_route("/v1/{rest:path}", _nothing_there, methods=["GET", "POST", "PUT"], include_in_schema=False)
        app.mount("/", make_studio(studio))  # last: it takes every other address
    return app


def _limits_itself(scope: Scope) -> bool:
    return scope["path"].startswith(artifacts_http.PREFIX) or drafts.brings_files(scope)


# For anybody


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/v1/health")
async def health(co: Co) -> HealthView:
    return await views.health(co)


@router.get("/v1/info")
async def info(co: Co) -> InfoView:
    chain = co.chain.info
    return InfoView(
        version=version("gristmill"),
        url=co.config.public_url,
        chain_id=chain.chain_id,
        ledger=chain.ledger,
        registry=chain.registry,
        token=chain.token,
        coordinator=chain.coordinator_id,
        recipes=co.recipe_ids,
        max_artifact_bytes=co.artifacts.max_bytes,
        deposits=await accounts.deposit_terms(co),
        nodes=NodeTerms(
            grpc_address=co.config.nodes_address,
            disputes=chain.disputes,
            images=co.config.images,
            rpc_url=co.config.public_rpc_url,
        ),
    )


@router.get("/v1/recipes")
async def recipes(co: Co) -> list[RecipeView]:
    return [
        RecipeView(
            recipe=recipe.info.id,
            title=recipe.info.titles["en"],
            summary=recipe.info.summary,
            settings_schema=recipe.Settings.model_json_schema(),
        )
        for recipe in catalog.recipes()
        if recipe.info.id in co.recipe_ids
    ]


@router.get("/v1/market")
async def market(co: Co) -> list[OfferView]:
    return await views.market(co)


@router.get("/v1/market/numbers")
async def market_numbers(co: Co) -> MarketView:
    return await public.market(co)


@router.get("/v1/market/providers")
async def providers(co: Co) -> list[ProviderView]:
    return await public.providers(co)


@router.get("/v1/market/providers/{provider_id}")
async def provider(provider_id: Annotated[int, Path(ge=0, lt=2**32)], co: Co) -> ProviderPage:
    return await public.provider(co, provider_id)


@router.get("/v1/audits/{job_id}")
async def audits(job_id: str, co: Co) -> AuditsView:
    return await evidence.view(co, job_id)


@router.post("/v1/auth/challenge")
async def challenge(wanted: ChallengeRequest, request: Request) -> Challenge:
    return Challenge(message=_sign_in(request).challenge(wanted.address))


@router.post("/v1/auth/session")
async def session(signed: SessionRequest, request: Request) -> Session:
    token, expires_s = _sign_in(request).session(signed.message, signed.signature)
    return Session(token=token, expires_s=expires_s)


# For renters


@router.get("/v1/account")
async def account(co: Co, renter: Renter) -> AccountView:
    return await accounts.account(co, renter)


@router.get("/v1/account/history")
async def history(
    co: Co,
    renter: Renter,
    before: Annotated[str, Query(pattern=_PLACE)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> HistoryView:
    return await accounts.history(co, renter, before, limit)


@router.post("/v1/account/open")
async def open_account(by: SignedOpening, co: Co, renter: Renter) -> RelayView:
    return await relaying.open_account(co, renter, by)


@router.post("/v1/account/deposits")
async def deposit(by: SignedDeposit, co: Co, renter: Renter) -> RelayView:
    return await relaying.deposit(co, renter, by)


@router.post("/v1/account/withdrawals")
async def withdraw(by: SignedWithdrawal, co: Co, renter: Renter) -> RelayView:
    return await relaying.withdraw(co, by)


@router.get("/v1/account/relays/{relay_id}")
async def relay(relay_id: str, co: Co, renter: Renter) -> RelayView:
    return await relaying.view(co, renter, relay_id)


@router.post("/v1/quotes")
async def quote(spec: JobSpec, co: Co, renter: Renter) -> Quote:
    return await intake.quote(co, renter, spec)


@router.post("/v1/jobs")
async def submit(submission: JobSubmission, co: Co, renter: Renter) -> JobView:
    return await intake.submit(co, renter, submission)


@router.get("/v1/jobs")
async def jobs(co: Co, renter: Renter) -> list[JobView]:
    return await views.jobs(co, renter)


@router.get("/v1/jobs/{job_id}")
async def job(job_id: str, co: Co, renter: Renter) -> JobView:
    return await views.job(co, renter, job_id)


@router.get("/v1/jobs/{job_id}/events")
async def events(
    job_id: str,
    co: Co,
    renter: Renter,
    after: Annotated[int, Query(ge=0)] = 0,
    wait_s: Annotated[float, Query(ge=0, le=_MAX_WAIT_S, allow_inf_nan=False)] = 0,
) -> EventsView:
    return EventsView(events=tuple(await views.events(co, renter, job_id, after, wait_s)))


@router.get("/v1/jobs/{job_id}/certificate")
async def certificate(job_id: str, co: Co, renter: Renter) -> Response:
    """The DSSE envelope, byte for byte; for the renter, who may publish it."""
    return Response(await certificates.certificate(co, renter, job_id), media_type="application/json")


@router.post("/v1/jobs/{job_id}/stop")
async def stop(job_id: str, co: Co, renter: Renter) -> JobView:
    return await intake.stop(co, renter, job_id)


@router.post("/v1/jobs/{job_id}/statements")
async def add_statement(job_id: str, signed: SignedStatement, co: Co, renter: Renter) -> JobView:
    return await settlement.add_statement(co, renter, job_id, signed)


async def _nothing_there(rest: str) -> None:
    raise HTTPException(HTTPStatus.NOT_FOUND)


def _sign_in(request: Request) -> RenterSignIn:
    sign_in: RenterSignIn = request.app.state.sign_in
    return sign_in
