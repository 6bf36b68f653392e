"""Translating a job's segments before they are committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Translation:
    """The translation of one text. `translated` is false if there is none, and `text` is the source text."""

    text: str
    translated: bool = True


class Translator(Protocol):
    """Turns texts into another language. Languages are the ISO 639-1 codes that Whisper reports."""

    @property
    def model(self) -> str:
        """The name of the model."""

    async def translate(
        self, texts: Sequence[str], *, source: str, target: str, job_id: str
    ) -> Sequence[Translation]:
        """Return one translation per text, in order; wait for the model while it loads.

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
