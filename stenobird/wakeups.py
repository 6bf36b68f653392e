"""Wake-ups: hints that something was committed, within one process or, over Redis or Valkey, between several.

Over Redis a notification reaches the listeners of its own process at once, and is queued for the others, so
that nobody who notifies waits for Redis. Every process receives every notification on one pub/sub channel, so
watching a job needs no round trip and cannot start too late. Redis carries no truth: while it is unavailable,
notifications stay within the process and other processes poll; when it is back, all listeners check once.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from typing_extensions import override

from stenobird.errors import ConfigurationError
from stenobird.ports import Clock, Wakeups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio.client import PubSub

    from stenobird.config import Settings

CHANNEL: Final = "stenobird:wakeups"
ANSWER_SECONDS: Final = 2.0
"""A server that takes longer to answer counts as unavailable."""
LISTEN_SECONDS: Final = 10.0
"""Silence after which the connection is checked with a ping; after twice as long it is closed."""
RECONNECT_SECONDS: Final = 1.0
MAX_OUTGOING: Final = 1000
FLUSH_SECONDS: Final = 0.5
_NEW_JOB: Final = "job"

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_wakeups(settings: Settings, clock: Clock) -> AsyncIterator[Wakeups]:
    """Open the wake-ups that the settings ask for: those of Redis, or of this process alone."""
    if settings.redis_url is None:
        yield Wakeups()
        return
    async with open_redis_wakeups(settings.redis_url.get_secret_value(), clock=clock) as wakeups:
        yield wakeups


@asynccontextmanager
async def open_redis_wakeups(
    url: str, *, clock: Clock, listen_seconds: float = LISTEN_SECONDS
) -> AsyncIterator[RedisWakeups]:
    """Connect to the server at a `redis://`, `rediss://` or `unix://` URL; listen while the context lasts.

    An unavailable server is not an error: the connection is retried every second. Raises
    `ConfigurationError` for an invalid URL.
    """
    try:
        client = Redis.from_url(
            url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            decode_responses=True,
            # `listen` reconnects by itself.
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as exc:
        raise ConfigurationError(
            "STENOBIRD_REDIS_URL must start with redis://, rediss:// or unix://."
        ) from exc
    failure: Exception | None = None
    wakeups = RedisWakeups(client, clock, listen_seconds)
    async with client:
        async with asyncio.TaskGroup() as group:
            listener = group.create_task(wakeups.listen(), name="redis wakeups")
            try:
                await wakeups.tried.wait()
                yield wakeups
            except Exception as exc:  # noqa: BLE001  # raised again below: a task group would wrap it
                failure = exc
            finally:
                await wakeups.flush()
                listener.cancel()
        if failure is not None:
            raise failure


class RedisWakeups(Wakeups):
    """`Wakeups` over Redis, too, opened by `open_redis_wakeups`, which owns its client and listener."""

    def __init__(self, client: Redis, clock: Clock, listen_seconds: float = LISTEN_SECONDS) -> None:
        super().__init__()
        self.tried = asyncio.Event()
        """Set once the first attempt to listen has succeeded or failed."""
        self._client = client
        self._clock = clock
        self._listen_seconds = listen_seconds
        self._listening = False
        self._origin = secrets.token_hex(4)
        self._outgoing: asyncio.Queue[str] = asyncio.Queue(MAX_OUTGOING)

    @property
    def connected(self) -> bool:
        """Whether notifications currently reach other processes."""
        return self._listening

    @override
    async def notify_job(self) -> None:
        await super().notify_job()
        self._queue(_NEW_JOB)

    @override
    async def notify_event(self, job_id: str) -> None:
        await super().notify_event(job_id)
        self._queue(f"event {job_id}")

    async def listen(self) -> None:
        """Exchange notifications with the other processes until cancelled; reconnect after each failure."""
        while True:
            try:
                async with self._client.pubsub() as channel, asyncio.TaskGroup() as group:
                    await channel.subscribe(CHANNEL)
                    self._outgoing = asyncio.Queue(MAX_OUTGOING)
                    group.create_task(self._send(), name="redis publisher")
                    await self._receive(channel)
            except Exception as exc:  # noqa: BLE001  # no published message may end the service
                if self._listening or not self.tried.is_set():
                    reason = exc.exceptions[0] if isinstance(exc, ExceptionGroup) else exc
                    _log.warning("redis_unavailable", reason=str(reason) or type(reason).__name__)
                self._listening = False
                self.tried.set()
            await self._clock.sleep(RECONNECT_SECONDS)

    async def flush(self) -> None:
        """Wait until what is queued has been sent, a moment at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS if self._listening else 0):
                await self._outgoing.join()

    async def _send(self) -> None:
        while True:
            await self._client.publish(CHANNEL, await self._outgoing.get())
            self._outgoing.task_done()

    async def _receive(self, channel: PubSub) -> None:
        asked = False
        while True:
            message = await channel.get_message(timeout=self._listen_seconds)
            if message is None:
                if asked:
                    # The kernel would keep a dead connection open for a quarter of an hour.
                    raise TimeoutError("no answer to a ping")
                asked = True
                await channel.ping()
                continue
            asked = False
            if message["type"] == "subscribe":
                self._listening = True
                self.tried.set()
                # Notifications published meanwhile are lost, so all listeners check.
                await super().notify_job()
                for job_id in tuple(self._watches):
                    await super().notify_event(job_id)
            elif message["type"] == "message":
                await self._pass_on(message["data"])

    async def _pass_on(self, message: str) -> None:
        kind, *rest = message.split(" ")
        if self._origin in rest:
            return  # sent from here, where it is known already
        if kind == _NEW_JOB:
            await super().notify_job()
        elif kind == "event" and rest:
            await super().notify_event(rest[0])

    def _queue(self, message: str) -> None:
        if self._listening:
            with suppress(asyncio.QueueFull):  # the other processes poll
                self._outgoing.put_nowait(f"{message} {self._origin}")
