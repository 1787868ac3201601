"""The page on loopback: for this machine's browser, and for nobody who tricks it."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from html.parser import HTMLParser
from typing import IO

import httpx
import pytest
from typer.testing import CliRunner

from fakes.node_process import as_file
from fakes.provider_side import DEADLINE_S, MARKET, ScriptedCoordinator, payable, reserved, statement, task
from gristmill_protocol.errors import PortInUse
from gristmill_protocol.incidents import Incident
from gristmill_provider.cli import app
from gristmill_provider.config import NodeConfig
from gristmill_provider.journal import JOURNAL, Journal, held
from gristmill_provider.overview import Overview
from gristmill_provider.page import beside, document, served
from gristmill_provider.payables import Lease
from gristmill_provider.status import Status

pytestmark = pytest.mark.slow
DAY = 86_400


@pytest.fixture
def lock(config: NodeConfig) -> Iterator[IO[str]]:
    """Of a node that runs."""
    with held(config.state_dir) as opened:
        yield opened


@pytest.fixture
def journal(config: NodeConfig, lock: IO[str]) -> Iterator[Journal]:
    """Of a node that works at its first segment, has earned, and was idle before."""
    now_s = time.time()
    journal = Journal(config.state_dir / JOURNAL)
    journal.history.note("working", "", now_s - 7200)
    journal.history.note("no_work", "Nothing <fits>.", now_s - 7100)
    journal.history.note("working", "", now_s - 7000)
    journal.history.note("working", "", now_s - 6900)
    journal.history.record(Incident(kind="standing", at_s=int(now_s) - 60, text="The card was too slow."))
    journal.history.record(Incident(kind="xid", at_s=int(now_s) - 50, text="Xid 79."), ["attempt_1", "attempt_2"])
    journal.payables.meet(MARKET)
    journal.payables.expect(Lease(MARKET.ledger, "job_1", "attempt_1", DEADLINE_S, reserved()))
    kept = journal.payables.take(payable(statement((3, 5_000)), reserved(accepted_usd_micros=5_000)), MARKET)
    journal.payables.note_earned(kept, now_s - 5)
    journal.payables.note_earned(kept, now_s)
    journal.begin("attempt_1", "attempt")
    journal.begin("audit_1", "audit")
    journal.accusations.remember(task(), deadline_s=DEADLINE_S)
    journal.note_made("attempt_1", {"segment 0": "aa", "file x": "bb"}, now_s)
    yield journal
    journal.close()


@pytest.fixture
def status(config: NodeConfig, journal: Journal) -> Status:
    return Overview(config).read()[0]


def test_money_work_and_hours_come_from_the_journal(status: Status) -> None:
    today, week = status.periods
    job, check = status.tasks

    assert status.running
    assert (today.accepted_usd_micros, week.accepted_usd_micros) == (5_000, 5_000)
    assert (job.kind, job.segments_done, check.kind) == ("job", 1, "check")
    assert [row.reason for row in status.idle][-1] == "Nothing <fits>."
    assert [event.text for event in status.lost] == ["The card was too slow."]
    assert [event.text for event in status.events] == ["Xid 79."]
    assert "does not answer" in status.trouble


@pytest.mark.usefixtures("journal")
def test_a_node_that_does_not_run_is_told(config: NodeConfig, lock: IO[str]) -> None:
    lock.close()

    status = Overview(config).read()[0]

    assert (status.running, status.tasks) == (False, ())
    assert "does not run" in status.now


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize("flag", ["--once", "--json"])
def test_top_prints_one_frame(config: NodeConfig, flag: str) -> None:
    told = CliRunner().invoke(app, ["top", flag, "--config", str(as_file(config))])

    assert told.exit_code == 0
    if flag == "--json":
        assert json.loads(told.stdout)[0]["net_usd_micros"] == {"Today": 5_000, "7 days": 5_000}
    else:
        for words in ("A test's machine", "A job: 1 of", "Nothing <fits>.", "0.005", "Lost standing"):
            assert words in told.stdout


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action")]


def test_the_page_needs_no_script_and_nothing_from_elsewhere(status: Status) -> None:
    page = Tags(document([status]))

    assert page.links == []
    assert "script" not in page.tags
    assert "Nothing &lt;fits&gt;." in document([status])


@pytest.fixture
async def address(status: Status) -> AsyncIterator[str]:
    async def read() -> list[Status]:
        return [status]

    async with served(0, read) as address:
        yield address


async def test_it_is_open_to_this_machine_under_a_strict_policy(address: str) -> None:
    async with httpx.AsyncClient() as http:
        page, told = await http.get(address), await http.get(address + "status.json")

    policy = page.headers["content-security-policy"]
    assert page.status_code == 200
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert page.headers["cross-origin-resource-policy"] == "same-origin"
    assert told.json()[0]["name"] == "A test's machine"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil.example:80"])
async def test_another_host_name_is_turned_away(address: str, host: str) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.get(address, headers={"Host": host})

    assert answer.status_code == 421
    assert "machine" not in answer.text.replace("the machine that it runs on", "")


@pytest.mark.parametrize(
    ("method", "path", "code"), [("POST", "", 405), ("DELETE", "status.json", 405), ("GET", "../etc/passwd", 404)]
)
async def test_nothing_but_the_page_is_there(address: str, method: str, path: str, code: int) -> None:
    async with httpx.AsyncClient() as http:
        assert (await http.request(method, address + path)).status_code == code


@pytest.mark.parametrize("sent", [b"", b"\0" * 70_000, b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n"])
async def test_nonsense_harms_nothing(address: str, sent: bytes) -> None:
    port = int(re.findall(r":(\d+)/", address)[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    writer.write_eof()
    answer = await reader.read()
    writer.close()

    assert answer == b"" or answer.startswith(b"HTTP/1.1 421")
    async with httpx.AsyncClient() as http:
        assert (await http.get(address)).status_code == 200


async def test_before_there_is_a_journal_the_page_says_so_and_comes_back(config: NodeConfig) -> None:
    async def read() -> list[Status]:
        return Overview(config).read()

    async with served(0, read) as address, httpx.AsyncClient() as http:
        page = await http.get(address)

    assert page.status_code == 503
    assert "There is no journal" in page.text
    assert 'http-equiv="refresh"' in page.text


async def test_a_taken_port_is_said(address: str) -> None:
    port = int(re.findall(r":(\d+)/", address)[0])

    async def read() -> list[Status]:
        return []

    with pytest.raises(PortInUse, match="dashboard_port = 0"):
        async with served(port, read):
            pass


async def test_it_stands_beside_a_running_node(
    running: Callable[..., object], config: NodeConfig, coordinator: ScriptedCoordinator, capsys: pytest.CaptureFixture
) -> None:
    settings = config.model_copy(update={"dashboard_port": 0})

    async with beside(settings), running(settings):  # type: ignore[attr-defined]
        await coordinator.expect("offer")
        address = re.findall(r"http://127\.0\.0\.1:\d+/", capsys.readouterr().out)[0]
        async with httpx.AsyncClient() as http:
            page = await http.get(address)

    assert page.status_code == 200
    assert "provider 3" in page.text
