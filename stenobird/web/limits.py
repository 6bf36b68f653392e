"""How many requests a client may send a minute, counted in fixed minutes, in memory or in Redis.

Windows are the minutes of the clock, so every process agrees when one ends. Redis carries no truth: while it
is away each process counts for itself, and says so in the log. In memory at most `MAX_COUNTERS` clients are
counted; beyond that the counters start anew, since refusing everybody would be worse.
See docs/decisions/0033-rate-limits-per-clock-minute.md.
"""

from __future__ import annotations

import ipaddress
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.errors import StorageError

from stenobird.errors import ConfigurationError, RateLimited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from limits.aio.storage import Storage
    from starlette.requests import Request

    from stenobird.config import Settings
    from stenobird.ports import Caller, Clock

WINDOW_SECONDS: Final = 60
MAX_COUNTERS: Final = 10_000
ANSWER_SECONDS: Final = 2.0
"""A Redis that takes longer to answer counts as away."""
IPV6_CLIENT_BITS: Final = 64
"""What one subscriber is given at least: counting single addresses would count nothing."""

LimitKind: TypeAlias = Literal["preview", "account"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """Where a client stands after a request: `remaining` ones are left until `reset_epoch` (seconds, UTC)."""

    limit: int
    remaining: int
    reset_epoch: int
    allowed: bool

    def headers(self) -> dict[str, str]:
        """Return the `X-RateLimit-*` headers."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_epoch),
        }


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests a minute: previews by client address, keys by the tier of their account."""

    previews: int = 30
    premium: int = 30
    platinum: int = 60


class RequestLimits:
    """Counts requests. Safe to share between requests; close what it was made with when all are answered."""

    def __init__(self, storage: Storage, clock: Clock, rates: Rates | None = None) -> None:
        self._storage = storage
        self._local = storage if isinstance(storage, MemoryStorage) else MemoryStorage()
        self._clock = clock
        self._rates = rates or Rates()
        self._away_logged_at = float("-inf")

    async def aclose(self) -> None:
        """Close the connections to Redis, and wait for what the library still has to clean up."""
        if isinstance(self._storage, RedisStorage):
            assert isinstance(self._storage.bridge, RedispyBridge)
            client: Any = self._storage.bridge.get_connection()
            await client.aclose()
        if self._local.timer is not None:
            await self._local.timer

    async def check(self, kind: LimitKind, subject: str, per_minute: int, *, cost: int = 1) -> RateLimitState:
        """Count one request of `subject` and say whether it may go on. Refused requests count, too.

        A `cost` of 0 looks without counting.
        """
        now = self._clock.time()
        minute = int(now // WINDOW_SECONDS)
        key = RateLimitItemPerMinute(per_minute).key_for(kind, subject, str(minute))
        count = await self._count(key, cost)
        return RateLimitState(
            limit=per_minute,
            remaining=max(0, per_minute - count),
            reset_epoch=(minute + 1) * WINDOW_SECONDS,
            allowed=count <= per_minute,
        )

    async def check_request(
        self, caller: Caller | None, address: str | None, *, cost: int = 1
    ) -> RateLimitState:
        """Count one request of this caller, of its account if it has a key, else of its address."""
        if caller is None:
            return await self.check("preview", client_network(address), self._rates.previews, cost=cost)
        per_minute = {"premium": self._rates.premium, "platinum": self._rates.platinum}.get(
            caller.tier, self._rates.previews
        )
        return await self.check("account", caller.account_id, per_minute, cost=cost)

    def error(self, state: RateLimitState) -> RateLimited:
        """Return the refusal of a request that is one too many."""
        waiting = max(1, state.reset_epoch - int(self._clock.time()))
        return RateLimited(
            f"More than {state.limit} requests in this minute. Wait {waiting} s, then send the same request.",
            retry_after_seconds=waiting,
        )

    async def _count(self, key: str, cost: int) -> int:
        if self._storage is not self._local:
            try:
                return await self._storage.incr(key, WINDOW_SECONDS, cost)
            except StorageError as exc:
                if self._clock.monotonic() - self._away_logged_at >= WINDOW_SECONDS:
                    self._away_logged_at = self._clock.monotonic()
                    _log.warning("redis_away_limits_count_in_this_process", reason=str(exc.storage_error))
        if len(self._local.storage) >= MAX_COUNTERS:
            _log.warning("limits_start_anew", counters=len(self._local.storage))
            await self._local.reset()
        return await self._local.incr(key, WINDOW_SECONDS, cost)


def client_network(address: str | None) -> str:
    """Return what stands for a client: its IPv4 address, or the /64 of its IPv6 address."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        # A Unix socket, or a proxy that sends no address: all of its clients share one counter.
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_CLIENT_BITS), strict=False))


async def limit_request(request: Request, limits: RequestLimits | None, caller: Caller | None) -> None:
    """Count the request; its answer, whatever it is, gets the `X-RateLimit-*` headers (see `headers_of`).

    Raises `RateLimited`. Without limits nothing is counted. The address is the one that the server took from
    the forwarding headers of trusted proxies, else the peer's.
    """
    if limits is None:
        return
    state = await limits.check_request(caller, request.client.host if request.client else None)
    request.state.rate_limit = state
    if not state.allowed:
        raise limits.error(state)


def headers_of(request: Request) -> Mapping[str, str]:
    """Return the `X-RateLimit-*` headers of a request that was counted; none for others."""
    state: RateLimitState | None = getattr(request.state, "rate_limit", None)
    return state.headers() if state is not None else {}


@asynccontextmanager
async def open_limits(settings: Settings, clock: Clock) -> AsyncIterator[RequestLimits]:
    """Open the counters that the settings ask for. Raises `ConfigurationError` for a URL that is none."""
    rates = Rates(
        previews=settings.previews_per_minute,
        premium=settings.premium_requests_per_minute,
        platinum=settings.platinum_requests_per_minute,
    )
    limits = RequestLimits(_storage(settings), clock, rates)
    try:
        yield limits
    finally:
        await limits.aclose()


def _storage(settings: Settings) -> Storage:
    if settings.redis_url is None:
        return MemoryStorage()
    url = settings.redis_url.get_secret_value()
    if not url.startswith(("redis://", "rediss://", "unix://")):
        # Its own word for this is that another library is missing.
        raise _not_a_url()
    try:
        return RedisStorage(
            "async+redis+" + url if url.startswith("unix:") else "async+" + url,
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="stenobird:limits",
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
        )
    except ValueError as exc:
        raise _not_a_url() from exc


def _not_a_url() -> ConfigurationError:
    return ConfigurationError("STENOBIRD_REDIS_URL must start with redis://, rediss:// or unix://.")
