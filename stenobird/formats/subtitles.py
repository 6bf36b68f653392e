"""SubRip (.srt) and WebVTT (.vtt) from the same cues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stenobird.formats.cues import cues
from stenobird.formats.direction import marked

if TYPE_CHECKING:
    from stenobird.formats.cues import Cue
    from stenobird.transcript import Transcript

_VTT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def srt(transcript: Transcript) -> str:
    """Return SubRip: numbered cues, a comma before the milliseconds, LF; empty if there was no speech.

    SubRip has no escapes, so "-->" in the text, which players would read as a timing line, becomes "→".
    """
    return "".join(
        f"{number}\n{_timestamp(cue.start_ms, ',')} --> {_timestamp(cue.end_ms, ',')}\n"
        f"{_text(cue, transcript).replace('-->', '→')}\n\n"
        for number, cue in enumerate(cues(transcript), 1)
    )


def vtt(transcript: Transcript) -> str:
    """Return WebVTT (W3C): a header and numbered cues; `&`, `<` and `>` are escaped."""
    return "WEBVTT\n\n" + "".join(
        f"{number}\n{_timestamp(cue.start_ms, '.')} --> {_timestamp(cue.end_ms, '.')}\n"
        f"{_text(cue, transcript).translate(_VTT_ESCAPES)}\n\n"
        for number, cue in enumerate(cues(transcript), 1)
    )


def _text(cue: Cue, transcript: Transcript) -> str:
    return "\n".join(marked(line, transcript.language) for line in cue.lines)


def _timestamp(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{rest:03d}"
