"""Connections pinned to the address that was checked, direct or through an upstream CONNECT proxy.

The pinning is in httpcore's network backend, below TLS and the pool: pool keys, `Host`, SNI and the
certificate check use the host name, while for every new connection the name is resolved and its addresses are
checked. Proxies in the environment are ignored.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
import socket
import ssl
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import unquote, urlsplit

import anyio
import httpcore

from stenobird.errors import (
    TRY_LATER,
    ConfigurationError,
    ConnectFailed,
    DestinationForbidden,
    EgressError,
    ResponseBroken,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator

    from stenobird.egress.policy import EgressPolicy, IPAddress, Resolver

ATTEMPT_SECONDS = 3.0
"""How long one address of several may take to answer before the next one is tried."""

MAX_ATTEMPTS = 6
_MAX_CONNECT_ANSWER_BYTES = 16 * 1024
_MAX_HEAD_BYTES = 128 * 1024
"""More than httpcore's own limit, so that httpcore reports it."""
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_INFORMATIONAL = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[ \r\n]")
_STATUS_LINE = re.compile(rb"\s*(?:HTTP(/1\.[01])?|ICY)[^\s]*\s+([0-9]{3})(?![0-9])", re.IGNORECASE)
_CORRECT_STATUS = re.compile(rb"HTTP/1\.[01] [0-9]{3}(?: [\t\x20-\x7e\x80-\xff]*)?")
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0d\x0e-\x1f\x7f]")
_CHUNKED = re.compile(rb"[ \t]*chunked(?:[ \t]*,[ \t]*chunked)*[ \t]*", re.IGNORECASE)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONNECT_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([^\r\n]*))?\r?\n")

_CHECK_ONLINE = "Check that it is online."
_CHECK_TYPOS = "Check it for typos."
_TELL_OPERATOR = "Tell the operator."

# For an error of httpcore or the system: the `EgressError` that a caller gets, its message about `{host}`,
# and its remedy.
_MEANINGS: dict[type[Exception], tuple[type[EgressError], str, str]] = {
    httpcore.ConnectTimeout: (ConnectFailed, "{host} did not answer in time.", _CHECK_ONLINE),
    httpcore.ConnectError: (ConnectFailed, "{host} could not be connected to.", _CHECK_ONLINE),
    httpcore.PoolTimeout: (ConnectFailed, "Too many downloads run at once.", TRY_LATER),
    httpcore.ConnectionNotAvailable: (ConnectFailed, "Too many downloads run at once.", TRY_LATER),
    httpcore.ProxyError: (ConnectFailed, "The upstream proxy did not open a connection to {host}.", ""),
    httpcore.UnsupportedProtocol: (DestinationForbidden, "{host} can be reached by http and https only.", ""),
    httpcore.ReadTimeout: (ResponseBroken, "{host} stopped sending.", TRY_LATER),
    httpcore.WriteTimeout: (ResponseBroken, "{host} stopped reading the request.", TRY_LATER),
    httpcore.TimeoutException: (ResponseBroken, "{host} took too long.", TRY_LATER),
    httpcore.NetworkError: (ResponseBroken, "{host} broke off the connection.", TRY_LATER),
    httpcore.LocalProtocolError: (ResponseBroken, "The request to {host} is not valid HTTP.", ""),
    httpcore.ProtocolError: (ResponseBroken, "{host} sent a broken HTTP response.", TRY_LATER),
    ssl.SSLError: (ConnectFailed, "{host} could not agree on a secure connection.", "Check its certificate."),
    OSError: (ResponseBroken, "{host} broke off the connection.", TRY_LATER),
}


def translate(exc: Exception, host: str) -> EgressError | None:
    """Return the `EgressError` for an error of httpcore or the system, `None` for any other error."""
    if isinstance(exc, EgressError):
        return exc
    # httpcore keeps the original error as its argument, without a cause.
    reason = exc.args[0] if exc.args and isinstance(exc.args[0], Exception) else exc
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ConnectFailed(
            f"The certificate of {host} is not valid: {reason.verify_message or 'it does not fit the name'}.",
            remedy="Send a URL whose https works in a browser.",
        )
    for kind in type(exc).__mro__:
        if kind in _MEANINGS:
            error, message, remedy = _MEANINGS[kind]
            return error(message.format(host=host), remedy=remedy)
    return None


@contextmanager
def translated(host: str) -> Iterator[None]:
    """Turn errors of httpcore, ssl and the system into `EgressError`s about the host."""
    try:
        yield
    except Exception as exc:
        meaning = translate(exc, host)
        if meaning is None or meaning is exc:
            raise
        raise meaning from exc


class DirectDialer:
    """Resolves the name once, refuses it if any address is forbidden, and connects to those addresses."""

    def __init__(self, policy: EgressPolicy, resolver: Resolver) -> None:
        self._policy = policy
        self._resolver = resolver
        self._network = httpcore.AnyIOBackend()

    async def connect(self, host: str, port: int, *, seconds: float) -> httpcore.AsyncNetworkStream:
        """Try the addresses in the resolver's order, at most `MAX_ATTEMPTS`, within `seconds` in all."""
        try:
            async with asyncio.timeout(seconds):
                return await self._connect(host, port)
        except TimeoutError as exc:
            raise ConnectFailed(f"{host} did not answer within {seconds:g} s.", remedy=_CHECK_ONLINE) from exc

    async def _connect(self, host: str, port: int) -> httpcore.AsyncNetworkStream:
        failure: Exception | None = None
        attempts = list(dict.fromkeys(await self.addresses(host, port)))[:MAX_ATTEMPTS]
        for number, address in enumerate(attempts, start=1):
            last = number == len(attempts)
            try:
                return await self._network.connect_tcp(
                    address.compressed, port, timeout=None if last else ATTEMPT_SECONDS
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
        raise ConnectFailed(
            f"{host} refused the connection on port {port}.", remedy=_CHECK_ONLINE
        ) from failure

    async def addresses(self, host: str, port: int) -> list[IPAddress]:
        """Return a host's addresses. Raises `ConnectFailed`, `DestinationForbidden` if one is forbidden."""
        addresses = await self._look_up(host, port)
        if self._policy.is_local_name(host):
            # If the operator allows only one loopback family, an address of the other is no sign of an
            # attack: nobody outside controls this name.
            addresses = [a for a in addresses if self._policy.allows_address(a)] or addresses
        for address in addresses:
            self._policy.check_address(address, host=host)
        return addresses

    async def _look_up(self, host: str, port: int) -> list[IPAddress]:
        with suppress(ValueError):
            return [ipaddress.ip_address(host)]
        try:
            addresses = list(await self._resolver.resolve(host, port))
        except OSError as exc:
            if isinstance(exc, socket.gaierror) and exc.errno != socket.EAI_AGAIN:
                raise ConnectFailed(f"The name {host} does not exist.", remedy=_CHECK_TYPOS) from exc
            raise ConnectFailed(
                f"The name {host} can't be looked up at the moment.", remedy=TRY_LATER
            ) from exc
        if not addresses:
            raise ConnectFailed(f"The name {host} has no address.", remedy=_CHECK_TYPOS)
        return addresses


class ProxyDialer:
    """Opens tunnels through the operator's upstream proxy by CONNECT, for http and https alike.

    The proxy resolves the names and must itself refuse addresses that are not public.
    `EgressPolicy.check_url` checks URLs and literal addresses before a dialer is used, and literal addresses
    are checked here again. Raises `ConfigurationError` for a bad proxy URL.
    """

    def __init__(self, policy: EgressPolicy, proxy_url: str, ssl_context: ssl.SSLContext) -> None:
        parts = urlsplit(proxy_url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
            raise ConfigurationError(
                "EGRESS_PROXY must look like http://host:port or http://user:password@host:port."
            )
        self._policy = policy
        self._host = parts.hostname
        self._port = port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl_context if parts.scheme == "https" else None
        self._authorization = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._authorization = f"Proxy-Authorization: Basic {base64.b64encode(pair).decode('ascii')}\r\n"
        self._network = httpcore.AnyIOBackend()

    async def connect(self, host: str, port: int, *, seconds: float) -> httpcore.AsyncNetworkStream:
        """Return the tunnel."""
        with suppress(ValueError):
            self._policy.check_address(ipaddress.ip_address(host), host=host)
        try:
            async with asyncio.timeout(seconds):
                stream = await self._network.connect_tcp(self._host, self._port)
                if self._tls is not None:
                    stream = await GuardedStream(stream).start_tls(self._tls, self._host)
                try:
                    await self._tunnel(stream, host, port)
                except BaseException:
                    await _close(stream)
                    raise
                return stream
        except TimeoutError as exc:
            raise ConnectFailed(f"{host} did not answer within {seconds:g} s.", remedy=_CHECK_ONLINE) from exc
        except (httpcore.NetworkError, httpcore.TimeoutException, OSError) as exc:
            raise ConnectFailed(
                f"{host} could not be reached: the upstream proxy did not answer.", remedy=_TELL_OPERATOR
            ) from exc

    async def _tunnel(self, stream: httpcore.AsyncNetworkStream, host: str, port: int) -> None:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{self._authorization}\r\n"
        await stream.write(request.encode("ascii"))
        answer = b""
        while b"\r\n\r\n" not in answer:
            block = await stream.read(4096)
            answer += block
            if not block or len(answer) > _MAX_CONNECT_ANSWER_BYTES:
                raise ConnectFailed(
                    f"{host} could not be reached: the upstream proxy broke off.", remedy=_TELL_OPERATOR
                )
        status = _CONNECT_STATUS.match(answer)
        if status is None or not status[1].startswith(b"2"):
            said = b" ".join(part for part in status.groups() if part) if status else b"no HTTP"
            raise ConnectFailed(
                f"{host} could not be reached: the upstream proxy answered "
                f'"{said[:80].decode("latin-1").strip()}".',
                remedy="Check the URL for typos.",
            )
        if not answer.endswith(b"\r\n\r\n") or answer.count(b"\r\n\r\n") != 1:
            # In HTTP and TLS the client sends first, so the server may not have sent anything yet.
            raise ResponseBroken(f"{host} sent data before the request.", remedy=TRY_LATER)


Dialer: TypeAlias = DirectDialer | ProxyDialer
"""Opens TCP connections to addresses that the policy allows."""


def repaired_head(head: bytes) -> bytes:
    """Return a response's head as browsers read it, where httpcore would refuse it.

    Lines without a valid name and empty lengths are dropped, spaces before the colon and control characters
    are removed, and a repeated coding `chunked` counts once. The status line may have any spelling that
    names a status; that of Shoutcast (`ICY 200 OK`) adds a header `icy-status-line`. A connection with such a
    head is not used again, so that nothing after the response can be taken for the next one.
    """
    status, *lines = re.split(rb"\r?\n", head.lstrip(b"\r\n").rstrip(b"\r\n"))
    said = _STATUS_LINE.match(status)
    repaired = status
    if said is not None and not _CORRECT_STATUS.fullmatch(status):
        repaired = b"HTTP%b %b" % (said[1] or b"/1.0", said[2])
    icy = said is not None and status.lstrip()[:3].upper() == b"ICY"
    kept: list[bytes] = [b"icy-status-line: 1"] if icy else []
    chunked = False
    dropped = False
    for raw in lines:
        line = _CONTROLS.sub(b"", raw)
        if line[:1] in {b" ", b"\t"}:
            if kept and not dropped:
                kept.append(line)
            continue
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t")
        dropped = not colon or _TOKEN.fullmatch(name) is None
        if name.lower() == b"content-length":
            dropped = not value.strip()
        elif name.lower() == b"transfer-encoding" and _CHUNKED.fullmatch(value):
            dropped = chunked
            value, chunked = b" chunked", True
        if not dropped:
            kept.append(name + colon + value)
    if kept == lines and repaired is status:
        return head.lstrip(b"\r\n")
    return b"\r\n".join([repaired, *kept, b"Connection: close", b"", b""])


class GuardedStream(httpcore.AsyncNetworkStream):
    """A stream that is also closed if its TLS handshake is cancelled.

    With `repairs_heads`, HTTP/1.1 is spoken on it: after each request, the head of the response is read whole
    and passed through `repaired_head`. Informational responses (1xx) are dropped.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream, *, repairs_heads: bool = False) -> None:
        self._stream = stream
        self._repairs_heads = repairs_heads
        self._awaits_head = False
        self._read_ahead = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return up to `max_bytes` bytes, none at the end."""
        if self._awaits_head:
            self._read_ahead = await self._read_head(max_bytes, timeout)
            self._awaits_head = False
        if self._read_ahead:
            block, self._read_ahead = self._read_ahead[:max_bytes], self._read_ahead[max_bytes:]
            return block
        return await self._stream.read(max_bytes, timeout)

    async def _read_head(self, max_bytes: int, timeout: float | None) -> bytes:
        data = b""
        while True:
            end = _HEAD_END.search(data)
            if end is not None and not _INFORMATIONAL.match(data):
                return repaired_head(data[: end.end()]) + data[end.end() :]
            if end is not None:
                data = data[end.end() :]
                continue
            block = await self._stream.read(max_bytes, timeout)
            data += block
            if not block or len(data) > _MAX_HEAD_BYTES:
                return data  # httpcore reports what is wrong

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send the bytes."""
        self._awaits_head = self._repairs_heads
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Return the stream under TLS."""
        try:
            secure = await self._stream.start_tls(ssl_context, server_hostname, timeout)
            return GuardedStream(secure, repairs_heads=self._repairs_heads)
        except BaseException:
            await _close(self._stream)
            raise

    def get_extra_info(self, info: str) -> Any:
        """Return information about the socket."""
        return self._stream.get_extra_info(info)


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """The network backend for httpcore: every connection is opened by the dialer."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002  # httpcore's signature; nobody sets it
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002  # the same
    ) -> httpcore.AsyncNetworkStream:
        """Return a stream to the host, opened by the dialer."""
        stream = await self._dialer.connect(host, port, seconds=timeout or 10.0)
        return GuardedStream(stream, repairs_heads=True)


def body_blocks(response: httpcore.Response) -> AsyncGenerator[bytes, None]:
    """Return the response's body as httpcore yields it. Close the generator, then the response."""
    return cast("AsyncGenerator[bytes, None]", aiter(cast("AsyncIterable[bytes]", response.stream)))


async def _close(stream: httpcore.AsyncNetworkStream) -> None:
    with anyio.CancelScope(shield=True):
        await stream.aclose()
