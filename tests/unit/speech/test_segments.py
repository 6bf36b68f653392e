from __future__ import annotations

import pytest

from stenobird.speech.segments import (
    Piece,
    compression_ratio,
    hand_over,
    is_spoken,
    overlap,
    split_at_timestamps,
)

EOT, T0 = 100, 200


def at(seconds: float) -> int:
    return T0 + round(seconds / 0.02)


def split(*tokens: int, duration: float = 10.0) -> list[Piece]:
    return split_at_timestamps(tokens, timestamp_begin=T0, eot=EOT, duration=duration)


def test_pairs_of_timestamps_bound_segments() -> None:
    assert split(at(0), 1, 2, at(2), at(2.5), 3, at(4)) == [
        Piece(0.0, 2.0, (1, 2)),
        Piece(2.5, 4.0, (3,)),
    ]


def test_text_after_the_last_timestamp_is_open_to_the_end() -> None:
    assert split(at(0), 1, at(2), at(2), 3) == [
        Piece(0.0, 2.0, (1,)),
        Piece(2.0, 10.0, (3,), closed=False),
    ]


def test_text_without_timestamps_covers_everything() -> None:
    assert split(1, 2, 3) == [Piece(0.0, 10.0, (1, 2, 3), closed=False)]


def test_times_never_lie_behind_the_audio_or_before_their_start() -> None:
    assert split(at(8), 1, at(28)) == [Piece(8.0, 10.0, (1,))]
    assert split(at(5), 1, at(3)) == [Piece(5.0, 5.0, (1,))]


def test_special_tokens_are_not_text() -> None:
    assert split(at(0), EOT, EOT + 3, at(2)) == []


def test_repetition_compresses() -> None:
    assert compression_ratio("so it is " * 30) > 2.4
    assert compression_ratio("the quick brown fox jumps over the lazy dog") < 2.4
    assert compression_ratio("") == 0.0


@pytest.mark.parametrize(
    ("start", "end", "spoken"),
    [
        (0.0, 3.0, True),  # a second of speech under it
        (2.5, 6.0, False),  # noise in silence
        (1.9, 4.0, False),  # 100 ms at its edge
        (1.95, 2.05, True),  # a short word, half of it speech
    ],
)
def test_segments_need_speech_under_them(start: float, end: float, *, spoken: bool) -> None:
    assert is_spoken(start, end, [(1.0, 2.0)]) is spoken


def test_overlap_counts_each_span() -> None:
    assert overlap(0.5, 3.5, [(0.0, 1.0), (2.0, 3.0), (3.2, 9.0)]) == pytest.approx(1.8)


FIRST, SECOND = Piece(0.2, 8.0, (1,)), Piece(8.4, 15.0, (2,))
ALL_SPEECH = [(0.0, 20.0)]


@pytest.mark.parametrize(
    ("pieces", "kept", "resume"),
    [
        ([], 0, None),
        ([Piece(0.2, 20.0, (1,), closed=False)], 1, None),  # nothing would be left of the window
        ([FIRST, SECOND, Piece(15.2, 20.0, (3,), closed=False)], 2, 15.1),
        ([FIRST, SECOND, Piece(15.2, 19.8, (3,))], 2, 15.1),  # closed, but at the cut
        ([FIRST, SECOND], 2, 15.0),  # the model stopped early: the next window hears the rest
        ([Piece(0.2, 5.0, (1,))], 1, None),  # too early to leave; another pass has decoded the rest
        ([Piece(0.2, 7.0, (1,)), Piece(7.2, 20.0, (2,), closed=False)], 2, None),
    ],
)
def test_a_cut_in_running_speech_leaves_to_the_next_window_what_it_broke_off(
    pieces: list[Piece], kept: int, resume: float | None
) -> None:
    number, seconds = hand_over(pieces, duration=20.0, speech=ALL_SPEECH)

    assert number == kept
    assert seconds == pytest.approx(resume)


def test_silence_before_the_cut_is_not_left_to_the_next_window() -> None:
    assert hand_over([FIRST, SECOND], duration=20.0, speech=[(0.0, 15.3)]) == (2, None)
