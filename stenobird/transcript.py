"""A transcript: words, segments and the whole text, as immutable values."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # the client's models read the annotations
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Word:
    """One word. `start` and `end` are seconds from the start of the audio.

    `probability` is the model's, `confidence` how likely the word is right; both are 0 to 1. `speaker` is who
    says it, if speakers were requested.
    """

    start: float
    end: float
    text: str
    probability: float
    confidence: float | None = None
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of the transcript.

    `start` and `end` are seconds from the start of the audio. `text` keeps the leading space that the model
    wrote, except in the first segment, so that `"".join` of all texts is the transcript's text. `words` is
    empty unless word timestamps were requested. `language` is an ISO 639-1 code. `confidence` is the share
    of its words that are likely to be right; engines that can't tell leave it out. `speaker` is who speaks
    most of it, if speakers were requested, and `overlap` whether someone else speaks at the same time.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    avg_logprob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None
    language: str | None = None
    confidence: float | None = None
    speaker: str | None = None
    overlap: bool = False


@dataclass(frozen=True, slots=True)
class Transcript:
    """All segments in order. `language` is an ISO 639-1 code; `duration_seconds` is the decoded audio.

    `speaker_names` has the names that the owner has given to speakers; segments and words keep their labels.
    """

    segments: tuple[Segment, ...]
    language: str | None
    duration_seconds: float
    title: str | None = None
    speaker_names: Mapping[str, str] | None = None
    text: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", "".join(segment.text for segment in self.segments))

    def named(self) -> Transcript:
        """Return the transcript with the names of speakers in place of their labels."""
        names = self.speaker_names
        if not names:
            return self

        def name(label: str | None) -> str | None:
            return label if label is None else names.get(label, label)

        segments = tuple(
            replace(
                one,
                speaker=name(one.speaker),
                words=tuple(replace(word, speaker=name(word.speaker)) for word in one.words),
            )
            for one in self.segments
        )
        return replace(self, segments=segments, speaker_names=None)
