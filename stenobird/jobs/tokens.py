"""Strings that can't be guessed: the ids of jobs, the tokens of share links."""

from __future__ import annotations

import secrets
import string
from typing import Final

_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase


def new_token(prefix: str, digits: int) -> str:
    """Return the prefix and random base62 digits, 5.95 bits each."""
    return prefix + "".join(secrets.choice(_BASE62) for _ in range(digits))
