"""Which of the three artifact formats a request wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stenobird.errors import UnsupportedArtifactFormat
from stenobird.formats import FORMATS
from stenobird.web.representations import accepted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.formats import Format, FormatName

_NAMES: Final[Mapping[str, FormatName]] = {"srt": "srt", "txt": "txt", "plain_text": "txt", "docx": "docx"}
_OFFERS: Final[Sequence[Format]] = (FORMATS["srt"], FORMATS["txt"], FORMATS["docx"])


def wanted_format(named: str | None, suffix: str | None, accept: str) -> Format:
    """Return the format that `?format=`, else the path's suffix, else `Accept`, else nobody wants: srt.

    Raises `UnsupportedArtifactFormat` for a name that is none of the three. An `Accept` that names none of
    them is no reason to refuse: it may be a client's default.
    """
    name = named if named is not None else suffix
    if name is None:
        return accepted(accept, _OFFERS) or FORMATS["srt"]
    try:
        return FORMATS[_NAMES[name.strip().lower()]]
    except KeyError:
        raise UnsupportedArtifactFormat(
            f'There is no artifact format "{name[:40]}". Use srt, txt or docx.',
            details={"formats": ["srt", "txt", "docx"]},
        ) from None
