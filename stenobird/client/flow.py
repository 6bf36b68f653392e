"""The client's protocol, over the I/O of a subclass of `Calls`.

All waits and retries are decided here, so the synchronous and the asynchronous client cannot differ. The
coroutines of `Calls` whose I/O is synchronous never suspend, so they need no event loop.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import mimetypes
import os
import random
import re
import uuid
from abc import ABC, abstractmethod
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

import httpx
from httpx_sse import SSEError

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
from stenobird.errors import EmptyUploadBody, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from httpx_sse import ServerSentEvent

    from stenobird.errors import StenobirdError

T = TypeVar("T")

UPLOADS_PATH = "/api/v1/uploads"
UPLOAD_PREFIX = "upload:"

CONNECTION_ERRORS = (httpx.TransportError, httpx.DecodingError, SSEError)
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
    keywords: Sequence[str] | None = None
    word_timestamps: bool | None = None
    task: Literal["transcribe", "translate"] | None = None
    speakers: bool | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    webhook_url: str | None = None
    preview_id: str | None = None
    max_minutes: int | None = None
    """When to stop if the audio is live."""
    idempotency_key: str | None = None

    def body(self, audio_url: str) -> dict[str, Any]:
        """Return the request body for a URL or a value of `upload`."""
        fields = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        del fields["idempotency_key"]
        fields["keywords"] = None if self.keywords is None else list(self.keywords)
        upload_id = audio_url.removeprefix(UPLOAD_PREFIX)
        source = {"audio_url": audio_url} if upload_id == audio_url else {"upload_id": upload_id}
        return source | {k: v for k, v in fields.items() if v is not None}


class Calls(ABC):
    """Every call of a client. Subclasses do the I/O, which may raise `CONNECTION_ERRORS`."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy

    @abstractmethod
    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes | Path | None
    ) -> httpx.Response:
        """Send a request and read its response. A path as `content` stands for the file's bytes."""

    @abstractmethod
    def _open_events(
        self, path: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[tuple[httpx.Response, AsyncIterator[ServerSentEvent]]]:
        """Open an event stream; yield the response, which was read if it is not a stream, and the events."""

    @abstractmethod
    async def _wait(self, seconds: float) -> None:
        """Wait."""

    async def create(self, audio_url: str, options: TranscriptOptions | None = None) -> Job:
        """Create a transcript, and return without waiting for it."""
        options = options or TranscriptOptions()
        key = options.idempotency_key or uuid.uuid4().hex
        if not re.fullmatch(r"[\x21-\x7e]+", key):
            raise InvalidRequest(
                "The idempotency_key goes into a header: use letters, digits and signs of ASCII."
            )
        # Retries share the key, so that they create one job.
        body, headers = options.body(audio_url), {"Idempotency-Key": key}
        return _read(Job.from_body, await self._exchange("POST", "/v1/transcripts", body, headers))

    async def upload(self, file: Path | str) -> str:
        """Upload a file; return a value to pass as `audio_url`. Needs an API key.

        When the connection breaks, the file is sent again from the start.
        """
        file = Path(file)
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        name = os.fsencode(file.name).decode(errors="replace")
        size_bytes = file.stat().st_size  # as fast as it gets
        if size_bytes == 0:
            raise EmptyUploadBody(f"The file {name} is empty. Send one that has audio.")
        body = {"filename": name, "content_type": kind, "size_bytes": size_bytes}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        try:
            made = await self._exchange("POST", UPLOADS_PATH, body, headers)
        except NotFound as exc:
            if (path := await self._uploads_path()) is None:
                raise ServiceError("This service takes no files. Send the URL of the audio.") from exc
            made = await self._exchange("POST", path, body, headers)
        address, upload_id = _read(lambda slot: (str(slot["upload_url"]), str(slot["upload_id"])), made)
        await self._exchange("PUT", address, file=file)
        return f"{UPLOAD_PREFIX}{upload_id}"

    async def _uploads_path(self) -> str | None:
        """Look up the path of uploads, since the operator may have configured a prefix."""
        known = _read(lambda document: list(document["paths"]), await self._exchange("GET", "/openapi.json"))
        return next(
            (path for path in known if re.fullmatch(r"/[^/].*" + re.escape(UPLOADS_PATH), path)), None
        )

    async def status(self, job_id: str) -> Job:
        """Return a job's state."""
        return _read(Job.from_body, await self._exchange("GET", _path(job_id)))

    async def cancel(self, job_id: str) -> Job | None:
        """Cancel an unfinished job, or delete a finished one and return `None`."""
        response = await self._exchange("DELETE", _path(job_id))
        return None if response.status_code == 204 else _read(Job.from_body, response)

    async def stop(self, job_id: str) -> Job:
        """Stop live audio: what was transcribed is kept. Raises `TranscriptNotLive` for a recording."""
        return _read(Job.from_body, await self._exchange("POST", f"{_path(job_id)}/stop"))

    async def name_speakers(self, job_id: str, names: Mapping[str, str]) -> Job:
        """Name the speakers of a finished job: `{"Speaker 1": "Ada"}`. Others lose their names."""
        path = _path(job_id) + "/speakers"
        return _read(Job.from_body, await self._exchange("PUT", path, {"names": dict(names)}))

    async def result(self, job_id: str) -> Result:
        """Return a job's transcript; wait until it is ready. Raises the job's error if it failed."""
        return _read(Result.from_body, await self._exchange("GET", _path(job_id) + "/result"))

    async def document(self, job_id: str, format_name: str) -> bytes:
        """Return a job's transcript as json, txt, srt, vtt or docx; wait until it is ready."""
        path = f"{_path(job_id)}/result?format={quote(format_name, safe='')}"
        return (await self._exchange("GET", path)).content

    async def transcribe(
        self,
        audio_url: str,
        options: TranscriptOptions | None = None,
        *,
        on_event: Callable[[Event], Awaitable[None] | None] | None = None,
    ) -> Result:
        """Return the transcript of a URL; call `on_event` with every event once, in order, as it arrives.

        Raises the job's error if it failed. Ending the call leaves the job running; `resume` continues with
        its id.
        """
        job = await self.create(audio_url, options)
        async with aclosing(self.resume(job.id)) as events:
            async for event in events:
                handled = on_event(event) if on_event is not None else None
                if inspect.isawaitable(handled):
                    await handled
        return await self.result(job.id)

    async def stream(
        self, audio_url: str, options: TranscriptOptions | None = None
    ) -> AsyncGenerator[Event, None]:
        """Create a transcript and yield its events. A failed job ends with `ErrorEvent` and `DoneEvent`."""
        job = await self.create(audio_url, options)
        async with aclosing(self.resume(job.id)) as events:
            async for event in events:
                yield event

    async def resume(self, job_id: str, last_event_id: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the events of a job after `last_event_id`, once and in order, up to `done`.

        It reconnects as needed. If no stream arrives, because a proxy buffers them for example, it polls the
        state, and the text comes at the end. Raises `ServiceUnreachable` after `max_tries` failures in a row.
        """
        policy = self._policy
        log = _Log(job_id, last_event_id, chunks=0 if last_event_id == 0 else None)
        failures = fruitless = 0
        while True:
            async with aclosing(self._read_stream(log)) as events:
                async for event in events:
                    yield event
            if log.outcome == "done":
                return
            if log.outcome == "progress":
                failures = fruitless = 0
            elif log.outcome == "fruitless":
                failures, fruitless = 0, fruitless + 1
                if fruitless >= policy.stream_tries:
                    break
            else:
                failures += 1
                if failures >= policy.max_tries:
                    raise unreachable(log.outcome, last_event_id=log.last_event_id)
            await self._back_off(log.retry_after_seconds, failures + fruitless)
        async with aclosing(self._poll(log)) as events:
            async for event in events:
                yield event

    async def _read_stream(self, log: _Log) -> AsyncGenerator[Event, None]:
        """Yield the new events of one stream; then `log.outcome` says how it ended."""
        log.outcome, log.retry_after_seconds = "", None
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if log.last_event_id:
            headers["Last-Event-ID"] = str(log.last_event_id)
        try:
            async with self._open_events(f"{_path(log.job_id)}/events", headers) as (response, frames):
                log.outcome = "done" if response.status_code == 204 else "fruitless"
                if response.status_code >= 400:
                    log.retry_after_seconds = _temporary_error(response).retry_after_seconds
                if not is_event_stream(response):
                    return
                async for frame in frames:
                    if (event := log.read(frame)) is None:
                        continue
                    log.outcome = "done" if isinstance(event, DoneEvent) else "progress"
                    yield event
                    if log.outcome == "done":
                        return
        except CONNECTION_ERRORS as broken:
            log.outcome = log.outcome or _reason(broken)

    async def _poll(self, log: _Log) -> AsyncGenerator[Event, None]:
        """Poll until the job ends; then read the events, or build them from the result if that fails."""
        shown = ("", "")
        while True:
            job = await self.status(log.job_id)
            if job.terminal:
                break
            seen = (job.status, str(job.body.get("stage", "")))
            if seen != shown:
                shown = seen
                yield parse_event("status", None, job.body)
            await self._wait(min(job.retry_after_seconds or 2.0, self._policy.max_wait_seconds))
        async with aclosing(self._read_stream(log)) as events:
            async for event in events:
                yield event
        if log.outcome == "done":
            return
        if job.result_ready and log.chunks is not None:
            found = await self.result(log.job_id)
            for index, one in enumerate(found.transcript.segments[log.chunks :], log.chunks):
                segment = {"text": one.text, "start": one.start, "end": one.end}
                yield parse_event("transcript", None, {"id": job.id, "chunk_index": index, **segment})
        if job.status == "failed":
            yield parse_event("error", None, job.body)
        yield parse_event("done", None, job.body)

    async def _exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        file: Path | None = None,
    ) -> httpx.Response:
        """Send until the request succeeds, fails permanently, or the policy's limits are reached."""
        headers = dict(headers or {})
        content: bytes | Path | None = file
        if file is not None:
            headers["Content-Length"] = str(file.stat().st_size)  # noqa: ASYNC240  # likewise
        elif body is not None:
            # The bytes of a retry are those of the first try: an Idempotency-Key stands for one body.
            content = json.dumps(dict(body), ensure_ascii=False).encode()
            headers["Content-Type"] = "application/json"
        failures = waits = 0
        while True:
            try:
                response = await self._request(method, path, headers, content)
            except CONNECTION_ERRORS as broken:
                error: StenobirdError = unreachable(_reason(broken))
            else:
                if response.status_code < 300:
                    return response
                error = _temporary_error(response)
            if error.code in {"queue_busy", *_RETRIED_CODES}:
                waits += 1
                exhausted = waits >= self._policy.max_busy_tries
            else:
                failures += 1
                exhausted = failures >= self._policy.max_tries
            if exhausted or (error.retry_after_seconds or 0.0) > self._policy.max_wait_seconds:
                raise error
            await self._back_off(error.retry_after_seconds, failures)

    async def _back_off(self, asked_seconds: float | None, tries: int) -> None:
        """Wait as long as the service asks, else as the policy says after so many tries."""
        asked = min(asked_seconds or 0.0, self._policy.max_wait_seconds)
        await self._wait(asked if asked > 0 else self._policy.delay_seconds(tries or 1))


@dataclass(slots=True)
class _Log:
    """How far the events of one job were read, and how the last stream of them ended."""

    job_id: str
    last_event_id: int
    chunks: int | None
    """Transcript events read so far; `None` if an earlier call may have received some."""
    retry_after_seconds: float | None = None
    outcome: str = ""
    """"done", "progress", "fruitless" (no new event), or why there was no stream."""

    def read(self, frame: ServerSentEvent) -> Event | None:
        """Return the event of a frame, or `None` if it has none or it was read before."""
        if not frame.data:
            return None  # some parsers turn a comment into an empty event
        try:
            event_id, data = int(frame.id), json.loads(frame.data)
            if event_id <= self.last_event_id:
                return None
            event = parse_event(frame.event, event_id, data)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ServiceError("The event stream is not one of Stenobird's. Check the address.") from None
        self.last_event_id = event_id
        if event.type == "transcript" and self.chunks is not None:
            self.chunks += 1
        return event


def is_event_stream(response: httpx.Response) -> bool:
    """Return whether the response is a stream of events."""
    return response.status_code == 200 and "text/event-stream" in response.headers.get("content-type", "")


def _temporary_error(response: httpx.Response) -> StenobirdError:
    """Return the error of a response after which a retry may help; raise any other error."""
    if response.status_code < 400:
        target = response.headers.get("location", "another address")
        raise ServiceError(f"The service sends us on to {target}. Use the address that it has now.")
    error = _error(response)
    if response.status_code not in _RETRIED_STATUSES and error.code not in _RETRIED_CODES:
        raise error
    return error


def _error(response: httpx.Response) -> StenobirdError:
    retry_after = response.headers.get("retry-after", "")
    waiting = float(retry_after) if retry_after.isdigit() else None
    try:
        body = json.loads(response.content)
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(nested := body.get("error"), dict):
        # The AlefBot dialect, to which uploads belong, nests its errors.
        body = {"error": nested.get("code"), "message": nested.get("message")}
    if not isinstance(body, dict) or not isinstance(body.get("error"), str):
        body = {
            "message": f"The service answered with HTTP status {response.status_code}. Check its address."
        }
    return error_from_body(body, response.status_code, retry_after_seconds=waiting)


def _read(reader: Callable[[dict[str, Any]], T], response: httpx.Response) -> T:
    """Return what the reader makes of the JSON in a response."""
    try:
        return reader(json.loads(response.content))
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ServiceError("The answer is not one of Stenobird's. Check the address of the service.") from exc


def _path(job_id: str) -> str:
    return f"/v1/transcripts/{quote(job_id, safe='')}"


def _reason(broken: Exception) -> str:
    return f"{type(broken).__name__}: {broken}".rstrip(": ")
