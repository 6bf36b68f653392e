"""Wake-ups: hints that something was committed, within one process or between several."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from stenobird.wakeups.local import LocalWakeups
from stenobird.wakeups.redis import open_redis_wakeups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.config import Settings
    from stenobird.ports import Clock, Wakeups


@asynccontextmanager
async def open_wakeups(settings: Settings, clock: Clock) -> AsyncIterator[Wakeups]:
    """Open the wake-ups that the settings ask for: those of Redis, or of this process alone."""
    if settings.redis_url is None:
        yield LocalWakeups()
        return
    async with open_redis_wakeups(settings.redis_url.get_secret_value(), clock=clock) as wakeups:
        yield wakeups
