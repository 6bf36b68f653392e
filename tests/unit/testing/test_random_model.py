"""A random-weight model is one that CTranslate2 runs as it runs a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ctranslate2
import numpy as np

from tests.support.random_model import Dimensions, write_random_model

if TYPE_CHECKING:
    from pathlib import Path

SMALLEST = Dimensions(width=64, heads=1, layers=1, vocabulary=2000)


def load(folder: Path) -> ctranslate2.models.Whisper:
    return ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="int8")


def test_encoder_output_has_the_dimensions_and_is_finite(tmp_path: Path) -> None:
    write_random_model(tmp_path, SMALLEST)
    features = np.random.default_rng(1).standard_normal((1, SMALLEST.mel_bins, 3000), np.float32)
    encoded = np.array(load(tmp_path).encode(ctranslate2.StorageView.from_array(features), to_cpu=True))
    assert encoded.shape == (1, 1500, SMALLEST.width)
    assert np.isfinite(encoded).all()


def test_model_is_english_only_and_generates(tmp_path: Path) -> None:
    write_random_model(tmp_path, SMALLEST)
    model = load(tmp_path)
    features = ctranslate2.StorageView.from_array(np.zeros((1, SMALLEST.mel_bins, 3000), np.float32))
    [result] = model.generate(features, [["<|startoftranscript|>", "<|notimestamps|>"]], max_length=8)
    assert not model.is_multilingual
    assert len(result.sequences_ids[0]) <= 8


def test_seed_decides_the_weights(tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        write_random_model(tmp_path / name, SMALLEST, seed=seed)
    first, again, other = (
        (tmp_path / name / "model.bin").read_bytes() for name in ("first", "again", "other")
    )
    assert first == again
    assert first != other
