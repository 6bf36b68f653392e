"""The signature of the AlefBot dialect: HMAC-SHA256 of `timestamp.body`, with the body as canonical JSON."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMESTAMP_HEADER: Final = "X-AlefBot-Timestamp"
SIGNATURE_HEADER: Final = "X-AlefBot-Signature"
SECRET_BYTES: Final = 32


def new_secret() -> str:
    """Return a new signing secret, in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def canonical(body: Mapping[str, str | int | bool | None]) -> bytes:
    """Return the bytes that are signed and sent: sorted, compact, ASCII.

    Values are printable ASCII, integers, booleans or null, and no name looks like an integer, so that the
    published Python and JavaScript verifiers, which sort and print the JSON again, get the same bytes.
    """
    for name, value in body.items():
        texts = (name, value) if isinstance(value, str) else (name,)
        if name.isdigit() or not all(text.isascii() and text.isprintable() for text in texts):
            raise ValueError(f"can't be signed in canonical form: {name}")
    return json.dumps(body, separators=(",", ":"), sort_keys=True).encode("ascii")


def sign(payload: bytes, *, timestamp: int, secret: str) -> str:
    """Return the signature: 64 lower-case hex digits."""
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + payload, hashlib.sha256).hexdigest()


def headers(payload: bytes, *, timestamp: int, secret: str) -> dict[str, str]:
    """Return the headers of a signed message."""
    return {
        "Content-Type": "application/json",
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: sign(payload, timestamp=timestamp, secret=secret),
    }
