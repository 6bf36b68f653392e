"""Lenient readers for pages and feeds: text in any charset, dates, durations, broken JSON.

Each takes time linear in the length of its input and returns `None` if it can't read it.
"""

from __future__ import annotations

import codecs
import html
import json
import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from bs4.dammit import EncodingDetector

# --- charsets -----------------------------------------------------------------------------------------------

_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})[\"']", re.IGNORECASE)
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Browsers read text declared as Latin-1 or ASCII as Windows-1252, and likewise for the other families.
_WIDER: Final = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-9": "cp1254",
}


def decode_xml(body: bytes, content_type: str) -> str:
    """Decode a feed: the byte order mark, then the XML declaration, then the header, then UTF-8."""
    declared = _XML_ENCODING.search(body[:1024])
    return _decode(
        body, [declared[1].decode("ascii", "replace") if declared else None, _header(content_type)]
    )


def decode_html(body: bytes, content_type: str) -> str:
    """Decode a page: the byte order mark, then the header, then its meta element, then UTF-8."""
    declared = EncodingDetector.find_declared_encoding(body[:4096], is_html=True)
    return _decode(body, [_header(content_type), declared if isinstance(declared, str) else None])


_REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)


def unescape_attribute(text: str) -> str:
    """Resolve the character references of an HTML attribute.

    Like a browser, it leaves a name without a semicolon alone if more follows: `&timestamp=` stays as it is.
    """
    return _REFERENCE.sub(lambda match: html.unescape(match[0]), text)


def _header(content_type: str) -> str | None:
    match = _CHARSET.search(content_type)
    return match[1] if match else None


def _decode(body: bytes, claims: list[str | None]) -> str:
    for bom, encoding in _BOMS:
        if body.startswith(bom):
            return body[len(bom) :].decode(encoding, "replace")
    try:
        # Text that is valid UTF-8 but not ASCII is UTF-8, whatever is declared: that does not happen by
        # chance.
        text = body.decode()
    except UnicodeDecodeError:
        pass
    else:
        if not body.isascii() or not any(_is_stateful(claim) for claim in claims):
            return text
    for claim in claims:
        known = _known(claim)
        if known not in {None, "utf-8"}:
            return body.decode(known or "utf-8", "replace")
    forgiving = body.decode("utf-8", "replace")
    wide_bytes = len(body) - len(body.decode("ascii", "ignore"))
    # A page that is cut or has a few bad bytes is still UTF-8; one in which every umlaut fails is not.
    return forgiving if forgiving.count("\ufffd") * 4 < wide_bytes else body.decode("cp1252", "replace")


def _known(claim: str | None) -> str | None:
    """Return the codec for a declared encoding, `None` if it is unknown or can't be right."""
    if not claim:
        return None
    try:
        info = codecs.lookup(claim)
    except (LookupError, ValueError):
        return None
    if not getattr(info, "_is_text_encoding", True) or info.name in {
        "utf-7",
        "idna",
        "punycode",
        "unicode_escape",
    }:
        return None
    if info.name.startswith(("utf-16", "utf-32")):
        # A declaration that can be read as ASCII is not in UTF-16.
        return None
    return _WIDER.get(info.name, info.name)


def _is_stateful(claim: str | None) -> bool:
    return (_known(claim) or "").startswith(("iso2022", "hz"))


# --- dates and durations ------------------------------------------------------------------------------------

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
    """Return an aware datetime (UTC if no zone is given), `None` if it is no plausible date."""
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
    """Return seconds of `3600`, `1:02:03`, `62:03`, `PT1H2M3S`, `45 min`; else `None`, also for zero."""
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


# --- JSON ---------------------------------------------------------------------------------------------------

_DECODER = json.JSONDecoder(strict=False)
_OPENING = re.compile(r"(?://\s*)?(?:<!--|<!\[CDATA\[)\s*")
_CLOSING = re.compile(r"(?://\s*)?(?:-->|\]\]>)\s*$")
_BAD_ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})|\\')
# An unclosed string extends to the end, so that nothing is read twice.
_STRING_COMMENT_OR_COMMA = re.compile(
    r'("(?:[^"\\]|\\.?)*+(?:"|\Z))|/\*+[^*]{0,5000}\*+/|(?<![:\w])//[^\r\n]*|,(?=\s*[}\]])', re.DOTALL
)
_ENTITY = re.compile(r"&(?:quot|#0*34|#x0*22);", re.IGNORECASE)
MAX_VALUES: Final = 20


def parse_json(text: str) -> Any | None:
    """Parse JSON as pages write it.

    It may stand in CDATA or HTML comments, and have raw line breaks, comments, trailing commas, escapes that
    JSON does not know, or quotes as HTML entities. Several values in a row become a list.
    """
    text = text.strip().removeprefix("\ufeff")
    if opening := _OPENING.match(text):
        text = text[opening.end() :]
    text = (text[:-16] + _CLOSING.sub("", text[-16:])).rstrip("; \t\r\n")
    parsed, end = _parse(text)
    if end == len(text):
        return parsed
    if text[:1] not in {"{", "[", "/"}:
        return None
    if end == 0:
        if '"' not in text and _ENTITY.search(text):
            text = unescape_attribute(text)
        text = _STRING_COMMENT_OR_COMMA.sub(lambda match: match[1] or "", text)
        text = _BAD_ESCAPE.sub(lambda match: match[0] if match[1] else "", text).strip()
        parsed, end = _parse(text)
    values = [parsed] if end else []
    while 0 < end < len(text) and len(values) < MAX_VALUES:
        text = text[end:].lstrip("; \t\r\n,")
        parsed, end = _parse(text)
        values += [parsed] if end else []
    return values[0] if len(values) == 1 else (values or None)


def text_of(value: Any) -> str | None:
    """Return a non-empty string or number as text; `None` for everything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value).strip() or None


def strict_json(source: str | bytes) -> Any | None:
    """Parse JSON as APIs write it; `None` if it is broken or nested too deep."""
    try:
        return json.loads(source)
    except (ValueError, RecursionError):
        return None


def _parse(text: str) -> tuple[Any, int]:
    """Return the value that the text starts with, and where it ends; 0 if there is none."""
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None, 0
    return value, len(text) if not text[end:].strip() else end
