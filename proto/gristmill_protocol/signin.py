"""Sign-In with Ethereum (EIP-4361): the text a renter's key signs to open a session with one coordinator.

Both sides build the text from the same fields, so the renter never signs a sentence it did not check.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from gristmill_protocol.errors import BadRequest, BadSignature

_STATEMENT = "Sign in to Gristmill. This moves no money."
_TEXT = re.compile(
    r"(?P<domain>[^\s]+) wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9a-fA-F]{40})\n\n"
    rf"{re.escape(_STATEMENT)}\n\n"
    r"URI: (?P<url>[^\s]+)\n"
    r"Version: 1\n"
    r"Chain ID: (?P<chain_id>\d{1,18})\n"
    r"Nonce: (?P<nonce>[0-9a-zA-Z]{8,96})\n"
    r"Issued At: (?P<issued>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\n"
    r"Expiration Time: (?P<expires>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"
)
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class SignIn:
    """One sign-in message; times are unix seconds."""

    address: str  # who signs, EIP-55
    url: str  # of the coordinator
    chain_id: int
    nonce: str
    issued_s: int
    expires_s: int

    @property
    def domain(self) -> str:
        """Host and port of the coordinator's address."""
        return urlsplit(self.url).netloc

    def with_nonce(self, nonce: str) -> "SignIn":
        return replace(self, nonce=nonce)

    def text(self) -> str:
        """The message as EIP-4361 writes it."""
        return (
            f"{self.domain} wants you to sign in with your Ethereum account:\n{self.address}\n\n{_STATEMENT}\n\n"
            f"URI: {self.url}\nVersion: 1\nChain ID: {self.chain_id}\nNonce: {self.nonce}\n"
            f"Issued At: {_iso(self.issued_s)}\nExpiration Time: {_iso(self.expires_s)}"
        )

    @staticmethod
    def parse(text: str) -> "SignIn":
        """The fields of a message.

        Raises:
            BadRequest: not a sign-in message for Gristmill, or one that does not read back as it was written.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise _unreadable()
        try:
            found = SignIn(
                address=match["address"],
                url=match["url"],
                chain_id=int(match["chain_id"]),
                nonce=match["nonce"],
                issued_s=_unix(match["issued"]),
                expires_s=_unix(match["expires"]),
            )
            written = found.text()
        except ValueError as err:  # a date such as February 30th, or an address no URL parser takes
            raise _unreadable() from err
        if written != text:
            raise _unreadable()
        return found

    def require_signature(self, signature: str) -> None:
        """Raises:
        BadSignature: somebody other than address signed, or it is no signature.
        """
        # Here, because importing eth_account takes longer than all the rest of a command.
        from eth_account import Account
        from eth_account.messages import encode_defunct

        try:
            signer = Account.recover_message(encode_defunct(text=self.text()), signature=signature)
        except Exception as err:
            raise BadSignature("The signature of the sign-in cannot be read.") from err
        if signer.lower() != self.address.lower():
            raise BadSignature(f"The sign-in was signed by {signer}, not by {self.address}.")


def _iso(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime(_TIME)


def _unix(text: str) -> int:
    return int(datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp())


def _unreadable() -> BadRequest:
    return BadRequest("This is not a sign-in message of Gristmill.", todo="Ask for a new challenge and sign that.")
