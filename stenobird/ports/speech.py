"""Recognising speech: from PCM to segments, window by window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from stenobird.ports.audio import PCM
    from stenobird.transcript import Segment


@dataclass(frozen=True, slots=True)
class RecognitionOptions:
    """The recognition options of one job. `language` is ISO 639-1, `None` to detect it."""

    language: str | None = None
    prompt: str | None = None
    word_timestamps: bool = False
    task: Literal["transcribe", "translate"] = "transcribe"


@dataclass(frozen=True, slots=True)
class SpeechCheckpoint:
    """The state of recognition after a committed window, from which it can continue without a difference.

    `next_sample` is the first sample not yet accounted for. `language_scores` are summed log-probabilities
    while the language is open; `language` is set once it is pinned. JSON-safe through `to_json`.
    """

    window_index: int = 0
    next_sample: int = 0
    language: str | None = None
    language_scores: Mapping[str, float] = field(default_factory=dict)
    speech_seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return {
            "window_index": self.window_index,
            "next_sample": self.next_sample,
            "language": self.language,
            "language_scores": dict(self.language_scores),
            "speech_seconds": self.speech_seconds,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> SpeechCheckpoint:
        """Read what `to_json` wrote."""
        return cls(
            window_index=int(row["window_index"]),
            next_sample=int(row["next_sample"]),
            language=row["language"],
            language_scores={str(k): float(v) for k, v in row["language_scores"].items()},
            speech_seconds=float(row["speech_seconds"]),
        )


@dataclass(frozen=True, slots=True)
class WindowResult:
    """The result of one window. `checkpoint` is the state after it; `segments` may be empty (silence).

    `language` is the pinned or best guess so far. Segment texts keep the model's leading spaces.
    """

    segments: tuple[Segment, ...]
    checkpoint: SpeechCheckpoint
    language: str | None
    engine: str
    model: str


Lane: TypeAlias = Literal["preview", "full"]


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
