"""Reading checkpoints: the tensors in them, and nothing that could run."""

from __future__ import annotations

import os
import pickle
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stenobird.speakers.weights import read_tensors
from tests.support.speaker_models import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self._command,)


def write(path: Path, described: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", described)
        archive.writestr("archive/data/0", bytes(8))
    return path


def test_tensors_have_their_names_shapes_and_values(tmp_path: Path) -> None:
    tensors = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([1.5], np.float32),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    path = tmp_path / "model.pt"
    write_checkpoint(path, {**tensors, "turned": np.ascontiguousarray(tensors["turned"])})
    found = read_tensors(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_a_checkpoint_that_names_code_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = write(tmp_path / "model.pt", pickle.dumps({"weight": Hostile(f"touch {mark}")}, protocol=2))
    with pytest.raises(ValueError, match="not allowed"):
        read_tensors(path)
    assert not mark.exists()


@pytest.mark.parametrize(("offset", "size"), [(0, 3), (1, 2), (-1, 1), (0, -1)])
def test_a_tensor_outside_its_buffer_is_refused(tmp_path: Path, offset: int, size: int) -> None:
    described = (
        b"\x80\x02}(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
        + b"".join(b"J" + number.to_bytes(4, "little", signed=True) for number in (offset,))
        + b"(J"
        + size.to_bytes(4, "little", signed=True)
        + b"t(K\x01t\x89NtRu."
    )
    with pytest.raises(ValueError, match="outside"):
        read_tensors(write(tmp_path / "model.pt", described))


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pt"):
        read_tensors(path)
