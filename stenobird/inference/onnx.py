"""Writes a network as ONNX, the format that ONNX Runtime loads: just the part of it that we need.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto has the field numbers.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Shape: TypeAlias = "Sequence[int | str]"
"""A string names a dimension that differs between calls."""

_IR_VERSION, _OPSET = 8, 17
_TYPES = {np.dtype(kind): number for kind, number in (("f4", 1), ("u1", 2), ("i1", 3), ("i4", 6), ("i8", 7))}
_OURS, _MICROSOFT = b"", b"com.microsoft"
"""Domains of operators: ONNX's own, and what ONNX Runtime has besides."""
_OF_MICROSOFT = {"DynamicQuantizeLSTM", "QLinearAdd", "QLinearConv"}


class Graph:
    """A network under construction. Each method returns the name of the value that it adds."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._numbers = itertools.count()

    def input(self, name: str, shape: Shape, kind: npt.DTypeLike = np.float32) -> str:
        """Add an input."""
        self._parts.append(_field(11, _value(name, shape, kind)))
        return name

    def constant(self, array: npt.NDArray[Any]) -> str:
        """Add a constant."""
        name = f"c{next(self._numbers)}"
        dims = b"".join(_field(1, size) for size in array.shape)
        raw = np.ascontiguousarray(array).tobytes()
        self._parts.append(
            _field(5, dims + _field(2, _TYPES[array.dtype]) + _field(8, name.encode()) + _field(9, raw))
        )
        return name

    def add(
        self,
        operator: str,
        *inputs: str,
        output: str | None = None,
        **attributes: float | str | Sequence[int],
    ) -> str:
        """Add an operator and return its output, which gets a name of its own unless `output` is one.

        An input named "" is left out.
        """
        name = output or f"v{next(self._numbers)}"
        node = b"".join(_field(1, value.encode()) for value in inputs)
        node += _field(2, name.encode()) + _field(4, operator.encode())
        node += b"".join(_field(5, _attribute(key, value)) for key, value in attributes.items())
        node += _field(7, _MICROSOFT if operator in _OF_MICROSOFT else _OURS)
        self._parts.append(_field(1, node))
        return name

    def model(self, outputs: Mapping[str, Shape], kind: npt.DTypeLike = np.float32) -> bytes:
        """Return the finished model, whose outputs are of one kind."""
        graph = b"".join(self._parts) + _field(2, b"network")
        graph += b"".join(_field(12, _value(name, shape, kind)) for name, shape in outputs.items())
        versions = ((_OURS, _OPSET), (_MICROSOFT, 1))
        sets = b"".join(_field(8, _field(1, domain) + _field(2, version)) for domain, version in versions)
        return _field(1, _IR_VERSION) + _field(7, graph) + sets


def _attribute(name: str, value: float | str | Sequence[int]) -> bytes:
    start = _field(1, name.encode())
    if isinstance(value, str):
        return start + _field(4, value.encode()) + _field(20, 3)
    if isinstance(value, float):
        return start + b"\x15" + struct.pack("<f", value) + _field(20, 1)
    if isinstance(value, int):
        return start + _field(3, value) + _field(20, 2)
    return start + b"".join(_field(8, number) for number in value) + _field(20, 7)


def _value(name: str, shape: Shape, kind: npt.DTypeLike) -> bytes:
    dims = b"".join(
        _field(1, _field(2, size.encode()) if isinstance(size, str) else _field(1, size)) for size in shape
    )
    tensor = _field(1, _TYPES[np.dtype(kind)]) + _field(2, dims)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, value: int | bytes) -> bytes:
    """Return a protocol-buffer field: a varint for an integer, else length and bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value % 2**64)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*data, value))
