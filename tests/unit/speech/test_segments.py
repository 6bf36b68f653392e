from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.speech.segments import (
    CONTEXT_CHARACTERS,
    Piece,
    breaks_off,
    compression_ratio,
    ends_sentence,
    group_sentences,
    is_invented,
    is_spoken,
    overlap,
    settled_tokens,
    split_at_timestamps,
    split_sentences,
    spoken_from,
    tokens_with_times,
    whole_pieces,
    with_times,
)

if TYPE_CHECKING:
    from collections.abc import Callable

EOT, T0 = 100, 200


def tokenizer(**functions: Callable[[Any], Any]) -> Any:
    return SimpleNamespace(eot=EOT, timestamp_begin=T0, **functions)


def at(seconds: float) -> int:
    return T0 + round(seconds / 0.02)


def split(*tokens: int, duration: float = 10.0) -> list[Piece]:
    return split_at_timestamps(tokens, tokenizer(), duration)


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


def piece(start: float, end: float, text: str, *, closed: bool = True) -> tuple[Piece, str]:
    return Piece(start, end, (1,), closed), text


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        ([], 0),
        ([piece(0.2, 20.0, " no end", closed=False)], 0),  # nothing can be left
        ([piece(0.2, 8.0, " one,"), piece(8.4, 15.0, " two"), piece(15.2, 20.0, " th", closed=False)], 2),
        ([piece(0.2, 8.0, " one,"), piece(8.4, 15.0, " two"), piece(15.2, 19.8, " three")], 2),
        ([piece(0.2, 8.4, " One."), piece(8.4, 15.0, " Two"), piece(15.2, 19.0, " is")], 1),
        ([piece(0.2, 5.0, " One."), piece(5.4, 15.0, " Two"), piece(15.2, 20.0, " is")], 1),
        ([piece(0.2, 3.5, " One."), piece(5.4, 15.0, " Two"), piece(15.2, 20.0, " is")], 2),  # too early
        ([piece(0.2, 3.0, " One."), piece(3.4, 20.0, " two", closed=False)], 0),  # far too early
        ([piece(0.2, 8.0, " One?”"), piece(8.4, 15.0, " Two.”"), piece(15.2, 20.0, " Three.")], 2),
    ],
)
def test_a_window_in_running_speech_keeps_what_ends_before_its_end(
    pieces: list[tuple[Piece, str]], kept: int
) -> None:
    assert whole_pieces(pieces, duration=20.0) == kept


@pytest.mark.parametrize("text", [" Yes.", " “Yes.”", " 是的。", " हाँ।", " What?!", " Wait…"])
def test_sentences_end_in_every_script(text: str) -> None:
    assert ends_sentence(text)


@pytest.mark.parametrize("text", [" Yes", " yes,", " 3.5", " said:"])
def test_other_text_ends_no_sentence(text: str) -> None:
    assert not ends_sentence(text)


SPEECH = [(0.0, 4.0), (6.0, 20.0)]


@pytest.mark.parametrize(
    ("pieces", "groups"),
    [
        ([], []),
        ([(0, 2, " Ask not"), (2, 4, " what you can do."), (6, 9, " Ask me something.")], [(0, 2), (2, 3)]),
        ([(0, 2, " no full stop"), (2, 3, " in this text")], [(0, 2)]),
        ([(0, 2, " no full stop"), (2.1, 3, " but a gap")], [(0, 1), (1, 2)]),
        ([(0, 4, " no full stop"), (4, 9, " but a pause")], [(0, 1), (1, 2)]),
        ([(0, 2, " no full stop"), (2, 4, " here")], [(0, 2)]),  # a word alone
        ([(6, 9, " That was all of it."), (9, 9.5, " Thanks.")], [(0, 2)]),
        ([(0, 4, " That was all of it."), (6, 6.5, " Thanks.")], [(0, 1), (1, 2)]),  # after a pause
        ([(0, 4, " 今天天气很好。"), (6, 9, " 我们去公园吧。")], [(0, 1), (1, 2)]),
    ],
)
def test_segments_are_sentences(
    pieces: list[tuple[float, float, str]], groups: list[tuple[int, int]]
) -> None:
    assert group_sentences(pieces, SPEECH) == groups


@pytest.mark.parametrize(
    ("start", "begin"), [(0.5, 0.5), (3.9, 3.9), (4.5, 5.7), (5.8, 5.8), (7.0, 7.0), (21.0, 21.0)]
)
def test_a_segment_begins_with_its_speech(start: float, begin: float) -> None:
    assert spoken_from(start, 22.0, SPEECH) == pytest.approx(begin)


def test_text_without_full_stops_after_text_with_them_is_one_sentence() -> None:
    pieces = [(0.0, 3.0, " a sentence that goes on"), (3.5, 4.0, " and on and on")]

    assert group_sentences(pieces, SPEECH, "<|0.00|> It began.<|4.00|>") == [(0, 2)]
    assert group_sentences(pieces, SPEECH, "<|0.00|> it began<|4.00|>") == [(0, 1), (1, 2)]


def test_a_sentence_of_more_than_30_seconds_is_divided() -> None:
    pieces = [(0.0, 12.0, " a b c"), (12.0, 24.0, " d e f"), (24.0, 36.0, " g h i.")]

    assert group_sentences(pieces, [(0.0, 36.0)]) == [(0, 2), (2, 3)]


WORDS = {1: " one", 2: " two", 3: " three", 4: ".", 5: " four"}


@pytest.mark.parametrize(
    ("tokens", "settled"),
    [
        ([at(0), 1, 2, 3, 4, at(2), at(2), 1, 2, 3, 5, 1, 2], 6),
        ([at(0), 1, 2, 3, 4, at(2), at(2), 1, 2, 3], 0),  # too little follows
        ([at(0), 1, 2, 3, at(2), at(2), 1, 2, 3, 4, 1, 2], 0),  # not the end of a sentence
        ([at(0), 1, 2, 3, at(4), at(6), 1, 2, 3, 5, 1, 2], 5),  # no full stop anywhere, but a pause
        ([at(0), 1, 2, 3, at(2), at(2), 1, 2, 3, 5, 1, 2], 0),
        ([at(0), 1, 4, at(2), at(2), 1, 2, 3, 5, 1, 2], 0),  # a word alone
    ],
)
def test_early_text_ends_with_a_sentence_that_more_text_follows(tokens: list[int], settled: int) -> None:
    words = tokenizer(decode=lambda ids: "".join(WORDS[i] for i in ids))

    assert settled_tokens(tokens, words, SPEECH) == settled


@pytest.mark.parametrize(
    ("text", "avg_logprob", "no_speech_prob", "seconds", "speech_seconds", "invented"),
    [
        (" Thank you.", -1.1, 0.46, 3.0, 0.4, True),
        (" Thank you.", -0.3, 0.02, 3.0, 1.2, False),  # said
        (" Thank you.", -0.9, 0.02, 3.0, 1.2, False),  # said indistinctly
        (" Thank you.", -0.3, 0.02, 3.0, 0.4, False),  # said quickly
        (
            " Mm, so it is.",
            -1.1,
            0.8,
            3.0,
            0.4,
            True,
        ),  # no phrase of the list, but all else speaks against it
        (" Thank you.", -0.3, 0.5, 13.4, 1.4, True),  # only a tenth of it is speech
        (" Thank you.", -0.3, 0.5, 2.0, 1.4, False),
        (" We shall never surrender.", -1.1, 0.1, 3.0, 2.4, False),
        ("I know what to say. I know what to say.", -0.7, 0.7, 3.0, 0.5, True),  # it goes round in circles
        ("I know what to say. I know what to do.", -0.7, 0.7, 3.0, 0.5, False),
        ("I know what to say. I know what to say.", -0.7, 0.1, 3.0, 0.5, False),
    ],
)
def test_text_is_an_invention_only_on_several_signs(
    text: str,
    avg_logprob: float,
    no_speech_prob: float,
    seconds: float,
    speech_seconds: float,
    *,
    invented: bool,
) -> None:
    found = is_invented(
        text,
        "en",
        seconds=seconds,
        avg_logprob=avg_logprob,
        no_speech_prob=no_speech_prob,
        speech_seconds=speech_seconds,
    )

    assert found is invented


def test_text_with_times_gives_the_model_back_its_tokens() -> None:
    pieces = [(Piece(0.0, 1.5, (1, 2)), " ab"), (Piece(2.0, 3.14, (3,)), " c")]
    text = with_times(pieces)

    assert text == "<|0.00|> ab<|1.50|><|2.00|> c<|3.14|>"
    assert tokens_with_times(text, tokenizer(encode=lambda part: [len(part)])) == [
        *(at(0), 3, at(1.5)),
        *(at(2), 2, at(3.14)),
    ]


def test_long_context_keeps_its_last_whole_pieces() -> None:
    piece = Piece(0.0, 1.0, (1,))
    long = with_times([(piece, " " + "a" * CONTEXT_CHARACTERS)])

    assert with_times([(piece, " b"), (piece, " c")], long) == "<|0.00|> b<|1.00|><|0.00|> c<|1.00|>"
    assert with_times([], long) == long
    assert with_times([]) == ""


def test_a_sentence_that_ends_inside_a_piece_divides_it_at_its_pause() -> None:
    words = [" Human", " path.", " The", " U.S.", " Army", " left.", " and", " so"]

    def decode(tokens: list[int]) -> str:
        return "".join(words[token] for token in tokens)

    pieces = split_sentences(Piece(0.0, 10.0, tuple(range(8))), decode, [(0.0, 3.0), (3.4, 10.0)])

    assert [(piece.start, piece.end, decode(list(piece.tokens))) for piece in pieces] == [
        (0.0, 3.2, " Human path."),
        (3.2, 10.0, " The U.S. Army left. and so"),
    ]


def test_text_breaks_off_inside_a_sentence_where_its_style_has_full_stops() -> None:
    style = "<|0.00|> It rained.<|2.00|>"

    assert breaks_off("<|0.00|> We went home. And<|3.00|>", style)
    assert not breaks_off("<|0.00|> We went home.<|3.00|>", style)
    assert not breaks_off("<|0.00|> We went home and<|3.00|>", "<|0.00|> it rained<|2.00|>")
    assert not breaks_off("<|0.00|> We went home and<|3.00|>", "")
    assert not breaks_off("", style)
