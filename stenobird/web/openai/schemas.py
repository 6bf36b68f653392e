"""The bodies and stream frames of the OpenAI dialect, in the shapes that the OpenAI SDKs read."""

from __future__ import annotations

import json
import math
import zlib
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field

from stenobird.bodies import Body, Number, Omittable, RequestBody, example
from stenobird.formats import srt, vtt
from stenobird.jobs.events import read_segments
from stenobird.languages import NAME_OF

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.errors import StenobirdError
    from stenobird.jobs.tail import Page
    from stenobird.ports import EventRow, JobRecord
    from stenobird.transcript import Segment, Transcript
    from stenobird.web.openai.requests import AudioRequest

DONE_FRAME: Final = b"data: [DONE]\n\n"
ResponseFormat = Literal["json", "verbose_json", "diarized_json", "text", "srt", "vtt"]


class AudioForm(RequestBody):
    """The form that the OpenAI SDKs send, with `file` or `url`. Other fields of the SDKs are ignored."""

    model_config = example(
        {
            "url": "https://example.com/audio-url",
            "model": "whisper-1",
            "response_format": "verbose_json",
            "timestamp_granularities[]": ["word"],
        }
    ) | ConfigDict(strict=False)  # the fields of a form are text

    file: Annotated[
        str | None,
        Field(json_schema_extra={"contentMediaType": "application/octet-stream"}, description="The audio."),
    ] = None
    url: Annotated[
        str | None, Field(description="Any public URL with audio behind it, instead of a file.")
    ] = None
    model: Annotated[str | None, Field(description="Any name; the service uses its own model.")] = None
    language: Annotated[
        str | None, Field(description="The spoken language: en, en-US, English. Detected if omitted.")
    ] = None
    prompt: Annotated[str | None, Field(description="Names and terms likely to be spoken.")] = None
    response_format: ResponseFormat = "json"
    timestamp_granularities: Annotated[
        list[Literal["word", "segment"]] | None,
        Field(alias="timestamp_granularities[]", description="What verbose_json has. Default: segment."),
    ] = None
    stream: Annotated[
        bool, Field(description="Whether to stream transcript.text.delta and transcript.text.done events.")
    ] = False
    temperature: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="Accepted without effect: decoding is deterministic.",
        ),
    ] = None


class InputAudio(RequestBody):
    """Audio inside a JSON body."""

    data: Annotated[str, Field(description="The audio, base64, of at most 25 MB.")]
    format: Annotated[str, Field(description="The format.", examples=["mp3"])]


class LinkedAudio(AudioForm):
    """The fields of the form as JSON, with `url` or `input_audio`."""

    model_config = example({"url": "https://example.com/audio-url", "response_format": "srt"})

    input_audio: InputAudio | None = None
    file: None = Field(default=None, exclude=True)


class DurationUsage(Body):
    """The length of the audio, in whole seconds."""

    type: Literal["duration"]
    seconds: Number


class OpenAISegment(Body):
    """A phrase. `tokens` is empty; probabilities are 0 unless words were requested."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float

    @classmethod
    def of(cls, number: int, segment: Segment) -> Self:
        """Return a segment with every field that the SDKs require.

        The log holds no tokens, and probabilities only where words were asked for: `avg_logprob` is their
        mean, else 0. `compression_ratio` is Whisper's, of the segment's own text.
        """
        text = segment.text.encode()
        logprobs = [math.log(max(word.probability, 1e-10)) for word in segment.words]
        return cls(
            id=number,
            seek=round(segment.start * 100),
            start=segment.start,
            end=segment.end,
            text=segment.text,
            tokens=[],
            temperature=0.0,
            avg_logprob=round(sum(logprobs) / len(logprobs), 4) if logprobs else 0.0,
            compression_ratio=round(len(text) / len(zlib.compress(text)), 4) if text else 0.0,
            no_speech_prob=0.0,
        )


class OpenAIWord(Body):
    """One word."""

    word: str
    start: float
    end: float


class OpenAITranscription(Body):
    """The transcript: `text` and `usage` as `json`, all fields as `verbose_json`."""

    model_config = example(
        {
            "task": "transcribe",
            "language": "english",
            "duration": 71.2,
            "text": "Hello and welcome to the show.",
            "words": [{"word": "Hello", "start": 0.5, "end": 0.9}],
            "usage": {"type": "duration", "seconds": 72},
        }
    )

    task: Omittable[Literal["transcribe", "translate"]] = None
    language: Annotated[Omittable[str], Field(examples=["english"])] = None
    duration: Omittable[float] = None
    text: str
    segments: Omittable[list[OpenAISegment]] = None
    words: Omittable[list[OpenAIWord]] = None
    usage: DurationUsage


class DiarizedSegment(Body):
    """A segment with its speaker: A, B and so on."""

    type: Literal["transcript.text.segment"]
    id: str
    start: float
    end: float
    text: str
    speaker: str

    @classmethod
    def of(cls, number: int, segment: Segment) -> Self:
        """Return a segment; one in which nobody was found to speak is said by A."""
        return cls(
            type="transcript.text.segment",
            id=f"seg_{number}",
            start=segment.start,
            end=segment.end,
            text=segment.text,
            speaker=_letters(int((segment.speaker or "1").rpartition(" ")[2])),
        )


def _letters(number: int) -> str:
    """Return 1 as A, 26 as Z, 27 as AA."""
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


class DiarizedTranscription(Body):
    """The transcript as `diarized_json`."""

    model_config = example(
        {
            "task": "transcribe",
            "duration": 71.2,
            "text": "Hello and welcome to the show.",
            "segments": [
                {
                    "type": "transcript.text.segment",
                    "id": "seg_0",
                    "start": 0.5,
                    "end": 2.8,
                    "text": "Hello and welcome to the show.",
                    "speaker": "A",
                }
            ],
            "usage": {"type": "duration", "seconds": 72},
        }
    )

    task: Literal["transcribe", "translate"]
    duration: float
    text: str
    segments: list[DiarizedSegment]
    usage: DurationUsage


MODEL: Final = {"id": "whisper-1", "object": "model", "created": 0, "owned_by": "stenobird"}
"""What SDK code names most. Any model name is accepted: the service's own model does the work."""


class OpenAIModel(Body):
    """A model, under the requested name."""

    model_config = example(MODEL)

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(Body):
    """The list of models."""

    model_config = example({"object": "list", "data": [MODEL]})

    object: Literal["list"]
    data: list[OpenAIModel]


def document(wanted: AudioRequest, job: JobRecord, transcript: Transcript) -> tuple[bytes, str]:
    """Return the transcript in the requested format, and its media type."""
    text = transcript.text.strip()
    match wanted.response_format:
        case "text":
            return f"{text}\n".encode(), "text/plain; charset=utf-8"
        case "srt":
            return srt(transcript).encode(), "text/plain; charset=utf-8"
        case "vtt":
            return vtt(transcript).encode(), "text/vtt; charset=utf-8"
    usage = DurationUsage(type="duration", seconds=math.ceil(transcript.duration_seconds))
    body: Body = OpenAITranscription(text=text, usage=usage)
    if wanted.response_format == "verbose_json":
        language = "en" if job.options.task == "translate" else transcript.language
        segments = words = None
        if wanted.with_segments:
            segments = [OpenAISegment.of(number, one) for number, one in enumerate(transcript.segments)]
        if wanted.with_words:
            words = [
                OpenAIWord(word=word.text.strip(), start=word.start, end=word.end)
                for segment in transcript.segments
                for word in segment.words
            ]
        body = OpenAITranscription(
            task=job.options.task,
            language=NAME_OF.get(language or "", language or "unknown"),
            duration=transcript.duration_seconds,
            text=text,
            segments=segments,
            words=words,
            usage=usage,
        )
    elif wanted.response_format == "diarized_json":
        body = DiarizedTranscription(
            task=job.options.task,
            duration=transcript.duration_seconds,
            text=text,
            segments=[DiarizedSegment.of(number, one) for number, one in enumerate(transcript.segments)],
            usage=usage,
        )
    return body.encode(), "application/json"


# --- streamed responses -------------------------------------------------------------------------------------


class TextDelta(Body):
    """The text of one segment."""

    type: Literal["transcript.text.delta"]
    delta: str


class TextDone(Body):
    """The whole text."""

    type: Literal["transcript.text.done"]
    text: str


class Deltas:
    """Turns the events of one job into frames, in order: deltas, then `transcript.text.done` or an error.

    With `diarized`, a `transcript.text.segment` for each segment comes before `transcript.text.done`.
    """

    def __init__(self, *, diarized: bool = False) -> None:
        self._diarized = diarized
        self._rows: list[EventRow] = []
        self._texts: list[str] = []
        self._failure: OpenAIError | None = None

    def encode(self, page: Page) -> bytes:
        """Return the frames of the events; some have none."""
        return b"".join(map(self._frame, page))

    def _frame(self, row: EventRow) -> bytes:
        if self._diarized:
            self._rows.append(row)
        match row.event:
            case "transcript":
                text = json.loads(row.data)["text"]
                self._texts.append(text)
                return frame(TextDelta(type="transcript.text.delta", delta=text))
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
            return frame(self._failure)
        segments = enumerate(read_segments(self._rows))
        labelled = b"".join(frame(DiarizedSegment.of(number, segment)) for number, segment in segments)
        return labelled + frame(TextDone(type="transcript.text.done", text="".join(self._texts)))


def frame(body: Body) -> bytes:
    """Return a body as a data-only frame."""
    return b"data: " + body.encode() + b"\n\n"


_TYPE_OF_CODE: Final = {"rate_limited": "rate_limit_error", "queue_busy": "rate_limit_error"}
_TYPE_OF_STATUS: Final = {401: "authentication_error", 402: "insufficient_quota", 403: "permission_error"}
_PARAMETERS: Final = {
    "audio_url": "url",
    "upload_id": "file",
    "word_timestamps": "timestamp_granularities",
    "timestamp_granularities[]": "timestamp_granularities",
    "speakers": "response_format",
}


class OpenAIErrorDetail(Body):
    """The error."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(Body):
    """The body of every error of the OpenAI dialect."""

    error: OpenAIErrorDetail


def error_object(body: Mapping[str, Any], status: int) -> OpenAIError:
    """Return the nested error for a flat error body."""
    code = str(body["error"])
    kind = _TYPE_OF_CODE.get(code) or _TYPE_OF_STATUS.get(status)
    field = body.get("field")
    return OpenAIError(
        error=OpenAIErrorDetail(
            message=body["message"],
            type=kind or ("server_error" if status >= 500 else "invalid_request_error"),
            param=_PARAMETERS.get(str(field), field),
            code=code,
        )
    )


def render(error: StenobirdError, _request_id: str | None = None) -> tuple[int, OpenAIError]:
    """Return the status and the body of an error."""
    return error.http_status, error_object(error.body(), error.http_status)
