"""The client's protocol without I/O: generators that yield steps and receive their results.

A client performs each step (`Send`, `Open`, `Next`, `Sleep`, `Emit`) and sends its result into the generator.
All waits and retries are decided here, so the synchronous and the asynchronous client cannot differ.
"""

from __future__ import annotations

import json
import mimetypes
import random
import re
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote

from stenobird.client.model import (
    DoneEvent,
    Event,
    Job,
    Result,
    ServiceError,
    error_from_body,
    parse_event,
    unreachable,
)
from stenobird.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from stenobird.errors import StenobirdError

T = TypeVar("T")

UPLOADS_PATH = "/api/v1/uploads"
UPLOAD_PREFIX = "upload:"

_RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
_RETRIED_CODES = frozenset({"transcript_not_ready", "idempotency_in_progress"})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a client retries. Delays double, with jitter, unless the service names a delay.

    `max_tries` limits failures in a row without progress; `max_busy_tries` limits "queue_busy" and "not
    ready" responses, which are not failures. If the service asks for a longer wait than `max_wait_seconds`,
    its error is raised, with the wait in `retry_after_seconds`. After `stream_tries` event streams in a row
    without an event the client polls. A stream ends after `silence_seconds` without a byte (the service pings
    every 15 s).
    """

    max_tries: int = 8
    max_busy_tries: int = 100
    max_wait_seconds: float = 300.0
    stream_tries: int = 3
    first_delay_seconds: float = 0.5
    max_delay_seconds: float = 15.0
    silence_seconds: float = 45.0

    def delay_seconds(self, tries: int) -> float:
        """Return the wait after the n-th failure in a row."""
        full = min(self.max_delay_seconds, self.first_delay_seconds * 2.0 ** min(tries - 1, 30))
        return full * random.uniform(0.5, 1.0)  # noqa: S311  # spreads clients, keeps no secret


@dataclass(frozen=True, slots=True)
class TranscriptOptions:
    """The optional fields of `POST /v1/transcripts`; `None` leaves the choice to the service.

    Two calls with the same `idempotency_key` create one job; without a key, only retries of one call do.
    """

    language: str | None = None
    prompt: str | None = None
    word_timestamps: bool | None = None
    task: Literal["transcribe", "translate"] | None = None
    webhook_url: str | None = None
    preview_id: str | None = None
    idempotency_key: str | None = None

    def body(self, audio_url: str) -> dict[str, Any]:
        """Return the request body for a URL or a value of `upload`."""
        fields = {
            "language": self.language,
            "prompt": self.prompt,
            "word_timestamps": self.word_timestamps,
            "task": self.task,
            "webhook_url": self.webhook_url,
            "preview_id": self.preview_id,
        }
        upload_id = audio_url.removeprefix(UPLOAD_PREFIX)
        source = {"audio_url": audio_url} if upload_id == audio_url else {"upload_id": upload_id}
        return source | {k: v for k, v in fields.items() if v is not None}


# --- steps and answers --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request. Results: `Reply`, `Failed`. The bytes of `file`, if any, are the body."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Open:
    """Open a stream, and close the last one. Results: `Opened`, `Reply` (not a stream), `Failed`."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Next:
    """Read the open stream. Results: `Frame`; `Failed` when it ended, broke or was silent for too long."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait. Result: `None`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """Pass an event to the caller. Result: `None`."""

    event: Event


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete response. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The stream is open."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An event as received."""

    event: str
    id: str
    data: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The connection failed."""

    reason: str


Step: TypeAlias = Send | Open | Next | Sleep | Emit
Answer: TypeAlias = Reply | Opened | Frame | Failed | None
Flow: TypeAlias = Generator[Step, Answer, T]


# --- the flows ----------------------------------------------------------------------------------------------


def create(audio_url: str, options: TranscriptOptions, policy: RetryPolicy) -> Flow[Job]:
    """Create a transcript. Retries share an `Idempotency-Key`, so that they create one job."""
    key = options.idempotency_key or uuid.uuid4().hex
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise InvalidRequest(
            "The idempotency_key goes into a header: use letters, digits and signs of ASCII."
        )
    request = Send("POST", "/v1/transcripts", options.body(audio_url), {"Idempotency-Key": key})
    return _read(Job.from_body, _object((yield from _exchange(request, policy))))


def upload(file: Path, policy: RetryPolicy) -> Flow[str]:
    """Upload a file; return a value to pass as `audio_url`. Needs an API key.

    When the connection breaks, the file is sent again from the start.
    """
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    body = {"filename": file.name, "content_type": kind, "size_bytes": file.stat().st_size}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    try:
        made = yield from _exchange(Send("POST", UPLOADS_PATH, body, headers), policy)
    except NotFound as exc:
        if (path := (yield from _uploads_path(policy))) is None:
            raise ServiceError("This service takes no files. Send the URL of the audio.") from exc
        made = yield from _exchange(Send("POST", path, body, headers), policy)
    address, upload_id = _read(lambda slot: (str(slot["upload_url"]), str(slot["upload_id"])), _object(made))
    yield from _exchange(Send("PUT", address, file=file), policy)
    return f"{UPLOAD_PREFIX}{upload_id}"


def _uploads_path(policy: RetryPolicy) -> Flow[str | None]:
    """Look up the path of uploads, since the operator may have configured a prefix."""
    reply = yield from _exchange(Send("GET", "/openapi.json"), policy)
    paths = _object(reply).get("paths")
    known = paths if isinstance(paths, dict) else {}
    return next((path for path in known if re.fullmatch(r"/[^/].*" + re.escape(UPLOADS_PATH), path)), None)


def status(job_id: str, policy: RetryPolicy) -> Flow[Job]:
    """Fetch a transcript's state."""
    return _read(Job.from_body, _object((yield from _exchange(Send("GET", _path(job_id)), policy))))


def cancel(job_id: str, policy: RetryPolicy) -> Flow[Job | None]:
    """Cancel an unfinished transcript and return its state; delete a finished one and return `None`."""
    reply = yield from _exchange(Send("DELETE", _path(job_id)), policy)
    return None if reply.status == 204 else _read(Job.from_body, _object(reply))


def result(job_id: str, policy: RetryPolicy) -> Flow[Result]:
    """Fetch the result; wait until it is ready. Raises the job's error if it failed."""
    reply = yield from _exchange(Send("GET", _path(job_id) + "/result"), policy)
    return _read(Result.from_body, _object(reply))


def document(job_id: str, name: str, policy: RetryPolicy) -> Flow[bytes]:
    """Fetch the result in a format: json, txt, srt, vtt or docx."""
    path = f"{_path(job_id)}/result?format={quote(name, safe='')}"
    return (yield from _exchange(Send("GET", path), policy)).content


def transcribe(audio_url: str, options: TranscriptOptions, policy: RetryPolicy) -> Flow[Result]:
    """Create, follow, fetch. Raises the job's error if it failed."""
    job = yield from create(audio_url, options, policy)
    yield from follow(job.id, 0, policy)
    return (yield from result(job.id, policy))


def stream(audio_url: str, options: TranscriptOptions, policy: RetryPolicy) -> Flow[None]:
    """Create and follow."""
    job = yield from create(audio_url, options, policy)
    yield from follow(job.id, 0, policy)


def follow(job_id: str, last_event_id: int, policy: RetryPolicy) -> Flow[None]:
    """Emit every event after `last_event_id`, once and in order, up to `done`; reconnect as needed.

    If no stream arrives, because a proxy buffers them for example, poll the state; the text then comes at
    the end. Raises `ServiceUnreachable` after `max_tries` failures in a row.
    """
    reader = _Reader(job_id, last_event_id, chunks=0 if last_event_id == 0 else None)
    failures = fruitless = 0
    while True:
        outcome = yield from reader.read()
        if outcome == "done":
            return
        if outcome == "progress":
            failures = fruitless = 0
        elif outcome == "fruitless":
            failures, fruitless = 0, fruitless + 1
            if fruitless >= policy.stream_tries:
                yield from _poll(reader, policy)
                return
        else:
            failures += 1
            if failures >= policy.max_tries:
                raise unreachable(outcome, last_event_id=reader.last_event_id)
        asked = min(reader.retry_after_seconds or 0.0, policy.max_wait_seconds)
        yield Sleep(asked if asked > 0 else policy.delay_seconds(failures + fruitless or 1))


class _Reader:
    """Reads the event streams of one job, and keeps the last event id."""

    def __init__(self, job_id: str, last_event_id: int, chunks: int | None) -> None:
        self.job_id = job_id
        self.last_event_id = last_event_id
        self.chunks = chunks
        """Transcript events emitted so far; `None` if an earlier reader may have received some."""
        self.retry_after_seconds: float | None = None

    def read(self) -> Flow[str]:
        """Read one stream; return "done", "progress", "fruitless" (no new event), or a failure."""
        self.retry_after_seconds = None
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.last_event_id:
            headers["Last-Event-ID"] = str(self.last_event_id)
        opened = yield Open(f"{_path(self.job_id)}/events", headers)
        if isinstance(opened, Failed):
            return opened.reason
        if isinstance(opened, Reply):
            return self._without_stream(opened)
        outcome = "fruitless"
        while isinstance(frame := (yield Next()), Frame):
            event = self._new_event(frame)
            if event is None:
                continue
            yield Emit(event)
            if isinstance(event, DoneEvent):
                return "done"
            outcome = "progress"
        return outcome

    def _without_stream(self, reply: Reply) -> str:
        if reply.status == 204:
            return "done"
        if reply.status < 400:
            return "fruitless"
        error = _error(reply)
        if not _may_retry(reply, error):
            raise error
        self.retry_after_seconds = error.retry_after_seconds
        return "fruitless"

    def _new_event(self, frame: Frame) -> Event | None:
        """Return the event of a frame, or `None` if it has none or it was emitted before."""
        if not frame.data:
            return None  # some parsers turn a comment into an empty event
        try:
            event_id = int(frame.id)
            data = json.loads(frame.data)
        except ValueError:
            raise ServiceError("The event stream is not one of Stenobird's. Check the address.") from None
        if event_id <= self.last_event_id:
            return None
        self.last_event_id = event_id
        event = _read(lambda body: parse_event(frame.event, event_id, body), data)
        if event.type == "transcript" and self.chunks is not None:
            self.chunks += 1
        return event


def _poll(reader: _Reader, policy: RetryPolicy) -> Flow[None]:
    """Poll until the job ends; then read the events, or build them from the result if that fails."""
    shown = ("", "")
    while True:
        job = yield from status(reader.job_id, policy)
        if job.terminal:
            break
        seen = (job.status, str(job.body.get("stage", "")))
        if seen != shown:
            shown = seen
            yield Emit(parse_event("status", None, job.body))
        yield Sleep(min(job.retry_after_seconds, policy.max_wait_seconds))
    if (yield from reader.read()) == "done":
        return
    if job.result_ready and reader.chunks is not None:
        found = yield from result(reader.job_id, policy)
        for index, segment in enumerate(found.transcript.segments[reader.chunks :], reader.chunks):
            row = {"id": job.id, "chunk_index": index, "text": segment.text}
            times = {"start": segment.start, "end": segment.end}
            yield Emit(parse_event("transcript", None, row | times))
    if job.status == "failed":
        yield Emit(parse_event("error", None, job.body))
    yield Emit(parse_event("done", None, job.body))


def _exchange(request: Send, policy: RetryPolicy) -> Flow[Reply]:
    """Send until the request succeeds, fails permanently, or the policy's limits are reached."""
    failures = waits = 0
    while True:
        answer = yield request
        if isinstance(answer, Reply):
            if answer.status < 300:
                return answer
            if answer.status < 400:
                raise ServiceError(
                    f"The service sends us on to {answer.headers.get('location', 'another address')}. "
                    "Use the address that it has now."
                )
            error = _error(answer)
            if not _may_retry(answer, error):
                raise error
        else:
            error = unreachable(answer.reason if isinstance(answer, Failed) else "")
        if error.code in {"queue_busy", *_RETRIED_CODES}:
            waits += 1
            exhausted = waits >= policy.max_busy_tries
        else:
            failures += 1
            exhausted = failures >= policy.max_tries
        asked = error.retry_after_seconds or 0.0
        if exhausted or asked > policy.max_wait_seconds:
            raise error
        yield Sleep(asked if asked > 0 else policy.delay_seconds(failures or 1))


def _may_retry(reply: Reply, error: StenobirdError) -> bool:
    return reply.status in _RETRIED_STATUSES or error.code in _RETRIED_CODES


def _error(reply: Reply) -> StenobirdError:
    retry_after = reply.headers.get("retry-after", "")
    waiting = float(retry_after) if retry_after.isdigit() else None
    try:
        body = json.loads(reply.content)
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(nested := body.get("error"), dict):
        # The AlefBot dialect, to which uploads belong, nests its errors.
        body = {"error": nested.get("code"), "message": nested.get("message")}
    if not isinstance(body, dict) or not isinstance(body.get("error"), str):
        body = {"message": f"The service answered with HTTP status {reply.status}. Check its address."}
    return error_from_body(body, reply.status, retry_after_seconds=waiting)


def _read(reader: Callable[[dict[str, Any]], T], body: dict[str, Any]) -> T:
    try:
        return reader(body)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ServiceError("The answer is not one of Stenobird's. Check the address of the service.") from exc


def _object(reply: Reply) -> dict[str, Any]:
    try:
        body = json.loads(reply.content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ServiceError("The answer is not one of Stenobird's. Check the address of the service.")
    return body


def _path(job_id: str) -> str:
    return f"/v1/transcripts/{quote(job_id, safe='')}"
