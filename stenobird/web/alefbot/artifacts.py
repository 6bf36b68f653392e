"""Which of the three artifact formats a request wants."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stenobird.errors import UnsupportedArtifactFormat
from stenobird.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.formats import Format, FormatName

_NAMES: Final[Mapping[str, FormatName]] = {"srt": "srt", "txt": "txt", "plain_text": "txt", "docx": "docx"}
_QUALITY: Final = re.compile(r"(?:^|;)\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*(?:;|$)", re.IGNORECASE)
MAX_RANGES: Final = 32


def wanted_format(named: str | None, suffix: str | None, accept: str) -> Format:
    """Return the format that `?format=`, else the path's suffix, else `Accept`, else nobody wants: srt.

    Raises `UnsupportedArtifactFormat` for a name that is none of the three. An `Accept` that names none of
    them is no reason to refuse: it may be a client's default.
    """
    name = named if named is not None else suffix
    if name is not None:
        try:
            return FORMATS[_NAMES[name.strip().lower()]]
        except KeyError:
            raise UnsupportedArtifactFormat(
                f'There is no artifact format "{name[:40]}". Use srt, txt or docx.',
                details={"formats": ["srt", "txt", "docx"]},
            ) from None
    ranked: list[tuple[float, int, Format]] = []
    for position, item in enumerate(accept.split(",")[:MAX_RANGES]):
        media_range, _, parameters = item.partition(";")
        found = _QUALITY.search(parameters)
        quality = float(found[1]) if found else 1.0
        for entry in (FORMATS["srt"], FORMATS["txt"], FORMATS["docx"]):
            if quality > 0 and media_range.strip().lower() in {*entry.accepts, "*/*"}:
                ranked.append((-quality, position, entry))
                break
    return min(ranked, key=lambda row: row[:2])[2] if ranked else FORMATS["srt"]
