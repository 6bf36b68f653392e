"""Sends mail through the operator's SMTP server; the only module that imports `smtplib`."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import SplitResult, unquote, urlsplit

import structlog
from typing_extensions import override

from stenobird.errors import BillingUnavailable, ConfigurationError
from stenobird.ports.billing import Mailer

TIMEOUT_SECONDS = 20.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SMTPMailer(Mailer):
    """`ports.billing.Mailer` over SMTP with TLS: `smtps://` from the start, `smtp://` by STARTTLS.

    Only `smtp://` to this machine works without TLS and login, for a local relay.
    """

    server: SplitResult = field(repr=False)
    sender: str

    @classmethod
    def of(cls, url: str, sender: str | None) -> SMTPMailer:
        """Read `smtps://user:password@host:465`. Raises `ConfigurationError`."""
        try:
            server = urlsplit(url)
            usable = server.scheme in {"smtp", "smtps"} and server.port != 0 and bool(server.hostname)
        except ValueError as exc:
            raise ConfigurationError("STENOBIRD_SMTP_URL is not a URL.") from exc
        if not usable or not sender:
            raise ConfigurationError(
                "STENOBIRD_SMTP_URL must be smtps://user:password@host or smtp://…, and STENOBIRD_SMTP_FROM "
                "must be the sender's address."
            )
        return cls(server, sender)

    @override
    async def send(self, to: str, subject: str, text: str) -> None:
        message = EmailMessage()
        try:
            message["From"] = self.sender
            message["To"] = to
            message["Subject"] = subject
            message.set_content(text)
            await asyncio.to_thread(self._deliver, message)
        except (OSError, smtplib.SMTPException, ValueError) as exc:
            # ValueError: an address with a line break, or text that the server's encoding lacks.
            _log.warning("mail_failed", server=self.server.hostname, reason=type(exc).__name__)
            raise BillingUnavailable("The mail could not be sent. Try again later.") from exc

    def _deliver(self, message: EmailMessage) -> None:
        context = ssl.create_default_context()
        host, port = self.server.hostname or "", self.server.port
        if self.server.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                host, port or 465, timeout=TIMEOUT_SECONDS, context=context
            )
        else:
            server = smtplib.SMTP(host, port or 587, timeout=TIMEOUT_SECONDS)
        with server:
            if self.server.scheme == "smtp" and host not in {"localhost", "127.0.0.1", "::1"}:
                server.starttls(context=context)
            if self.server.username and self.server.password:
                server.login(unquote(self.server.username), unquote(self.server.password))
            server.send_message(message)
