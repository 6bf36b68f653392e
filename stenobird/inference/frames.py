"""Length-prefixed frames between the service and a model host, over a socket pair.

A frame is two big-endian 32-bit lengths, a JSON header and a binary payload. The service sends `load` once,
then any number of requests with an `id`; the host answers each `id` once, with `error` or an answer of its
own kind, and says `state`, `ready`, `failed` and `started` as they happen. A host keeps nothing between
requests, so it can die at any moment and the next one is sent the same requests.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = struct.Struct(">II")
MAX_HEADER_BYTES = 4 * 1024**2
MAX_PAYLOAD_BYTES = 4 * 1024**2
"""Four times a 30 second window. A longer frame means that the other side is broken."""

Header: TypeAlias = dict[str, Any]


class BrokenFrame(Exception):
    """The other side of the socket does not speak the protocol."""


def pack(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Return one frame, ready to send."""
    data = json.dumps(header, separators=(",", ":")).encode()
    return PREFIX.pack(len(data), len(payload)) + data + payload


def lengths(prefix: bytes) -> tuple[int, int]:
    """Read a frame's prefix. Raises `BrokenFrame` when a length is out of bounds."""
    header_bytes, payload_bytes = PREFIX.unpack(prefix)
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise BrokenFrame(f"a frame of {header_bytes} + {payload_bytes} bytes is out of bounds")
    return header_bytes, payload_bytes
