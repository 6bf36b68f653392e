"""Groups of voices, and the speakers of segments and words that follow from them."""

from __future__ import annotations

import numpy as np
import pytest

from stenobird.speakers import clusters
from stenobird.speakers.clusters import cluster
from stenobird.speakers.labels import Label, Span, find_turns, label
from stenobird.speakers.voices import EMBEDDING_SIZE, Voice, pack, unpack, window_start
from tests.support.speaker_models import window_starts

SECOND = 16_000


def voice(person: int, *runs: tuple[float, float], noise: float = 0.0, seed: int = 0) -> Voice:
    """Return a voice of a person; `noise` is how far it is from the person's usual sound."""
    generator = np.random.default_rng([person, seed])
    sound = np.eye(EMBEDDING_SIZE, dtype=np.float32)[person]
    sound = sound + noise * generator.normal(size=EMBEDDING_SIZE).astype(np.float32) / EMBEDDING_SIZE**0.5
    seconds = sum(end - start for start, end in runs)
    samples = tuple((round(start * SECOND), round(end * SECOND)) for start, end in runs)
    return Voice(samples, seconds, sound / np.linalg.norm(sound))


def test_voices_survive_their_form_as_bytes() -> None:
    voices = [voice(3, (0.5, 2.0), (4.0, 4.5)), Voice(((0, 100),), 0.01, None)]
    found = unpack(pack(voices))
    assert [(one.runs, one.seconds) for one in found] == [(one.runs, one.seconds) for one in voices]
    assert found[1].embedding is None
    np.testing.assert_array_equal(found[0].embedding, voices[0].embedding)
    assert unpack(pack([])) == []


@pytest.mark.parametrize("people", [1, 2, 5, 9])
def test_people_are_told_apart_whatever_the_order_of_voices_in_a_window(people: int) -> None:
    order = np.random.default_rng(people).permutation(people * 12) % people
    windows = [
        [
            voice(int(person), (0, 3), noise=0.5, seed=2 * number),
            voice(int((person + 1) % people), (3, 6), noise=0.5, seed=2 * number + 1),
        ]
        for number, person in enumerate(order)
    ]
    if people == 1:
        windows = [voices[:1] for voices in windows]
    found = cluster(windows)
    pairs = {
        (int((person + place) % people), speaker)
        for person, speakers in zip(order, found, strict=True)
        for place, speaker in enumerate(speakers)
    }
    assert len(pairs) == people


def test_thousands_of_voices_are_grouped_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_MOST_POINTS", 50)
    windows = [[voice(number % 4, (0, 5), noise=0.5, seed=number)] for number in range(1000)]
    found = [speakers[0] for speakers in cluster(windows)]
    assert len(set(found)) == 4
    assert all(speaker == found[number % 4] for number, speaker in enumerate(found))


def test_a_short_sound_is_no_speaker_of_its_own() -> None:
    windows = [[voice(0, (0, 8))], [voice(0, (0, 5)), voice(1, (6, 6.4))], [voice(0, (0, 8))]]
    assert len({speaker for speakers in cluster(windows) for speaker in speakers}) == 1


def test_a_mixture_of_two_voices_is_no_third_speaker_but_a_short_new_voice_is() -> None:
    one, other = (voice(person, (0, 6)) for person in (0, 1))
    assert one.embedding is not None
    assert other.embedding is not None
    mixed = Voice(((0, 64_000),), 4.0, (one.embedding + other.embedding) / np.float32(2**0.5))
    windows = [[one], [one], [mixed], [other], [other]]
    assert len({speaker for speakers in cluster(windows) for speaker in speakers}) == 2
    windows[2] = [voice(2, (0, 2))]
    assert len({speaker for speakers in cluster(windows) for speaker in speakers}) == 3


@pytest.mark.parametrize(("least", "most", "speakers"), [(None, 2, 2), (None, 1, 1), (5, None, 5), (4, 4, 4)])
def test_bounds_on_the_number_of_speakers_hold(least: int | None, most: int | None, speakers: int) -> None:
    windows = [[voice(number % 3, (0, 5), noise=0.4, seed=number)] for number in range(12)]
    assert len({one[0] for one in cluster(windows, least=least, most=most)}) == speakers


def test_no_voices_make_no_labels() -> None:
    assert label([[], []], [Span(0, 1)]) == []
    assert label([[Voice(((0, 1600),), 0.1, None)]], []) == []


def test_each_moment_is_taken_from_the_window_in_whose_middle_it_is() -> None:
    windows = [[voice(0, (0, 10))], [voice(0, (0, 3)), voice(1, (3, 10))], [voice(1, (0, 8))]]
    turns = [(turn.start, turn.end, turn.speaker) for turn in find_turns(windows)]
    assert turns == [(0, 7.5, 0), (7.5, 8, 0), (8, 12.5, 1), (12.5, 18, 1)]


def test_windows_overlap_and_have_all_of_the_audio() -> None:
    starts = [window_start(number) for number in range(500)]
    assert [start / SECOND for start in starts[:9]] == [0, 5, 10, 15, 20, 25, 30, 38, 46]
    for length in (0, 1, 10 * SECOND, 10 * SECOND + 1, 40 * SECOND, 41 * SECOND, 3600 * SECOND):
        found = window_starts(length)
        assert found == starts[: len(found)]
        assert found[-1] + 10 * SECOND >= length
        assert len(found) == 1 or found[-2] + 10 * SECOND < length


def test_far_windows_are_divided_in_the_middle_of_what_they_share() -> None:
    windows = [[voice(number % 2, (0, 10))] for number in range(9)]
    turns = [(turn.start, turn.end) for turn in find_turns(windows)]
    assert turns[:2] == [(0, 7.5), (7.5, 12.5)]
    assert turns[5:] == [(27.5, 32.5), (32.5, 39), (39, 47), (47, 56)]


def test_a_segment_gets_its_dominant_speaker_and_each_word_its_own() -> None:
    windows = [[voice(7, (0, 4)), voice(3, (4, 10))]]
    spans = [Span(0, 3), Span(3, 6, ((3, 3.5), (3.5, 4), (4, 5), (5, 6))), Span(6, 10)]
    assert label(windows, spans) == [Label(1), Label(2, words=(1, 1, 2, 2)), Label(2)]


def test_overlap_is_mentioned_from_half_a_second_on() -> None:
    windows = [[voice(0, (0, 6)), voice(1, (3, 3.4), (5, 10))]]
    assert label(windows, [Span(0, 4.5), Span(4.5, 7), Span(7, 10)]) == [
        Label(1),
        Label(2, overlap=True),
        Label(2),
    ]


def test_words_outside_all_turns_get_the_nearest_speaker() -> None:
    windows = [[voice(0, (1, 4)), voice(1, (7, 9))]]
    spans = [Span(0, 0.5), Span(4.2, 4.6), Span(6.5, 6.9), Span(9.5, 10)]
    assert [one.speaker for one in label(windows, spans)] == [1, 1, 2, 2]
