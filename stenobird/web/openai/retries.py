"""Retries of a request without an `Idempotency-Key` join the job of the first try.

An SDK that times out closes its connection and sends the same request again. Its job therefore goes on for a
while without a reader, and is cancelled if nobody joins it. A process knows only its own requests: a retry
that reaches another process starts over. See docs/decisions/0050-openai-requests-end-with-the-connection.md.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from stenobird.ports import JobRecord


@dataclass(slots=True, eq=False)
class SharedJob:
    """A job and the requests that read it. `ended` is set by the first one that has read `done`."""

    job: JobRecord
    readers: int = 0
    joins: int = 0
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False


class Retries:
    """The jobs of the requests of one process, by what identifies a request."""

    def __init__(self) -> None:
        self._jobs: dict[bytes, SharedJob] = {}
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def joined(
        self,
        request: bytes,
        *,
        usable: Callable[[JobRecord], Awaitable[bool]],
        create: Callable[[], Awaitable[JobRecord]],
        cancel: Callable[[JobRecord], Awaitable[None]],
        stopping: asyncio.Event,
        grace_seconds: float,
    ) -> AsyncIterator[SharedJob]:
        """Yield the job of this request: the one of an equal request if it is `usable`, else a new one.

        If the context is left before the job has `ended`, and nobody joins it within `grace_seconds` or until
        the service is `stopping`, the job is cancelled.
        """
        turn = self._turns.setdefault(request, asyncio.Lock())
        async with turn:
            shared = self._jobs.get(request)
            if shared is None or not await usable(shared.job):
                shared = self._jobs[request] = SharedJob(await create())
            shared.readers += 1
            shared.joins += 1
            shared.joined.set()
        try:
            yield shared
        finally:
            shared.readers -= 1
            joins = shared.joins
            try:
                if not shared.ended and not shared.readers:
                    shared.joined.clear()
                    await _first(shared.joined, stopping, timeout_seconds=grace_seconds)
            finally:
                # A request that has joined meanwhile answers for the job, also if it has left again.
                if shared.joins == joins and not shared.readers:
                    if self._jobs.get(request) is shared:
                        del self._jobs[request]
                    if not shared.ended:
                        await cancel(shared.job)


async def _first(*events: asyncio.Event, timeout_seconds: float) -> None:
    """Return when one of the events is set, or after the timeout."""
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(event.wait()) for event in events]
        await asyncio.wait(waiting, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
