"""The HTTP client for all addresses from outside: ranged GETs, pages, look-ups, webhooks.

Redirects are followed here, and each hop is checked like the first URL. Cookies are kept only between the
hops of one request. `Refresh` headers and environment proxies are ignored.
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote, urljoin

import httpcore

from stenobird.egress.policy import SystemResolver
from stenobird.egress.response import (
    MEDIA_LIMITS,
    EgressResponse,
    FetchLimits,
    UnknownPart,
    header_pairs,
    joined_headers,
)
from stenobird.egress.transport import DirectDialer, PinnedBackend, ProxyDialer, body_blocks, translated
from stenobird.errors import (
    TRY_LATER,
    ConnectFailed,
    DestinationForbidden,
    EgressError,
    InvalidURL,
    ResponseBroken,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from stenobird.egress.policy import EgressPolicy, PublicURL, Resolver
    from stenobird.egress.transport import Dialer
    from stenobird.ports import OpenedMedia

R = TypeVar("R", bound="OpenedMedia")

__all__ = ["MEDIA_LIMITS", "PLAIN_GET", "EgressClient", "EgressResponse", "FetchLimits", "RequestOptions"]

MAX_REDIRECTS = 10
MAX_TRIES = 3
"""How often a request is sent whose server is busy, if `retry_seconds` allows it."""
MAX_HEADERS = 256
MAX_COOKIES = 32
MAX_COOKIE_BYTES = 4096
MAX_HEADER_BYTES = 8192
USER_AGENT = "Mozilla/5.0 (compatible; Stenobird/0.1; podcast transcription)"
BROWSER_USER_AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 "
    "(KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)
"""Sent with the retry after a 403 or 406: several CDNs refuse clients that don't look like a browser."""

BUSY = frozenset({408, 425, 429, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529, 530})
"""Statuses that pass: those of servers, and of the networks before them, when a server does not answer."""
RANGE_REFUSED = frozenset({400, 403, 405, 406, 409, 412, 416, 417, 422, 500, 501, 505})
"""Statuses with which servers answer a range that they can't serve, though they have the file."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SENT_ANYWHERE = frozenset(
    {"accept", "accept-language", "content-type", "if-range", "range", "referer", "user-agent"}
)
"""The caller's headers that are kept on a redirect to another origin; others may be credentials."""

_OURS = frozenset({
    "accept-encoding", "connection", "content-length", "expect", "host", "keep-alive",
    "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
# Names and values as RFC 6265 allows them for servers, and also the spaces and commas that occur in practice.
_PAIR = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*([\x20-\x3a\x3c-\x7e]*?)\s*(?:;|$)")
_MAX_AGE = re.compile(r";\s*max-age\s*=\s*(-?\d{1,12})", re.IGNORECASE)
_LONG_AGO = re.compile(r";\s*expires\s*=[^;]*\b(?:19[0-9]{2}|200[0-9])\b", re.IGNORECASE)
_SECURE = re.compile(r";\s*secure\s*(?:;|$)", re.IGNORECASE)
_SECONDS = re.compile(r"[0-9]{1,9}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_MAX_DRAINED_BYTES = 16 * 1024
_DRAIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The options of a request.

    `byte_range` is first and last byte, both included; the server may ignore it (see
    `EgressResponse.offset`). `if_range` applies only with it. `decode` offers gzip and deflate; a response
    compressed without the offer is decompressed too. With `browser_retry`, a GET answered 403 or 406 is sent
    again like a browser's, with `referer`. A redirect to another origin drops all `headers` that could be
    credentials.
    """

    method: str = "GET"
    headers: Mapping[str, str] | None = None
    content: bytes | None = None
    byte_range: tuple[int, int | None] | None = None
    if_range: str | None = None
    referer: str | None = None
    decode: bool = False
    browser_retry: bool = True
    retry_seconds: float = 0.0
    """What the waits before repeating a GET after a status of `BUSY` may add up to."""
    follow_redirects: bool = True
    limits: FetchLimits = MEDIA_LIMITS


PLAIN_GET = RequestOptions()


class HopCookies:
    """The cookies set by the hops of one request. They are not kept after it, nor sent to another host.

    A cookie is only sent to the host and port that set it, whatever its `Domain`: without a list of public
    suffixes, a wider scope is not safe. `Secure` cookies are set and sent over https only. At most
    `MAX_COOKIES` are kept, each of at most `MAX_COOKIE_BYTES`.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[str, bool]] = {}

    def store(self, url: PublicURL, headers: Iterable[tuple[str, str]]) -> None:
        """Store the `Set-Cookie` headers (lower-case names) of a response from this URL."""
        for name, value in headers:
            pair = _PAIR.match(value) if name == "set-cookie" and len(value) <= MAX_COOKIE_BYTES else None
            if pair is None:
                continue
            key, rest = (url.authority, pair[1]), value[pair.end(2) :]
            age, secure = _MAX_AGE.search(rest), bool(_SECURE.search(rest))
            if (age is not None and int(age[1]) <= 0) or (age is None and _LONG_AGO.search(rest)):
                self._kept.pop(key, None)
            elif (url.scheme == "https" or not secure) and (
                key in self._kept or len(self._kept) < MAX_COOKIES
            ):
                self._kept[key] = (pair[2], secure)

    def header(self, url: PublicURL, own: str | None) -> str | None:
        """Return the `Cookie` header for this URL: the caller's cookies, then the stored ones."""
        pairs = [own] if own else []
        length = len(own or "")
        for (authority, name), (value, secure) in self._kept.items():
            if authority != url.authority or (secure and url.scheme != "https"):
                continue
            length += len(name) + len(value) + 3
            if length > MAX_HEADER_BYTES:
                break
            pairs.append(f"{name}={value}")
        return "; ".join(pairs) or None


@dataclass(slots=True)
class _Exchange:
    """A request, as redirects change it."""

    url: PublicURL
    method: str
    headers: dict[str, str]
    content: bytes | None
    deadline: float | None
    cookies: HopCookies = field(default_factory=HopCookies)

    @property
    def cookie(self) -> str | None:
        """The `Cookie` header of the next hop."""
        return self.cookies.header(self.url, self.headers.get("cookie"))

    @property
    def step(self) -> tuple[str, str, str | None]:
        """What identifies the hop: if it occurs again, the redirects are a loop."""
        return (self.method, str(self.url), self.cookie)


def _system_tls() -> ssl.SSLContext:
    """Return the context that all clients share which trust the authorities of the system."""
    places = ssl.get_default_verify_paths()
    return _tls_of(places.cafile, places.capath)


@functools.lru_cache(maxsize=4)
def _tls_of(_cafile: str | None, _capath: str | None) -> ssl.SSLContext:
    # Reading the authorities takes 20 ms.
    return ssl.create_default_context()


class EgressClient:
    """An asynchronous HTTP/1.1 client that reaches public destinations only. Use it as a context manager.

    Idle connections are reused for 15 s; for every new one, the name is resolved and the addresses are
    checked. At most `max_connections` are open; a further request waits `connect_seconds`, then fails. Raises
    only `EgressError`s; for a URL or redirect that the policy refuses, `DestinationForbidden`.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        resolver: Resolver | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        max_connections: int = 64,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.policy = policy
        self._resolver, self._owns_resolver = resolver or SystemResolver(), resolver is None
        tls = ssl_context or _system_tls()
        direct = DirectDialer(policy, self._resolver)
        self.dialer: Dialer = direct if proxy is None else ProxyDialer(policy, proxy, tls)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=15.0,
            network_backend=PinnedBackend(self.dialer),
        )
        self._monotonic = monotonic
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection. Responses that are still open break."""
        await self._pool.aclose()
        if self._owns_resolver:
            await self._resolver.aclose()

    async def open(self, url: str, options: RequestOptions = PLAIN_GET) -> EgressResponse:
        """Send the request, follow at most ten redirects, and return the open response, whatever its status.

        Raises `EgressError`.
        """
        limits = options.limits
        sent = _headers(options)
        deadline = None if limits.total_seconds is None else self._monotonic() + limits.total_seconds
        method = options.method.upper()

        async def send(headers: dict[str, str]) -> EgressResponse:
            exchange = _Exchange(self._check(url), method, dict(headers), options.content, deadline)
            return await self._follow(exchange, options)

        response = await send(sent)
        left_seconds = options.retry_seconds if method == "GET" else 0.0
        for number in range(1, MAX_TRIES):
            wait_seconds = retry_after_seconds(response.headers) or float(number)
            if response.status not in BUSY or wait_seconds > left_seconds:
                break
            left_seconds -= wait_seconds
            await response.aclose()
            await self._sleep(wait_seconds)
            response = await send(sent)
        if response.status in {403, 406} and options.browser_retry and method == "GET":
            await response.aclose()
            as_browser = sent | {"user-agent": BROWSER_USER_AGENT, "accept-language": "en,*;q=0.5"}
            if options.referer is not None:
                as_browser.setdefault("referer", options.referer)
            response = await send(as_browser)
        return response

    def _check(self, url: str) -> PublicURL:
        try:
            return self.policy.check_url(url).for_request()
        except InvalidURL as exc:
            raise DestinationForbidden(exc.message) from exc

    async def _follow(self, exchange: _Exchange, options: RequestOptions) -> EgressResponse:
        hops: list[tuple[str, int]] = []
        seen = {exchange.step}
        while True:
            response = await self._send(exchange, options.limits)
            async with AsyncExitStack() as stack:
                stack.push_async_callback(_drop, response, exchange.url.host)
                location = _location(response)
                if options.follow_redirects and response.status in _REDIRECTS and location:
                    hops.append((str(exchange.url), response.status))
                    if len(hops) > MAX_REDIRECTS:
                        raise ResponseBroken(
                            f"{exchange.url.host} redirected more than {MAX_REDIRECTS} times.",
                            remedy="Send the final URL.",
                        )
                    await _drain(response)
                    exchange.cookies.store(exchange.url, header_pairs(response.headers))
                    self._turn(exchange, response.status, location)
                    if exchange.step in seen:
                        raise ResponseBroken(
                            f"{exchange.url.host} redirects in a loop.", remedy="Send the final URL."
                        )
                    seen.add(exchange.step)
                    continue
                opened = EgressResponse(
                    response,
                    exchange.url,
                    redirects=tuple(hops),
                    byte_range=options.byte_range,
                    limits=options.limits,
                    deadline=exchange.deadline,
                    monotonic=self._monotonic,
                )
                stack.pop_all()
                return opened

    def _turn(self, exchange: _Exchange, status: int, location: str) -> None:
        """Change the exchange to the redirect's target."""
        try:
            # urljoin drops tabs and line breaks, so the policy would not see them.
            if any(ord(character) < 0x20 for character in location):
                raise InvalidURL("It contains a control character.")  # noqa: TRY301  # one exit for all refusals
            encoded = "".join(quote(char) if char.isspace() else char for char in location.strip(" "))
            absolute = _resolve(exchange.url, encoded)
            target = self.policy.check_url(absolute).for_request()
        except (InvalidURL, ValueError) as exc:
            reason = exc.message if isinstance(exc, InvalidURL) else "It is malformed."
            raise DestinationForbidden(
                f"{exchange.url.host} redirects to a URL that is not opened. {reason}"
            ) from exc
        if target.origin != exchange.url.origin:
            exchange.headers = {
                name: value
                for name, value in exchange.headers.items()
                if name in _SENT_ANYWHERE or name == "accept-encoding"
            }
        if (status == 303 and exchange.method != "HEAD") or (
            status in {301, 302} and exchange.method == "POST"
        ):
            exchange.method = "GET"
            exchange.content = None
            exchange.headers.pop("content-type", None)
        exchange.url = target

    async def _send(self, exchange: _Exchange, limits: FetchLimits) -> httpcore.Response:
        """Return the open response to one request."""
        fresh = False

        async def note(event: str, _info: Mapping[str, Any]) -> None:
            nonlocal fresh
            fresh = fresh or event == "connection.connect_tcp.started"

        try:
            return await self._attempt(exchange, limits, note)
        except ResponseBroken:
            # The server may close an idle connection just when it is reused. That is no failure, and a GET
            # may be repeated.
            if fresh or exchange.method not in {"GET", "HEAD"}:
                raise
        return await self._attempt(exchange, limits, note)

    async def _attempt(self, exchange: _Exchange, limits: FetchLimits, trace: object) -> httpcore.Response:
        url = exchange.url
        seconds = limits.headers_seconds
        if exchange.deadline is not None:
            seconds = min(seconds, exchange.deadline - self._monotonic())
        headers = [("host", url.authority)]
        headers += [(name, value) for name, value in exchange.headers.items() if name != "cookie"]
        if exchange.cookie is not None:
            headers.append(("cookie", exchange.cookie))
        if exchange.content is not None or exchange.method in {"POST", "PUT", "PATCH"}:
            headers.append(("content-length", str(len(exchange.content or b""))))
        request = httpcore.Request(
            exchange.method,
            httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
            headers=[
                (name.encode("latin-1", "replace"), value.encode("utf-8", "replace"))
                for name, value in headers
            ],
            content=exchange.content,
            extensions={
                "trace": trace,
                "timeout": {
                    "connect": min(limits.connect_seconds, max(seconds, 0.001)),
                    "read": limits.idle_seconds,
                    "write": limits.idle_seconds,
                    "pool": limits.connect_seconds,
                },
            },
        )
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                with translated(url.host):
                    response = await self._pool.handle_async_request(request)
        except TimeoutError as exc:
            raise ConnectFailed(
                f"{url.host} did not answer within {max(seconds, 0.0):.3g} s.", remedy=TRY_LATER
            ) from exc
        if len(response.headers) > MAX_HEADERS:
            await _drop(response, url.host)
            raise ResponseBroken(f"{url.host} answered with more than {MAX_HEADERS} headers.")
        return response


async def open_ranged(
    send: Callable[[str, RequestOptions], Awaitable[R]], url: str, options: RequestOptions
) -> R:
    """Request a part of a file by `EgressClient.open`, and the whole file where the server refuses parts.

    The same where it does not say which part it sent, but not where the part starts at the file's end.
    """
    whole = replace(options, byte_range=None, if_range=None)
    try:
        response = await send(url, options)
    except UnknownPart:
        return await send(url, whole)
    first = options.byte_range[0] if options.byte_range is not None else 0
    is_behind_the_end = response.status == 416 and response.total_bytes in range(first + 1)
    if response.status not in RANGE_REFUSED or is_behind_the_end:
        return response
    await response.aclose()
    # After a 403, the client has already tried as a browser.
    return await send(url, replace(whole, browser_retry=response.status != 403))


def _headers(options: RequestOptions) -> dict[str, str]:
    sent = {"user-agent": USER_AGENT, "accept": "*/*"}
    sent |= {
        name.lower(): value for name, value in (options.headers or {}).items() if name.lower() not in _OURS
    }
    sent["accept-encoding"] = "gzip, deflate" if options.decode else "identity"
    if options.byte_range is not None:
        first, last = options.byte_range
        sent["range"] = f"bytes={first}-{'' if last is None else last}"
        if options.if_range is not None:
            sent["if-range"] = options.if_range
    return sent


def retry_after_seconds(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Return the seconds after which the server wants the request again (RFC 9110, 10.2.3).

    A date counts from `now`, or else from the server's own clock, which may be wrong. `None` if the header is
    missing, is neither seconds nor a date, or lies in the past.
    """
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        wait = _moment(value) - (_moment(headers.get("date", "")) if now is None else now)
    except (ValueError, TypeError, OverflowError):  # a year of twenty digits, for example
        return None
    return wait if wait > 0 else None


def _moment(date: str) -> float:
    moment = parsedate_to_datetime(date)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _location(response: httpcore.Response) -> str | None:
    return next((value for name, value in header_pairs(response.headers) if name == "location"), None)


def _resolve(base: PublicURL, location: str) -> str:
    """Return the absolute URL without repairing it, so that the policy checks what the server sent.

    `urljoin` would read `http:///host` and `///host` as a path on the server that redirects.
    """
    if _SCHEME.match(location):
        return location
    if location.startswith("//"):
        return f"{base.scheme}:{location}"
    return urljoin(str(base), location)


async def _drain(response: httpcore.Response) -> None:
    """Read a redirect's short body, so that its connection can be reused; leave a long or slow one."""
    length = joined_headers(response.headers).get("content-length", "")
    if not (length.isdigit() and int(length) <= _MAX_DRAINED_BYTES):
        return
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            with translated(""):
                async for _ in body_blocks(response):
                    pass
    except (EgressError, TimeoutError):
        return


async def _drop(response: httpcore.Response, host: str) -> None:
    with translated(host):
        await response.aclose()
