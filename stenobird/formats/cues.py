"""Cuts a transcript into readable subtitle cues: at most two lines of 42 columns and seven seconds.

The limits are those of the usual style guides for timed text. A segment that fits becomes one cue with the
segment's times. A longer one is cut at the ends of sentences and clauses, at the times of its words; without
words, time is divided by the width of the text. Also the direction of text: by its characters, and where
those are misleading, by the spoken language.
"""

# ruff: noqa: RUF001  # the punctuation of other scripts is the point

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate, chain, groupby
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stenobird.transcript import Segment, Transcript, Word

LINE_COLUMNS = 42
MAX_LINES = 2
MAX_CUE_SECONDS = 7.0

_CUE_COLUMNS = LINE_COLUMNS * MAX_LINES
_SENTENCE_END = re.compile(r"[.!?…。！？؟۔।]+[\"'”’»)\]]*$")
_CLAUSE_END = re.compile(r"[,;:،؛、，；：–—]+[\"'”’»)\]]*$")
_IDEOGRAPHIC_STOP = re.compile(r"(?<=[。！？、，；：])")


@dataclass(frozen=True, slots=True)
class Cue:
    """One caption. Times are whole milliseconds; `lines` holds one or two lines without line breaks."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of text that stays on one line. `text` starts with a space if one precedes it.

    `columns` is the width without that space.
    """

    text: str
    columns: int
    start: float
    end: float


def cues(transcript: Transcript) -> Iterator[Cue]:
    """Yield the transcript's cues in order.

    Times never overlap or run backwards, even if those of the segments do: a cue starts no earlier than the
    previous one ended and lasts at least a millisecond. No text is lost; runs of white space become one
    space, and control characters, which no subtitle format can carry, are removed.
    """
    earliest_ms = 0
    for segment in turns(transcript.segments):
        tokens = _tokens(segment)
        for first, last in _cut(tokens):
            part = tokens[first:last]
            start_ms = max(_milliseconds(part[0].start), earliest_ms)
            earliest_ms = max(_milliseconds(part[-1].end), start_ms + 1)
            yield Cue(start_ms, earliest_ms, _lines(part), segment.speaker)


def turns(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Yield the segments, those in which the speaker changes in parts of one speaker each."""
    for segment in segments:
        if len({word.speaker for word in segment.words}) < 2 or not _spells(segment):
            yield segment
            continue
        for speaker, group in groupby(segment.words, lambda word: word.speaker):
            words = tuple(group)
            text = "".join(word.text for word in words)
            yield replace(
                segment, start=words[0].start, end=words[-1].end, text=text, words=words, speaker=speaker
            )


def _spells(segment: Segment) -> bool:
    """Return whether the words are the text."""
    return clean("".join(word.text for word in segment.words)) == clean(segment.text)


def introduction(speaker: str | None, before: str | None) -> str:
    """Return what stands before the text of a speaker: the name, unless `before` was the same one."""
    return f"{speaker}: " if speaker not in {None, before} else ""


def clean(text: str) -> str:
    """Return the text on one line: white space collapsed, control characters removed."""
    return " ".join("".join(c for c in text if c.isspace() or unicodedata.category(c) != "Cc").split())


def columns(text: str) -> int:
    """Return how many columns the text takes: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def ends_sentence(text: str) -> bool:
    """Return whether the text ends a sentence, in any script that Whisper writes."""
    return _SENTENCE_END.search(text.rstrip()[-16:]) is not None


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


# --- from a segment to tokens -------------------------------------------------------------------------------


def _tokens(segment: Segment) -> list[_Token]:
    if segment.words and _spells(segment):
        return list(_timed_tokens(segment.words))
    return list(_spread(_pieces(clean(segment.text)), segment.start, segment.end))


def _timed_tokens(words: Sequence[Word]) -> Iterator[_Token]:
    after_space = True
    for word in words:
        pieces = _pieces(clean(word.text))
        if pieces and not (after_space or word.text[0].isspace()):
            pieces[0] = pieces[0].removeprefix(" ")
        yield from _spread(pieces, word.start, word.end)
        after_space = word.text[-1:].isspace() if pieces else after_space or bool(word.text)


def _pieces(text: str) -> list[str]:
    """Split clean text into pieces that fit on one line; each starts with the space that precedes it."""
    pieces: list[str] = []
    for word in text.split():
        if columns(word) <= LINE_COLUMNS // 2:
            pieces.append(f" {word}")
        else:
            # Scripts without spaces: cut after their punctuation, then by width.
            clauses = filter(None, _IDEOGRAPHIC_STOP.split(word))
            first, *others = chain.from_iterable(map(_slices, clauses))
            pieces += [f" {first}", *others]
    return pieces


def _slices(word: str) -> Iterator[str]:
    """Cut a word that is wider than a line, never before a combining mark or a joiner."""
    if columns(word) <= LINE_COLUMNS:
        yield word
        return
    piece, width = "", 0
    for char in word:
        joins = bool(unicodedata.combining(char)) or unicodedata.category(char) in {"Mn", "Mc", "Me", "Cf"}
        char_columns = columns(char)
        if piece and not joins and width + char_columns > LINE_COLUMNS // 2:
            yield piece
            piece, width = "", 0
        piece += char
        width += char_columns
    yield piece


def _spread(pieces: Sequence[str], start: float, end: float) -> Iterator[_Token]:
    """Divide the time from `start` to `end` among the pieces in proportion to their width."""
    widths = [columns(piece.removeprefix(" ")) for piece in pieces]
    total = sum(max(1, width) for width in widths)
    seconds = max(0.0, end - start)
    done = 0
    for piece, width in zip(pieces, widths, strict=True):
        begin = start + seconds * done / total
        done += max(1, width)
        yield _Token(piece, width, begin, start + seconds * done / total)


# --- from tokens to cues ------------------------------------------------------------------------------------


class _Widths:
    """Widths of any run of tokens in constant time."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._gaps = [int(token.text.startswith(" ")) for token in tokens]
        widths = (token.columns + gap for token, gap in zip(tokens, self._gaps, strict=True))
        self._ends = list(accumulate(widths, initial=0))

    def of(self, first: int, last: int) -> int:
        return self._ends[last] - self._ends[first] - self._gaps[first]

    def fits(self, first: int, last: int) -> bool:
        """Whether tokens `first` to `last` (exclusive) may be a cue: they are short, and fit on two lines."""
        if self._tokens[last - 1].end - self._tokens[first].start > MAX_CUE_SECONDS:
            return False
        if last - first == 1 or self.of(first, last) <= LINE_COLUMNS:
            return True
        # The first line takes as many tokens as fit; the rest must fit on the second.
        limit = LINE_COLUMNS + self._ends[first] + self._gaps[first]
        middle = max(first + 1, bisect_right(self._ends, limit, first, last) - 1)
        return self.of(middle, last) <= LINE_COLUMNS or last - middle == 1


def _cut(tokens: Sequence[_Token]) -> list[tuple[int, int]]:
    """Return the token ranges of the cues with the least total penalty (a shortest path over the breaks)."""
    if not tokens:
        return []
    widths = _Widths(tokens)
    if widths.fits(0, len(tokens)):
        return [(0, len(tokens))]
    best: list[tuple[float, int]] = [(0.0, 0)]
    for last in range(1, len(tokens) + 1):
        choice = (math.inf, last - 1)
        ending = _break_penalty(tokens[last - 1].text) if last < len(tokens) else 0.0
        for first in range(last - 1, -1, -1):
            if first < last - 1 and not widths.fits(first, last):
                break
            slack = max(0.0, 1 - widths.of(first, last) / _CUE_COLUMNS)
            choice = min(choice, (best[first][0] + 0.5 + slack**2 + ending, first))
        best.append(choice)
    ranges = []
    last = len(tokens)
    while last:
        first = best[last][1]
        ranges.append((first, last))
        last = first
    return ranges[::-1]


def _break_penalty(text: str) -> float:
    if ends_sentence(text):
        return 0.0
    return 0.3 if _CLAUSE_END.search(text[-16:]) else 0.8


def _lines(tokens: Sequence[_Token]) -> tuple[str, ...]:
    widths = _Widths(tokens)
    count = len(tokens)
    if count == 1 or widths.of(0, count) <= LINE_COLUMNS:
        return (_join(tokens),)

    def penalty(middle: int) -> float:
        above, below = widths.of(0, middle), widths.of(middle, count)
        overflow = max(0, above - LINE_COLUMNS) + max(0, below - LINE_COLUMNS)
        return overflow * 100 + abs(above - below) / LINE_COLUMNS + _break_penalty(tokens[middle - 1].text)

    middle = min(range(1, count), key=penalty)
    return (_join(tokens[:middle]), _join(tokens[middle:]))


def _join(tokens: Sequence[_Token]) -> str:
    return "".join(token.text for token in tokens).removeprefix(" ")


_VTT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def srt(transcript: Transcript) -> str:
    """Return SubRip: numbered cues, a comma before the milliseconds, LF; empty if there was no speech.

    SubRip has no escapes, so "-->" in the text, which players would read as a timing line, becomes "→". A cue
    whose speaker is another one than before starts with that speaker's name.
    """
    blocks = []
    last = None
    for number, cue in enumerate(cues(transcript), 1):
        name = introduction(cue.speaker, last)
        last = cue.speaker
        blocks.append(
            f"{number}\n{_timestamp(cue.start_ms, ',')} --> {_timestamp(cue.end_ms, ',')}\n"
            f"{(name + _text(cue, transcript)).replace('-->', '→')}\n\n"
        )
    return "".join(blocks)


def vtt(transcript: Transcript) -> str:
    """Return WebVTT (W3C): a header and numbered cues, with their speakers in voice tags.

    `&`, `<` and `>` are escaped.
    """
    return "WEBVTT\n\n" + "".join(
        f"{number}\n{_timestamp(cue.start_ms, '.')} --> {_timestamp(cue.end_ms, '.')}\n"
        f"{_voice(cue)}{_text(cue, transcript).translate(_VTT_ESCAPES)}\n\n"
        for number, cue in enumerate(cues(transcript), 1)
    )


def _voice(cue: Cue) -> str:
    return "" if cue.speaker is None else f"<v {clean(cue.speaker).translate(_VTT_ESCAPES)}>"


def _text(cue: Cue, transcript: Transcript) -> str:
    return "\n".join(marked(line, transcript.language) for line in cue.lines)


def _timestamp(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{rest:03d}"


# --- the direction of text ----------------------------------------------------------------------------------

RIGHT_TO_LEFT_MARK: Final = "\u200f"

_STRONG: Final = frozenset({"L", "R", "AL"})
"""Classes of characters that have a direction of their own."""

RIGHT_TO_LEFT_TAGS: Final = {
    "ar": "ar-SA",
    "fa": "fa-IR",
    "he": "he-IL",
    "ps": "ps-AF",
    "sd": "sd-Arab-PK",
    "ur": "ur-PK",
    "yi": "yi-001",
}
"""Right-to-left languages that Whisper knows, and their tags in word processors."""


def is_right_to_left(text: str, language: str | None = None) -> bool:
    """Return whether a paragraph is set from right to left.

    It is if its first strong character is right-to-left (Unicode bidi rule P2). In a right-to-left language
    it also is if any character is right-to-left, since a sentence may start with a foreign name, or if no
    character is strong.
    """
    directions = [kind != "L" for char in text if (kind := unicodedata.bidirectional(char)) in _STRONG]
    if language in RIGHT_TO_LEFT_TAGS:
        return any(directions) or not directions
    return bool(directions) and directions[0]


def marked(line: str, language: str | None) -> str:
    """Return the line with a right-to-left mark if software that follows rule P2 would misjudge it.

    Players and browsers use the first strong character of a line. If that is left-to-right, or there is none,
    an invisible mark at the start sets the direction.
    """
    if is_right_to_left(line, language) and not is_right_to_left(line):
        return RIGHT_TO_LEFT_MARK + line
    return line
