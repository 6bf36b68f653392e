"""Decodes a response's content coding in bounded steps: gzip, deflate or Brotli, but only one."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import brotli  # type: ignore[import-untyped]

from stenobird.errors import ResponseBroken

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEP_BYTES = 64 * 1024
_GZIP = frozenset({"gzip", "x-gzip"})
_UNREADABLE = frozenset({"zstd", "compress", "x-compress", "dcb", "dcz"})
_GZIP_MAGIC = b"\x1f\x8b"
_BROKE_OFF = "The compressed response of {host} ended early. Try again later."
_UNDECODABLE = "The response of {host} is marked as compressed but can't be decompressed."


class _Inflater:
    """gzip (also with several members) or deflate, with or without the zlib header that RFC 9110 requires."""

    def __init__(self, coding: str, host: str) -> None:
        self._gzip = coding in _GZIP
        self._host = host
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16 if self._gzip else zlib.MAX_WBITS)
        self._started = False
        self._ended = False

    def feed(self, block: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes; bytes after the end of the coded data are ignored."""
        while block:
            if self._ended:
                if not (self._gzip and block.startswith(_GZIP_MAGIC)):
                    return
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
                self._ended = False
            decoded = self._step(block)
            self._started = True
            if decoded:
                yield decoded
            self._ended = self._inflate.eof
            block = self._inflate.unused_data if self._ended else self._inflate.unconsumed_tail

    def finish(self) -> None:
        """Raise `ResponseBroken` unless the coded data is complete; an empty response is complete."""
        if self._started and not self._ended:
            raise ResponseBroken(_BROKE_OFF.format(host=self._host))

    def _step(self, block: bytes) -> bytes:
        try:
            return self._inflate.decompress(block, _STEP_BYTES)
        except zlib.error as exc:
            if not self._gzip and not self._started:
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
                self._started = True
                return self._step(block)
            raise ResponseBroken(_UNDECODABLE.format(host=self._host)) from exc


class _Unbrotli:
    """Brotli, which some caches send to clients that did not offer it."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._decompressor = brotli.Decompressor()
        self._started = False

    def feed(self, block: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes; blocks after the end of the coded data are ignored."""
        while not self._decompressor.is_finished():
            try:
                decoded: bytes = self._decompressor.process(block, output_buffer_limit=_STEP_BYTES)
            except brotli.error as exc:
                raise ResponseBroken(_UNDECODABLE.format(host=self._host)) from exc
            self._started = True
            # `can_accept_more_data` may be true while output is still pending.
            if not decoded and self._decompressor.can_accept_more_data():
                return
            block = b""
            if decoded:
                yield decoded

    def finish(self) -> None:
        """Raise `ResponseBroken` unless the coded data is complete; an empty response is complete."""
        if self._started and not self._decompressor.is_finished():
            raise ResponseBroken(_BROKE_OFF.format(host=self._host))


def decoder_for(content_encoding: str, host: str) -> _Inflater | _Unbrotli | None:
    """Return the decoder for the header's coding, `None` if there is none.

    Raises `ResponseBroken` for more than one coding (decompression bombs are nested) and for unsupported
    ones. Words that are no compression (`aws-chunked`, `utf-8`, `none` …) occur in practice and are ignored.
    """
    codings = [word for word in (part.strip().lower() for part in content_encoding.split(",")) if word]
    compressions = [
        word for word in codings if word in _GZIP or word in _UNREADABLE or word in {"deflate", "br"}
    ]
    if not compressions:
        return None
    if len(compressions) > 1 or compressions[0] in _UNREADABLE:
        raise ResponseBroken(
            f'{host} compressed its response as "{content_encoding[:80]}", which was not requested. '
            "Send a URL that serves the file as it is."
        )
    return _Unbrotli(host) if compressions[0] == "br" else _Inflater(compressions[0], host)
