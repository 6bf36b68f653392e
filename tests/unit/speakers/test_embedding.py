"""The network of bytes against CAM++ in floats, layer by layer as its authors wrote it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime

from stenobird.speakers.embedding import embedding_network, last_layer, network_inputs
from tests.support.speaker_models import embedding_tensors

Floats = npt.NDArray[np.float64]


class Reference:
    """3D-Speaker's `CAMPPlus`, which takes its normalizations from what it is given, as in training."""

    def __init__(self, tensors: dict[str, npt.NDArray[np.float32]]) -> None:
        self.tensors = tensors

    def embedding(self, features: npt.NDArray[np.float32]) -> Floats:
        x = (features - features.mean(axis=0)).T[None].astype(np.float64)
        x = self.head(x).reshape(320, -1)
        x = self.activated(
            self.convolved(x, "xvector.tdnn.linear", stride=2, pad=2), "xvector.tdnn.nonlinear"
        )
        for number, (layers, dilation) in enumerate(((12, 1), (24, 2), (16, 2)), start=1):
            for layer in range(1, layers + 1):
                name = f"xvector.block{number}.tdnnd{layer}"
                inner = self.convolved(self.activated(x, f"{name}.nonlinear1"), f"{name}.linear1")
                inner = self.activated(inner, f"{name}.nonlinear2")
                x = np.concatenate([x, self.masked(inner, f"{name}.cam_layer", dilation)])
            x = self.activated(x, f"xvector.transit{number}.nonlinear")
            x = self.convolved(x, f"xvector.transit{number}.linear")
        x = self.activated(x, "xvector.out_nonlinear")
        pooled = np.concatenate([x.mean(axis=1), x.std(axis=1, ddof=1)])
        dense = self.tensors["xvector.dense.linear.weight"][:, :, 0] @ pooled
        return np.asarray(dense / np.linalg.norm(dense))

    def head(self, x: Floats) -> Floats:
        x = self.activated(self.convolved_twice(x, "head.conv1"), "head.bn1")
        for name, stride in (("layer1.0", 2), ("layer1.1", 1), ("layer2.0", 2), ("layer2.1", 1)):
            block = f"head.{name}"
            inner = self.activated(self.convolved_twice(x, f"{block}.conv1", stride), f"{block}.bn1")
            inner = self.normalized(self.convolved_twice(inner, f"{block}.conv2"), f"{block}.bn2")
            if stride > 1:
                weights = self.tensors[f"{block}.shortcut.0.weight"][:, :, 0, 0]
                shortcut = np.einsum("oc,cft->oft", weights, x[:, ::stride])
                x = self.normalized(shortcut, f"{block}.shortcut.1")
            x = np.maximum(x + inner, 0)
        return self.activated(self.convolved_twice(x, "head.conv2", 2), "head.bn2")

    def masked(self, inner: Floats, name: str, dilation: int) -> Floats:
        local = self.convolved(inner, f"{name}.linear_local", pad=dilation, dilation=dilation)
        context = np.empty_like(inner)
        for start in range(0, inner.shape[1], 100):
            part = slice(start, start + 100)
            context[:, part] = inner[:, part].mean(axis=1, keepdims=True)
        context += inner.mean(axis=1, keepdims=True)
        hidden = np.maximum(self.convolved(context, f"{name}.linear1", bias=True), 0)
        return np.asarray(local / (1 + np.exp(-self.convolved(hidden, f"{name}.linear2", bias=True))))

    def normalized(self, x: Floats, name: str) -> Floats:
        """Normalize, with a mean and deviation that are kept as those of training."""
        axes = tuple(range(1, x.ndim))
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
        self.tensors[f"{name}.running_mean"] = mean.astype(np.float32)
        self.tensors[f"{name}.running_var"] = variance.astype(np.float32)
        parts = (mean, variance, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])
        mean, variance, weight, bias = (part.reshape(-1, *(1,) * (x.ndim - 1)) for part in parts)
        return np.asarray((x - mean) / np.sqrt(variance + 1e-5) * weight + bias, np.float64)

    def activated(self, x: Floats, name: str) -> Floats:
        return np.maximum(self.normalized(x, name if "bn" in name else f"{name}.batchnorm"), 0)

    def convolved(
        self, x: Floats, name: str, *, stride: int = 1, pad: int = 0, dilation: int = 1, bias: bool = False
    ) -> Floats:
        weights = self.tensors[f"{name}.weight"]
        padded = np.pad(x, ((0, 0), (pad, pad)))
        frames = (padded.shape[1] - dilation * (weights.shape[2] - 1) - 1) // stride + 1
        taps = [
            weights[:, :, tap] @ padded[:, tap * dilation :][:, : (frames - 1) * stride + 1 : stride]
            for tap in range(weights.shape[2])
        ]
        return np.asarray(sum(taps) + (self.tensors[f"{name}.bias"][:, None] if bias else 0))

    def convolved_twice(self, x: Floats, name: str, stride: int = 1) -> Floats:
        """Convolve over frequencies, with a stride, and over time."""
        weights = self.tensors[f"{name}.weight"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        parts = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride]
        return np.asarray(np.einsum("cftij,ocij->oft", parts, weights, optimize=True))


def test_the_network_of_bytes_makes_the_embeddings_of_floats() -> None:
    tensors = embedding_tensors()
    features = np.random.default_rng(5).normal(0, 1, (231, 80)).cumsum(axis=1).astype(np.float32)
    expected = Reference(tensors).embedding(features)
    session = onnxruntime.InferenceSession(embedding_network(tensors), providers=["CPUExecutionProvider"])
    (hidden,) = session.run(None, network_inputs(features))
    pooled = np.concatenate([hidden[0].mean(axis=0), hidden[0].std(axis=0, ddof=1)])
    found = last_layer(tensors)[0] @ pooled
    assert found @ expected / np.linalg.norm(found) > 0.97
