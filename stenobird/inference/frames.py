"""Length-prefixed frames between the service and a model host, over a socket pair, and both ends of it.

A frame is two big-endian 32-bit lengths, a JSON header and a binary payload. The service sends `load` once,
then any number of requests with an `id`; the host answers each `id` once, with `error` or an answer of its
own kind, and sends `state`, `ready`, `failed` and `started` as they happen. A host keeps nothing between
requests, so it can die at any moment and the next one is sent the same requests.
"""

from __future__ import annotations

import contextlib
import json
import struct
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Mapping

PREFIX = struct.Struct(">II")
MAX_HEADER_BYTES = 4 * 1024**2
MAX_PAYLOAD_BYTES = 4 * 1024**2
"""Four times a 30 second window. A longer frame means that the other side is broken."""

Header: TypeAlias = dict[str, Any]


async def write_frame(writer: asyncio.StreamWriter, header: Header, payload: bytes = b"") -> None:
    """Send one frame; waits while the host is slow to take it. A dead host is noticed by `read_frame`."""
    with contextlib.suppress(ConnectionError):
        writer.write(pack(header, payload))
        await writer.drain()


async def read_frame(reader: asyncio.StreamReader) -> tuple[Header, bytes] | None:
    """Return the next frame, or `None` when the host has gone or does not speak the protocol."""
    try:
        header_bytes, payload_bytes = lengths(await reader.readexactly(PREFIX.size))
        header = json.loads(await reader.readexactly(header_bytes))
        return header, await reader.readexactly(payload_bytes)
    except (EOFError, ConnectionError, ValueError):
        return None


class Channel:
    """The host's end: frames in on one thread, frames out from any."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()

    def receive(self) -> tuple[Header, bytes] | None:
        """Return the next frame, or `None` when the parent has gone. Raises `ValueError` for a broken one."""
        prefix = self._read(PREFIX.size)
        if prefix is None:
            return None
        header_bytes, payload_bytes = lengths(prefix)
        header, payload = self._read(header_bytes), self._read(payload_bytes)
        if header is None or payload is None:
            return None
        return json.loads(header), payload

    def send(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        """Send one frame; frames of several threads do not mix."""
        with self._sending:
            self._sock.sendall(pack(header, payload))

    def _read(self, count: int) -> bytes | None:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            received = self._sock.recv_into(view)
            if not received:
                return None
            view = view[received:]
        return bytes(data)


def pack(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Return one frame, ready to send."""
    data = json.dumps(header, separators=(",", ":")).encode()
    return PREFIX.pack(len(data), len(payload)) + data + payload


def lengths(prefix: bytes) -> tuple[int, int]:
    """Read a frame's prefix. Raises `ValueError` when a length is out of bounds."""
    header_bytes, payload_bytes = PREFIX.unpack(prefix)
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a frame of {header_bytes} + {payload_bytes} bytes is out of bounds")
    return header_bytes, payload_bytes
