"""Parses pages and feeds in child processes that can be killed: hostile markup can't harm the service.

page(body) ──► a free child (started when first needed, kept for the next document)
                 │ answers within `wall_seconds` ──► PageFacts
                 └ overruns, dies, or the caller is cancelled ──► killed, replaced when next needed
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any, Final, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from stenobird.children.process import ChildProcess
from stenobird.discovery.parsing.facts import FeedFacts, PageFacts
from stenobird.errors import StenobirdError

_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
MAX_ANSWER_BYTES: Final = 64 * 1024**2
_PAGE: Final[TypeAdapter[PageFacts]] = TypeAdapter(PageFacts)
_FEED: Final[TypeAdapter[FeedFacts | None]] = TypeAdapter(FeedFacts | None)

T = TypeVar("T")


class ParseFailed(StenobirdError):
    """The document could not be read: it is too large or too deeply nested."""


class DocumentParser:
    """A pool of parsing children. Use it as a context manager; leaving it ends them all.

    At most `children` documents are parsed at once, each within `wall_seconds`; other callers wait.
    """

    def __init__(self, *, children: int = 2, wall_seconds: float = 20.0) -> None:
        self._wall_seconds = wall_seconds
        self._idle: list[ChildProcess] = []
        self._all: set[ChildProcess] = set()
        self._turns = asyncio.Semaphore(children)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every child and wait for it."""
        for child in list(self._all):
            await self._end(child)

    async def prepare(self) -> None:
        """Start a child if there is none yet, so that it is ready when the document has been fetched."""
        if self._all:
            return
        # If no process can be started, parsing the document will report it.
        async with self._turns:
            with contextlib.suppress(OSError):
                self._idle.append(await self._start())

    async def page(self, body: bytes, *, url: str, content_type: str = "") -> PageFacts:
        """Return a page's facts; `url` is the address it came from. Raises `ParseFailed`."""
        answer = await self._ask("page", body, url, content_type)
        return _facts(_PAGE, answer["page"])

    async def feed(self, body: bytes, *, url: str, content_type: str = "") -> FeedFacts | None:
        """Return a feed's facts, `None` if it is no feed. Raises `ParseFailed`."""
        answer = await self._ask("feed", body, url, content_type)
        return _facts(_FEED, answer["feed"])

    async def _ask(self, op: str, body: bytes, url: str, content_type: str) -> dict[str, Any]:
        header = {"op": op, "url": url, "content_type": content_type, "size": len(body)}
        async with self._turns:
            child = await self._next_idle() or await self._start()
            try:
                async with asyncio.timeout(self._wall_seconds):
                    answer = await _exchange(child, json.dumps(header).encode() + b"\n" + body)
            except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError) as exc:
                await self._end(child)
                raise ParseFailed from exc
            except BaseException:
                # Cancelled half-way: the child's answer must not be taken for that of the next document.
                await self._end(child)
                raise
            self._idle.append(child)
        if "failed" in answer:
            raise ParseFailed(f"The document could not be read: {answer['failed']}.")
        return answer

    async def _next_idle(self) -> ChildProcess | None:
        """Return an idle child; those that have died meanwhile are skipped."""
        while self._idle:
            child = self._idle.pop()
            if child.returncode is None:
                return child
            await self._end(child)
        return None

    async def _start(self) -> ChildProcess:
        child = await ChildProcess.start(
            [sys.executable, "-I", "-m", "stenobird.discovery.parsing.child"], environment=_ENVIRONMENT
        )
        self._all.add(child)
        return child

    async def _end(self, child: ChildProcess) -> None:
        self._all.discard(child)
        if child in self._idle:
            self._idle.remove(child)
        await child.aclose()


async def _exchange(child: ChildProcess, request: bytes) -> dict[str, Any]:
    child.writer.write(request)
    await child.writer.drain()
    size = int(json.loads(await child.reader.readuntil())["size"])
    if not 0 <= size <= MAX_ANSWER_BYTES:
        raise ValueError("the answer is larger than any document's facts")
    answer = json.loads(await child.reader.readexactly(size))
    return dict(answer)


def _facts(kind: TypeAdapter[T], row: Any) -> T:
    try:
        return kind.validate_python(row)
    except ValidationError as exc:
        raise ParseFailed from exc
