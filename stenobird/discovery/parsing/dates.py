"""Dates and durations as pages and feeds write them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

_ISO = re.compile(
    r"(\d{4})-?(\d{2})-?(\d{2})"
    r"(?:[T ](\d{2}):?(\d{2})(?::?(\d{2})(?:[.,]\d+)?)?\s*(Z|[+-]\d{2}:?(?:\d{2})?)?)?",
    re.IGNORECASE,
)
_ISO_DURATION = re.compile(
    r"P(?:(?P<days>\d+(?:[.,]\d+)?)D)?"
    r"(?:T?(?:(?P<hours>\d+(?:[.,]\d+)?)H)?(?:(?P<minutes>\d+(?:[.,]\d+)?)M)?(?:(?P<seconds>\d+(?:[.,]\d+)?)S)?)?",
    re.IGNORECASE,
)
_LONGEST_SECONDS: Final = 7 * 24 * 3600.0


def parse_date(text: str | None) -> datetime | None:
    """Return an aware datetime (UTC where no zone is given), `None` for what is no possible date."""
    if not text:
        return None
    text = text.strip()[:80]
    match = _ISO.match(text)
    try:
        if match:
            year, month, day, hour, minute, second, zone = match.groups()
            moment = datetime(
                int(year),
                int(month),
                int(day),
                int(hour or 0),
                int(minute or 0),
                min(int(second or 0), 59),
                tzinfo=UTC,
            )
            if zone and zone.upper() != "Z":
                sign = -1 if zone[0] == "-" else 1
                digits = zone[1:].replace(":", "").ljust(4, "0")
                moment -= sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]))
        else:
            moment = parsedate_to_datetime(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return moment if 1990 <= moment.year <= 2200 else None


def iso(moment: datetime | None) -> str | None:
    """Return the date in ISO 8601, UTC, with `Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def parse_duration(value: object) -> float | None:  # noqa: PLR0911  # one spelling a branch
    """Return seconds of `3600`, `1:02:03`, `62:03`, `PT1H2M3S`, `45 min`; `None` for all else and zero."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _plausible(float(value)) if -1e12 < value < 1e12 else None
    if not isinstance(value, str):
        return None
    text = value.strip()[:64]
    if re.fullmatch(r"[0-9]{1,12}(?:\.[0-9]{1,9})?", text):
        return _plausible(float(text))
    if re.fullmatch(r"[0-9]{1,4}(?::[0-9]{1,2}){1,2}(?:\.[0-9]+)?", text):
        seconds = 0.0
        for part in text.split(":"):
            seconds = seconds * 60 + float(part)
        return _plausible(seconds)
    match = _ISO_DURATION.fullmatch(text)
    if match and any(match.groups()):
        days, hours, minutes, secs = (float((part or "0").replace(",", ".")) for part in match.groups())
        return _plausible(((days * 24 + hours) * 60 + minutes) * 60 + secs)
    spoken = re.fullmatch(
        r"(?:([0-9]{1,3})\s*h(?:ours?|rs?|\.)?)?[\s,]*(?:([0-9]{1,4})\s*m(?:in(?:ute[sn]?|s|\.)?)?)?"
        r"[\s,]*(?:([0-9]{1,2})\s*s(?:ec(?:onds?)?|\.)?)?",
        text,
        re.IGNORECASE,
    )
    if spoken and any(spoken.groups()):
        hour_count, minute_count, second_count = (float(part or 0) for part in spoken.groups())
        return _plausible(hour_count * 3600 + minute_count * 60 + second_count)
    return None


def _plausible(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and 0 < seconds <= _LONGEST_SECONDS else None
