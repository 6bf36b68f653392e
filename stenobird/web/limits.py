"""Rate limits: requests per client and minute, counted in memory or in Redis.

Windows are the minutes of the clock, so all processes agree on when one ends. While Redis is unavailable,
each process counts by itself and logs a warning. In memory, at most `MAX_COUNTERS` clients are counted; past
that all counters are reset, since refusing every new client would be worse.
See docs/decisions/0033-rate-limits-per-clock-minute.md.
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.errors import StorageError

from stenobird.errors import ConfigurationError, RateLimited
from stenobird.web.requests import services_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stenobird.config import Settings
    from stenobird.ports import Caller, Clock

WINDOW_SECONDS: Final = 60
MAX_COUNTERS: Final = 10_000
REDIS_TIMEOUT_SECONDS: Final = 0.25
"""Redis counts as unavailable when it takes longer to answer."""
REDIS_PAUSE_SECONDS: Final = 5.0
"""How long it is not asked after that, so that its absence delays only one request of many."""
IPV6_CLIENT_BITS: Final = 64
"""A subscriber gets at least a /64, so counting single addresses would limit nobody."""

LimitKind: TypeAlias = Literal["preview", "account"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """The state of a client's limit after a request. `reset_epoch` is in seconds, UTC."""

    limit: int
    remaining: int
    reset_epoch: int
    allowed: bool

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Return the `X-RateLimit-*` headers."""
        return (
            (b"x-ratelimit-limit", b"%d" % self.limit),
            (b"x-ratelimit-remaining", b"%d" % self.remaining),
            (b"x-ratelimit-reset", b"%d" % self.reset_epoch),
        )


class RequestLimits:
    """Counts requests. One instance serves all requests of a process; close it when they have ended.

    Limits are requests per minute: previews by client address, API keys by the tier of their account.
    Raises `ConfigurationError` for an invalid Redis URL. Without one this process counts alone.
    """

    def __init__(
        self, settings: Settings, clock: Clock, *, timeout_seconds: float = REDIS_TIMEOUT_SECONDS
    ) -> None:
        self._storage = _storage(settings, timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._minute = 0
        self._counts: dict[tuple[LimitKind, str, int], int] = {}
        """The requests of this minute that were counted in this process."""
        self._clock = clock
        self._previews = settings.previews_per_minute
        self._by_tier = {
            "premium": settings.premium_requests_per_minute,
            "platinum": settings.platinum_requests_per_minute,
        }
        self._outage_logged_at = float("-inf")
        self._pause_until = 0.0

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        if self._storage is not None:
            assert isinstance(self._storage.bridge, RedispyBridge)
            client: Any = self._storage.bridge.get_connection()
            await client.aclose()

    async def check(self, kind: LimitKind, subject: str, per_minute: int, *, cost: int = 1) -> RateLimitState:
        """Count one request of `subject`, refused or not, and return the state of its limit.

        With a `cost` of 0 the request is not counted.
        """
        now = self._clock.time()
        minute = int(now // WINDOW_SECONDS)
        count = None
        if self._storage is not None:
            key = RateLimitItemPerMinute(per_minute).key_for(kind, subject, str(minute))
            count = await self._count(self._storage, key, cost)
        if count is None:
            count = self._count_here(minute, (kind, subject, per_minute), cost)
        return RateLimitState(
            limit=per_minute,
            remaining=max(0, per_minute - count),
            reset_epoch=(minute + 1) * WINDOW_SECONDS,
            allowed=count <= per_minute,
        )

    async def check_request(
        self, caller: Caller | None, address: str | None, *, cost: int = 1
    ) -> RateLimitState:
        """Count one request: for the caller's account, or for the address where there is no caller."""
        if caller is None:
            return await self.check("preview", client_network(address), self._previews, cost=cost)
        per_minute = self._by_tier.get(caller.tier, self._previews)
        return await self.check("account", caller.account_id, per_minute, cost=cost)

    def error(self, state: RateLimitState) -> RateLimited:
        """Return the error for a request over the limit."""
        waiting = max(1, state.reset_epoch - int(self._clock.time()))
        return RateLimited(
            f"More than {state.limit} requests in this minute. Wait {waiting} s, then send the same request.",
            retry_after_seconds=waiting,
        )

    async def _count(self, storage: RedisStorage, key: str, cost: int) -> int | None:
        """Count in Redis; `None` while it is unavailable."""
        now = self._clock.monotonic()
        if now < self._pause_until:
            return None
        if self._pause_until > 0:
            self._pause_until = now + REDIS_PAUSE_SECONDS  # this request tries; the others don't wait
        try:
            async with asyncio.timeout(self._timeout_seconds):
                count = await storage.incr(key, WINDOW_SECONDS, cost)
        except (StorageError, TimeoutError) as exc:
            self._pause_until = now + REDIS_PAUSE_SECONDS
            if now - self._outage_logged_at >= WINDOW_SECONDS:
                self._outage_logged_at = now
                reason = str(getattr(exc, "storage_error", "no answer"))
                _log.warning("redis_unavailable_counting_in_this_process", reason=reason)
            return None
        self._pause_until = 0.0
        return count

    def _count_here(self, minute: int, key: tuple[LimitKind, str, int], cost: int) -> int:
        full = len(self._counts) >= MAX_COUNTERS
        if full or minute != self._minute:
            if full:
                _log.warning("rate_limit_counters_reset", counters=len(self._counts))
            self._counts.clear()
            self._minute = minute
        count = self._counts[key] = self._counts.get(key, 0) + cost
        return count


def client_network(address: str | None) -> str:
    """Return what identifies a client: its IPv4 address, or the /64 of its IPv6 address."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        # A Unix socket, or a proxy that sends no address: all its clients share one counter.
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_CLIENT_BITS), strict=False))


async def limit_request(request: Request, caller: Caller | None) -> None:
    """Count the request, unless it was counted. Raises `RateLimited`.

    Its response will have the `X-RateLimit-*` headers, see `add_limit_headers`. The address comes from
    trusted proxies' forwarding headers, else it is the peer's.
    """
    if was_counted(request):
        return
    limits = services_of(request).limits
    state = await limits.check_request(caller, request.client.host if request.client else None)
    request.state.rate_limit = state
    if not state.allowed:
        raise limits.error(state)


def was_counted(request: Request) -> bool:
    """Return whether `limit_request` has run."""
    return getattr(request.state, "rate_limit", None) is not None


def add_limit_headers(request: Request, response: Response) -> None:
    """Add the `X-RateLimit-*` headers to the response of a request that was counted."""
    state: RateLimitState | None = getattr(request.state, "rate_limit", None)
    if state is not None:
        response.raw_headers += state.headers()


def _storage(settings: Settings, timeout_seconds: float) -> RedisStorage | None:
    if settings.redis_url is None:
        return None
    url = settings.redis_url.get_secret_value()
    if not url.startswith(("redis://", "rediss://", "unix://")):
        # The library would report a missing dependency instead.
        raise _invalid_url()
    try:
        return RedisStorage(
            "async+redis+" + url if url.startswith("unix:") else "async+" + url,
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="stenobird:limits",
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
        )
    except ValueError as exc:
        raise _invalid_url() from exc


def _invalid_url() -> ConfigurationError:
    return ConfigurationError("STENOBIRD_REDIS_URL must start with redis://, rediss:// or unix://.")
