"""A small internet behind one upstream proxy on loopback: any host name, answers as raw bytes, plain http.

Point `EGRESS_PROXY` at `ProxiedWeb.url`. Used as a context manager, it runs on a loop and thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from typing import TYPE_CHECKING, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Answer: TypeAlias = Callable[[Mapping[str, str]], bytes]
    """Returns the bytes of the whole response, given the request's headers with lower-case names."""

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_ENDINGS = (".mp3", ".m4a", ".ogg", ".opus", ".aac", ".wav", ".flac", ".m4b", ".wma", ".mp4", ".m4v")


def whole(body: bytes, content_type: str, status: str = "200 OK") -> Answer:
    """Answer every request with this body."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    data = head.encode("latin-1", "replace") + body
    return lambda _headers: data


def file(body: bytes, content_type: str = "audio/mpeg") -> Answer:
    """Answer as a file server does, with ranges."""

    def answer(headers: Mapping[str, str]) -> bytes:
        wanted = _RANGE.fullmatch(headers.get("range", ""))
        first, last = 0, len(body) - 1
        status, extent = "200 OK", ""
        if wanted is not None:
            first = int(wanted[1])
            last = min(last, int(wanted[2])) if wanted[2] else last
            status, extent = "206 Partial Content", f"Content-Range: bytes {first}-{last}/{len(body)}\r\n"
            if first >= len(body):
                status, extent = "416 Range Not Satisfiable", f"Content-Range: bytes */{len(body)}\r\n"
        part = body[first : last + 1]
        head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(part)}\r\n{extent}"
        return head.encode() + b"\r\n" + part

    return answer


class ProxiedWeb:
    """Answers by URL from `answers`; an address that ends like audio is `audio` without being listed."""

    def __init__(self, audio: bytes) -> None:
        self.answers: dict[str, Answer] = {}
        self._audio = file(audio)
        self._missing = whole(b"not here", "text/plain", "404 Not Found")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The value of `EGRESS_PROXY`."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self._port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *exc_info: object) -> None:
        async def stop() -> None:
            assert self._server is not None
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            target = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(" ")[1]
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            line, *rows = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
            path = line.split(" ")[1]
            writer.write(self._answer(f"http://{target.removesuffix(':80')}{path}")(headers))
            await writer.drain()
        writer.close()

    def _answer(self, url: str) -> Answer:
        if url in self.answers:
            return self.answers[url]
        is_audio = url.partition("?")[0].lower().endswith(_ENDINGS) and "dead." not in url
        return self._audio if is_audio else self._missing
