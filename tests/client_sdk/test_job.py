"""A job as its renter holds it."""

import errno
import io
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest
from eth_account import Account
from rich.console import Console

import gristmill as gm
from gristmill import Client, Job
from gristmill._download import download
from gristmill._fake_wire import FakeWire
from gristmill.testing import FakeCoordinator
from gristmill_protocol.jobs import ArtifactRef, Quote, Statement, StatementLine


@pytest.fixture
def job(client: Client, mails: Path) -> Job:
    return client.train("text-sorter", data=mails, budget="0.50", rounds=100)


def _quote(job: Job) -> Quote:
    assert job.plan is not None
    return job.plan.quote


def test_result_is_the_scorecard(job: Job, fake: FakeCoordinator) -> None:
    fake.finish(job.id, files={}, scorecard={"accuracy": 0.97})

    assert job.result() == {"accuracy": 0.97}
    assert job.bill is not None
    assert job.bill.paid_usd_micros == 80_000


def test_result_of_a_failed_job_says_why_and_what_it_cost(job: Job, fake: FakeCoordinator) -> None:
    fake.progress(job.id, steps_done=60, steps_accepted=50)
    fake.fail(job.id, "Five machines gave up.")

    with pytest.raises(gm.JobFailed, match=r"Five machines gave up\. 0\.04 USD was paid"):
        job.result()


def test_result_of_a_stopped_job_is_an_error(job: Job) -> None:
    job.stop()

    with pytest.raises(gm.JobFailed, match="stopped"):
        job.result()


def test_stopping_twice_changes_nothing(job: Job) -> None:
    assert job.stop() == job.stop()


def test_waiting_ends_in_time_and_the_job_runs_on(job: Job) -> None:
    with pytest.raises(gm.NotFinished, match="runs on"):
        job.wait(timeout_s=60)

    assert job.state is gm.JobState.QUEUED


def test_logs_so_far_do_not_wait(job: Job, fake: FakeCoordinator) -> None:
    fake.tell(job.id, "log", "hello")
    before = fake.now_s

    assert [event.text for event in job.logs()] == ["The job is queued.", "hello"]
    assert fake.now_s == before


def test_followed_logs_end_with_the_job(job: Job, fake: FakeCoordinator) -> None:
    fake.finish(job.id, files={}, scorecard={})

    assert [event.text for event in job.logs(follow=True)][-1] == "The job is done."


def test_watching_elsewhere_than_in_a_terminal_prints_lines(job: Job, fake: FakeCoordinator) -> None:
    fake.tell(job.id, "log", "\x1b[2Jhello [bold]")
    fake.finish(job.id, files={}, scorecard={})
    console = Console(file=io.StringIO(), force_terminal=False)

    job.watch(console)

    assert console.file.getvalue() == (  # type: ignore[attr-defined]
        "The job is queued.\n [2Jhello [bold]\nThe job is done.\n100 % trained, 100 % checked\n"
    )


def test_watching_in_a_terminal_draws_bars(job: Job, fake: FakeCoordinator) -> None:
    fake.finish(job.id, files={}, scorecard={})
    console = Console(file=io.StringIO(), force_terminal=True, width=100)

    job.watch(console)

    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Trained" in drawn
    assert "0.08 USD" in drawn


# Signatures beyond the ladder


def _move(job: Job, fake: FakeCoordinator, *, amount: int) -> Statement:
    """Have the quoted machine's 40 verified steps want paying under a statement of its own."""
    quote = _quote(job)
    fake.progress(job.id, steps_done=40, steps_accepted=40)
    line = StatementLine(provider=1, verifier=4, recipe=quote.recipe_id, amount_usd_micros=amount)
    wanted = Statement(nonce=quote.nonce, deadline_s=quote.deadline_s, lines=(line,))
    fake.ask_signature(job.id, wanted)
    return wanted


def test_wanted_statement_is_checked_and_signed(job: Job, fake: FakeCoordinator) -> None:
    wanted = _move(job, fake, amount=32_000)

    list(job.logs())

    assert [signed.statement for signed in fake.statements] == [wanted]
    assert job.view().signature_wanted is None


def test_statement_for_more_than_was_verified_is_not_signed(job: Job, fake: FakeCoordinator) -> None:
    _move(job, fake, amount=32_001)

    with pytest.raises(gm.RefusedToSign):
        job.wait()

    assert not fake.statements


def test_statement_is_signed_after_a_restart(fake: FakeCoordinator, mails: Path, tmp_path: Path) -> None:
    key = Account.create()
    with fake.client(tmp_path, key) as before:
        job = before.train("text-sorter", data=mails, budget="0.50", rounds=100)
        _move(job, fake, amount=32_000)

    with fake.client(tmp_path, key) as after:
        list(after.job(job.id).logs())

    assert len(fake.statements) == 1


def test_statement_is_not_signed_where_nothing_was_ordered(fake: FakeCoordinator, mails: Path, tmp_path: Path) -> None:
    key = Account.create()
    with fake.client(tmp_path / "one", key) as one:
        job = one.train("text-sorter", data=mails, budget="0.50", rounds=100)
        _move(job, fake, amount=32_000)

    with (
        fake.client(tmp_path / "two", key) as two,
        pytest.raises(gm.RefusedToSign, match="not ordered on this machine"),
    ):
        two.job(job.id).wait()


# Outages


class _Away(httpx.BaseTransport):
    """A coordinator that is away until its clock says otherwise."""

    def __init__(self, fake: FakeCoordinator, *, until_s: float) -> None:
        self._fake = fake
        self._until_s = until_s

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._fake.now_s < self._until_s:
            self._fake.pause(1)
            raise httpx.ConnectError("connection refused")
        return FakeWire(self._fake).handle_request(request)


def _client_through(wire: httpx.BaseTransport, fake: FakeCoordinator, key: object, state: Path) -> Client:
    with fake.installed(state):
        return Client(key=key, wire=wire)  # type: ignore[arg-type]


def test_watching_outlasts_an_outage(fake: FakeCoordinator, mails: Path, tmp_path: Path) -> None:
    key = Account.create()
    with fake.client(tmp_path, key) as client:
        job_id = client.train("text-sorter", data=mails, budget="0.50").id
        fake.finish(job_id, files={}, scorecard={})
    away = _Away(fake, until_s=fake.now_s + 600)

    with _client_through(away, fake, key, tmp_path) as client:
        news = list(Job(client, job_id).follow())

    assert "cannot be reached" in news[0].trouble
    assert news[-1].view is not None
    assert news[-1].view.state.ended


def test_waiting_gives_up_on_a_coordinator_that_stays_away(fake: FakeCoordinator, tmp_path: Path) -> None:
    away = _Away(fake, until_s=float("inf"))

    with _client_through(away, fake, Account.create(), tmp_path) as client, pytest.raises(gm.Unavailable):
        Job(client, "job_1").wait()


# Bringing files home

FILES = {"model.safetensors": b"weights" * 100_000, "card/README.md": b"read me"}


def test_download_brings_every_file(job: Job, fake: FakeCoordinator, tmp_path: Path) -> None:
    fake.finish(job.id, files=FILES, scorecard={})

    folder = job.download(tmp_path / "model")

    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


def test_download_replaces_older_files_and_keeps_others(job: Job, fake: FakeCoordinator, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("old")
    (tmp_path / "mine.txt").write_text("mine")
    fake.finish(job.id, files=FILES, scorecard={})

    job.download(tmp_path)

    assert (tmp_path / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_download_of_an_unfinished_job_is_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(gm.NotFinished):
        job.download(tmp_path / "model")


def test_download_of_a_failed_job_is_refused(job: Job, fake: FakeCoordinator, tmp_path: Path) -> None:
    fake.fail(job.id, "No luck.")

    with pytest.raises(gm.JobFailed):
        job.download(tmp_path / "model")


def test_damaged_file_leaves_nothing(job: Job, fake: FakeCoordinator, tmp_path: Path) -> None:
    fake.finish(job.id, files=FILES, scorecard={})
    digest = job.view().outputs["card/README.md"].sha256
    fake.artifacts[digest] = b"rEad me"

    with pytest.raises(gm.WrongHash):
        job.download(tmp_path / "model")

    assert not (tmp_path / "model").exists()


def test_file_larger_than_announced_is_cut_off(job: Job, fake: FakeCoordinator, tmp_path: Path) -> None:
    fake.finish(job.id, files=FILES, scorecard={})
    fake.artifacts[job.view().outputs["card/README.md"].sha256] = b"x" * 10_000_000

    with pytest.raises(gm.WrongHash):
        job.download(tmp_path / "model")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", ""])
def test_file_outside_the_folder_is_refused(job: Job, fake: FakeCoordinator, tmp_path: Path, name: str) -> None:
    fake.finish(job.id, files={name: b"x"}, scorecard={})

    with pytest.raises(gm.BadData):
        job.download(tmp_path / "model")

    assert not (tmp_path / "model").exists()


class _Cutting(httpx.BaseTransport):
    """Breaks off every artifact after some bytes, the given number of times."""

    def __init__(self, fake: FakeCoordinator, *, times: int) -> None:
        self._wire = FakeWire(fake)
        self.ranges: list[str | None] = []
        self._left = times

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._wire.handle_request(request)
        if "/artifacts/" not in request.url.path or self._left == 0:
            return response
        self._left -= 1
        self.ranges.append(request.headers.get("range"))
        return httpx.Response(response.status_code, stream=_Broken(response.content[:300_000]))


class _Broken(httpx.SyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield self._content
        raise httpx.ReadError("connection reset")


def test_interrupted_download_goes_on_where_it_broke_off(fake: FakeCoordinator, mails: Path, tmp_path: Path) -> None:
    key, wire = Account.create(), _Cutting(fake, times=2)
    with fake.client(tmp_path / "state", key) as client:
        job_id = client.train("text-sorter", data=mails, budget="0.50").id
        fake.finish(job_id, files=FILES, scorecard={})

    with _client_through(wire, fake, key, tmp_path / "state") as client:
        folder = client.job(job_id).download(tmp_path / "model")

    assert wire.ranges[0] is None
    assert wire.ranges[1] is not None
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_download_that_never_completes_leaves_nothing(fake: FakeCoordinator, mails: Path, tmp_path: Path) -> None:
    key = Account.create()
    with fake.client(tmp_path / "state", key) as client:
        job_id = client.train("text-sorter", data=mails, budget="0.50").id
        fake.finish(job_id, files={"big": b"x" * 10_000_000}, scorecard={})

    cutting = _client_through(_Cutting(fake, times=99), fake, key, tmp_path / "state")
    with cutting as client, pytest.raises(gm.Unavailable):
        client.job(job_id).download(tmp_path / "model")

    assert not (tmp_path / "model").exists()


def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    def full(ref: ArtifactRef, file: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(gm.NoSpace):
        download({"model": ArtifactRef(sha256="0" * 64, size_bytes=1)}, tmp_path / "model", full)

    assert not (tmp_path / "model").exists()
