"""When an event that was not taken is sent again: growing waits, jitter, what `Retry-After` may change."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
RETRY_SECONDS: Final = (
    5.0,
    30.0,
    2 * _MINUTE,
    5 * _MINUTE,
    15 * _MINUTE,
    30 * _MINUTE,
    1 * _HOUR,
    2 * _HOUR,
    4 * _HOUR,
    8 * _HOUR,
    12 * _HOUR,
    14 * _HOUR,
    14 * _HOUR,
    16 * _HOUR,
)
"""The waits between the tries of an event: 15 tries within 72 hours. They double, then are about a night."""
JITTER: Final = 0.1
"""Each wait is up to so much shorter or longer, so that events that failed together don't return together."""
MAX_RETRY_AFTER_SECONDS: Final = _HOUR
"""The longest wait that a receiver can ask for. Asked for each time, it makes three days 5 hours longer."""

_SECONDS = re.compile(r"[0-9]{1,9}")


def retry_seconds(tries: int, chance: float, *, asked_seconds: float | None = None) -> float | None:
    """Return the wait after so many failed tries (`chance` from 0 to 1 is the jitter); `None`: give up.

    `asked_seconds` is what the receiver's `Retry-After` asks for. It can make a wait longer, up to
    `MAX_RETRY_AFTER_SECONDS`, and never shorter: a receiver that keeps asking for one second would use up
    three days' tries in a quarter of a minute. Its jitter only adds, since no one may come before the time.
    """
    if tries > len(RETRY_SECONDS):
        return None
    wait = RETRY_SECONDS[max(tries, 1) - 1] * (1 - JITTER + 2 * JITTER * chance)
    if asked_seconds is None:
        return wait
    return max(wait, min(asked_seconds, MAX_RETRY_AFTER_SECONDS) * (1 + JITTER * chance))


def asked_seconds(retry_after: str | None, *, now: float) -> float | None:
    """Return the wait that a `Retry-After` asks for, in seconds or as a date (RFC 9110, 10.2.3).

    `None` for one that is missing, is neither, or lies in the past.
    """
    text = (retry_after or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        # A year of twenty digits is the latter.
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    seconds = date.timestamp() - now
    return seconds if seconds > 0 else None
