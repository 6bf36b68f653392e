"""Sends mail through the operator's SMTP server; the only module that imports `smtplib`."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

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

    host: str
    port: int
    sender: str
    implicit_tls: bool
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, sender: str | None) -> SMTPMailer:
        """Read `smtps://user:password@host:465`. Raises `ConfigurationError`."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise ConfigurationError("STENOBIRD_SMTP_URL is not a URL.") from exc
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or not sender:
            raise ConfigurationError(
                "STENOBIRD_SMTP_URL must be smtps://user:password@host or smtp://…, and STENOBIRD_SMTP_FROM "
                "must be the sender's address."
            )
        implicit = parts.scheme == "smtps"
        return cls(
            parts.hostname,
            port or (465 if implicit else 587),
            sender,
            implicit,
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
        )

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
            _log.warning("mail_failed", server=self.host, reason=type(exc).__name__)
            raise BillingUnavailable("The mail could not be sent. Try again later.") from exc

    def _deliver(self, message: EmailMessage) -> None:
        context = ssl.create_default_context()
        if self.implicit_tls:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, timeout=TIMEOUT_SECONDS, context=context
            )
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS)
        with server:
            if not self.implicit_tls and self.host not in {"localhost", "127.0.0.1", "::1"}:
                server.starttls(context=context)
            if self.user is not None and self.password is not None:
                server.login(self.user, self.password)
            server.send_message(message)
