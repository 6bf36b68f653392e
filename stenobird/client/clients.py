"""The two clients: they do the I/O of the client's protocol with httpx."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import httpx
from httpx_sse import EventSource
from typing_extensions import override

from stenobird import __version__
from stenobird.client.flow import Calls, RetryPolicy, is_event_stream
from stenobird.errors import InvalidAPIKey, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Generator,
        Iterator,
        Mapping,
    )
    from typing import Self

    from httpx_sse import ServerSentEvent

    from stenobird.client.flow import TranscriptOptions
    from stenobird.client.model import Event, Job, Result

T = TypeVar("T")

PIECE_BYTES = 256 * 1024
"""Bytes per read while a file is sent."""


class AsyncStenobirdClient(Calls):
    """A client for asyncio. Close it, or use it as a context manager.

    Every call retries temporary failures, as `policy` says, and raises an error of `stenobird.errors`,
    `ServiceUnreachable` or `ServiceError`. `on_event` may be a coroutine function. Cancelling a call closes
    its connection, not the job. To leave an event iterator early, use `contextlib.aclosing`, which closes its
    connection at once.
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
        super().__init__(policy or RetryPolicy())
        self._sleep = sleep
        self._http = httpx.AsyncClient(**_http_options(base_url, api_key, self._policy), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @override
    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes | Path | None
    ) -> httpx.Response:
        if not isinstance(content, Path):
            return await self._http.request(method, path, headers=headers, content=content)
        with await asyncio.to_thread(content.open, "rb") as opened:
            return await self._http.request(method, path, headers=headers, content=_pieces_later(opened))

    @asynccontextmanager
    @override
    async def _open_events(
        self, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[ServerSentEvent]]]:
        async with (
            self._http.stream("GET", path, headers=headers) as response,
            aclosing(EventSource(response).aiter_sse()) as events,
        ):
            if not is_event_stream(response):
                await response.aread()
            yield response, events

    @override
    async def _wait(self, seconds: float) -> None:
        await self._sleep(seconds)


class StenobirdClient:
    """`AsyncStenobirdClient` for programs without an event loop: the same calls, with ordinary iterators.

    Thread-safe; close it, or use it as a context manager. Closing an event iterator closes its connection,
    not the job.
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
        policy = policy or RetryPolicy()
        self._http = httpx.Client(**_http_options(base_url, api_key, policy), transport=transport)
        self._calls = _SyncCalls(policy, self._http, sleep)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def upload(self, file: Path | str) -> str:
        """Upload a file; return a value to pass as `audio_url`. Needs an API key."""
        return _run(self._calls.upload(file))

    def create(self, audio_url: str, options: TranscriptOptions | None = None) -> Job:
        """Create a transcript, and return without waiting for it."""
        return _run(self._calls.create(audio_url, options))

    def transcribe(
        self,
        audio_url: str,
        options: TranscriptOptions | None = None,
        *,
        on_event: Callable[[Event], None] | None = None,
    ) -> Result:
        """Return the transcript of a URL; call `on_event` with every event once, in order, as it arrives.

        Raises the job's error if it failed. Ctrl-C leaves the job running; `resume` continues with its id.
        """
        return _run(self._calls.transcribe(audio_url, options, on_event=on_event))

    def stream(self, audio_url: str, options: TranscriptOptions | None = None) -> Iterator[Event]:
        """Create a transcript and yield its events. A failed job ends with `ErrorEvent` and `DoneEvent`."""
        return _iterate(self._calls.stream(audio_url, options))

    def resume(self, job_id: str, last_event_id: int = 0) -> Iterator[Event]:
        """Yield the events of a job after `last_event_id`, up to `done`."""
        return _iterate(self._calls.resume(job_id, last_event_id))

    def status(self, job_id: str) -> Job:
        """Return a job's state."""
        return _run(self._calls.status(job_id))

    def result(self, job_id: str) -> Result:
        """Return a job's transcript; wait until it is ready."""
        return _run(self._calls.result(job_id))

    def document(self, job_id: str, format_name: str) -> bytes:
        """Return a job's transcript as json, txt, srt, vtt or docx; wait until it is ready."""
        return _run(self._calls.document(job_id, format_name))

    def name_speakers(self, job_id: str, names: Mapping[str, str]) -> Job:
        """Name the speakers of a finished job: `{"Speaker 1": "Ada"}`. Others lose their names."""
        return _run(self._calls.name_speakers(job_id, names))

    def cancel(self, job_id: str) -> Job | None:
        """Cancel an unfinished job, or delete a finished one and return `None`."""
        return _run(self._calls.cancel(job_id))

    def stop(self, job_id: str) -> Job:
        """Stop live audio: what was transcribed is kept. Raises `TranscriptNotLive` for a recording."""
        return _run(self._calls.stop(job_id))


class _SyncCalls(Calls):
    """Does the I/O while the caller's thread waits."""

    def __init__(self, policy: RetryPolicy, http: httpx.Client, sleep: Callable[[float], None]) -> None:
        super().__init__(policy)
        self._http = http
        self._sleep = sleep

    @override
    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes | Path | None
    ) -> httpx.Response:
        if not isinstance(content, Path):
            return self._http.request(method, path, headers=headers, content=content)
        with content.open("rb") as opened:
            return self._http.request(method, path, headers=headers, content=_pieces(opened))

    @asynccontextmanager
    @override
    async def _open_events(
        self, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[ServerSentEvent]]]:
        with self._http.stream("GET", path, headers=headers) as response:
            if not is_event_stream(response):
                response.read()
            yield response, _at_once(EventSource(response).iter_sse())

    @override
    async def _wait(self, seconds: float) -> None:
        self._sleep(seconds)


def _run(call: Awaitable[T]) -> T:
    """Run a coroutine of `_SyncCalls`, which never suspends, to its end."""
    try:
        next(iter(call.__await__()))
    except StopIteration as end:
        value: T = end.value
        return value
    raise RuntimeError("A synchronous call was suspended.")


def _iterate(events: AsyncGenerator[Event, None]) -> Generator[Event, None, None]:
    """Yield the events of a generator of `_SyncCalls`."""
    try:
        while (event := _run(anext(events, None))) is not None:
            yield event
    finally:
        _run(events.aclose())


async def _at_once(events: Iterator[ServerSentEvent]) -> AsyncIterator[ServerSentEvent]:
    for event in events:
        yield event


def _http_options(base_url: str, api_key: str | None, policy: RetryPolicy) -> dict[str, Any]:
    """Return what both httpx clients are made with. Raises `InvalidRequest` for an address that is none."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidRequest(
            f"{base_url!r} is no address of a service. Give http:// or https:// and a host, as in "
            "https://stenobird.com."
        )
    return {
        "base_url": base_url,
        "headers": {"User-Agent": f"stenobird-python/{__version__}", **_authorization(api_key)},
        "timeout": httpx.Timeout(30.0, connect=10.0, read=policy.silence_seconds),
    }


def _authorization(api_key: str | None) -> dict[str, str]:
    """Return the header for a key. Raises `InvalidAPIKey` for what can be none, such as two lines."""
    if api_key is None:
        return {}
    # A key that was read from a file ends with the file's last line feed.
    key = api_key.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise InvalidAPIKey("The API key has characters that no key has. Check it for typos.")
    return {"Authorization": f"Bearer {key}"}


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


async def _pieces_later(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece
