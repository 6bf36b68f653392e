"""The messages between the service and its translation host, in the frames of `inference.frames`.

The request is `translate`, the answer `translated`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from stenobird.ports import Translation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stenobird.inference.frames import Header


@dataclass(frozen=True, slots=True)
class TranslationSettings:
    """The operator's settings for translation.

    `model` is a folder or a repository on the Hugging Face hub; `cache_dir` is where it is downloaded to,
    `None` the Hugging Face cache. `threads` follow from the CPU affinity and the cgroup where it is `None`.
    """

    model: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute_type: str = "auto"
    threads: int | None = None
    timeout_seconds: float = 120.0
    cache_dir: Path | None = None

    def to_load(self, threads: int) -> Header:
        """Return the `load` request."""
        cache_dir = None if self.cache_dir is None else str(self.cache_dir)
        return asdict(self) | {"type": "load", "threads": threads, "cache_dir": cache_dir}


@dataclass(frozen=True, slots=True)
class TranslationRequest:
    """Texts of one window, to be translated together. Languages are Whisper's codes."""

    texts: tuple[str, ...]
    source: str
    target: str

    def to_header(self) -> Header:
        """Return the `translate` request, which still lacks its `id`."""
        return asdict(self) | {"type": "translate"}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> TranslationRequest:
        """Read what `to_header` wrote."""
        return cls(tuple(header["texts"]), header["source"], header["target"])


def translated_header(request_id: int, translations: Sequence[Translation]) -> Header:
    """Return the `translated` answer."""
    rows = [[one.text, one.translated] for one in translations]
    return {"type": "translated", "id": request_id, "translations": rows}


def read_translated(header: Mapping[str, Any]) -> tuple[Translation, ...]:
    """Read what `translated_header` wrote."""
    return tuple(Translation(text, translated) for text, translated in header["translations"])


@dataclass(frozen=True, slots=True)
class TranslatorInfo:
    """What the host has loaded. `languages` are Whisper's codes; each can be translated to each other."""

    model: str
    device: str
    compute_type: str
    threads: int
    languages: tuple[str, ...]

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> TranslatorInfo:
        """Read the `ready` frame."""
        return cls(**{**header["info"], "languages": tuple(header["info"]["languages"])})
