"""Who is asking: EIP-4361 sign-in for renters, and HMAC tokens for renters and nodes.

A token is `payload.mac`: nothing is stored, so any replica verifies what another issued. A challenge's nonce is a MAC
over the rest of its message, so it needs no table either; each process lets a nonce open one session only.
"""

import base64
import hmac
import json
import secrets
from collections.abc import Callable
from hashlib import sha256

from gristmill_protocol.errors import NotSignedIn
from gristmill_protocol.signin import SignIn

CHALLENGE_TTL_S = 300
SESSION_TTL_S = 3600

_TOKEN = b"gristmill/token/1\0"
_NONCE = b"gristmill/nonce/1\0"
_SALT_CHARS = 16


def issue(secret: bytes, subject: str, ttl_s: int, now: float) -> str:
    """A bearer token for subject ("renter:<0xaddr lower>" or "node:<node_id>"), good until now + ttl_s (unix s)."""
    payload = base64.urlsafe_b64encode(json.dumps([subject, int(now) + ttl_s]).encode()).decode()
    return f"{payload}.{_mac(secret, _TOKEN + payload.encode())}"


def verify(secret: bytes, token: str, now: float) -> str:
    """The subject that a token was issued to.

    Raises:
        NotSignedIn: not one of our tokens, or expired.
    """
    payload, _, mac = token.partition(".")
    # What is no text at all (a lone surrogate) becomes other bytes here, and so no token of ours.
    expected = _mac(secret, _TOKEN + payload.encode(errors="replace"))
    if not hmac.compare_digest(mac.encode(errors="replace"), expected.encode()):
        raise NotSignedIn("The token was not issued by this coordinator.", todo="Sign in again.")
    subject, expires_s = json.loads(base64.urlsafe_b64decode(payload))
    if now >= expires_s:
        raise NotSignedIn("The sign-in has expired.", todo="Sign in again.")
    return str(subject)


class RenterSignIn:
    """Challenges for renters' keys, and the sessions that signed challenges open.

    Args:
        public_url: where renters reach this coordinator; its host is the domain they sign for. It is configured, never
            taken from a request, or another site could pass on what was signed for it.
        clock: unix seconds.
    """

    def __init__(self, *, secret: bytes, public_url: str, chain_id: int, clock: Callable[[], float]) -> None:
        self._secret = secret
        self._url = public_url
        self._chain_id = chain_id
        self._clock = clock
        self._used: dict[str, int] = {}  # nonce -> unix time after which its message is void anyway

    def challenge(self, address: str) -> str:
        """The EIP-4361 text that the key of address has to sign."""
        issued = int(self._clock())
        return self._message(address, secrets.token_hex(_SALT_CHARS // 2), issued).text()

    def session(self, text: str, signature: str) -> tuple[str, int]:
        """A token for the key that signed a challenge, and the unix time until which it is good.

        Raises:
            BadRequest: the text is no sign-in message.
            BadSignature: somebody else signed.
            NotSignedIn: not our challenge, expired, or used before.
        """
        signin = SignIn.parse(text)
        now = self._clock()
        ours = self._message(signin.address, signin.nonce[:_SALT_CHARS], signin.issued_s)
        if not hmac.compare_digest(ours.text().encode(), text.encode()):
            raise NotSignedIn("This sign-in was not asked for by this coordinator.", todo="Ask for a new challenge.")
        if not signin.issued_s <= now < signin.expires_s:
            raise NotSignedIn("The sign-in challenge has expired.", todo="Ask for a new challenge.")
        signin.require_signature(signature)
        self._use(signin, now)
        token = issue(self._secret, renter_subject(signin.address), SESSION_TTL_S, now)
        return token, int(now) + SESSION_TTL_S

    def _use(self, signin: SignIn, now: float) -> None:
        if signin.nonce in self._used:
            raise NotSignedIn("This sign-in challenge was used before.", todo="Ask for a new challenge.")
        self._used = {nonce: until for nonce, until in self._used.items() if until > now}
        self._used[signin.nonce] = signin.expires_s

    def _message(self, address: str, salt: str, issued_s: int) -> SignIn:
        blank = SignIn(
            address=address, url=self._url, chain_id=self._chain_id, nonce=salt, issued_s=issued_s,
            expires_s=issued_s + CHALLENGE_TTL_S,
        )  # fmt: skip
        return blank.with_nonce(salt + _mac(self._secret, _NONCE + blank.text().encode())[:32])


def renter_subject(address: str) -> str:
    return f"renter:{address.lower()}"


def node_subject(node_id: str) -> str:
    return f"node:{node_id}"


def _mac(secret: bytes, message: bytes) -> str:
    return hmac.digest(secret, message, sha256).hex()
