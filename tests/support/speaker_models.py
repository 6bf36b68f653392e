"""Speaker models with random weights, as the checkpoints of PyTorch that the real ones are."""

from __future__ import annotations

import struct
import zipfile
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from stenobird.speakers.models import EMBEDDING_FILE, SEGMENTATION_FILE
from stenobird.speakers.voices import WINDOW_SAMPLES, window_start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SEED: Final = 7

Floats = npt.NDArray[np.float32]


def window_starts(samples: int) -> list[int]:
    """Return where the windows of audio of this length begin; the last one may end after it."""
    starts = [0]
    while starts[-1] + WINDOW_SAMPLES < samples:
        starts.append(window_start(len(starts)))
    return starts


def write_speaker_models(folder: Path) -> Path:
    """Write both checkpoints and return the folder. They are the same each time."""
    segmentation = {f"state_dict.{name}": tensor for name, tensor in _filled(_segmentation()).items()}
    segmentation["state_dict.classifier.bias"][0] = -9  # somebody always speaks
    write_checkpoint(folder / SEGMENTATION_FILE, segmentation)
    write_checkpoint(folder / EMBEDDING_FILE, embedding_tensors())
    return folder


def embedding_tensors() -> dict[str, Floats]:
    """Return those of the embedding model."""
    return _filled(_embedding())


def _filled(shapes: Iterator[tuple[str, tuple[int, ...]]]) -> dict[str, Floats]:
    generator = np.random.default_rng(_SEED)
    return {
        name: np.abs(generator.normal(0.0, 0.05, shape)).astype(np.float32) + np.float32(1)
        if name.endswith(("running_var", "norm.weight"))
        else generator.normal(0.0, 0.05, shape).astype(np.float32)
        for name, shape in shapes
    }


def write_checkpoint(path: Path, tensors: dict[str, Floats]) -> None:
    """Write tensors as `torch.save` does."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}(" + b"".join(_described(tensors)) + b"u.")
        for number, tensor in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{number}", tensor.tobytes())


def _described(tensors: dict[str, Floats]) -> Iterator[bytes]:
    for number, (name, tensor) in enumerate(tensors.items()):
        storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n"
        storage += _text(str(number)) + _text("cpu") + _int(tensor.size) + b"tQ"
        strides = tuple(stride // tensor.itemsize for stride in tensor.strides)
        yield _text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
        yield (
            storage
            + _int(0)
            + _tuple(tensor.shape)
            + _tuple(strides)
            + b"\x89"
            + b"ccollections\nOrderedDict\n"
        )
        yield b")RtR"


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"


def _segmentation() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _affine("sincnet.wav_norm1d", 1)
    for part in ("low_hz_", "band_hz_"):
        yield f"sincnet.conv1d.0.filterbank.{part}", (40, 1)
    for layer, (channels, before) in enumerate(((80, 1), (60, 80), (60, 60))):
        yield from _affine(f"sincnet.norm1d.{layer}", channels)
        if layer:
            yield f"sincnet.conv1d.{layer}.weight", (channels, before, 5)
            yield f"sincnet.conv1d.{layer}.bias", (channels,)
    for layer in range(4):
        for suffix in ("", "_reverse"):
            yield f"lstm.weight_ih_l{layer}{suffix}", (512, 256 if layer else 60)
            yield f"lstm.weight_hh_l{layer}{suffix}", (512, 128)
            yield f"lstm.bias_ih_l{layer}{suffix}", (512,)
            yield f"lstm.bias_hh_l{layer}{suffix}", (512,)
    for name, rows, columns in (("linear.0", 128, 256), ("linear.1", 128, 128), ("classifier", 7, 128)):
        yield f"{name}.weight", (rows, columns)
        yield f"{name}.bias", (rows,)


def _embedding() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "head.conv1.weight", (32, 1, 3, 3)
    yield from _norm("head.bn1", 32)
    for block in ("layer1.0", "layer1.1", "layer2.0", "layer2.1"):
        for number in (1, 2):
            yield f"head.{block}.conv{number}.weight", (32, 32, 3, 3)
            yield from _norm(f"head.{block}.bn{number}", 32)
        if block.endswith(".0"):
            yield f"head.{block}.shortcut.0.weight", (32, 32, 1, 1)
            yield from _norm(f"head.{block}.shortcut.1", 32)
    yield "head.conv2.weight", (32, 32, 3, 3)
    yield from _norm("head.bn2", 32)
    yield "xvector.tdnn.linear.weight", (128, 320, 5)
    yield from _norm("xvector.tdnn.nonlinear.batchnorm", 128)
    channels = 128
    for block_number, layers in enumerate((12, 24, 16), start=1):
        for layer in range(1, layers + 1):
            name = f"xvector.block{block_number}.tdnnd{layer}"
            yield from _norm(f"{name}.nonlinear1.batchnorm", channels)
            yield f"{name}.linear1.weight", (128, channels, 1)
            yield from _norm(f"{name}.nonlinear2.batchnorm", 128)
            yield f"{name}.cam_layer.linear_local.weight", (32, 128, 3)
            yield f"{name}.cam_layer.linear1.weight", (64, 128, 1)
            yield f"{name}.cam_layer.linear1.bias", (64,)
            yield f"{name}.cam_layer.linear2.weight", (32, 64, 1)
            yield f"{name}.cam_layer.linear2.bias", (32,)
            channels += 32
        yield from _norm(f"xvector.transit{block_number}.nonlinear.batchnorm", channels)
        channels //= 2
        yield f"xvector.transit{block_number}.linear.weight", (channels, channels * 2, 1)
    yield from _norm("xvector.out_nonlinear.batchnorm", channels)
    yield "xvector.dense.linear.weight", (192, channels * 2, 1)
    yield "xvector.dense.nonlinear.batchnorm.running_mean", (192,)
    yield "xvector.dense.nonlinear.batchnorm.running_var", (192,)


def _affine(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (channels,)
    yield f"{name}.bias", (channels,)


def _norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _affine(name, channels)
    yield f"{name}.running_mean", (channels,)
    yield f"{name}.running_var", (channels,)
