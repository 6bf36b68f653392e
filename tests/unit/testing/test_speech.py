"""Made speech is what its text says, where its times say, and as long as was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stenobird.demo import CLIP_PATH, CLIP_TEXT_PATH
from stenobird.ports import SAMPLE_RATE
from tests.support.speech import (
    BLOCK_SAMPLES,
    CODECS,
    LongSpeech,
    Sentence,
    decode_clip,
    load_sentences,
    write_audio,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def sentences() -> tuple[Sentence, ...]:
    return load_sentences(CLIP_PATH)


def test_sentences_of_a_clip_are_its_text(sentences: tuple[Sentence, ...]) -> None:
    assert " ".join(sentence.text for sentence in sentences) == CLIP_TEXT_PATH.read_text().strip()


def test_a_cut_sentence_is_quiet_at_its_edges_and_loud_within(sentences: tuple[Sentence, ...]) -> None:
    edge = int(0.06 * SAMPLE_RATE)
    for sentence in sentences:
        loudest = int(np.abs(sentence.pcm.astype(np.int32)).max())
        edges = np.concatenate([sentence.pcm[:edge], sentence.pcm[-edge:]]).astype(np.int32)
        assert loudest > 4000
        assert np.abs(edges).max() < loudest / 10, sentence.text


def test_stream_is_long_enough_and_ends_with_a_whole_sentence(sentences: tuple[Sentence, ...]) -> None:
    speech = LongSpeech(sentences, 200.0, seed=3)
    *_, last = speech.placed()
    assert speech.duration_seconds == last.end
    assert last.start < 200.0 <= speech.duration_seconds < 210.0


def test_blocks_are_bounded_and_make_up_the_whole(sentences: tuple[Sentence, ...]) -> None:
    speech = LongSpeech(sentences, 100.0, seed=3)
    sizes = [len(block) for block in speech.blocks()]
    assert max(sizes) <= BLOCK_SAMPLES
    assert sum(sizes) == speech.samples


def test_times_point_to_the_sentences(sentences: tuple[Sentence, ...]) -> None:
    speech = LongSpeech(sentences, 100.0, seed=3)
    whole = np.concatenate(list(speech.blocks()))
    by_text = {sentence.text: sentence for sentence in sentences}
    placed = list(speech.placed())
    assert " ".join(place.text for place in placed) == speech.text
    for place in placed:
        part = whole[round(place.start * SAMPLE_RATE) : round(place.end * SAMPLE_RATE)]
        np.testing.assert_array_equal(part, by_text[place.text].pcm)


def test_every_sentence_comes_once_before_any_comes_again(sentences: tuple[Sentence, ...]) -> None:
    placed = [place.text for place in LongSpeech(sentences, 200.0, seed=3).placed()]
    assert sorted(placed[: len(sentences)]) == sorted(sentence.text for sentence in sentences)


def test_seed_decides_the_order(sentences: tuple[Sentence, ...]) -> None:
    first, again, other = (LongSpeech(sentences, 60.0, seed=seed) for seed in (1, 1, 2))
    assert first.text == again.text
    assert all(map(np.array_equal, first.blocks(), again.blocks()))
    assert first.text != other.text


def test_nothing_to_speak_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sentence"):
        LongSpeech((), 10.0, seed=1)


@pytest.mark.parametrize("suffix", CODECS)
def test_written_audio_has_every_sample(suffix: str, sentences: tuple[Sentence, ...], tmp_path: Path) -> None:
    speech = LongSpeech(sentences, 20.0, seed=3)
    path = tmp_path / f"speech{suffix}"
    speech.write(path)
    heard = decode_clip(path).astype(np.float64)
    meant = np.concatenate(list(speech.blocks())).astype(np.float64)
    assert len(heard) == len(meant)
    if suffix == ".mp3":
        assert np.corrcoef(heard, meant)[0, 1] > 0.95
        assert path.stat().st_size == pytest.approx(8000 * speech.duration_seconds, rel=0.02)
    else:
        np.testing.assert_array_equal(heard, meant)


def test_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"use one of \.mp3, \.wav, \.flac"):
        write_audio(tmp_path / "speech.xyz", [])
