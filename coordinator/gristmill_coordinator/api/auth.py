"""Who is asking: EIP-4361 sign-in for renters, and HMAC tokens for renters and nodes.

A token is `payload.mac`: nothing is stored, so any replica verifies what another issued. A challenge's nonce is a MAC
over the rest of its message, so it needs no table either; each process lets a nonce open one session only.
"""

import base64
import binascii
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
    payload = json.dumps([subject, int(now) + ttl_s], separators=(",", ":")).encode()
    return f"{_b64(payload)}.{_b64(_mac(secret, _TOKEN + payload))}"


def verify(secret: bytes, token: str, now: float) -> str:
    """The subject that a token was issued to.

    Raises:
        NotSignedIn: not one of our tokens, or expired.
    """
    payload_text, _, mac_text = token.partition(".")
    try:
        payload, mac = _unb64(payload_text), _unb64(mac_text)
    except (binascii.Error, ValueError) as err:
        raise _not_ours() from err
    if not hmac.compare_digest(mac, _mac(secret, _TOKEN + payload)):
        raise _not_ours()
    subject, expires_s = json.loads(payload)
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
        return blank.with_nonce(salt + _mac(self._secret, _NONCE + blank.text().encode()).hex()[:32])


def renter_subject(address: str) -> str:
    return f"renter:{address.lower()}"


def node_subject(node_id: str) -> str:
    return f"node:{node_id}"


def _mac(secret: bytes, message: bytes) -> bytes:
    return hmac.digest(secret, message, sha256)


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _not_ours() -> NotSignedIn:
    return NotSignedIn("The token was not issued by this coordinator.", todo="Sign in again.")
