"""From Whisper's output to segments.

Tokens are split at timestamps, hallucinations left out, and what is left joined to sentences.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from faster_whisper.tokenizer import Tokenizer

TIMESTAMP_SECONDS = 0.02
"""One step of Whisper's timestamp tokens."""

MIN_SPEECH_OVERLAP_SECONDS = 0.2
"""A segment that overlaps less speech is taken for a hallucination."""

REST_SPEECH_SECONDS = 0.8
"""So much speech after the last timestamp is decoded again."""

TAIL_SECONDS = 0.5
"""A segment that ends so close to a cut in running speech was cut off by it."""

KEPT_FROM = 0.2
"""A window ends at a sentence end in the part after this. If its last whole segment ends before, it keeps all
it has: every window makes progress."""

SENTENCE_SECONDS = 30.0
"""Segments are joined to a sentence up to this length."""

INVENTED_LOGPROB = -0.8
INVENTED_NO_SPEECH = 0.4
INVENTED_SPEECH_SECONDS = 0.6
INVENTED_SPEECH_SHARE = 0.2
INVENTED_SIGNS = 3
"""So many signs of the four in `is_invented` make a segment an invention."""

INVENTED_PHRASES: Mapping[str, frozenset[str]] = {
    "de": frozenset({"vielen dank", "untertitel der amara org community", "untertitelung des zdf 2020"}),
    "en": frozenset(
        {"thank you", "thank you very much", "thanks for watching", "thank you for watching", "you", "bye"}
    ),
    "es": frozenset(
        {"gracias", "gracias por ver el video", "subtítulos realizados por la comunidad de amara org"}
    ),
    "fr": frozenset({"merci", "sous titres réalisés par la communauté d amara org", "sous titrage st 501"}),
    "it": frozenset({"grazie", "sottotitoli creati dalla comunità amara org"}),
    "ja": frozenset({"ご視聴ありがとうございました", "ありがとうございました"}),
    "ko": frozenset({"감사합니다", "시청해주셔서 감사합니다"}),
    "nl": frozenset({"bedankt", "ondertitels ingediend door de amara org gemeenschap"}),
    "pt": frozenset({"obrigado", "legendas pela comunidade amara org"}),
    "ru": frozenset({"продолжение следует", "спасибо"}),
    "zh": frozenset({"谢谢", "谢谢大家", "谢谢观看"}),
}
"""What Whisper writes most often where nothing was said."""

FEW_WORDS = 2
ALONE_PAUSE_SECONDS = 1.0
"""One or two words stay a segment of their own only between pauses of this length."""

CONTEXT_CHARACTERS = 800
"""Text before a window that the model is given, times included."""

EARLY_TOKENS_AFTER = 6
"""Early text is followed by more tokens than this."""
EARLY_PAUSE_SECONDS = 0.3

NEAR_SECONDS = 0.3
"""Whisper's times are accurate to about this, except that a segment may begin with the silence before it."""

_REPEATED = re.compile(r"(\w+ \w+ \w+.*?)(?: \1)+")

_TIME = re.compile(r"<\|(\d+\.\d\d)\|>")
_START = re.compile(_TIME.pattern + r"(?!<\||$)")

_INNER_END = re.compile(r"(?:\w{4}\.|[!?…。！？؟۔।])[\"”’»)\]]*$")  # noqa: RUF001
"""A sentence end that is no abbreviation."""

_UNSPACED = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of scripts that put no spaces between words: about two make one."""

_SENTENCE_END = re.compile(r"[.!?…。！？؟۔।]+[\"'”’»)\]]*$")  # noqa: RUF001  # full stops of other scripts


@dataclass(frozen=True, slots=True)
class Piece:
    """Text tokens with their times in seconds from the start of the window.

    `closed` is false for the tokens after the last timestamp pair: the model gave that segment no end.
    """

    start: float
    end: float
    tokens: tuple[int, ...]
    closed: bool = True


def split_at_timestamps(tokens: Sequence[int], tokenizer: Tokenizer, duration: float) -> list[Piece]:
    """Cut a token sequence where two timestamps meet, as Whisper's reference decoder does.

    Text after the last timestamp is an open piece that reaches to `duration`.
    """
    pieces: list[Piece] = []
    start, text = 0.0, list[int]()
    first_time, eot = tokenizer.timestamp_begin, tokenizer.eot
    for token in tokens:
        if token >= first_time:
            seconds = min((token - first_time) * TIMESTAMP_SECONDS, duration)
            if text:
                pieces.append(Piece(start, max(seconds, start), tuple(text)))
                text = []
            start = seconds
        elif token < eot:
            text.append(token)
    if text:
        pieces.append(Piece(start, duration, tuple(text), closed=False))
    return pieces


def with_times(pieces: Iterable[tuple[Piece, str]], before: str = "") -> str:
    """Return the text of pieces between the times that the model gave them: `<|0.00|> Hello.<|1.20|>`.

    Text in this form goes on from `before`; only the end of what is longer than `CONTEXT_CHARACTERS` is kept.
    """
    text = before + "".join(f"<|{piece.start:.2f}|>{said}<|{piece.end:.2f}|>" for piece, said in pieces)
    starts = [mark.start() for mark in _START.finditer(text)]
    least = len(text) - CONTEXT_CHARACTERS
    return text[next((start for start in starts if start >= least), starts[-1]) :] if starts else ""


def tokens_with_times(text: str, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of what `with_times` returned."""
    tokens: list[int] = []
    for number, part in enumerate(_TIME.split(text)):
        if number % 2:
            tokens.append(tokenizer.timestamp_begin + round(float(part) / TIMESTAMP_SECONDS))
        elif part:
            tokens.extend(tokenizer.encode(part))
    return tokens


def compression_ratio(text: str) -> float:
    """Return how well zlib compresses the text: above 2.4 it repeats itself."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def overlap(start: float, end: float, spans: Sequence[tuple[float, float]]) -> float:
    """Return the seconds of `spans` within `[start, end)`."""
    return sum(max(0.0, min(end, b) - max(start, a)) for a, b in spans)


def is_spoken(start: float, end: float, speech: Sequence[tuple[float, float]]) -> bool:
    """Whether a segment overlaps enough speech to be real.

    A segment that is itself short needs speech under half of it.
    """
    return overlap(start, end, speech) >= min(MIN_SPEECH_OVERLAP_SECONDS, (end - start) / 2)


def spoken_from(start: float, end: float, speech: Sequence[tuple[float, float]]) -> float:
    """Return when a segment begins, without the silence before its speech."""
    first = next((a for a, b in speech if b > start and a < end), start)
    return max(start, first - NEAR_SECONDS)


def is_invented(
    text: str,
    language: str,
    *,
    seconds: float,
    avg_logprob: float,
    no_speech_prob: float,
    speech_seconds: float,
) -> bool:
    """Whether a segment of such a length was probably not said.

    Signs are doubtful text, a doubtful window, and hardly any speech under it.
    A phrase that Whisper is known to invent, or one that it says again and again, is one more, never enough
    alone.
    """
    phrase = " ".join(re.findall(r"\w+", text.lower()))
    signs = (
        avg_logprob < INVENTED_LOGPROB,
        no_speech_prob > INVENTED_NO_SPEECH,
        speech_seconds < max(INVENTED_SPEECH_SECONDS, INVENTED_SPEECH_SHARE * seconds),
        phrase in INVENTED_PHRASES.get(language, ()) or _REPEATED.fullmatch(phrase) is not None,
    )
    return sum(signs) >= INVENTED_SIGNS


def ends_sentence(text: str) -> bool:
    """Whether a sentence may end with this text."""
    return _SENTENCE_END.search(text.rstrip()[-16:]) is not None


def breaks_off(text: str, style: str) -> bool:
    """Whether the text ends inside a sentence, where the text for its style has full stops; both with times.

    Then the next window goes on from it. All others get the text for the style: it is the same for all
    windows of a job, which can therefore be decoded in one batch.
    """
    said = [part for part in _TIME.split(text)[::2] if part.strip()]
    return bool(said) and not ends_sentence(said[-1]) and any(map(ends_sentence, _TIME.split(style)[::2]))


def split_sentences(
    piece: Piece, decode: Callable[[list[int]], str], speech: Sequence[tuple[float, float]]
) -> list[Piece]:
    """Divide a piece where a sentence ends inside it, so that segments can end there.

    The model gives no time for such a place: it is the share of the text before it, or a pause close to that.
    """
    cuts: list[int] = []
    for number in range(1, len(piece.tokens)):
        said, rest = decode(list(piece.tokens[:number])), decode(list(piece.tokens[number:]))
        if _INNER_END.search(said) and _starts_sentence(rest):
            cuts.append(number)
    pieces, start, whole = [], piece.start, len(decode(list(piece.tokens)))
    for first, after in pairwise([0, *cuts, len(piece.tokens)]):
        end = piece.end
        if after < len(piece.tokens):
            share = len(decode(list(piece.tokens[:after]))) / whole
            end = piece.start + share * (piece.end - piece.start)
            if (pause := pause_near(end, speech)) is not None:
                end = (pause[0] + pause[1]) / 2
            end = round(min(max(end, start), piece.end), 2)
        pieces.append(Piece(start, end, piece.tokens[first:after], closed=piece.closed or end < piece.end))
        start = end
    return pieces


def _starts_sentence(text: str) -> bool:
    letter = text.lstrip()[:1]
    parted = text[:1].isspace() or _UNSPACED.match(letter) is not None
    return parted and letter.isalpha() and not letter.islower()


def pause_near(seconds: float, speech: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Return the gap between runs of speech at a time or close to it, the longest if there are several."""
    gaps = [(a, b) for (_, a), (b, _) in pairwise(speech) if a - NEAR_SECONDS <= seconds <= b + NEAR_SECONDS]
    return max(gaps, key=lambda gap: gap[1] - gap[0]) if gaps else None


def whole_pieces(pieces: Sequence[tuple[Piece, str]], *, duration: float) -> int:
    """Return how many pieces a window keeps that ends in running speech, each with its text.

    The piece that the window's end broke off is left to the next window, which starts where the last kept one
    ends: at a sentence end if there is one, so that no sentence is cut in two. Zero means that nothing can be
    left and the window keeps everything.
    """
    whole = len(pieces)
    while whole:
        piece = pieces[whole - 1][0]
        if piece.closed and piece.end < duration - TAIL_SECONDS:
            break
        whole -= 1
    late = [n for n in range(1, whole + 1) if pieces[n - 1][0].end >= KEPT_FROM * duration]
    sentences = [n for n in late if ends_sentence(pieces[n - 1][1])]
    return max(sentences or late, default=0)


def group_sentences(
    pieces: Sequence[tuple[float, float, str]], speech: Sequence[tuple[float, float]], context: str = ""
) -> list[tuple[int, int]]:
    """Return which consecutive pieces, given as start, end and text, make up each segment: `[first, last)`.

    A segment ends with a sentence, or where the next piece would make it too long. Text without any full
    stop, in the `context` before it neither, is divided between Whisper's segments where nobody speaks. One
    or two words are joined to a neighbour unless pauses surround them.
    """
    before = _TIME.split(context)[::2]
    punctuated = any(ends_sentence(text) for text in (*before, *(text for _, _, text in pieces)))
    groups: list[tuple[int, int]] = []
    first = 0
    for i, (_, end, text) in enumerate(pieces):
        next_start, next_end, _ = pieces[min(i + 1, len(pieces) - 1)]
        too_long = next_end - pieces[first][0] > SENTENCE_SECONDS
        pausing = not punctuated and (next_start > end or pause_near(end, speech) is not None)
        if ends_sentence(text) or too_long or pausing or i + 1 == len(pieces):
            groups.append((first, i + 1))
            first = i + 1
    return _without_lone_words(groups, pieces, speech)


def _without_lone_words(
    groups: list[tuple[int, int]],
    pieces: Sequence[tuple[float, float, str]],
    speech: Sequence[tuple[float, float]],
) -> list[tuple[int, int]]:
    def pause_before(group: tuple[int, int]) -> float:
        gap = pause_near(pieces[group[0]][0], speech)
        return gap[1] - gap[0] if gap else 0.0

    joined: list[tuple[int, int]] = []
    for group in groups:
        if joined:
            last = joined[-1]
            few = min(_words(pieces, last), _words(pieces, group)) <= FEW_WORDS
            seconds = pieces[group[1] - 1][1] - pieces[last[0]][0]
            if few and pause_before(group) < ALONE_PAUSE_SECONDS and seconds <= SENTENCE_SECONDS:
                joined[-1] = (last[0], group[1])
                continue
        joined.append(group)
    return joined


def _words(pieces: Sequence[tuple[float, float, str]], group: tuple[int, int]) -> int:
    text = "".join(text for _, _, text in pieces[slice(*group)])
    return max(len(text.split()), len(_UNSPACED.findall(text)) // 2)


def settled_tokens(tokens: Sequence[int], tokenizer: Tokenizer, speech: Sequence[tuple[float, float]]) -> int:
    """Return how many tokens at the start of a window's text would stay if the model went on writing.

    They end with a segment that closes a sentence, or stands before a pause in text without any full stop,
    and that more text follows.
    """
    first_time, eot = tokenizer.timestamp_begin, tokenizer.eot
    punctuated = any(token < eot and ends_sentence(tokenizer.decode([token])) for token in tokens)
    settled, text = 0, list[int]()
    for i, token in enumerate(tokens[: -EARLY_TOKENS_AFTER - 1]):
        if token < eot:
            text.append(token)
        elif token >= first_time and text and tokens[i - 1] < eot:
            pause = pause_near((token - first_time) * TIMESTAMP_SECONDS, speech)
            pausing = not punctuated and pause is not None and pause[1] - pause[0] >= EARLY_PAUSE_SECONDS
            said = tokenizer.decode(text)
            if (ends_sentence(said) or pausing) and len(said.split()) > FEW_WORDS:
                settled = i + 1
    return settled
