"""Reads the tensors of a PyTorch checkpoint without PyTorch: nothing in the file can name code to run."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import io
    from pathlib import Path

Tensors: TypeAlias = "dict[str, npt.NDArray[np.float32]]"

_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_tensors(path: Path) -> Tensors:
    """Return the float tensors of a checkpoint by their dotted names, those of nested dictionaries included.

    A checkpoint is a ZIP file of raw buffers and a pickle that describes them. Raises `OSError` if it can't
    be read, `ValueError` if it holds anything else than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            described = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(described) as file:
                content = _Unpickler(file, archive, described.removesuffix("data.pkl")).load()
    except (zipfile.BadZipFile, pickle.UnpicklingError, StopIteration, KeyError, EOFError) as exc:
        raise ValueError(f"{path.name} is no checkpoint of tensors ({exc})") from exc
    tensors: Tensors = {}
    _collect("", content, tensors)
    return tensors


def _collect(prefix: str, value: Any, into: Tensors) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _collect(f"{prefix}.{name}" if prefix else str(name), inner, into)
    elif isinstance(value, np.ndarray) and value.dtype == np.float32:
        into[prefix] = value


class _Unpickler(pickle.Unpickler):
    """Builds arrays from the buffers of the archive; every other class or function is refused."""

    def __init__(self, file: io.BufferedIOBase | Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive = archive
        self._folder = folder

    def find_class(self, module: str, name: str) -> Any:
        """Return what a checkpoint may name. Raises `UnpicklingError` for the rest."""
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def persistent_load(self, pid: Any) -> npt.NDArray[Any]:
        """Return a buffer; `pid` is ("storage", dtype, key, device, length)."""
        _, dtype, key, _, _ = pid
        return np.frombuffer(self._archive.read(f"{self._folder}data/{key}"), dtype)


def _rebuild(
    buffer: npt.NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> npt.NDArray[Any]:
    """Return the tensor that a buffer holds from `offset` on. Raises `ValueError` beyond its end."""
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if min(offset, *strides, *shape, 0) < 0 or last >= len(buffer):
        raise ValueError("a tensor lies outside its buffer")
    strided = np.lib.stride_tricks.as_strided(
        buffer[offset:], shape, tuple(stride * buffer.itemsize for stride in strides)
    )
    return np.ascontiguousarray(strided)
