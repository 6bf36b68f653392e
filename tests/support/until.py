"""Waiting for something that no event announces: a state of another process, a file, a port."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

DEADLINE_SECONDS = 180.0
"""Far more than anything here takes on two busy cores: reaching it is a failure, never a measurement."""
SHORTEST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.1


def until(condition: Callable[[], T | None], *, deadline_seconds: float = DEADLINE_SECONDS) -> T:
    """Ask again and again; return the first answer that is true. Raises `AssertionError` at the deadline."""
    start = time.monotonic()
    while not (answer := condition()):
        waited = time.monotonic() - start
        assert waited < deadline_seconds, _failure(condition, answer, deadline_seconds)
        time.sleep(_pause_after(waited))
    return answer


@overload
async def async_until(
    condition: Callable[[], Awaitable[T | None]], *, deadline_seconds: float = ...
) -> T: ...


@overload
async def async_until(condition: Callable[[], T | None], *, deadline_seconds: float = ...) -> T: ...


async def async_until(condition: Callable[[], Any], *, deadline_seconds: float = DEADLINE_SECONDS) -> Any:
    """Do as `until` does, on an event loop; the condition may be a coroutine function."""
    start = time.monotonic()
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        waited = time.monotonic() - start
        assert waited < deadline_seconds, _failure(condition, answer, deadline_seconds)
        await asyncio.sleep(_pause_after(waited))


def _pause_after(waited_seconds: float) -> float:
    """Return a tenth of what was waited, so that asking takes little from what is waited for."""
    return min(max(waited_seconds / 10, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)


def _failure(condition: Callable[[], object], answer: object, deadline_seconds: float) -> str:
    return f"{condition.__qualname__} was still {answer!r} after {deadline_seconds:g} s"
