"""Every failure is a Problem, with the status of its type."""

from collections.abc import Iterator
from http import HTTPStatus

import httpx
import pytest
from structlog.testing import capture_logs

from fakes.http_side import SECRET, Served
from gristmill_coordinator.api.auth import issue
from gristmill_coordinator.api.errors import STATUS, status_of
from gristmill_protocol.errors import BudgetBelowQuote, ChainUnavailable, GristmillError, NoOfferFits, NoSpace, Problem

ADDRESS = "0x" + "ab" * 20


def _tree(root: type[GristmillError]) -> Iterator[type[GristmillError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


@pytest.fixture
def signed_in(served: Served) -> dict[str, str]:
    return {"Authorization": f"Bearer {issue(SECRET, f'renter:{ADDRESS}', 60, served.clock())}"}


@pytest.mark.parametrize("error", list(_tree(GristmillError)))
def test_every_error_has_a_status_of_failure(error: type[GristmillError]) -> None:
    assert status_of(error) >= HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("error", "status"), [(BudgetBelowQuote, 400), (NoOfferFits, 409), (NoSpace, 507), (ChainUnavailable, 503)]
)
def test_unlisted_error_has_the_status_of_its_base(error: type[GristmillError], status: int) -> None:
    assert status_of(error) == status


def test_table_lists_only_errors() -> None:
    assert set(STATUS) <= set(_tree(GristmillError))


async def test_wrong_fields_are_named_in_sentences(http: httpx.AsyncClient, signed_in: dict[str, str]) -> None:
    answer = await http.post(
        "/v1/quotes", json={"recipe": "x", "budget_usd_micros": -1, "colour": 1}, headers=signed_in
    )

    problem = Problem.model_validate(answer.json())
    assert answer.status_code == 400
    assert problem.code == "bad_request"
    assert "budget_usd_micros: Input should be greater than or equal to 0." in problem.what
    assert "colour: Extra inputs are not permitted." in problem.what


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xff", b'{"recipe": NaN}'])
async def test_body_that_is_no_json_is_a_problem(
    http: httpx.AsyncClient, signed_in: dict[str, str], content: bytes
) -> None:
    headers = signed_in | {"Content-Type": "application/json"}

    answer = await http.post("/v1/quotes", content=content, headers=headers)

    assert answer.status_code == 400
    assert Problem.model_validate(answer.json()).what


async def test_wrong_query_is_a_problem(http: httpx.AsyncClient, signed_in: dict[str, str]) -> None:
    answer = await http.get("/v1/jobs/job_1/events?after=-1&wait_s=nan", headers=signed_in)

    assert answer.status_code == 400
    assert "after" in answer.json()["what"]
    assert "wait_s" in answer.json()["what"]


async def test_unknown_path_is_a_problem(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v2/nothing")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_wrong_method_is_a_problem(http: httpx.AsyncClient) -> None:
    answer = await http.delete("/v1/info")

    assert (answer.status_code, answer.json()["code"]) == (405, "bad_request")


async def test_chain_that_is_away_is_unavailable(
    http: httpx.AsyncClient, served: Served, signed_in: dict[str, str]
) -> None:
    served.chain.reachable = False

    answer = await http.get("/v1/account", headers=signed_in)

    assert (answer.status_code, answer.json()["code"]) == (503, "chain_unavailable")


async def test_unforeseen_failure_says_nothing_of_its_inside(
    http: httpx.AsyncClient, served: Served, signed_in: dict[str, str]
) -> None:
    async with served.co.store.engine.begin() as connection:
        await connection.exec_driver_sql("DROP TABLE jobs")

    with capture_logs() as logged:
        answer = await http.get("/v1/jobs", headers=signed_in)

    assert [entry["event"] for entry in logged] == ["request_failed"]
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "jobs" not in answer.json()["what"]


@pytest.mark.slow
async def test_endless_body_is_cut_off(http: httpx.AsyncClient, signed_in: dict[str, str]) -> None:
    sent = 0

    async def endless():  # type: ignore[no-untyped-def]
        nonlocal sent
        while True:
            sent += 2**20
            yield bytes(2**20)

    answer = await http.post("/v1/jobs", content=endless(), headers=signed_in)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert sent < 20 * 2**20
