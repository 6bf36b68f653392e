"""When a failed delivery is retried: growing waits, jitter, and the effect of `Retry-After`."""

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
"""The waits between attempts: 15 attempts in 72 hours. They double at first, then are 12 hours or more."""
JITTER: Final = 0.1
"""The largest relative change of a wait, so that events that failed together are not retried together."""
MAX_RETRY_AFTER_SECONDS: Final = _HOUR
"""The longest wait that `Retry-After` can request; requested each time, it adds five hours to three days."""

_SECONDS = re.compile(r"[0-9]{1,9}")


def retry_seconds(tries: int, chance: float, *, asked_seconds: float | None = None) -> float | None:
    """Return the wait after `tries` failed attempts (`chance`, 0 to 1, sets the jitter); `None`: give up.

    `asked_seconds` is the wait that the receiver's `Retry-After` requests. It can lengthen a wait, up to
    `MAX_RETRY_AFTER_SECONDS`, and never shorten it: otherwise a receiver that keeps requesting one second
    would use up all attempts within seconds. Its jitter only adds, because a retry must not come too early.
    """
    if tries > len(RETRY_SECONDS):
        return None
    wait = RETRY_SECONDS[max(tries, 1) - 1] * (1 - JITTER + 2 * JITTER * chance)
    if asked_seconds is None:
        return wait
    return max(wait, min(asked_seconds, MAX_RETRY_AFTER_SECONDS) * (1 + JITTER * chance))


def asked_seconds(retry_after: str | None, *, now: float) -> float | None:
    """Return the wait that `Retry-After` requests, in seconds or as a date (RFC 9110, 10.2.3).

    `None` if the header is missing, is neither, or lies in the past.
    """
    text = (retry_after or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        # OverflowError: a year of twenty digits, for example.
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    seconds = date.timestamp() - now
    return seconds if seconds > 0 else None
