"""What the pages consist of besides the coordinator that they are served by."""

import hmac
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from gristmill_coordinator.app import Coordinator
from gristmill_coordinator.studio.faucet import DevFaucet, Faucet
from gristmill_coordinator.studio.mail import LoggedMail, Mail, Smtp
from gristmill_coordinator.studio.settings import StudioSettings
from gristmill_trainer.tryout import Tryouts


@dataclass(frozen=True)
class Studio:
    """The pages' own parts.

    Args:
        mail: brings links to people who sign in.
        faucet: makes test money; none where money is real.
        tryouts: finished models that are being asked something.
    """

    co: Coordinator
    settings: StudioSettings
    mail: Mail
    faucet: Faucet | None
    tryouts: Tryouts

    @property
    def secret(self) -> bytes:
        """Signs cookies, and opens the keys that we hold; another one than bearer tokens are signed with."""
        return hmac.digest(self.co.secret, b"gristmill/studio/1", sha256)

    @property
    def folder(self) -> Path:
        """Uploads, and models that were asked something."""
        return self.co.config.data_dir / "studio"


def studio_of(co: Coordinator) -> Studio | None:
    """The pages as the configuration wants them; None where it wants none."""
    settings = co.config.studio
    if settings is None:
        return None
    return Studio(
        co,
        settings,
        mail=Smtp(settings) if settings.smtp_host else LoggedMail(),
        faucet=DevFaucet(co.config.rpc_url, co.chain.info.token) if settings.test_money else None,
        tryouts=Tryouts(),
    )
