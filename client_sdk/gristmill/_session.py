"""Signed in as one key at one coordinator: the token is kept for its hour, so that most commands need no password."""

import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from gristmill import _calls
from gristmill._transport import Transport
from gristmill_protocol.api import ChallengeRequest, Session, SessionRequest
from gristmill_protocol.errors import NotFound, WrongKey
from gristmill_protocol.renter_checks import check_sign_in
from gristmill_protocol.signin import SignIn

if TYPE_CHECKING:  # eth_account takes longer to import than all the rest
    from eth_account.signers.local import LocalAccount

    from gristmill_protocol.renter_key import Wallet

_MARGIN_S = 60  # a token that ends within a call is of no use


class Key:
    """A renter's key that is opened when something has to be signed.

    Args:
        source: the keystore's path, or an account that is open already.
        password: asked for at most once.
    """

    def __init__(self, source: "Path | LocalAccount", password: Callable[[], str]) -> None:
        self._source = source
        self._password = password
        self._wallet: Wallet | None = None

    @property
    def address(self) -> str:
        """The key's address, which a keystore tells without its password.

        Raises:
            NotFound: no such file.
            WrongKey: it is no keystore.
        """
        if not isinstance(self._source, Path):
            return self.wallet().address
        try:
            address = json.loads(self._source.read_text())["address"]
        except FileNotFoundError as err:
            raise NotFound(
                f"There is no key at {self._source}.",
                todo="Make one with `gristmill key new`, or set GRISTMILL_KEYSTORE.",
            ) from err
        except (ValueError, KeyError, TypeError) as err:
            raise WrongKey(f"{self._source} is no keystore that names its address.") from err
        from eth_utils.address import to_checksum_address

        return str(to_checksum_address(address))

    def wallet(self) -> "Wallet":
        """Raises:
        NotFound, WrongKey: there is no key, or the password does not open it.
        """
        from gristmill_protocol.renter_key import Wallet

        if self._wallet is None:
            if isinstance(self._source, Path):
                self._wallet = Wallet.open(self._source, self._password())
            else:
                self._wallet = Wallet(self._source)
        return self._wallet


class SignedIn:
    """Tokens for one key at one coordinator.

    Args:
        folder: where tokens are kept between processes, for their owner's eyes only.
        clock: unix seconds.
    """

    def __init__(self, transport: Transport, key: Key, folder: Path, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._key = key
        self._folder = folder
        self._clock = clock
        self._session: Session | None = None

    def token(self) -> str:
        """A token that is good for a while yet."""
        if self._session is None:
            self._session = self._load()
        if self._session is None or self._session.expires_s < self._clock() + _MARGIN_S:
            return self.renew()
        return self._session.token

    def renew(self) -> str:
        """Sign in again.

        Raises:
            RefusedToSign, NotAllowed: the coordinator's text is not one to sign.
        """
        address = self._key.address
        text = self._transport.send(_calls.challenge(ChallengeRequest(address=address)), None).message
        message = SignIn.parse(text)
        check_sign_in(message, url=self._transport.url, address=address)
        signed = SessionRequest(message=text, signature=self._key.wallet().sign_in(message))
        self._session = self._transport.send(_calls.session(signed), None)
        self._save(self._session)
        return self._session.token

    def _path(self) -> Path:
        name = sha256(f"{self._transport.url} {self._key.address}".encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"

    def _load(self) -> Session | None:
        try:
            return Session.model_validate_json(self._path().read_text())
        except (OSError, ValidationError):
            return None  # a token that cannot be read is replaced by a new one

    def _save(self, session: Session) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path()
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(session.model_dump_json())
