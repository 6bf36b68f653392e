"""Recognising speech: from PCM to segments, window by window."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from stenobird.ports.audio import PCM
    from stenobird.transcript import Segment


@dataclass(frozen=True, slots=True)
class RecognitionOptions:
    """The recognition options of one job. `language` is ISO 639-1, `None` to detect it.

    `keywords` are spelled as here where something similar is spoken; where the client named none, `names` of
    the source's title and show are. `speakers` labels who speaks; `min_speakers` and `max_speakers` bound how
    many.
    """

    language: str | None = None
    prompt: str | None = None
    keywords: tuple[str, ...] | None = None
    names: tuple[str, ...] = ()
    word_timestamps: bool = False
    task: Literal["transcribe", "translate"] = "transcribe"
    speakers: bool = False
    min_speakers: int | None = None
    max_speakers: int | None = None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> RecognitionOptions:
        """Read what `asdict` wrote; older rows lack newer fields."""
        lists = {name: tuple(row[name]) for name in ("keywords", "names") if row.get(name) is not None}
        return cls(**{**row, **lists})


_FIRST_FIELDS = 5
"""Fields of a checkpoint that every version has stored."""


@dataclass(frozen=True, slots=True)
class SpeechCheckpoint:
    """The state of recognition after a committed window, from which it can continue without a difference.

    `next_sample` is the first sample not yet accounted for. `language` is the one being spoken, once that is
    clear; while it is not, `language_scores` are summed log-probabilities. `language_rival` is another
    language that the last window seemed to be in. `language_seconds` is the speech in each language so far.

    Inside a block of audio, `block_samples` is how much of it is left, `speech` are its runs of speech in
    samples from `next_sample`, and `context` is the text that the next window goes on from, with the model's
    times: the end of the block's so far where that breaks off inside a sentence, else `opening`. `prefix` is
    the text, with times, that was committed early from the window at `next_sample`. `opening` is the end of
    the text of the first block that has some. JSON-safe through `to_json`.
    """

    window_index: int = 0
    next_sample: int = 0
    language: str | None = None
    language_scores: Mapping[str, float] = field(default_factory=dict)
    speech_seconds: float = 0.0
    language_rival: str | None = None
    language_seconds: Mapping[str, float] = field(default_factory=dict)
    block_samples: int = 0
    speech: tuple[tuple[int, int], ...] = ()
    context: str = ""
    prefix: str = ""
    opening: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back; newer fields only if they are set."""
        optional = {field.name for field in fields(self)[_FIRST_FIELDS:]}
        return {name: value for name, value in asdict(self).items() if value or name not in optional}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> SpeechCheckpoint:
        """Read what `to_json` wrote; older rows lack the fields about blocks."""
        known = {field.name: row[field.name] for field in fields(cls) if field.name in row}
        speech = tuple((int(start), int(end)) for start, end in row.get("speech", ()))
        return cls(**{**known, "speech": speech})


@dataclass(frozen=True, slots=True)
class WindowResult:
    """The result of one window. `checkpoint` is the state after it; `segments` may be empty (silence).

    `language` is the one spoken most so far, or the best guess. Segment texts keep the model's leading
    spaces.
    """

    segments: tuple[Segment, ...]
    checkpoint: SpeechCheckpoint
    language: str | None
    engine: str
    model: str


Lane: TypeAlias = Literal["preview", "full", "live"]


class SpeechRecognizer(Protocol):
    """Turns audio into windows of text, in order."""

    engine: str
    model: str

    def transcribe(
        self,
        audio: AsyncIterator[PCM],
        *,
        job_id: str,
        lane: Lane,
        checkpoint: SpeechCheckpoint,
        options: RecognitionOptions,
    ) -> AsyncGenerator[WindowResult]:
        """Yield one result a window, in order, from `checkpoint` on; the audio starts at its `next_sample`.

        The windows and their text depend only on the audio, the checkpoint and the options (on CPU), so a
        resumed run equals an uninterrupted one. Closing the iterator cancels the windows in flight. Raises
        `TranscriptionFailed` when a window can't be decoded after a retry, `EngineUnavailable` when no
        engine can be started.
        """

    def check(self, options: RecognitionOptions) -> None:
        """Raise `InvalidRequest` for options that the engine is known not to support.

        Accepts all options while the engine is still loading.
        """

    async def ready(self) -> bool:
        """Whether the engine is loaded."""

    def status(self) -> Mapping[str, Any]:
        """Describe engine, model, device, replicas and any degradation, for `/healthz` and `doctor`."""


class VoiceFinder(Protocol):
    """Finds the voices in ten seconds of audio."""

    async def find_voices(self, job_id: str, pcm: PCM) -> bytes:
        """Return the voices of a window as `speakers.voices.pack` makes them, the same for the same audio.

        Raises `TranscriptionFailed` for a window that can't be done, `EngineUnavailable` without a host.
        """

    def refusal(self) -> str | None:
        """Return why no speakers can be told apart now, in words for the client, or `None`."""

    def host_status(self) -> Mapping[str, Any]:
        """Describe the speaker host and its queue, for `/healthz`; JSON-safe."""


class Translator(Protocol):
    """Turns texts into another language. Languages are the ISO 639-1 codes that Whisper reports."""

    @property
    def model(self) -> str:
        """The name of the model."""

    async def translate(
        self, texts: Sequence[str], *, source: str, target: str, job_id: str
    ) -> Sequence[str | None]:
        """Return one translation per text, in order, `None` where none is usable; wait while the model loads.

        White space around a text is not part of its translation, and a text without letters is returned as
        it is. On CPU the same texts give the same translations. Raises `TranslationFailed` for a language
        that is not among `sources`, for more text than a window can hold, and when a retry fails, too;
        `TranslationUnavailable` when no model can be loaded.
        """

    def sources(self, target: str) -> frozenset[str] | None:
        """Return the languages that can be translated into `target`; `None` until the model is loaded."""

    def refusal(self) -> str | None:
        """Return why translation is unavailable, or `None` while it is available or still loading."""

    async def ready(self) -> bool:
        """Whether the model is loaded."""

    def status(self) -> Mapping[str, Any]:
        """Describe model, device and state, for `/healthz`."""
