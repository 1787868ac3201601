"""Artifacts over HTTP: hashes, limits, ranges and grants."""

import random
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from fakes.http_side import SECRET, Served
from gristmill_coordinator.api.auth import issue, node_subject, renter_subject
from gristmill_protocol.jobs import ArtifactRef

CONTENT = random.Random(0).randbytes(300_000)
DIGEST = sha256(CONTENT).hexdigest()
PATH = f"/v1/artifacts/{DIGEST}"
RENTER = renter_subject("0x" + "ab" * 20)
NODE = node_subject("node_1")


def _as(served: Served, subject: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {issue(SECRET, subject, 60, served.clock())}"}


@pytest.fixture
def renter(served: Served) -> dict[str, str]:
    return _as(served, RENTER)


@pytest.fixture
async def stored(http: httpx.AsyncClient, renter: dict[str, str]) -> None:
    answer = await http.put(PATH, content=CONTENT, headers=renter)
    assert ArtifactRef.model_validate(answer.json()).size_bytes == len(CONTENT)


def _files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]


@pytest.mark.usefixtures("stored")
async def test_who_put_it_reads_it(http: httpx.AsyncClient, renter: dict[str, str]) -> None:
    answer = await http.get(PATH, headers=renter)

    assert answer.content == CONTENT
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert "private" in answer.headers["cache-control"]


@pytest.mark.usefixtures("stored")
async def test_head_says_its_size(http: httpx.AsyncClient, renter: dict[str, str]) -> None:
    answer = await http.head(PATH, headers=renter)

    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(CONTENT)))


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("bytes=0-", CONTENT),
        ("bytes=299999-", CONTENT[299_999:]),
        ("bytes=10-19", CONTENT[10:20]),
        ("bytes=10-9999999", CONTENT[10:]),
    ],
)
async def test_range_is_served(http: httpx.AsyncClient, renter: dict[str, str], asked: str, got: bytes) -> None:
    answer = await http.get(PATH, headers=renter | {"Range": asked})

    assert (answer.status_code, answer.content) == (206, got)


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("asked", "status"),
    [("bytes=300000-", 416), ("bytes=5-2", 400), ("bytes=-5", 400), ("bytes=0-1,3-4", 400), ("x", 400)],
)
async def test_range_that_cannot_be_served_is_a_problem(
    http: httpx.AsyncClient, renter: dict[str, str], asked: str, status: int
) -> None:
    answer = await http.get(PATH, headers=renter | {"Range": asked})

    assert (answer.status_code, answer.json()["code"]) == (status, "bad_request")


@pytest.mark.usefixtures("stored")
async def test_grant_lets_a_node_read(http: httpx.AsyncClient, served: Served) -> None:
    before = await http.get(PATH, headers=_as(served, NODE))
    await served.co.store.grant(DIGEST, NODE)

    after = await http.get(PATH, headers=_as(served, NODE))

    assert (before.status_code, after.status_code) == (404, 200)


@pytest.mark.usefixtures("stored")
async def test_what_is_not_yours_looks_like_what_is_not_there(http: httpx.AsyncClient, served: Served) -> None:
    other = _as(served, renter_subject("0x" + "cd" * 20))

    theirs = await http.get(PATH, headers=other)
    nowhere = await http.get("/v1/artifacts/" + "0" * 64, headers=other)

    assert theirs.status_code == nowhere.status_code == 404
    assert theirs.text.replace(DIGEST[:12], "") == nowhere.text.replace("0" * 12, "")


@pytest.mark.usefixtures("stored")
async def test_knowing_a_hash_is_not_having_the_file(http: httpx.AsyncClient, served: Served) -> None:
    other = _as(served, renter_subject("0x" + "cd" * 20))

    claimed = await http.put(PATH, content=b"something else", headers=other)
    read = await http.get(PATH, headers=other)

    assert claimed.json()["code"] == "wrong_hash"
    assert read.status_code == 404


async def test_grant_of_what_was_deleted_is_not_found(
    http: httpx.AsyncClient, served: Served, renter: dict[str, str]
) -> None:
    await served.co.store.grant(DIGEST, RENTER)

    assert (await http.head(PATH, headers=renter)).status_code == 404


async def test_wrong_hash_stores_nothing(http: httpx.AsyncClient, renter: dict[str, str], tmp_path: Path) -> None:
    answer = await http.put("/v1/artifacts/" + "0" * 64, content=CONTENT, headers=renter)

    assert (answer.status_code, answer.json()["code"]) == (400, "wrong_hash")
    assert _files(tmp_path) == []


async def test_announced_size_above_the_limit_is_refused_unread(
    http: httpx.AsyncClient, renter: dict[str, str], tmp_path: Path
) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = await http.put(PATH, content=never(), headers=renter | {"Content-Length": "10000001"})

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert _files(tmp_path) == []


async def test_unannounced_size_above_the_limit_is_refused(
    http: httpx.AsyncClient, renter: dict[str, str], tmp_path: Path
) -> None:
    async def much() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield bytes(1_000_000)

    answer = await http.put(PATH, content=much(), headers=renter)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert _files(tmp_path) == []


@pytest.mark.parametrize("name", ["0" * 63, "G" * 64, "%2e%2e%2fetc"])
async def test_what_is_no_hash_is_a_problem(http: httpx.AsyncClient, renter: dict[str, str], name: str) -> None:
    answer = await http.get(f"/v1/artifacts/{name}", headers=renter)

    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_artifact_of_many_pieces_is_put_together(http: httpx.AsyncClient, renter: dict[str, str]) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(CONTENT), 1_000):
            yield CONTENT[at : at + 1_000]

    await http.put(PATH, content=pieces(), headers=renter)

    assert (await http.get(PATH, headers=renter)).content == CONTENT


async def test_an_upload_goes_on_where_the_answer_says(
    http: httpx.AsyncClient, renter: dict[str, str], served: Served
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT[:200_000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await served.co.artifacts.put(DIGEST, broken(), caller=RENTER)
    missing = await http.head(PATH, headers=renter)
    offset = int(missing.headers["upload-offset"])
    answer = await http.put(PATH, content=CONTENT[offset:], headers=renter | {"Upload-Offset": str(offset)})
    whole = await http.get(PATH, headers=renter)

    assert (missing.status_code, answer.status_code) == (404, 200)
    assert whole.content == CONTENT
