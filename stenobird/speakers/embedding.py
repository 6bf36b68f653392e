"""CAM++, which makes embeddings of voices, as an ONNX graph of bytes, built from its checkpoint.

Products of bytes take a third of the time of products of floats. The bytes of each channel count steps of a
size of its own, which the weights of the next layer contain. The sizes follow from the checkpoint: its
normalizations say which mean and deviation each channel had in training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from stenobird.inference.onnx import Graph

if TYPE_CHECKING:
    from stenobird.speakers.weights import Tensors

_BLOCKS: Final = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of each dense block."""
_EPSILON: Final = 1e-5
_RANGE: Final = 14.0
"""Deviations that a channel may be above its mean.

With so many, values are usually below 100, and sums of two products within the 16 bits of CPUs without VNNI.
"""
_FEATURE_STEP: Final = 0.1
_POOLED_FRAMES: Final = 100
_MIDDLE: Final = 128
"""The byte that stands for 0 where values may be negative."""

Doubles: TypeAlias = npt.NDArray[np.float64]
Floats: TypeAlias = npt.NDArray[np.float32]


def network_inputs(features: Floats) -> dict[str, npt.NDArray[Any]]:
    """Return the inputs of `embedding_network` for filter banks [frames, 80]."""
    centered = (features - features.mean(axis=0)).T / np.float32(_FEATURE_STEP)
    parts = np.arange((len(features) + 1) // 2) // _POOLED_FRAMES
    spreads = (parts == np.arange(parts[-1] + 1)[:, None]).astype(np.float32)
    return {
        "features": np.clip(np.rint(centered) + _MIDDLE, 0, 255).astype(np.uint8)[None, :, :, None],
        "pools": spreads / spreads.sum(axis=1, keepdims=True) + np.float32(1 / len(parts)),
        "spreads": spreads,
    }


def embedding_network(tensors: Tensors) -> bytes:
    """Return CAM++ up to its last frames, `hidden` [1, frames / 2, 512], as `last_layer` expects them.

    `features` are [1, 80, frames, 1]. `pools` [parts, frames / 2] adds the mean of each part of two seconds
    to that of all frames, and `spreads` gives each frame what its part has.
    """
    network = _Network(tensors)
    graph = network.graph
    features = graph.input("features", (1, 80, "frames", 1), np.uint8)
    pools = graph.input("pools", ("parts", "hidden_frames"))
    spreads = graph.input("spreads", ("parts", "hidden_frames"))
    x = network.head(features)
    for number, (layers, dilation) in enumerate(_BLOCKS, start=1):
        for layer in range(1, layers + 1):
            x = network.dense(x, f"xvector.block{number}.tdnnd{layer}", dilation, pools, spreads)
        if number < len(_BLOCKS):
            after = f"xvector.block{number + 1}.tdnnd1.nonlinear1.batchnorm"
            x = network.transit(x, f"xvector.transit{number}", after)
    network.last(x, f"xvector.transit{len(_BLOCKS)}")
    return graph.model({"hidden": (1, "hidden_frames", 512)}, np.uint8)


def last_layer(tensors: Tensors) -> tuple[Floats, Floats]:
    """Return weights and bias that make an embedding of the mean and deviation of `hidden` over time."""
    name = "xvector.dense"
    mean = tensors[f"{name}.nonlinear.batchnorm.running_mean"]
    scale = 1 / np.sqrt(tensors[f"{name}.nonlinear.batchnorm.running_var"] + np.float32(_EPSILON))
    steps = np.tile(_Normalization(tensors, _LAST).steps(), 2).astype(np.float32)
    return tensors[f"{name}.linear.weight"][:, :, 0] * scale[:, None] * steps, -mean * scale


_LAST: Final = "xvector.out_nonlinear.batchnorm"


class _Normalization:
    """A batch normalization: what it does, and what comes out: its `mean` and `deviation`."""

    def __init__(self, tensors: Tensors, name: str) -> None:
        weight, self.mean, before, variance = (
            tensors[f"{name}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        self.gain = weight / np.sqrt(variance + _EPSILON)
        self.shift = self.mean - before * self.gain
        self.deviation = np.abs(weight)

    def steps(self) -> Doubles:
        """Return the steps of its output, after which negative values become 0."""
        return _steps(self.mean, self.deviation)


def _steps(mean: Doubles, deviation: Doubles) -> Doubles:
    return np.maximum(np.maximum(mean, 0) + _RANGE * deviation, 1e-6) / 255


class _Value:
    """A value of the graph, [1, ..., channels] if it has bytes, and the step of each channel.

    In floats it is [1, channels, frames], counts the same steps, and `origin` is what 0 stands for.
    """

    def __init__(self, name: str, steps: Doubles, origin: Doubles | float = 0.0) -> None:
        self.name = name
        self.steps = steps
        self.origin = origin + np.zeros(len(steps))


class _Network:
    def __init__(self, tensors: Tensors) -> None:
        self.graph = Graph()
        self._tensors = tensors
        self._one, self._two = (self.graph.constant(np.array(size, np.float32)) for size in (1, 2))
        self._zero, self._middle = (self.graph.constant(np.array(at, np.uint8)) for at in (0, _MIDDLE))
        self._no_offset = self.graph.constant(np.array(0, np.int8))

    def head(self, features: str) -> _Value:
        """Return what two-dimensional convolutions make of the features, as floats."""
        around: dict[str, Any] = {"pads": (1, 1, 1, 1)}
        x = _Value(features, np.array([_FEATURE_STEP]))
        x = self._normalized(x, "head.conv1", "head.bn1", signed_input=True, **around)
        for layer in ("head.layer1", "head.layer2"):
            ends = [self._normalization(f"{layer}.{end}") for end in ("0.bn2", "0.shortcut.1", "1.bn2")]
            # Sums of two, of which the second one becomes part of the third: both are in the same steps.
            mean, deviation = ends[0].mean + ends[1].mean, np.hypot(ends[0].deviation, ends[1].deviation)
            later = np.maximum(mean, 0) + ends[2].mean, np.hypot(deviation, ends[2].deviation)
            steps = np.maximum(_steps(mean, deviation), _steps(*later))
            for block, stride in ((f"{layer}.0", 2), (f"{layer}.1", 1)):
                inner = self._normalized(x, f"{block}.conv1", f"{block}.bn1", strides=(stride, 1), **around)
                inner = self._normalized(inner, f"{block}.conv2", f"{block}.bn2", signed=2 * steps, **around)
                beside = x.name, self._one, self._zero
                if stride > 1:
                    names = f"{block}.shortcut.0", f"{block}.shortcut.1"
                    shortcut = self._normalized(x, *names, signed=2 * steps, strides=(stride, 1))
                    beside = shortcut.name, self._two, self._middle
                inputs = inner.name, self._two, self._middle, *beside, self._one, self._zero
                x = _Value(self.graph.add("QLinearAdd", *inputs), steps)
        x = self._normalized(x, "head.conv2", "head.bn2", strides=(2, 1), **around)
        # One channel of each frequency, in the order that the layer has been trained on.
        weights = self._tensors["xvector.tdnn.linear.weight"].reshape(128, 32, 10, 5)
        normalization = self._normalization("xvector.tdnn.nonlinear.batchnorm")
        x = self._convolved(
            x,
            weights * normalization.gain[:, None, None, None],
            normalization.shift,
            normalization.steps(),
            strides=(1, 2),
            pads=(0, 2, 0, 2),
        )
        flat = self.graph.add("Reshape", x.name, self.graph.constant(np.array([1, -1, 128], np.int64)))
        return self._floats(_Value(flat, x.steps))

    def dense(self, x: _Value, name: str, dilation: int, pools: str, spreads: str) -> _Value:
        """Return the value and what a layer adds to it: channels, weighted by what is heard around them."""
        graph, cam = self.graph, f"{name}.cam_layer"
        inner = self._activated(x, f"{name}.nonlinear1.batchnorm")
        inner = self._normalized(inner, f"{name}.linear1", f"{name}.nonlinear2.batchnorm")
        weights = self._tensors[f"{cam}.linear_local.weight"]
        normalization = self._normalization(f"{name}.nonlinear2.batchnorm")
        squares = normalization.mean**2 + normalization.deviation**2
        local = self._convolved(
            inner,
            weights,
            0.0,
            _RANGE * np.sqrt((weights.astype(np.float64) ** 2).sum(axis=2) @ squares) / (255 - _MIDDLE),
            signed=True,
            pads=(dilation, dilation),
            dilations=(dilation,),
        )
        floats = graph.add("DequantizeLinear", inner.name, self._one, self._zero)
        context = graph.add("MatMul", pools, floats)
        context = graph.add("Reshape", context, graph.constant(np.array([-1, len(inner.steps)], np.int64)))
        first = self._tensors[f"{cam}.linear1.weight"][:, :, 0] * inner.steps
        biases = [self._tensors[f"{cam}.linear{number}.bias"] for number in (1, 2)]
        context = graph.add("Gemm", context, self._constant(first.T), self._constant(biases[0]))
        second = self._constant(self._tensors[f"{cam}.linear2.weight"][:, :, 0])
        context = graph.add("Relu", context)
        gates = graph.add("Gemm", second, context, self._constant(biases[1][:, None]), transB=1)
        gates = graph.add("MatMul", graph.add("Sigmoid", gates), spreads)
        local = self._floats(local, signed=True)
        both = graph.add("Concat", x.name, graph.add("Mul", local.name, gates), axis=1)
        return _Value(both, np.concatenate([x.steps, local.steps]), np.concatenate([x.origin, local.origin]))

    def transit(self, x: _Value, name: str, after: str) -> _Value:
        """Return half as many channels; `after` is the normalization that reads them."""
        x = self._activated(x, f"{name}.nonlinear.batchnorm")
        mean, variance = (
            self._tensors[f"{after}.{part}"].astype(np.float64) for part in ("running_mean", "running_var")
        )
        steps = _RANGE * np.sqrt(variance + _EPSILON) / (255 - _MIDDLE)
        half = self._convolved(x, self._tensors[f"{name}.linear.weight"], -mean, steps, signed=True)
        return self._floats(half, signed=True, origin=mean)

    def last(self, x: _Value, name: str) -> None:
        """Add the output."""
        x = self._activated(x, f"{name}.nonlinear.batchnorm")
        self._normalized(x, f"{name}.linear", _LAST, output="hidden")

    def _normalization(self, name: str) -> _Normalization:
        return _Normalization(self._tensors, name)

    def _constant(self, array: npt.NDArray[Any]) -> str:
        return self.graph.constant(array.astype(np.float32))

    def _normalized(
        self, x: _Value, name: str, normalization_name: str, *, signed: Doubles | None = None, **options: Any
    ) -> _Value:
        """Return a convolution and its normalization; negative values become 0 but for `signed` steps."""
        normalization = self._normalization(normalization_name)
        weights = self._tensors[f"{name}.weight"].astype(np.float64)
        weights *= normalization.gain.reshape(-1, *(1,) * (weights.ndim - 1))
        steps = normalization.steps() if signed is None else signed
        return self._convolved(x, weights, normalization.shift, steps, signed=signed is not None, **options)

    def _convolved(
        self,
        x: _Value,
        weights: npt.NDArray[Any],
        bias: Doubles | float,
        steps: Doubles,
        *,
        signed: bool = False,
        signed_input: bool = False,
        output: str | None = None,
        **attributes: Any,
    ) -> _Value:
        """Return a convolution of bytes, with these steps, that has `weights` [outputs, inputs, ...]."""
        tail = (1,) * (weights.ndim - 2)
        scaled = weights.astype(np.float64) * x.steps.reshape(1, -1, *tail)
        sizes = np.maximum(np.abs(scaled).reshape(len(scaled), -1).max(axis=1), 1e-12) / 127
        integers = np.rint(scaled / sizes.reshape(-1, 1, *tail)).astype(np.int8)
        biases = np.clip(np.rint(bias / sizes), -(2**30), 2**30).astype(np.int32)
        inputs = [x.name, self._one, self._middle if signed_input else self._zero]
        inputs += [self.graph.constant(integers), self._constant(sizes / steps), self._no_offset]
        inputs += [self._one, self._middle if signed else self._zero, self.graph.constant(biases)]
        return _Value(
            self.graph.add("QLinearConv", *inputs, output=output, channels_last=1, **attributes), steps
        )

    def _activated(self, x: _Value, name: str) -> _Value:
        """Return floats as bytes, normalized; negative values become 0."""
        normalization = self._normalization(name)
        steps = normalization.steps()
        gain = normalization.gain * x.steps / steps
        shift = (normalization.shift + normalization.gain * x.origin) / steps
        parts = (self._constant(part) for part in (gain, shift, np.zeros(len(gain)), np.ones(len(gain))))
        floats = self.graph.add("BatchNormalization", x.name, *parts, epsilon=0.0)
        found = self.graph.add("QuantizeLinear", floats, self._one, self._zero)
        return _Value(self.graph.add("Transpose", found, perm=(0, 2, 1)), steps)

    def _floats(self, x: _Value, *, signed: bool = False, origin: Doubles | float = 0.0) -> _Value:
        """Return bytes as floats that count the same steps."""
        found = self.graph.add("Transpose", x.name, perm=(0, 2, 1))
        zero = self._middle if signed else self._zero
        return _Value(self.graph.add("DequantizeLinear", found, self._one, zero), x.steps, origin)
