"""How a link reaches the person who signs in."""

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from typing import Protocol

import structlog

from gristmill_coordinator.studio.settings import StudioSettings
from gristmill_protocol.errors import Unavailable

logger = structlog.get_logger(__name__)

_TIMEOUT_S = 20


class Mail(Protocol):
    async def send(self, to: str, subject: str, text: str) -> None:
        """Raises:
        Unavailable: it could not be handed over.
        """


class Smtp:
    """Implements Mail."""

    def __init__(self, settings: StudioSettings) -> None:
        self._settings = settings

    async def send(self, to: str, subject: str, text: str) -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._settings.mail_from, to, subject
        message.set_content(text)
        try:
            await asyncio.to_thread(self._deliver, message)
        except (OSError, smtplib.SMTPException) as err:
            logger.error("mail_failed", host=self._settings.smtp_host, exc_info=err)
            raise Unavailable(
                "The e-mail could not be sent.", effect="You are not signed in.", todo="Try again in a few minutes."
            ) from err

    def _deliver(self, message: EmailMessage) -> None:
        one = self._settings
        with self._connected() as server:
            if one.smtp_encryption == "starttls":
                server.starttls(context=ssl.create_default_context())
            if one.smtp_user:
                server.login(one.smtp_user, self._password())
            server.send_message(message)

    def _connected(self) -> smtplib.SMTP:
        one = self._settings
        if one.smtp_encryption == "tls":
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(one.smtp_host, one.smtp_port, timeout=_TIMEOUT_S, context=context)
        return smtplib.SMTP(one.smtp_host, one.smtp_port, timeout=_TIMEOUT_S)

    def _password(self) -> str:
        file = self._settings.smtp_password_file
        return self._settings.smtp_password.get_secret_value() if file is None else file.read_text().rstrip("\r\n")


class LoggedMail:
    """Implements Mail by writing to the log, which on a local chain is the person's own."""

    async def send(self, to: str, subject: str, text: str) -> None:
        logger.info("mail_not_sent", to=to, subject=subject, text=text)
