"""Finds the voices in ten seconds of audio, up to three: where each is active, and its embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from stenobird.ports import SAMPLE_RATE
from stenobird.speakers.embedding import embedding_network, last_layer, network_inputs
from stenobird.speakers.features import FRAME_SAMPLES, STEP_SAMPLES, filter_banks, frame_count
from stenobird.speakers.segmentation import segmentation_network
from stenobird.speakers.voices import WINDOW_SAMPLES, Voice
from stenobird.speakers.weights import read_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from stenobird.ports import PCM

_CLASSES: Final = np.array(
    [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], bool
)
"""Which of three voices are active in each class of the model's powerset."""
_FIRST_CENTER: Final = 495
_STEP: Final = 270
"""Samples to the center of the model's first frame, and between two frames."""
_CLEAN_FRAMES: Final = 50
"""With fewer frames (10 ms) of a voice alone, those where another one speaks too are used."""
_LEAST_FRAMES: Final = 15
"""With fewer, what a voice sounds like can't be said at all."""
_MOST_FRAMES: Final = 500
"""With more, groups of voices look more alike, and different speakers like one. It would also take longer."""
_MOST_FRAMES_ALONE: Final = 400
"""The same in a window with one voice: who speaks for so long has more windows."""
_MIDDLE_FRAME: Final = WINDOW_SAMPLES // STEP_SAMPLES // 2


class VoiceModels:
    """The two models, loaded. Not for use by several threads; the same audio gives the same answer."""

    def __init__(self, segmentation: Path, embedding: Path) -> None:
        """Load the checkpoints. Raises `OSError` or `ValueError` for files that can't be used."""
        parts = read_tensors(segmentation)
        parts = {name.removeprefix("state_dict."): value for name, value in parts.items()}
        self._segmentation = _session(segmentation_network(parts))
        tensors = read_tensors(embedding)
        self._embedding = _session(embedding_network(tensors))
        self._last_layer = last_layer(tensors)

    def find(self, pcm: PCM) -> list[Voice]:
        """Return the voices of at most `WINDOW_SAMPLES` of 16 kHz audio."""
        audio = np.zeros((1, 1, WINDOW_SAMPLES), np.float32)
        audio[0, 0, : len(pcm)] = pcm.astype(np.float32) / 32768
        (scores,) = self._segmentation.run(None, {"audio": audio})
        active = _CLASSES[scores[0].argmax(axis=-1)]
        centers = np.arange(frame_count(len(pcm))) * STEP_SAMPLES + FRAME_SAMPLES // 2
        at = np.clip((centers - _FIRST_CENTER + _STEP // 2) // _STEP, 0, len(active) - 1)
        most = _MOST_FRAMES if active.any(axis=0).sum() > 1 else _MOST_FRAMES_ALONE
        voices = []
        for voice in range(active.shape[1]):
            runs = _runs(active[:, voice], len(pcm))
            if not runs:
                continue
            mine = active[at, voice]
            alone = mine & (active[at].sum(axis=1) == 1)
            chosen = np.flatnonzero(alone if alone.sum() >= _CLEAN_FRAMES else mine)
            seconds = len(chosen) * STEP_SAMPLES / SAMPLE_RATE
            middle = np.sort(chosen[np.argsort(np.abs(chosen - _MIDDLE_FRAME), kind="stable")[:most]])
            embedding = self._embed(filter_banks(pcm, middle)) if len(chosen) >= _LEAST_FRAMES else None
            voices.append(Voice(runs, seconds, embedding))
        return voices

    def _embed(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        (hidden,) = self._embedding.run(None, network_inputs(features))
        frames = hidden[0].astype(np.float32)
        weights, bias = self._last_layer
        embedding = weights @ np.concatenate([frames.mean(axis=0), frames.std(axis=0, ddof=1)]) + bias
        return np.asarray(embedding / np.linalg.norm(embedding), np.float32)


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _runs(active: npt.NDArray[np.bool_], samples: int) -> tuple[tuple[int, int], ...]:
    """Return the runs of activity in samples of the window, none beyond its `samples`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    begin = _FIRST_CENTER - _STEP // 2
    bounds = np.clip(begin + edges * _STEP, 0, samples)
    # The model's frames begin a little after the window and end before it.
    bounds = np.where(edges == 0, 0, np.where(edges == len(active), samples, bounds)).reshape(-1, 2)
    return tuple((int(start), int(end)) for start, end in bounds if end > start)
