"""The real speaker models on speech that sounds natural: how many people speak, and who speaks when.

The second person is the first one, played slower: a lower voice in a longer throat. Speaker models are
trained with such copies as further people, so it is another person to them.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stenobird.demo import TALK_PATH
from stenobird.inference.hub import ModelUnavailable
from stenobird.ports import SAMPLE_RATE
from stenobird.speakers.finder import VoiceModels
from stenobird.speakers.labels import Span, label
from stenobird.speakers.models import EMBEDDING_FILE, SEGMENTATION_FILE, resolve
from stenobird.speakers.voices import WINDOW_SAMPLES, window_starts
from tests.support.speech import decode_clip

if TYPE_CHECKING:
    from stenobird.ports import PCM
    from stenobird.speakers.labels import Label

SLOWER = 1.3
TURN_SECONDS = 7


@pytest.fixture(scope="module")
def models() -> VoiceModels:
    """The speaker models, downloaded once into the user's cache."""
    try:
        folder = resolve("auto", cache_dir=None, progress=lambda *_: None)
    except ModelUnavailable as error:
        pytest.skip(f"NOT TESTED WITH REAL SPEAKER MODELS: {error}")
    return VoiceModels(folder / SEGMENTATION_FILE, folder / EMBEDDING_FILE)


@pytest.fixture(scope="module")
def talk() -> PCM:
    """A reader who speaks for half a minute."""
    return decode_clip(TALK_PATH)[: 4 * TURN_SECONDS * SAMPLE_RATE]


def labels(models: VoiceModels, pcm: PCM) -> list[Label]:
    """Return who speaks in each second."""
    windows = [models.find(pcm[start : start + WINDOW_SAMPLES]) for start in window_starts(len(pcm))]
    return label(windows, [Span(second, second + 1) for second in range(len(pcm) // SAMPLE_RATE)])


def test_one_reader_is_one_speaker(models: VoiceModels, talk: PCM) -> None:
    assert {one.speaker for one in labels(models, talk)} == {1}


def test_two_people_who_take_turns_are_two_speakers(models: VoiceModels, talk: PCM) -> None:
    slow = np.interp(np.arange(0, len(talk) - 1, 1 / SLOWER), np.arange(len(talk)), talk).astype(np.int16)
    turns = [
        voice[turn * TURN_SECONDS * SAMPLE_RATE : (turn + 1) * TURN_SECONDS * SAMPLE_RATE]
        for turn in range(3)
        for voice in (talk, slow)
    ]
    found = [one.speaker for one in labels(models, np.concatenate(turns))]
    heard = [speaker for speaker, _ in groupby(found)]
    assert heard == [1, 2] * 3
    expected = [turn % 2 + 1 for turn in range(6) for _ in range(TURN_SECONDS)]
    assert sum(one != other for one, other in zip(found, expected, strict=True)) <= len(turns)
