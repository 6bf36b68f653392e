from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stenobird.ports import SAMPLE_RATE
from stenobird.speech.offline import PocketsphinxDecoder
from stenobird.speech.protocol import WindowRequest
from tests.support.speech import decode_clip

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pocketsphinx")


@pytest.fixture(scope="module")
def decoder() -> PocketsphinxDecoder:
    return PocketsphinxDecoder()


@pytest.fixture(scope="module")
def window(clips: Path) -> WindowRequest:
    pcm = decode_clip(clips / "short.mp3")[3 * SAMPLE_RATE : 5 * SAMPLE_RATE]
    return WindowRequest(pcm, 3 * SAMPLE_RATE, ((0, len(pcm)),), "en", word_timestamps=True)


def test_words_lie_in_the_source_s_time(decoder: PocketsphinxDecoder, window: WindowRequest) -> None:
    (decoded,) = decoder.decode([window])

    words = [word for segment in decoded.segments for word in segment.words]
    assert decoded.language == "en"
    assert len(words) > 1
    assert words[0].start == pytest.approx(3.2, abs=0.2)
    assert words[-1].end <= 5.0
    assert all(word.text.startswith(" ") and "(" not in word.text for word in words)
    assert all("".join(word.text for word in s.words) == s.text for s in decoded.segments)


def test_a_window_does_not_depend_on_the_windows_before_it(
    decoder: PocketsphinxDecoder, window: WindowRequest
) -> None:
    first = decoder.decode([window])
    decoder.decode([replace(window, pcm=window.pcm[: SAMPLE_RATE // 2])])

    assert decoder.decode([window]) == first


def test_a_word_split_by_the_cut_is_left_to_the_next_window(
    decoder: PocketsphinxDecoder, window: WindowRequest
) -> None:
    (whole,) = decoder.decode([window])
    (cut,) = decoder.decode([replace(window, unfinished_tail=True)])

    assert cut.resume_sample == round(whole.segments[-1].words[-1].start * SAMPLE_RATE)
    assert "".join(s.text for s in whole.segments).startswith("".join(s.text for s in cut.segments))


def test_a_last_word_in_the_first_part_of_a_window_is_not_left_to_the_next(
    decoder: PocketsphinxDecoder, window: WindowRequest
) -> None:
    pcm = np.concatenate([window.pcm, np.zeros(6 * SAMPLE_RATE, np.int16)])
    (decoded,) = decoder.decode([replace(window, pcm=pcm, unfinished_tail=True)])

    words = [word for segment in decoded.segments for word in segment.words]
    assert len(words) > 1
    assert words[-1].start < 3 + 0.4 * 8
    assert decoded.resume_sample is None


def test_silence_gives_no_text(decoder: PocketsphinxDecoder) -> None:
    silence = WindowRequest(np.zeros(SAMPLE_RATE, np.int16), 0, (), "en")

    assert decoder.decode([silence])[0].segments == ()
