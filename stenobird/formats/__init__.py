"""Output formats of a transcript: one pure function per format, and a registry by name.

Every renderer takes a `Transcript` and returns `str`, or `bytes` for a binary format. Renderers read no
clock, disk or setting, so the same transcript gives the same document everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

from stenobird.formats.cues import srt, vtt
from stenobird.formats.documents import docx, json, paragraphs, txt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stenobird.transcript import Transcript

__all__ = ["FORMATS", "Format", "FormatName", "docx", "json", "paragraphs", "srt", "txt", "vtt"]

FormatName: TypeAlias = Literal["json", "txt", "srt", "vtt", "docx"]


@dataclass(frozen=True, slots=True)
class Format:
    """One output format: its name is also the file suffix.

    `accepts` are the media types that select it in an `Accept` header; `media_type` is its `Content-Type`.
    """

    name: FormatName
    media_type: str
    accepts: tuple[str, ...]
    render: Callable[[Transcript], str | bytes]

    def encode(self, transcript: Transcript) -> bytes:
        """Return the document as bytes, for a file or a response."""
        document = self.render(transcript if self.name == "json" else transcript.named())
        return document.encode() if isinstance(document, str) else document


_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Format("json", "application/json", ("application/json",), json),
            Format("txt", "text/plain; charset=utf-8", ("text/plain",), txt),
            Format(
                "srt",
                "application/x-subrip; charset=utf-8",
                ("application/x-subrip", "text/srt", "application/srt"),
                srt,
            ),
            Format("vtt", "text/vtt; charset=utf-8", ("text/vtt",), vtt),
            Format("docx", _DOCX, (_DOCX,), docx),
        )
    }
)
