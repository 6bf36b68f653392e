"""Translating text: what a job does to its words before they are committed, where its client asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Translation:
    """What became of one text. `translated` is false where it is the source text: nothing usable came out."""

    text: str
    translated: bool = True


class Translator(Protocol):
    """Turns texts into another language. Languages are the ISO 639-1 codes that Whisper reports."""

    @property
    def model(self) -> str:
        """What the model is called."""

    async def translate(
        self, texts: Sequence[str], *, source: str, target: str, job_id: str
    ) -> Sequence[Translation]:
        """Return one translation a text, in order, waiting for the model where it still loads.

        White space around a text is not part of its translation, and a text without a letter is returned as
        it is. On CPU the same texts give the same translations. Cancelling gives up. Raises
        `TranslationFailed` for a pair that is not among `sources`, for more text than a window can hold, and
        when the texts can't be translated after a retry; `TranslationUnavailable` when no model can be had.
        """

    def sources(self, target: str) -> frozenset[str] | None:
        """Return the languages that can be translated into `target`; `None` until the model is loaded."""

    def refusal(self) -> str | None:
        """Return why nothing can be translated, `None` while it can or may soon."""

    async def ready(self) -> bool:
        """Whether a text sent now would be translated without loading or downloading anything first."""

    def status(self) -> Mapping[str, Any]:
        """Describe model, device and state, for `/healthz`."""
