"""A Whisper model of real dimensions with random weights: says nothing, costs what a real one costs.

For timing the encoder where no model can be downloaded. Its text is noise, so decoding it measures nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ctranslate2.converters import utils
from ctranslate2.specs import common_spec, whisper_spec

if TYPE_CHECKING:
    from pathlib import Path

_AUDIO_CONTEXT, _TEXT_CONTEXT = 1500, 448
_SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
_TIMESTAMPS = 1501
_WEIGHT_SCALE = 0.02  # keeps the activations of six layers finite, as training does


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The size of a Whisper model: both halves have the same width, heads and layers."""

    width: int
    heads: int
    layers: int
    vocabulary: int = 51_864
    """English only: CTranslate2 takes a larger vocabulary for a multilingual model."""
    mel_bins: int = 80


TINY = Dimensions(384, 6, 4)
BASE = Dimensions(512, 8, 6)
SMALL = Dimensions(768, 12, 12)


def write_random_model(folder: Path, dimensions: Dimensions = BASE, *, seed: int = 0) -> None:
    """Write `model.bin`, `config.json` and the vocabulary to `folder`, int8. There is no tokenizer.

    `ctranslate2.models.Whisper` loads it; `base` takes some 75 MB of disk.
    """
    spec = whisper_spec.WhisperSpec(dimensions.layers, dimensions.heads, dimensions.layers, dimensions.heads)
    _Weights(dimensions, np.random.default_rng(seed)).fill(spec)
    _configure(spec, dimensions)
    spec.validate()
    spec.optimize(quantization="int8")
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))


def _configure(spec: Any, dimensions: Dimensions) -> None:
    timestamps = [f"<|{step * 0.02:.2f}|>" for step in range(_TIMESTAMPS)]
    words = dimensions.vocabulary - len(_SPECIAL_TOKENS) - _TIMESTAMPS
    tokens = [*(f"w{i}" for i in range(words)), *_SPECIAL_TOKENS, *timestamps]
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [tokens.index("<|endoftext|>")]
    spec.config.lang_ids = [tokens.index("<|en|>")]
    spec.config.alignment_heads = [(dimensions.layers - 1, 0)]


class _Weights:
    """Fills a specification in place, layer by layer."""

    def __init__(self, dimensions: Dimensions, rng: np.random.Generator) -> None:
        self._size = dimensions
        self._rng = rng

    def fill(self, spec: Any) -> None:
        width, encoder, decoder = self._size.width, spec.encoder, spec.decoder
        encoder.conv1.weight = self._random(width, self._size.mel_bins, 3)
        encoder.conv2.weight = self._random(width, width, 3)
        encoder.conv1.bias, encoder.conv2.bias = self._random(width), self._random(width)
        encoder.position_encodings.encodings = self._random(_AUDIO_CONTEXT, width)
        decoder.position_encodings.encodings = self._random(_TEXT_CONTEXT, width)
        decoder.embeddings.weight = self._random(self._size.vocabulary, width)
        decoder.projection.weight = decoder.embeddings.weight
        for half in (encoder, decoder):
            self._layer_norm(half.layer_norm)
            for layer in half.layer:
                self._layer(layer, cross=half is decoder)

    def _layer(self, spec: Any, *, cross: bool) -> None:
        width = self._size.width
        self._attention(spec.self_attention, own_memory=True)
        if cross:
            self._attention(spec.attention, own_memory=False)
        self._linear(spec.ffn.linear_0, 4 * width, width)
        self._linear(spec.ffn.linear_1, width, 4 * width)
        self._layer_norm(spec.ffn.layer_norm)

    def _attention(self, spec: Any, *, own_memory: bool) -> None:
        width = self._size.width
        projections = [common_spec.LinearSpec() for _ in range(3)]
        for projection in projections:
            self._linear(projection, width, width)
        if own_memory:
            utils.fuse_linear(spec.linear[0], projections)
        else:
            utils.fuse_linear(spec.linear[0], projections[:1])
            utils.fuse_linear(spec.linear[1], projections[1:])
        self._linear(spec.linear[-1], width, width)
        self._layer_norm(spec.layer_norm)

    def _linear(self, spec: Any, outputs: int, inputs: int) -> None:
        spec.weight, spec.bias = self._random(outputs, inputs), self._random(outputs)

    def _layer_norm(self, spec: Any) -> None:
        width = self._size.width
        spec.gamma, spec.beta = np.ones(width, np.float32), np.zeros(width, np.float32)

    def _random(self, *shape: int) -> Any:
        return self._rng.standard_normal(shape, np.float32) * np.float32(_WEIGHT_SCALE)
