"""The messages between the service and its speech host, in the frames of `inference.frames`.

Requests are `vad` and `decode`, answers `vad` and `decoded`. Voice-activity state travels with the requests,
so that a host keeps nothing between them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stenobird.speech.language import LanguageState
from stenobird.transcript import Segment, Word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.inference.frames import Header
    from stenobird.ports import PCM
    from stenobird.speech.windows import Span

VAD_STATE_BYTES = 1284


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """One window to decode.

    `pcm` is the region to decode, at most 30 s; `start_sample` is where it begins in the source. `speech` are
    the runs of speech in it, in samples from its first. `language` is `None` where it has to be detected;
    then `language_state` is what is known from the windows before. `context` is the text before the region,
    `prefix` what an `early` request for it has returned: first sentences that are certain. Both have times,
    see `segments.with_times`.
    With `unfinished_tail` the region ends in running speech, and the segment that it cuts off is left to the
    next window. `keywords` and `names` are spelled as here where similar words were spoken; `names` that are
    ordinary words are left alone.
    """

    pcm: PCM
    start_sample: int
    speech: tuple[Span, ...]
    language: str | None
    language_state: LanguageState = field(default_factory=LanguageState)
    prompt: str | None = None
    keywords: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    task: Literal["transcribe", "translate"] = "transcribe"
    word_timestamps: bool = False
    context: str = ""
    prefix: str = ""
    early: bool = False
    unfinished_tail: bool = False

    def to_frame(self) -> tuple[Header, bytes]:
        """Return the header and payload of the `decode` request, which still lacks its `id`."""
        header = {name: getattr(self, name) for name in _REQUEST_FIELDS}
        return header | {"type": "decode"}, self.pcm.tobytes()

    @classmethod
    def from_frame(cls, header: Mapping[str, Any], payload: bytes) -> WindowRequest:
        """Read what `to_frame` wrote."""
        row = {name: header[name] for name in _REQUEST_FIELDS}
        row["speech"] = tuple((start, end) for start, end in row["speech"])
        row["language_state"] = LanguageState(*row["language_state"])
        row |= {name: tuple(row[name]) for name in ("keywords", "names")}
        return cls(pcm=np.frombuffer(payload, np.int16), **row)


_REQUEST_FIELDS = tuple(field.name for field in fields(WindowRequest) if field.name != "pcm")


@dataclass(frozen=True, slots=True)
class DecodedWindow:
    """The text of one window, in seconds of the source.

    `language` is the one it was decoded in and `language_state` what is known after it. `resume_sample` is
    where the next window must begin, in samples of the source: where the text ends. It is `None` when it
    begins at the region's end. `context` is the text for the next window to go on from: that of an early
    request becomes the prefix of the whole window.
    """

    segments: tuple[Segment, ...]
    language: str
    language_state: LanguageState = field(default_factory=LanguageState)
    resume_sample: int | None = None
    context: str = ""

    def to_header(self, request_id: int) -> Header:
        """Return the header of the `decoded` answer."""
        return asdict(self) | {"type": "decoded", "id": request_id}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> DecodedWindow:
        """Read what `to_header` wrote."""
        return cls(
            segments=tuple(
                Segment(**{**row, "words": tuple(Word(**word) for word in row["words"])})
                for row in header["segments"]
            ),
            language=header["language"],
            language_state=LanguageState(*header["language_state"]),
            resume_sample=header["resume_sample"],
            context=header["context"],
        )


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the host has loaded. `languages` are ISO 639-1 codes; a single one needs no detection.

    `degraded` says why the engine is not the one asked for. `parallel` is how many windows are
    decoded at once: by all replicas, each a batch. `translates` is false for models that can only
    transcribe, whatever the task.
    """

    engine: str
    model: str
    device: str
    compute_type: str
    replicas: int
    parallel: int
    languages: tuple[str, ...]
    fixture: bool = False
    degraded: str | None = None
    translates: bool = True

    @property
    def batch(self) -> int:
        """How many windows a replica decodes at once."""
        return self.parallel // self.replicas
