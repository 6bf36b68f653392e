"""The demo's clip is what its text and its times say."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np

from stenobird.demo import CLIP_PATH, CLIP_TEXT_PATH
from stenobird.ports import SAMPLE_RATE
from tests.support.speech import decode_clip

ROWS = json.loads(CLIP_PATH.with_suffix(".json").read_text())


def test_clip_is_a_minute_or_so_at_a_constant_64_kbit() -> None:
    seconds = len(decode_clip(CLIP_PATH)) / SAMPLE_RATE
    assert 60 <= seconds <= 90
    assert abs(CLIP_PATH.stat().st_size / 8000 - seconds) < 1


def test_text_is_that_of_the_sentences() -> None:
    assert " ".join(row["text"] for row in ROWS) == CLIP_TEXT_PATH.read_text().strip()


def test_several_voices_take_turns() -> None:
    assert len({row["voice"] for row in ROWS}) >= 3


def test_it_is_quiet_between_the_sentences_and_nowhere_within() -> None:
    pcm = np.abs(decode_clip(CLIP_PATH).astype(np.int32))
    for row in ROWS:
        spoken = pcm[int(row["start"] * SAMPLE_RATE) : int(row["end"] * SAMPLE_RATE)]
        assert spoken.mean() > 500, row["text"]
    for before, after in pairwise(ROWS):
        pause = pcm[int((before["end"] + 0.05) * SAMPLE_RATE) : int((after["start"] - 0.05) * SAMPLE_RATE)]
        assert len(pause) > 0.15 * SAMPLE_RATE
        assert pause.mean() < 50, (before["text"], after["text"])
