"""pyannote segmentation 3.0 as an ONNX graph, built from its checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stenobird.inference.onnx import Graph
from stenobird.ports import SAMPLE_RATE

if TYPE_CHECKING:
    from stenobird.speakers.weights import Tensors

_LSTM_LAYERS = 4
_HIDDEN = 128
_LEAK = 0.01
_EPSILON = 1e-5


def segmentation_network(tensors: Tensors) -> bytes:
    """Return PyanNet: `audio` [1, samples] in, `scores` [1, frames, 7 classes] out (logarithms)."""
    graph = Graph()

    def weight(name: str) -> str:
        return graph.constant(tensors[name])

    def normalized(x: str, name: str) -> str:
        inputs = (x, weight(f"{name}.weight"), weight(f"{name}.bias"))
        return graph.add("InstanceNormalization", *inputs, epsilon=_EPSILON)

    audio = graph.input("audio", (1, 1, "samples"))
    x = normalized(audio, "sincnet.wav_norm1d")
    for layer in range(3):
        if layer == 0:
            filters = _sinc_filters(
                tensors["sincnet.conv1d.0.filterbank.low_hz_"],
                tensors["sincnet.conv1d.0.filterbank.band_hz_"],
            )
            x = graph.add("Abs", graph.add("Conv", x, graph.constant(filters), strides=(10,)))
        else:
            name = f"sincnet.conv1d.{layer}"
            x = graph.add("Conv", x, weight(f"{name}.weight"), weight(f"{name}.bias"))
        x = graph.add("MaxPool", x, kernel_shape=(3,), strides=(3,))
        x = graph.add("LeakyRelu", normalized(x, f"sincnet.norm1d.{layer}"), alpha=_LEAK)
    x = graph.add("Transpose", x, perm=(2, 0, 1))
    for layer in range(_LSTM_LAYERS):
        parts = [_lstm_weights(tensors, layer, suffix) for suffix in ("", "_reverse")]
        w, r, b = (np.stack(part) for part in zip(*parts, strict=True))
        w_parts, r_parts = ([graph.constant(part) for part in _quantized(weights)] for weights in (w, r))
        inputs = (x, w_parts[0], r_parts[0], graph.constant(b), "", "", "", "", *w_parts[1:], *r_parts[1:])
        x = graph.add("DynamicQuantizeLSTM", *inputs, hidden_size=_HIDDEN, direction="bidirectional")
        # [frames, directions, batch, hidden] to [frames, batch, 2 * hidden]
        x = graph.add("Transpose", x, perm=(0, 2, 1, 3))
        x = graph.add("Reshape", x, graph.constant(np.array([0, 1, 2 * _HIDDEN], np.int64)))
    x = graph.add("Transpose", x, perm=(1, 0, 2))
    for name in ("linear.0", "linear.1", "classifier"):
        x = graph.add("MatMul", x, graph.constant(tensors[f"{name}.weight"].T))
        x = graph.add("Add", x, weight(f"{name}.bias"))
        if name != "classifier":
            x = graph.add("LeakyRelu", x, alpha=_LEAK)
    graph.add("LogSoftmax", x, output="scores", axis=-1)
    return graph.model({"scores": (1, "frames", 7)})


def _lstm_weights(tensors: Tensors, layer: int, suffix: str) -> tuple[npt.NDArray[np.float32], ...]:
    """Return a direction's weights: ONNX orders gates i, o, f, c, and PyTorch i, f, c, o."""

    def reordered(name: str) -> npt.NDArray[np.float32]:
        i, f, c, o = np.split(tensors[f"lstm.{name}_l{layer}{suffix}"], 4)
        return np.concatenate([i, o, f, c])

    return (
        reordered("weight_ih"),
        reordered("weight_hh"),
        np.concatenate([reordered("bias_ih"), reordered("bias_hh")]),
    )


def _quantized(weights: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32 | np.int8], ...]:
    """Return weights [directions, gates, inputs] as integers, inputs first, and scale and zero of each gate.

    They have seven bits, because sums of two products of eight overflow on CPUs without VNNI.
    """
    scales = np.maximum(np.abs(weights).max(axis=2), np.float32(1e-9)) / np.float32(63)
    integers = np.rint(weights / scales[:, :, None]).astype(np.int8)
    return integers.transpose(0, 2, 1), scales, np.zeros(scales.shape, np.int8)


def _sinc_filters(
    low_hz: npt.NDArray[np.float32], band_hz: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return SincNet's band-pass filters [80, 1, 251], even ones and then odd ones.

    asteroid-filterbanks, `ParamSincFB`, with at least 50 Hz of frequency and of width.
    """
    half = 125
    window = np.hamming(2 * half + 1)[:half]
    times = 2 * np.pi * np.arange(-half, 0)[None, :] / SAMPLE_RATE
    low = 50 + np.abs(low_hz.astype(np.float64))
    high = np.clip(low + 50 + np.abs(band_hz.astype(np.float64)), 50, SAMPLE_RATE / 2)
    band = high - low
    even = (np.sin(high * times) - np.sin(low * times)) / (times / 2) * window
    odd = (np.cos(low * times) - np.cos(high * times)) / (times / 2) * window
    filters = np.concatenate(
        [
            np.concatenate([even, 2 * band, even[:, ::-1]], axis=1) / (2 * band),
            np.concatenate([odd, np.zeros_like(band), -odd[:, ::-1]], axis=1) / (2 * band),
        ]
    )
    return filters[:, None, :].astype(np.float32)
