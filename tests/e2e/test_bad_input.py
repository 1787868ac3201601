"""What people type wrong: each gives the reason, the effect, what to do and a code that is not 0; nothing is lost."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gristmill_localnet.net import Localnet

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

Ran = subprocess.CompletedProcess[str]
Gristmill = Callable[..., Ran]


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_lost(net: Localnet) -> Iterator[None]:
    """No refusal of this module leaves a job, a reservation or a payment."""
    with net.client() as client:
        before = ([job.id for job in client.jobs()], client.account().available_usd_micros)
        yield
        assert ([job.id for job in client.jobs()], client.account().available_usd_micros) == before


@pytest.fixture
def gristmill(net: Localnet, tmp_path: Path) -> Gristmill:
    """The command, as the funded renter."""

    def run(*args: str | Path, **changed: str) -> Ran:
        command = [Path(sys.executable).with_name("gristmill"), *args]
        env = os.environ | net.environment() | {"XDG_STATE_HOME": str(tmp_path)} | changed
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)

    return run


@pytest.fixture
def few(digits: Path, tmp_path: Path) -> Path:
    """A small data set of two digits, to spoil."""
    for digit in "01":
        for picture in sorted((digits / digit).iterdir())[:30]:
            target = tmp_path / "few" / digit / picture.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, target)
    return tmp_path / "few"


def assert_refused(ran: Ran, code: int, *words: str) -> None:
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    for word in words:
        assert word in ran.stderr, ran.stderr


def test_an_unknown_recipe_names_the_near_one(gristmill: Gristmill, few: Path) -> None:
    ran = gristmill("train", "image-sortr", few, "--budget", "0.05", "--yes")

    assert_refused(ran, 2, "image-sortr", "image-sorter")


def test_an_unreadable_picture_is_named(gristmill: Gristmill, few: Path) -> None:
    broken = sorted((few / "0").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:40])

    ran = gristmill("train", "image-sorter", few, "--budget", "0.05", "--yes")

    assert_refused(ran, 2, broken.name, "Nothing was ordered or charged")


def test_empty_data_are_refused(gristmill: Gristmill, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert_refused(gristmill("train", "image-sorter", tmp_path / "empty", "--budget", "0.05", "--yes"), 2, "empty")


def test_one_answer_only_is_nothing_to_learn(gristmill: Gristmill, few: Path) -> None:
    shutil.rmtree(few / "1")

    assert_refused(gristmill("train", "image-sorter", few, "--budget", "0.05", "--yes"), 2, "one")


def test_a_budget_below_the_price_is_told_the_price(gristmill: Gristmill, few: Path) -> None:
    ran = gristmill("train", "image-sorter", few, "--budget", "0.000001", "--yes")

    assert_refused(ran, 2, "The job costs", "Nothing was started or charged", "Raise the budget")


def test_an_account_without_money_is_told_what_is_missing(gristmill: Gristmill, few: Path, tmp_path: Path) -> None:
    poor = {"GRISTMILL_KEYSTORE": str(tmp_path / "poor.json")}
    assert gristmill("key", "new", **poor).returncode == 0

    ran = gristmill("train", "image-sorter", few, "--budget", "0.05", "--yes", **poor)

    assert_refused(ran, 2, "The account", "Nothing was started or reserved", "Deposit into an account")


def test_what_fits_no_machine_says_which_requirement_excluded_how_many(gristmill: Gristmill, few: Path) -> None:
    ran = gristmill("train", "image-sorter", few, "--budget", "0.05", "--gpu", "80GB", "--yes")

    assert_refused(ran, 5, "No machine can do this job now", "3", "Nothing was started or charged")


def test_a_wrong_password_opens_no_key(gristmill: Gristmill, few: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong")

    ran = gristmill("wallet", "balance", GRISTMILL_PASSWORD_FILE=str(tmp_path / "wrong"))

    assert_refused(ran, 2, "cannot be opened")


def test_a_coordinator_that_is_not_there_is_said_so(gristmill: Gristmill) -> None:
    assert_refused(gristmill("wallet", "balance", GRISTMILL_URL="http://127.0.0.1:1"), 7, "127.0.0.1:1")


def test_a_port_in_use_stops_the_localnet_with_a_sentence(gristmill: Gristmill, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        ran = gristmill("localnet", "up", "--folder", tmp_path / "localnet", "--port", port)

    assert_refused(ran, 7, port, "in use")


def test_a_folder_with_other_things_is_left_alone(gristmill: Gristmill, few: Path) -> None:
    ran = gristmill("localnet", "up", "--folder", few)

    assert_refused(ran, 5, "no localnet made", "Nothing was started and nothing was deleted")
    assert (few / "0").is_dir()
