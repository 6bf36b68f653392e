"""The two clients: they perform the steps of the flows with httpx, and translate its errors."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import httpx
from httpx_sse import EventSource, SSEError

from stenobird import __version__
from stenobird.client import flow as flows
from stenobird.client.flow import Emit, Failed, Frame, Next, Open, Opened, Reply, RetryPolicy, Send, Sleep
from stenobird.errors import InvalidAPIKey, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
    from types import TracebackType
    from typing import Self

    from httpx_sse import ServerSentEvent

    from stenobird.client.flow import Answer, Flow, Step, TranscriptOptions
    from stenobird.client.model import Event, Job, Result

T = TypeVar("T")

PIECE_BYTES = 256 * 1024
"""Bytes per read while a file is sent."""

_STREAM_ENDED = Failed("the event stream ended")


class StenobirdClient:
    """A client for programs without an event loop. Thread-safe; close it, or use it as a context manager.

    Every call retries temporary failures, as `policy` says, and raises an error of `stenobird.errors`,
    `ServiceUnreachable` or `ServiceError`. Closing an event iterator closes its connection, not the job.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        policy: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._policy = policy or RetryPolicy()
        self._sleep = sleep
        self._http = httpx.Client(**_http_options(base_url, api_key, self._policy), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def upload(self, file: Path) -> str:
        """Upload a file; return a value to pass as `audio_url`. Needs an API key."""
        return self._finish(flows.upload(file, self._policy))

    def create(self, audio_url: str, options: TranscriptOptions | None = None) -> Job:
        """Create a transcript, and return without waiting for it."""
        return self._finish(flows.create(audio_url, options or flows.TranscriptOptions(), self._policy))

    def transcribe(
        self,
        audio_url: str,
        options: TranscriptOptions | None = None,
        *,
        api_key: str | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Result:
        """Return the transcript of a URL; call `on_event` with every event once, in order, as it arrives.

        Raises the job's error if it failed. Ctrl-C leaves the job running; `resume` continues with its id.
        """
        flow = flows.transcribe(audio_url, options or flows.TranscriptOptions(), self._policy)
        return self._finish(flow, on_event=on_event, api_key=api_key)

    def stream(
        self, audio_url: str, options: TranscriptOptions | None = None, *, api_key: str | None = None
    ) -> Iterator[Event]:
        """Create a transcript and yield its events. A failed job ends with `ErrorEvent` and `DoneEvent`."""
        return self._iterate(
            flows.stream(audio_url, options or flows.TranscriptOptions(), self._policy), api_key
        )

    def resume(self, job_id: str, last_event_id: int = 0) -> Iterator[Event]:
        """Yield the events of a job after `last_event_id`, up to `done`."""
        return self._iterate(flows.follow(job_id, last_event_id, self._policy), None)

    def status(self, job_id: str) -> Job:
        """Return a job's state."""
        return self._finish(flows.status(job_id, self._policy))

    def result(self, job_id: str) -> Result:
        """Return a job's transcript; wait until it is ready."""
        return self._finish(flows.result(job_id, self._policy))

    def document(self, job_id: str, format_name: str) -> bytes:
        """Return a job's transcript as json, txt, srt, vtt or docx; wait until it is ready."""
        return self._finish(flows.document(job_id, format_name, self._policy))

    def cancel(self, job_id: str) -> Job | None:
        """Cancel an unfinished job, or delete a finished one and return `None`."""
        return self._finish(flows.cancel(job_id, self._policy))

    def _finish(
        self, flow: Flow[T], *, on_event: Callable[[Event], None] | None = None, api_key: str | None = None
    ) -> T:
        with _Connection(self._http, self._sleep, api_key) as connection:
            answer: Answer = None
            while True:
                try:
                    step = flow.send(answer)
                except StopIteration as end:
                    value: T = end.value
                    return value
                if isinstance(step, Emit):
                    answer = None
                    if on_event is not None:
                        on_event(step.event)
                else:
                    answer = connection.perform(step)

    def _iterate(self, flow: Flow[None], api_key: str | None) -> Generator[Event, None, None]:
        with _Connection(self._http, self._sleep, api_key) as connection:
            answer: Answer = None
            while True:
                try:
                    step = flow.send(answer)
                except StopIteration:
                    return
                if isinstance(step, Emit):
                    answer = None
                    yield step.event
                else:
                    answer = connection.perform(step)


class _Connection:
    """Performs the steps of one flow. Owns the open event stream."""

    def __init__(self, http: httpx.Client, sleep: Callable[[float], None], api_key: str | None) -> None:
        self._http = http
        self._sleep = sleep
        self._headers = _authorization(api_key)
        self._open = ExitStack()
        self._events: Iterator[ServerSentEvent] = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def perform(self, step: Step) -> Answer:
        try:
            match step:
                case Send(file=Path() as file):
                    with file.open("rb") as content:
                        request = _request(step, self._headers)
                        return _reply(self._http.request(**request, content=_pieces(content)))
                case Send():
                    return _reply(self._http.request(**_request(step, self._headers)))
                case Open():
                    return self._open_stream(step)
                case Next():
                    event = next(self._events, None)
                    return _STREAM_ENDED if event is None else _frame(event)
                case Sleep():
                    self._sleep(step.seconds)
        except (httpx.TransportError, httpx.DecodingError, SSEError) as error:
            return _failed(error)
        return None

    def _open_stream(self, step: Open) -> Answer:
        self._open.close()
        request = self._http.stream("GET", step.path, headers={**self._headers, **step.headers})
        response = self._open.enter_context(request)
        if not _is_event_stream(response):
            response.read()
            self._open.close()
            return _reply(response)
        self._events = EventSource(response).iter_sse()
        return Opened()


class AsyncStenobirdClient:
    """`StenobirdClient` for asyncio: the same calls, awaited; iterators are asynchronous.

    `on_event` may be a coroutine function. Cancelling a call closes its connection, not the job. To leave an
    event iterator early, use `contextlib.aclosing`, which closes its connection at once.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        policy: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._policy = policy or RetryPolicy()
        self._sleep = sleep
        self._http = httpx.AsyncClient(**_http_options(base_url, api_key, self._policy), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def upload(self, file: Path) -> str:
        """Upload a file; return a value to pass as `audio_url`. Needs an API key."""
        return await self._finish(flows.upload(file, self._policy))

    async def create(self, audio_url: str, options: TranscriptOptions | None = None) -> Job:
        """Create a transcript, and return without waiting for it."""
        return await self._finish(flows.create(audio_url, options or flows.TranscriptOptions(), self._policy))

    async def transcribe(
        self,
        audio_url: str,
        options: TranscriptOptions | None = None,
        *,
        api_key: str | None = None,
        on_event: Callable[[Event], Awaitable[None] | None] | None = None,
    ) -> Result:
        """Return the transcript of a URL; call `on_event` with every event once, in order, as it arrives."""
        flow = flows.transcribe(audio_url, options or flows.TranscriptOptions(), self._policy)
        return await self._finish(flow, on_event=on_event, api_key=api_key)

    def stream(
        self, audio_url: str, options: TranscriptOptions | None = None, *, api_key: str | None = None
    ) -> AsyncGenerator[Event, None]:
        """Create a transcript and yield its events. A failed job ends with `ErrorEvent` and `DoneEvent`."""
        return self._iterate(
            flows.stream(audio_url, options or flows.TranscriptOptions(), self._policy), api_key
        )

    def resume(self, job_id: str, last_event_id: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the events of a job after `last_event_id`, up to `done`."""
        return self._iterate(flows.follow(job_id, last_event_id, self._policy), None)

    async def status(self, job_id: str) -> Job:
        """Return a job's state."""
        return await self._finish(flows.status(job_id, self._policy))

    async def result(self, job_id: str) -> Result:
        """Return a job's transcript; wait until it is ready."""
        return await self._finish(flows.result(job_id, self._policy))

    async def document(self, job_id: str, format_name: str) -> bytes:
        """Return a job's transcript as json, txt, srt, vtt or docx; wait until it is ready."""
        return await self._finish(flows.document(job_id, format_name, self._policy))

    async def cancel(self, job_id: str) -> Job | None:
        """Cancel an unfinished job, or delete a finished one and return `None`."""
        return await self._finish(flows.cancel(job_id, self._policy))

    async def _finish(
        self,
        flow: Flow[T],
        *,
        on_event: Callable[[Event], Awaitable[None] | None] | None = None,
        api_key: str | None = None,
    ) -> T:
        async with _AsyncConnection(self._http, self._sleep, api_key) as connection:
            answer: Answer = None
            while True:
                try:
                    step = flow.send(answer)
                except StopIteration as end:
                    value: T = end.value
                    return value
                if isinstance(step, Emit):
                    answer = None
                    handled = on_event(step.event) if on_event is not None else None
                    if inspect.isawaitable(handled):
                        await handled
                else:
                    answer = await connection.perform(step)

    async def _iterate(self, flow: Flow[None], api_key: str | None) -> AsyncGenerator[Event, None]:
        async with _AsyncConnection(self._http, self._sleep, api_key) as connection:
            answer: Answer = None
            while True:
                try:
                    step = flow.send(answer)
                except StopIteration:
                    return
                if isinstance(step, Emit):
                    answer = None
                    yield step.event
                else:
                    answer = await connection.perform(step)


class _AsyncConnection:
    """`_Connection` for asyncio."""

    def __init__(
        self, http: httpx.AsyncClient, sleep: Callable[[float], Awaitable[None]], api_key: str | None
    ) -> None:
        self._http = http
        self._sleep = sleep
        self._headers = _authorization(api_key)
        self._open = AsyncExitStack()
        self._events: AsyncIterator[ServerSentEvent] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def perform(self, step: Step) -> Answer:
        try:
            match step:
                case Send(file=Path() as file):
                    with await asyncio.to_thread(file.open, "rb") as content:
                        request = _request(step, self._headers)
                        answer = await self._http.request(**request, content=_pieces_later(content))
                    return _reply(answer)
                case Send():
                    return _reply(await self._http.request(**_request(step, self._headers)))
                case Open():
                    return await self._open_stream(step)
                case Next():
                    assert self._events is not None
                    event = await anext(self._events, None)
                    return _STREAM_ENDED if event is None else _frame(event)
                case Sleep():
                    await self._sleep(step.seconds)
        except (httpx.TransportError, httpx.DecodingError, SSEError) as error:
            return _failed(error)
        return None

    async def _open_stream(self, step: Open) -> Answer:
        await self._open.aclose()
        request = self._http.stream("GET", step.path, headers={**self._headers, **step.headers})
        response = await self._open.enter_async_context(request)
        if not _is_event_stream(response):
            await response.aread()
            await self._open.aclose()
            return _reply(response)
        events = EventSource(response).aiter_sse()
        self._open.push_async_callback(events.aclose)
        self._events = events
        return Opened()


def _http_options(base_url: str, api_key: str | None, policy: RetryPolicy) -> dict[str, Any]:
    """Return what both httpx clients are made with. Raises `InvalidRequest` for an address that is none."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as exc:
        raise _no_address(base_url) from exc
    if url.scheme not in {"http", "https"} or not url.host:
        raise _no_address(base_url)
    return {
        "base_url": base_url,
        "headers": {"User-Agent": f"stenobird-python/{__version__}", **_authorization(api_key)},
        "timeout": httpx.Timeout(30.0, connect=10.0, read=policy.silence_seconds),
    }


def _no_address(base_url: str) -> InvalidRequest:
    return InvalidRequest(
        f"{base_url!r} is no address of a service. Give http:// or https:// and a host, as in https://stenobird.com."
    )


def _authorization(api_key: str | None) -> dict[str, str]:
    """Return the header for a key. Raises `InvalidAPIKey` for what can be none, such as two lines."""
    if api_key is None:
        return {}
    # A key that was read from a file ends with the file's last line feed.
    key = api_key.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise InvalidAPIKey("The API key has characters that no key has. Check it for typos.")
    return {"Authorization": f"Bearer {key}"}


def _request(step: Send, headers: dict[str, str]) -> dict[str, Any]:
    request: dict[str, Any] = {
        "method": step.method,
        "url": step.path,
        "headers": {**headers, **step.headers},
    }
    if step.body is not None:
        # The bytes of a retry are those of the first try: an Idempotency-Key stands for one body.
        request["content"] = json.dumps(dict(step.body), ensure_ascii=False).encode()
        request["headers"]["Content-Type"] = "application/json"
    if step.file is not None:
        request["headers"]["Content-Length"] = str(step.file.stat().st_size)
    return request


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


async def _pieces_later(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece


def _reply(response: httpx.Response) -> Reply:
    return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)


def _frame(event: ServerSentEvent) -> Frame:
    return Frame(event.event, event.id, event.data)


def _is_event_stream(response: httpx.Response) -> bool:
    return response.status_code == 200 and "text/event-stream" in response.headers.get("content-type", "")


def _failed(error: Exception) -> Failed:
    return Failed(f"{type(error).__name__}: {error}".rstrip(": "))
