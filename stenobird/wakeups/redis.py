"""Wake-ups between processes, over one Redis or Valkey pub/sub channel.

Every process receives every notification and passes it to its own listeners, so watching a job needs no round
trip and cannot start too late. Redis carries no truth: while it is unavailable, notifications stay within the
process and other processes poll; when it is back, all listeners check once.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from typing_extensions import override

from stenobird.errors import ConfigurationError
from stenobird.ports import Wakeups
from stenobird.wakeups.local import LocalWakeups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from stenobird.ports import Clock
    from stenobird.wakeups.local import LocalWatch

CHANNEL: Final = "stenobird:wakeups"
ANSWER_SECONDS: Final = 2.0
"""A server that takes longer to answer counts as unavailable."""
LISTEN_SECONDS: Final = 10.0
"""Silence after which the connection is checked with a ping; after twice as long it is closed."""
RECONNECT_SECONDS: Final = 1.0
_NEW_JOB: Final = "job"

_log = structlog.get_logger(__name__)


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
            # The listener reconnects by itself; a publisher must not wait for that.
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
                listener.cancel()
        if failure is not None:
            raise failure


class RedisWakeups(Wakeups):
    """`ports.Wakeups` over Redis, opened by `open_redis_wakeups`, which owns its client and listener."""

    def __init__(self, client: Redis, clock: Clock, listen_seconds: float = LISTEN_SECONDS) -> None:
        self.tried = asyncio.Event()
        """Set once the first attempt to listen has succeeded or failed."""
        self._client = client
        self._clock = clock
        self._listen_seconds = listen_seconds
        self._local = LocalWakeups()
        self._listening = False

    @property
    def connected(self) -> bool:
        """Whether notifications currently reach other processes."""
        return self._listening

    @override
    async def notify_job(self) -> None:
        await self._publish(_NEW_JOB)

    @override
    async def notify_event(self, job_id: str) -> None:
        await self._publish(f"event {job_id}")

    @override
    async def wait_job(self, timeout_seconds: float) -> None:
        await self._local.wait_job(timeout_seconds)

    @override
    def watch(self, job_id: str) -> AbstractAsyncContextManager[LocalWatch]:
        return self._local.watch(job_id)

    async def listen(self) -> None:
        """Pass published notifications on until cancelled; reconnect whenever the connection is lost."""
        while True:
            try:
                await self._listen_once()
            except Exception as exc:  # noqa: BLE001  # no published message may end the service
                if self._listening or not self.tried.is_set():
                    _log.warning("redis_unavailable", reason=str(exc) or type(exc).__name__)
                self._listening = False
                self.tried.set()
            await self._clock.sleep(RECONNECT_SECONDS)

    async def _listen_once(self) -> None:
        async with self._client.pubsub() as channel:
            await channel.subscribe(CHANNEL)
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
                    await self._local.notify_all()
                elif message["type"] == "message":
                    await self._pass_on(message["data"])

    async def _pass_on(self, message: str) -> None:
        kind, _, job_id = message.partition(" ")
        if kind == _NEW_JOB:
            await self._local.notify_job()
        elif kind == "event":
            await self._local.notify_event(job_id)

    async def _publish(self, message: str) -> None:
        if self._listening:
            try:
                await self._client.publish(CHANNEL, message)
            except (RedisError, OSError, TimeoutError) as exc:
                _log.warning("redis_publish_failed", reason=str(exc) or type(exc).__name__)
            else:
                # The notification comes back through the listener.
                return
        await self._pass_on(message)
