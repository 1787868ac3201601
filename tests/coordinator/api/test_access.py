"""Every endpoint against every role; an endpoint that this table forgets fails the test."""

import asyncio
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from fakes.http_side import SECRET, URL, Served
from gristmill import Client, _calls
from gristmill_coordinator.api.auth import issue, node_subject, renter_subject
from gristmill_protocol.consents import sign_withdrawal
from gristmill_protocol.ladder import ladder_statements
from gristmill_protocol.renter_key import Wallet, ledger_domain

CONTENT = b"an artifact of renter A"
DIGEST = sha256(CONTENT).hexdigest()
ROLES = ("nobody", "renter A", "renter B", "node")

# (method, path) -> status for nobody, renter A who owns the job and the artifact, renter B, a node.
# 400: let in, and told that the empty body is wrong.
EXPECTED: dict[tuple[str, str], tuple[int, int, int, int]] = {
    ("GET", "/healthz"): (200, 200, 200, 200),
    ("GET", "/v1/health"): (200, 200, 200, 200),
    ("GET", "/openapi.json"): (200, 200, 200, 200),
    ("GET", "/v1/info"): (200, 200, 200, 200),
    ("GET", "/v1/recipes"): (200, 200, 200, 200),
    ("GET", "/v1/market"): (200, 200, 200, 200),
    ("GET", "/v1/market/numbers"): (200, 200, 200, 200),
    ("GET", "/v1/market/providers"): (200, 200, 200, 200),
    ("GET", "/v1/market/providers/{provider_id}"): (200, 200, 200, 200),
    ("GET", "/v1/audits/{job_id}"): (200, 200, 200, 200),
    ("POST", "/v1/auth/challenge"): (400, 400, 400, 400),
    ("POST", "/v1/auth/session"): (400, 400, 400, 400),
    ("GET", "/v1/account"): (401, 200, 200, 403),
    ("GET", "/v1/account/history"): (401, 200, 200, 403),
    ("POST", "/v1/account/open"): (401, 400, 400, 403),
    ("POST", "/v1/account/deposits"): (401, 400, 400, 403),
    ("POST", "/v1/account/withdrawals"): (401, 400, 400, 403),
    ("GET", "/v1/account/relays/{relay_id}"): (401, 200, 404, 403),
    ("POST", "/v1/quotes"): (401, 400, 400, 403),
    ("POST", "/v1/jobs"): (401, 400, 400, 403),
    ("GET", "/v1/jobs"): (401, 200, 200, 403),
    ("GET", "/v1/jobs/{job_id}"): (401, 200, 404, 403),
    ("GET", "/v1/jobs/{job_id}/events"): (401, 200, 404, 403),
    ("GET", "/v1/jobs/{job_id}/certificate"): (401, 409, 404, 403),
    ("POST", "/v1/jobs/{job_id}/stop"): (401, 200, 404, 403),
    ("POST", "/v1/jobs/{job_id}/statements"): (401, 400, 400, 403),
    ("PUT", "/v1/artifacts/{sha256}"): (401, 200, 200, 200),
    ("HEAD", "/v1/artifacts/{sha256}"): (401, 200, 404, 404),
    ("GET", "/v1/artifacts/{sha256}"): (401, 200, 404, 404),
}


@dataclass
class Town:
    """A's job, artifact and relay, and a token for each role."""

    job_id: str
    relay_id: str
    headers: dict[str, dict[str, str]]
    statement_of_b: str  # JSON, signed by renter B


@pytest.fixture
async def town(served: Served, http: httpx.AsyncClient, tmp_path: Path) -> Town:
    for name in ("node_1", "node_2", "node_3"):
        await served.add_node(name)
    account_a, account_b = served.open_account(), served.open_account()
    mails = tmp_path / "mails.csv"
    mails.write_text("text,answer\n" + "".join(f"pay bill {n},billing\nfix screen {n},support\n" for n in range(20)))
    client = Client(URL, account_a, state=tmp_path / "state", wire=served.wire(), clock=served.clock)
    job = await asyncio.to_thread(client.train, "text-sorter", data=mails, budget="5")
    assert job.plan is not None
    rung = ladder_statements(job.plan.quote)[0]
    statement = Wallet(account_b).sign_statement(rung, served.chain.info.ledger_domain)
    subjects = {
        "renter A": renter_subject(account_a.address),
        "renter B": renter_subject(account_b.address),
        "node": node_subject("node_1"),
    }
    headers = {role: {"Authorization": f"Bearer {_token(served, name)}"} for role, name in subjects.items()}
    await http.put(f"/v1/artifacts/{DIGEST}", content=CONTENT, headers=headers["renter A"])
    served.chain.give(account_a.address, 2_000_000)
    relay_id = await asyncio.to_thread(_hand_in, client)
    return Town(job.id, relay_id, headers | {"nobody": {}}, statement.model_dump_json())


def _hand_in(client: Client) -> str:
    """A withdrawal that is under way; its relay."""
    signed = sign_withdrawal(
        client._key.wallet().account, ledger_domain(client.info()), key=client.address, amount_usd_micros=1, request=0
    )
    return client.send(_calls.withdraw(signed)).relay_id


def _token(served: Served, subject: str) -> str:
    return issue(SECRET, subject, 60, served.clock())


def test_table_knows_every_endpoint(served: Served) -> None:
    paths = served.app.openapi()["paths"]

    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}

    assert described | {("GET", "/openapi.json")} == set(EXPECTED)


@pytest.mark.slow
async def test_every_endpoint_answers_every_role_as_the_table_says(http: httpx.AsyncClient, town: Town) -> None:
    found: dict[tuple[str, str], tuple[int, ...]] = {}
    provider = (await http.get("/v1/market")).json()[0]["provider"]
    for method, path in EXPECTED:
        address = path.format(job_id=town.job_id, relay_id=town.relay_id, sha256=DIGEST, provider_id=provider)
        # B puts last, so that it holds no artifact while it may not read A's.
        content = CONTENT if method == "PUT" else None
        if method != "PUT":
            found[method, path] = await _statuses(http, method, address, content, town)
    put = ("PUT", "/v1/artifacts/{sha256}")
    found[put] = await _statuses(http, "PUT", f"/v1/artifacts/{DIGEST}", CONTENT, town)

    assert found == EXPECTED


async def _statuses(
    http: httpx.AsyncClient, method: str, address: str, content: bytes | None, town: Town
) -> tuple[int, ...]:
    answers = [
        await http.request(
            method, address, content=content, headers=town.headers[role] | {"Origin": "https://x.example"}
        )
        for role in ROLES
    ]
    for answer in answers:
        if answer.is_error and method != "HEAD":
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["what"]
    return tuple(answer.status_code for answer in answers)


@pytest.mark.slow
async def test_statement_of_another_renters_job_is_not_found(http: httpx.AsyncClient, town: Town) -> None:
    path = f"/v1/jobs/{town.job_id}/statements"
    headers = town.headers["renter B"] | {"Content-Type": "application/json"}

    answer = await http.post(path, content=town.statement_of_b, headers=headers)

    assert answer.status_code == 404


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic abc", "Bearer a.b", "Bearer ..", "bearer \u00ff", "Bearer a b c"]
)
async def test_malformed_sign_in_is_unauthorised(http: httpx.AsyncClient, header: str) -> None:
    answer = await http.get("/v1/jobs", headers=[(b"authorization", header.encode("latin-1"))])

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("subject", ["", "renter", "admin:0x00", "renter:0x00:node"])
async def test_odd_subject_gets_nobodys_jobs(http: httpx.AsyncClient, served: Served, subject: str) -> None:
    answer = await http.get("/v1/jobs", headers={"Authorization": f"Bearer {_token(served, subject)}"})

    assert answer.status_code == 403 or answer.json() == []


async def test_expired_token_is_unauthorised(http: httpx.AsyncClient, served: Served) -> None:
    token = _token(served, renter_subject("0x" + "ab" * 20))
    served.clock.now_s += 60

    assert (await http.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"})).status_code == 401
