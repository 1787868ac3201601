"""Signing in: once an hour, with a checked text, and without a password where a token is at hand."""

import stat
from pathlib import Path

import pytest

import gristmill as gm
from gristmill import Client
from gristmill.testing import FakeCoordinator
from gristmill_protocol.api import Challenge, ChallengeRequest, Session, SessionRequest
from gristmill_protocol.keystore import create_key


class Counting(FakeCoordinator):
    sign_ins = 0

    def session(self, signed: SessionRequest) -> Session:
        self.sign_ins += 1
        return super().session(signed)


@pytest.fixture
def fake() -> Counting:
    return Counting()


def test_token_serves_for_its_hour(client: Client, fake: Counting) -> None:
    client.jobs()
    fake.pause(3_500)
    client.jobs()
    fake.pause(60)
    client.jobs()

    assert fake.sign_ins == 2


def test_token_that_the_coordinator_forgot_is_renewed(client: Client, fake: Counting) -> None:
    client.jobs()
    fake.forget_sessions()

    assert client.jobs() == []
    assert fake.sign_ins == 2


def test_next_process_needs_no_password(fake: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_key(tmp_path / "key.json", "secret", rounds=10)
    with fake.installed(tmp_path / "state"):
        with Client(key=tmp_path / "key.json", password="secret") as first:
            first.jobs()
        with Client(key=tmp_path / "key.json", password="wrong") as second:
            assert second.jobs() == []

    assert fake.sign_ins == 1


def test_token_is_kept_for_its_owner_only(client: Client, tmp_path: Path) -> None:
    client.jobs()

    [path] = (tmp_path / "state" / "sessions").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_damaged_token_file_is_replaced(client: Client, fake: Counting, tmp_path: Path) -> None:
    client.jobs()
    [path] = (tmp_path / "state" / "sessions").iterdir()
    path.write_text("{")

    with fake.client(tmp_path / "state") as other:
        assert other.jobs() == []


def test_sign_in_for_another_site_is_not_signed(tmp_path: Path) -> None:
    class Relaying(FakeCoordinator):
        def challenge(self, wanted: ChallengeRequest) -> Challenge:
            text = super().challenge(wanted).message
            return Challenge(message=text.replace("127.0.0.1:1", "bank.example"))

    with Relaying().client(tmp_path) as client, pytest.raises(gm.NotAllowed, match=r"bank\.example"):
        client.jobs()


def test_other_text_is_not_signed(tmp_path: Path) -> None:
    class Cunning(FakeCoordinator):
        def challenge(self, wanted: ChallengeRequest) -> Challenge:
            return Challenge(message="I owe you a house.")

    with Cunning().client(tmp_path) as client, pytest.raises(gm.BadRequest, match="not a sign-in message"):
        client.jobs()


def test_missing_key_says_how_to_make_one(fake: Counting, tmp_path: Path) -> None:
    with fake.installed(tmp_path), Client(key=tmp_path / "none.json") as client, pytest.raises(gm.NotFound) as caught:
        client.jobs()

    assert "gristmill key new" in caught.value.todo


def test_file_that_is_no_key_is_named(fake: Counting, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("[]")

    with fake.installed(tmp_path), Client(key=tmp_path / "key.json") as client, pytest.raises(gm.WrongKey):
        client.jobs()


def test_wrong_password_signs_nothing(fake: Counting, tmp_path: Path) -> None:
    create_key(tmp_path / "key.json", "secret", rounds=10)

    with fake.installed(tmp_path):
        client = Client(key=tmp_path / "key.json", password="wrong")
    with client, pytest.raises(gm.WrongKey):
        client.jobs()

    assert fake.sign_ins == 0
