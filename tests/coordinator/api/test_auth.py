"""Tokens and sign-in: who is let in, and who is not."""

import json

import httpx
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from hypothesis import assume, given
from hypothesis import strategies as st

from fakes.http_side import SECRET, Clock, Served
from gristmill_coordinator.api.auth import CHALLENGE_TTL_S, SESSION_TTL_S, RenterSignIn, issue, verify
from gristmill_protocol.errors import BadRequest, BadSignature, GristmillError, NotSignedIn

URL = "https://mill.example.org"
NOW = 1_800_000_000.0


@given(subject=st.text(), ttl=st.integers(1, 10**6), late=st.floats(0, 0.99))
def test_token_names_its_subject_until_it_expires(subject: str, ttl: int, late: float) -> None:
    token = issue(SECRET, subject, ttl, NOW)

    assert verify(SECRET, token, NOW + late * ttl) == subject
    with pytest.raises(NotSignedIn, match="expired"):
        verify(SECRET, token, NOW + ttl)


@given(token=st.text())
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(NotSignedIn):
        verify(SECRET, token, NOW)


@given(at=st.integers(0), char=st.characters())
def test_changed_token_is_refused(at: int, char: str) -> None:
    token = issue(SECRET, "node:n1", 60, NOW)
    at %= len(token)
    assume(char != token[at])

    with pytest.raises(NotSignedIn):
        verify(SECRET, token[:at] + char + token[at + 1 :], NOW)


def test_token_of_another_secret_is_refused() -> None:
    with pytest.raises(NotSignedIn):
        verify(b"t" * 32, issue(SECRET, "node:n1", 60, NOW), NOW)


# Sign-in


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(clock: Clock) -> RenterSignIn:
    return RenterSignIn(secret=SECRET, public_url=URL, chain_id=31_337, clock=clock)


@pytest.fixture
def renter() -> LocalAccount:
    account: LocalAccount = Account.create()
    return account


def _signed(account: LocalAccount, text: str) -> str:
    return "0x" + bytes(account.sign_message(encode_defunct(text=text)).signature).hex()


def test_signed_challenge_opens_a_session(door: RenterSignIn, renter: LocalAccount, clock: Clock) -> None:
    text = door.challenge(renter.address)

    token, expires_s = door.session(text, _signed(renter, text))

    assert verify(SECRET, token, clock()) == f"renter:{renter.address.lower()}"
    assert expires_s == clock() + SESSION_TTL_S


def test_challenge_is_an_eip4361_text(door: RenterSignIn, renter: LocalAccount) -> None:
    lines = door.challenge(renter.address).split("\n")

    assert lines[0] == "mill.example.org wants you to sign in with your Ethereum account:"
    assert lines[1] == renter.address
    assert [line.partition(": ")[0] for line in lines[5:]] == [
        "URI", "Version", "Chain ID", "Nonce", "Issued At", "Expiration Time"
    ]  # fmt: skip


def test_challenge_opens_one_session_only(door: RenterSignIn, renter: LocalAccount) -> None:
    text = door.challenge(renter.address)
    signature = _signed(renter, text)
    door.session(text, signature)

    with pytest.raises(NotSignedIn, match="used before"):
        door.session(text, signature)


def test_challenge_expires(door: RenterSignIn, renter: LocalAccount, clock: Clock) -> None:
    text = door.challenge(renter.address)
    clock.now_s += CHALLENGE_TTL_S

    with pytest.raises(NotSignedIn, match="expired"):
        door.session(text, _signed(renter, text))


def test_somebody_elses_signature_is_refused(door: RenterSignIn, renter: LocalAccount) -> None:
    text = door.challenge(renter.address)

    with pytest.raises(BadSignature):
        door.session(text, _signed(Account.create(), text))


@pytest.mark.parametrize("signature", ["0x", "0x00", "0x" + "00" * 65, "0x" + "ff" * 65])
def test_what_is_no_signature_is_refused(door: RenterSignIn, renter: LocalAccount, signature: str) -> None:
    with pytest.raises(BadSignature):
        door.session(door.challenge(renter.address), signature)


def test_challenge_of_another_coordinator_is_refused(renter: LocalAccount, clock: Clock, door: RenterSignIn) -> None:
    other = RenterSignIn(secret=b"t" * 32, public_url=URL, chain_id=31_337, clock=clock)
    text = other.challenge(renter.address)

    with pytest.raises(NotSignedIn, match="not asked for"):
        door.session(text, _signed(renter, text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mill.example.org", "evil.example.org"),
        ("Chain ID: 31337", "Chain ID: 1"),
        ("This moves no money", "This moves all money"),
        ("Version: 1", "Version: 2"),
        ("Nonce: ", "Nonce: 0"),
        ("T08:05:00Z", "T09:05:00Z"),
    ],
)
def test_changed_challenge_is_refused(door: RenterSignIn, renter: LocalAccount, old: str, new: str) -> None:
    text = door.challenge(renter.address).replace(old, new)

    with pytest.raises((NotSignedIn, BadRequest)):
        door.session(text, _signed(renter, text))


@given(text=st.text())
def test_any_other_text_is_refused(text: str) -> None:
    door = RenterSignIn(secret=SECRET, public_url=URL, chain_id=31_337, clock=lambda: NOW)

    with pytest.raises(GristmillError):
        door.session(text, "0x")


async def test_session_over_http(http: httpx.AsyncClient, served: Served) -> None:
    renter = served.open_account()
    challenge = await http.post("/v1/auth/challenge", json={"address": renter.address})
    text = challenge.json()["message"]

    session = await http.post("/v1/auth/session", json={"message": text, "signature": _signed(renter, text)})

    headers = {"Authorization": f"Bearer {session.json()['token']}"}
    account = await http.get("/v1/account", headers=headers)
    assert account.json()["balance_usd_micros"] == 10_000_000
    assert json.loads(account.text)["key"] == renter.address.lower()
