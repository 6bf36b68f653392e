"""Transcripts and events in the shapes that the OpenAI SDKs read."""

from __future__ import annotations

import json
import math
import zlib
from typing import TYPE_CHECKING, Any, Final

from stenobird.formats import srt, vtt
from stenobird.web.openai.errors import error_object
from stenobird.web.openai.languages import NAME_OF

if TYPE_CHECKING:
    from stenobird.ports import EventRow, JobRecord
    from stenobird.transcript import Segment, Transcript
    from stenobird.web.openai.requests import AudioWish

DONE_FRAME: Final = b"data: [DONE]\n\n"


# --- whole answers ------------------------------------------------------------------------------------------


def document(wish: AudioWish, job: JobRecord, transcript: Transcript) -> tuple[bytes, str]:
    """Return the transcript in the response format asked for, and its media type."""
    match wish.response_format:
        case "text":
            return f"{transcript.text.strip()}\n".encode(), "text/plain; charset=utf-8"
        case "srt":
            return srt(transcript).encode(), "text/plain; charset=utf-8"
        case "vtt":
            return vtt(transcript).encode(), "text/vtt; charset=utf-8"
        case "json":
            body: dict[str, Any] = {"text": transcript.text.strip(), "usage": _usage(transcript)}
        case "verbose_json":
            body = _verbose(wish, job, transcript)
    return _encode(body), "application/json"


def _verbose(wish: AudioWish, job: JobRecord, transcript: Transcript) -> dict[str, Any]:
    translated = job.options.task == "translate"
    language = "en" if translated else transcript.language
    body: dict[str, Any] = {
        "task": job.options.task,
        "language": NAME_OF.get(language or "", language or "unknown"),
        "duration": transcript.duration_seconds,
        "text": transcript.text.strip(),
    }
    if wish.with_segments:
        body["segments"] = [_segment(number, segment) for number, segment in enumerate(transcript.segments)]
    if wish.with_words:
        body["words"] = [
            {"word": word.text.strip(), "start": word.start, "end": word.end}
            for segment in transcript.segments
            for word in segment.words
        ]
    body["usage"] = _usage(transcript)
    return body


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    """Return a segment with every field that the SDKs require.

    The log holds no tokens, and probabilities only where words were asked for: `avg_logprob` is their mean,
    else 0. `compression_ratio` is Whisper's, of the segment's own text.
    """
    text = segment.text.encode()
    logprobs = [math.log(max(word.probability, 1e-10)) for word in segment.words]
    return {
        "id": number,
        "seek": round(segment.start * 100),
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(logprobs) / len(logprobs), 4) if logprobs else 0.0,
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 4) if text else 0.0,
        "no_speech_prob": 0.0,
    }


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration_seconds)}


# --- streamed answers ---------------------------------------------------------------------------------------


class Deltas:
    """Turns the events of one job into frames, in order: deltas, then `transcript.text.done` or an error."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._failure: dict[str, Any] | None = None

    def frame(self, row: EventRow) -> bytes:
        """Return what the event is for the reader; empty where it is nothing."""
        match row.event:
            case "transcript":
                text = json.loads(row.data)["text"]
                self._texts.append(text)
                return _frame({"type": "transcript.text.delta", "delta": text})
            case "error":
                self._failure = error_object(json.loads(row.data), 422)
            case "done":
                return self._end(json.loads(row.data)["status"]) + DONE_FRAME
        return b""

    def _end(self, status: str) -> bytes:
        if status == "cancelled":
            body = {"error": "transcript_cancelled", "message": "The transcript was cancelled."}
            self._failure = error_object(body, 410)
        if self._failure is not None:
            return _frame(self._failure)
        return _frame({"type": "transcript.text.done", "text": "".join(self._texts)})


def _frame(body: dict[str, Any]) -> bytes:
    return b"data: " + _encode(body) + b"\n\n"


def _encode(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
