"""One response of a server, read in bounded steps: status, headers, and a body that can be peeked at."""

from __future__ import annotations

import asyncio
import re
import zlib
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import brotli  # type: ignore[import-untyped]

from stenobird.egress.transport import body_blocks, translated
from stenobird.errors import TRY_LATER, EgressError, ResponseBroken, ResponseTooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    import httpcore

    from stenobird.egress.policy import PublicURL

_CONTENT_RANGE = re.compile(
    r"\s*(?:bytes)?[\s=:]*(?:(\d{1,18})-(\d{1,18})|\*)\s*/\s*(\d{1,18}|\*)\s*", re.IGNORECASE
)


class UnknownPart(ResponseBroken):
    """A part of a file that can't be placed or read alone. Without a range, the server may send all of it."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits on the time and size of one exchange.

    A time limit raises `ConnectFailed` before the headers have arrived and `ResponseBroken` afterwards.
    `max_body_bytes`, received or decompressed, raises `ResponseTooLarge`. Only the time spent waiting for the
    server counts towards the rate, so a reader may be slow. `total_seconds` starts with the first request and
    includes all waiting.
    """

    connect_seconds: float = 10.0
    headers_seconds: float = 30.0
    idle_seconds: float = 30.0
    total_seconds: float | None = None
    max_body_bytes: int | None = None
    min_bytes_per_second: float = 1024.0
    rate_window_seconds: float = 60.0


MEDIA_LIMITS = FetchLimits()
"""For downloads that may take hours as long as they progress."""


class EgressResponse:
    """An open response; satisfies `ports.OpenedMedia`. Its owner closes it.

    `status` may be any HTTP status. `redirects` has the URL and the status of each hop before `final_url`.
    `headers` has lower-case names and repeated headers joined with ", "; `header_pairs` has them as received.
    `offset` is the position of the body's first byte in the whole file (0 unless the status is 206).
    `end` is that of the byte after its last one, and `total_bytes` the size of the whole file, if the server
    says so and the body is not compressed. Only one reader at a time.
    """

    def __init__(
        self,
        response: httpcore.Response,
        url: PublicURL,
        *,
        redirects: tuple[tuple[str, int], ...],
        byte_range: tuple[int, int | None] | None,
        limits: FetchLimits,
        deadline: float | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._response = response
        self._host = url.host
        self._limits = limits
        self._deadline = deadline
        self._monotonic = monotonic
        self._blocks: AsyncGenerator[bytes, None] | None = None
        self._peeked: list[bytes] = []
        self._ended = False
        self._received_bytes = 0
        self._decoded_bytes = 0
        self._window_bytes = 0
        self._window_seconds = 0.0
        self.status: int = response.status
        self.header_pairs = header_pairs(response.headers)
        self.headers: Mapping[str, str] = joined_headers(response.headers)
        self.final_url: str = str(url)
        self.redirects = redirects
        self._compression = compression_of(self.headers.get("content-encoding", ""), url.host)
        length = self.headers.get("content-length", "")
        self._announced_bytes = int(length) if length.isascii() and length.isdigit() else None
        self.offset: int = 0
        self.end: int | None = None
        self.total_bytes: int | None = None
        self._read_extent(byte_range)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end of the body, and keep them for `body` and `read`.

        Raises `EgressError`.
        """
        have = sum(map(len, self._peeked))
        while have < size:
            block = await self._next_block()
            if not block:
                break
            self._peeked.append(block)
            have += len(block)
        if len(self._peeked) > 1:
            self._peeked = [b"".join(self._peeked)]
        return self._peeked[0][:size] if self._peeked else b""

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the rest of the body, in blocks as they arrive. Raises `EgressError`."""
        while True:
            block = self._peeked.pop(0) if self._peeked else await self._next_block()
            if not block:
                return
            yield block

    async def read(self, max_bytes: int, *, truncate: bool = False) -> bytes:
        """Return the rest of the body.

        Raises `ResponseTooLarge` if it has more than `max_bytes`; with `truncate`, returns the first
        `max_bytes`.
        """
        if not truncate and self._announced_bytes is not None and not self._received_bytes:
            self._check_size(self._announced_bytes, max_bytes)
        parts: list[bytes] = []
        have = 0
        async for block in self.body():
            if have + len(block) > max_bytes:
                if not truncate:
                    self._refuse_size(max_bytes)
                parts.append(block[: max_bytes - have])
                self._peeked.insert(0, block[max_bytes - have :])
                break
            parts.append(block)
            have += len(block)
        return b"".join(parts)

    async def aclose(self) -> None:
        """Return the connection to the pool if the body was read to its end, else drop it. Raises nothing.

        Safe to call twice, and while another task waits for the next block, which then raises
        `ResponseBroken`.
        """
        self._ended = True
        self._peeked.clear()
        blocks, self._blocks = self._blocks, None
        if blocks is not None:
            # A generator in which another task waits can't be closed; it ends with the connection below.
            with suppress(EgressError, RuntimeError):
                await blocks.aclose()
        with suppress(EgressError), translated(self._host):
            await self._response.aclose()

    async def _next_block(self) -> bytes:
        """Return the next decoded bytes, `b""` at the end."""
        if self._ended:
            return b""
        if self._blocks is None:
            self._blocks = self._decoded()
        try:
            return await anext(self._blocks)
        except StopAsyncIteration:
            self._ended = True
            return b""

    async def _decoded(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._received()) as received:
            pieces = received
            if self._compression == "br":
                pieces = _unbrotlied(received, self._host)
            elif self._compression:
                pieces = _inflated(received, self._host, gzip=self._compression in _GZIP)
            async with aclosing(pieces):
                async for piece in pieces:
                    self._decoded_bytes += len(piece)
                    self._check_size(self._decoded_bytes, self._limits.max_body_bytes)
                    yield piece

    async def _received(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as received, and enforce the limits of size and rate."""
        blocks = body_blocks(self._response)
        try:
            while True:
                started = self._monotonic()
                block = await self._wait_for(blocks)
                if block is None:
                    return
                self._received_bytes += len(block)
                self._check_size(self._received_bytes, self._limits.max_body_bytes)
                self._check_pace(len(block), self._monotonic() - started)
                if block:
                    yield block
        finally:
            with translated(self._host):
                await blocks.aclose()

    async def _wait_for(self, blocks: AsyncIterator[bytes]) -> bytes | None:
        # httpcore's read timeout restarts with every byte of a chunk header. The wait for a whole block
        # therefore has its own limit, so that bytes that never complete a block can't hold up a job.
        seconds = self._limits.idle_seconds
        if self._deadline is not None:
            seconds = min(seconds, self._deadline - self._monotonic())
        if seconds <= 0:
            self._refuse_pace(f"did not finish within {self._limits.total_seconds:g} s")
        try:
            async with asyncio.timeout(seconds):
                with translated(self._host):
                    return await anext(blocks)
        except StopAsyncIteration:
            return None
        except TimeoutError as exc:
            raise ResponseBroken(f"{self._host} sent nothing for {seconds:.3g} s.", remedy=TRY_LATER) from exc

    def _check_pace(self, size: int, waited_seconds: float) -> None:
        self._window_bytes += size
        self._window_seconds += waited_seconds
        if self._window_seconds >= self._limits.rate_window_seconds:
            if self._window_bytes < self._limits.min_bytes_per_second * self._window_seconds:
                self._refuse_pace(f"sent only {self._window_bytes} bytes in {self._window_seconds:.0f} s")
            self._window_bytes = 0
            self._window_seconds = 0.0

    def _check_size(self, size: int, max_bytes: int | None) -> None:
        if max_bytes is not None and size > max_bytes:
            self._refuse_size(max_bytes)

    def _refuse_pace(self, what: str) -> None:
        raise ResponseBroken(f"{self._host} {what}.", remedy=TRY_LATER)

    def _refuse_size(self, max_bytes: int) -> None:
        raise ResponseTooLarge(
            f"The response of {self._host} is larger than the {max_bytes} bytes that are read.",
            remedy="Send a smaller file.",
        )

    def _read_extent(self, byte_range: tuple[int, int | None] | None) -> None:
        if self.status in {206, 416}:
            extent = _CONTENT_RANGE.fullmatch(self.headers.get("content-range", ""))
            if extent is None or (extent[1] is None) == (self.status == 206):
                if self.status == 206:
                    self._guess_extent(byte_range)
                return
            self.offset = int(extent[1] or 0)
            self.end = int(extent[2]) + 1 if extent[2] else None
            self.total_bytes = None if extent[3] == "*" else int(extent[3])
            if self._compression and self.offset:
                raise UnknownPart(
                    f"{self._host} sent a part of a compressed file, which can't be read alone."
                )
        else:
            self.end = self.total_bytes = self._announced_bytes
        if self._compression:
            self.end = self.total_bytes = None

    def _guess_extent(self, byte_range: tuple[int, int | None] | None) -> None:
        """Take a part without a `Content-Range` for the requested one, if that is the file's beginning."""
        multipart = self.headers.get("content-type", "").lower().startswith("multipart/")
        if byte_range is None or byte_range[0] or multipart or self._compression:
            raise UnknownPart(f"{self._host} sent a part of the file without saying which.")
        self.end = self.total_bytes = self._announced_bytes if byte_range[1] is None else None


def joined_headers(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers by lower-case name, repeated ones joined with ", "."""
    joined: dict[str, str] = {}
    for name, value in header_pairs(headers):
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def header_pairs(headers: list[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Return the headers in order, names in lower case. Bytes that are not UTF-8 are read as Latin-1."""
    return tuple((name.decode("latin-1").lower(), _text(value)) for name, value in headers)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


# --- content codings ----------------------------------------------------------------------------------------

_STEP_BYTES = 64 * 1024
_GZIP = frozenset({"gzip", "x-gzip"})
_UNREADABLE = frozenset({"zstd", "compress", "x-compress", "dcb", "dcz"})
_GZIP_MAGIC = b"\x1f\x8b"
_BROKE_OFF = "The compressed response of {host} ended early."
_UNDECODABLE = "The response of {host} is marked as compressed but can't be decompressed."


async def _inflated(blocks: AsyncIterator[bytes], host: str, *, gzip: bool) -> AsyncGenerator[bytes, None]:
    """Decode gzip (also with several members) or deflate, with or without the zlib header of RFC 9110.

    Bytes after the end of the coded data are ignored.
    """
    window = zlib.MAX_WBITS | 16 if gzip else zlib.MAX_WBITS
    inflate = zlib.decompressobj(window)
    started = ended = False
    async for block in blocks:
        rest = block
        while rest:
            if ended:
                if not (gzip and rest.startswith(_GZIP_MAGIC)):
                    break
                inflate, ended = zlib.decompressobj(window), False
            try:
                piece = inflate.decompress(rest, _STEP_BYTES)
            except zlib.error as exc:
                if gzip or started:
                    raise ResponseBroken(_UNDECODABLE.format(host=host)) from exc
                inflate, started = zlib.decompressobj(-zlib.MAX_WBITS), True
                continue
            started = True
            if piece:
                yield piece
            ended = inflate.eof
            rest = inflate.unused_data if ended else inflate.unconsumed_tail
    if started and not ended:
        raise ResponseBroken(_BROKE_OFF.format(host=host), remedy=TRY_LATER)


async def _unbrotlied(blocks: AsyncIterator[bytes], host: str) -> AsyncGenerator[bytes, None]:
    """Decode Brotli, which some caches send to clients that did not offer it."""
    decompressor = brotli.Decompressor()
    started = False
    async for block in blocks:
        rest = block
        while not decompressor.is_finished():
            try:
                piece: bytes = decompressor.process(rest, output_buffer_limit=_STEP_BYTES)
            except brotli.error as exc:
                raise ResponseBroken(_UNDECODABLE.format(host=host)) from exc
            started = True
            # `can_accept_more_data` may be true while output is still pending.
            if not piece and decompressor.can_accept_more_data():
                break
            rest = b""
            if piece:
                yield piece
    if started and not decompressor.is_finished():
        raise ResponseBroken(_BROKE_OFF.format(host=host), remedy=TRY_LATER)


def compression_of(content_encoding: str, host: str) -> str:
    """Return the coding that must be undone: `gzip`, `x-gzip`, `deflate` or `br`; empty if there is none.

    Raises `ResponseBroken` for more than one coding (decompression bombs are nested) and for unsupported
    ones. Words that are no compression (`aws-chunked`, `utf-8`, `none` …) occur in practice and are ignored.
    """
    codings = [word for word in (part.strip().lower() for part in content_encoding.split(",")) if word]
    compressions = [
        word for word in codings if word in _GZIP or word in _UNREADABLE or word in {"deflate", "br"}
    ]
    if not compressions:
        return ""
    if len(compressions) > 1 or compressions[0] in _UNREADABLE:
        raise ResponseBroken(
            f'{host} compressed its response as "{content_encoding[:80]}", which was not requested.',
            remedy="Send a URL that serves the file as it is.",
        )
    return compressions[0]
