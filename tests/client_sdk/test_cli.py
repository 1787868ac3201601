"""The command line: data on stdout, words on stderr, exit codes from the errors."""

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from gristmill import Client
from gristmill._job import Job
from gristmill.cli import COMMANDS_GROUP, run
from gristmill.testing import FakeCoordinator
from gristmill_protocol.jobs import JobView
from gristmill_protocol.modes import GUARANTEES, Mode

Cli = Callable[..., Any]


@pytest.fixture
def job_id(cli: Cli, mails: Path) -> str:
    ordered = cli("train", "text-sorter", mails, "--budget", "0.50", "--yes", "--detach", "--json")
    assert ordered.code == 0
    return JobView.model_validate_json(ordered.out).job_id


@pytest.fixture
def done(job_id: str, fake: FakeCoordinator) -> str:
    fake.finish(
        job_id, files={"model.bin": b"weights"}, scorecard={"accuracy": 0.97, "sentence": "It gets 97 of 100 right."}
    )
    return job_id


def test_plan_says_at_most(cli: Cli, mails: Path) -> None:
    ran = cli("plan", "text-sorter", mails)

    assert ran.code == 0
    assert ran.out.startswith("About 6 min, at most 0.12 USD; 40 examples, 2 answers\n")


def test_plan_as_json_is_spec_and_quote(cli: Cli, mails: Path) -> None:
    ran = cli("plan", "text-sorter", mails, "--quality", "quick", "--assurance", 4, "--set", "rounds=100", "--json")

    planned = json.loads(ran.out)
    assert planned["spec"]["settings"] == {"quality": "quick", "rounds": 100}
    assert planned["spec"]["assurance"] == 4
    assert planned["quote"]["cap_usd_micros"] == 120_000
    assert ran.err == ""


def test_plan_asks_for_a_graphics_card(cli: Cli, mails: Path) -> None:
    ran = cli("plan", "text-sorter", mails, "--gpu", "24GB", "--json")

    needs = json.loads(ran.out)["spec"]["gpu"]
    assert (needs["memory_bytes"], needs["allow_cpu"]) == (24 * 10**9, False)


def test_plan_asks_for_a_way_of_checking(cli: Cli, mails: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden.csv"
    hidden.write_text(mails.read_text().replace("number", "no."))

    ran = cli("plan", "text-sorter", mails, "--mode", "outcome", "--held-out", hidden, "--threshold", "0.9", "--json")

    spec = json.loads(ran.out)["spec"]
    assert (spec["mode"], spec["threshold"]) == ("outcome", 900_000)
    assert spec["held_out"]["sha256"] not in ("", spec["data"]["sha256"])


def test_plan_says_what_the_way_of_checking_guarantees(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.py").write_text("open('out/a', 'w').write('b')\n")

    ran = cli("plan", "script", tmp_path / "mine", "--mode", "replicate", "--replicas", 5, "--set", "minutes=3")

    assert ran.code == 0
    assert GUARANTEES[Mode.REPLICATE] in ran.out


def test_spending_needs_a_yes(cli: Cli, fake: FakeCoordinator, mails: Path) -> None:
    ran = cli("train", "text-sorter", mails, "--budget", "0.50")

    assert ran.code == 2
    assert "--yes" in ran.err
    assert not fake.artifacts


def test_train_prints_price_and_id(cli: Cli, mails: Path) -> None:
    ran = cli("train", "text-sorter", mails, "--budget", "0.50", "--yes", "--detach")

    assert ran.code == 0
    assert "at most 0.12 USD" in ran.out
    assert ran.out.splitlines()[-1].startswith("job_")


def test_jobs_lists_cost_and_progress(cli: Cli, job_id: str, fake: FakeCoordinator) -> None:
    fake.progress(job_id, steps_done=500, steps_accepted=400)

    ran = cli("jobs")

    assert ran.out.splitlines()[1].split() == [
        job_id, "text-sorter", "running", "40", "%", "at", "most", "0.12", "USD"
    ]  # fmt: skip


def test_jobs_as_json(cli: Cli, done: str) -> None:
    [view] = json.loads(cli("jobs", "--json").out)

    assert view["bill"]["paid_usd_micros"] == 80_000


def test_watch_reports_the_result(cli: Cli, done: str) -> None:
    ran = cli("watch", done)

    assert ran.code == 0
    assert ran.out.splitlines() == ["It gets 97 of 100 right.", GUARANTEES[Mode.REPUTATION], "Paid 0.08 USD."]
    assert "The job is done." in ran.err


def test_watch_as_json_prints_the_job(cli: Cli, done: str) -> None:
    ran = cli("watch", done, "--json")

    assert JobView.model_validate_json(ran.out).job_id == done
    assert ran.err == ""


def test_watching_a_failed_job_has_its_own_exit_code(cli: Cli, job_id: str, fake: FakeCoordinator) -> None:
    fake.fail(job_id, "Five machines gave up.")

    ran = cli("watch", job_id, "--json")

    assert ran.code == 6
    assert json.loads(ran.err)["code"] == "job_failed"


def test_interrupting_leaves_the_job_running(
    cli: Cli, job_id: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "follow", interrupted)

    ran = cli("watch", job_id)

    assert ran.code == 130
    assert f"The job runs on. `gristmill watch {job_id}`" in ran.err


def test_logs_as_json_are_one_event_a_line(cli: Cli, done: str) -> None:
    lines = cli("logs", done, "--json").out.splitlines()

    assert [json.loads(line)["text"] for line in lines] == ["The job is queued.", "Step 1000.", "The job is done."]


def test_logs_follow_to_the_end(cli: Cli, done: str) -> None:
    assert cli("logs", "-f", done).out.endswith("The job is done.\n")


def test_pull_brings_the_files(cli: Cli, done: str, tmp_path: Path) -> None:
    ran = cli("pull", done, tmp_path / "model")

    assert ran.out == f"{tmp_path / 'model' / 'model.bin'}\n"
    assert (tmp_path / "model" / "model.bin").read_bytes() == b"weights"


def test_pull_too_early_is_a_conflict(cli: Cli, job_id: str, tmp_path: Path) -> None:
    assert cli("pull", job_id, tmp_path / "model").code == 5


def test_stop_ends_the_job(cli: Cli, job_id: str) -> None:
    assert cli("stop", job_id).out == f"{job_id} is stopped. You stopped it.\n"


def test_account_shows_what_jobs_may_take(cli: Cli, job_id: str) -> None:
    ran = cli("wallet", "balance")

    assert "100.00 USD" in ran.out
    assert "at most 0.12 USD" in ran.out


def test_unknown_job_is_not_found(cli: Cli) -> None:
    ran = cli("watch", "job_none", "--json")

    assert ran.code == 4
    assert json.loads(ran.err)["code"] == "not_found"
    assert ran.out == ""


def test_error_in_words_has_effect_and_advice(cli: Cli, mails: Path) -> None:
    ran = cli("plan", "text-sorte", mails)

    assert ran.code == 2
    assert "Did you mean text-sorter" in ran.err
    assert "Nothing was started or charged." in ran.err


@pytest.mark.parametrize(
    "args",
    [
        ["plan"],
        ["nonsense"],
        ["plan", "text-sorter", ".", "--set", "rounds"],
        ["plan", "text-sorter", ".", "--set", "budget=1"],
    ],
)
def test_wrong_command_line_is_a_problem_too(cli: Cli, args: list[str]) -> None:
    ran = cli(*args, "--json")

    assert ran.code == 2
    assert json.loads(ran.err)["what"]


@pytest.mark.slow
def test_new_key_is_encrypted_and_never_overwritten(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_PASSWORD", "secret")
    path = tmp_path / "key.json"

    made = cli("key", "new", path, "--json")
    shown = cli("key", "show", path)
    again = cli("key", "new", path)

    assert shown.out.strip() == json.loads(made.out)["address"]
    assert "crypto" in json.loads(path.read_text())
    assert again.code == 5


def test_new_key_needs_a_password(cli: Cli, tmp_path: Path) -> None:
    ran = cli("key", "new", tmp_path / "key.json")

    assert ran.code == 2
    assert not (tmp_path / "key.json").exists()


def test_trying_a_model_that_is_not_there_says_how_to_get_one(cli: Cli, tmp_path: Path) -> None:
    ran = cli("try", tmp_path / "none", "file.txt")

    assert ran.code == 2
    assert "gristmill pull" in ran.err


def test_trying_without_torch_says_what_to_install(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill_trainer.tryout.find_spec", lambda name: None)
    (tmp_path / "file.txt").write_text("pay")

    ran = cli("try", tmp_path, tmp_path / "file.txt")

    assert ran.code == 7
    assert "gristmill[trainer]" in ran.err


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Puts a script in the place of the trainer's process: what it says to each question, and its exit code."""

    def install(said: str, code: int) -> None:
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\nwhile read line; do echo '{said}'; exit {code}; done\n")
        script.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(script))

    return install


def test_trying_a_model_prints_its_answers(cli: Cli, tmp_path: Path, trainer: Callable[[str, int], None]) -> None:
    trainer('{"file": "pay", "answer": "billing", "confidence": 0.914}', 0)

    ran = cli("try", tmp_path, "--text", "pay")

    assert ran.out.splitlines()[1].split() == ["pay", "billing", "91", "%", "sure"]


def test_a_file_that_is_not_there_is_named_before_a_model_is_asked(cli: Cli, tmp_path: Path) -> None:
    ran = cli("try", tmp_path, "a.txt", "--json")

    assert ran.code == 4
    assert json.loads(ran.err)["what"] == "'a.txt' cannot be read: No such file or directory."


def test_trainer_that_says_what_is_wrong_is_passed_on(
    cli: Cli, tmp_path: Path, trainer: Callable[[str, int], None]
) -> None:
    trainer('{"event": "failed", "code": "bad_data", "what": "pay is no picture."}', 1)

    ran = cli("try", tmp_path, "--text", "pay", "--json")

    assert ran.code == 2
    assert json.loads(ran.err)["what"] == "pay is no picture."


def test_trainer_that_dies_is_unavailable(cli: Cli, tmp_path: Path, trainer: Callable[[str, int], None]) -> None:
    trainer("Segmentation fault", 139)

    ran = cli("try", tmp_path, "--text", "pay")

    assert ran.code == 7
    assert "ended with 139" in ran.err


def _entry(value: str) -> EntryPoint:
    return EntryPoint("localnet", value, COMMANDS_GROUP)


@pytest.mark.parametrize(("asked", "code"), [("--help", 0), ("localnet", 7)])
def test_group_that_is_not_installed_matters_only_to_who_asks(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, asked: str, code: int
) -> None:
    monkeypatch.setattr("gristmill.cli.entry_points", lambda group: [_entry("gristmill_not_installed:app")])

    assert cli(asked).code == code


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0

    said = capsys.readouterr().out
    for command in ("plan", "train", "jobs", "watch", "logs", "pull", "stop", "try", "wallet", "market", "key"):
        assert command in said
