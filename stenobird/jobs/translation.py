"""Puts what one job hears into the language that its client asked for, window by window, before the commit.

A segment keeps its times; its words are dropped, since the words of a translation were never spoken. What is
committed is the translation, so every reader, resume and artifact has it, and nothing is translated twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from stenobird.errors import TranslationFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from stenobird.ports import JobRecord, Translator, WindowResult
    from stenobird.transcript import Segment

TARGET_KEY: Final = "translate_to"
"""Where a job's row keeps the language that its client asked for (ISO 639-1)."""
SPOKEN_KEY: Final = "spoken_language"
"""Where it keeps the one that is spoken, since its `language` is that of the text."""
KEPT_KEY: Final = "untranslated_segments"
"""Where it counts the segments that no usable translation was found for: they are as they were spoken."""

_log = structlog.get_logger(__name__)


def is_translated(extra: Mapping[str, Any]) -> bool:
    """Whether a job with this in its row has its text translated."""
    return extra.get(TARGET_KEY) is not None


class JobTranslation:
    """The translation of one job. `extra` is the job's own, which this writes what it finds out into."""

    def __init__(
        self, job: JobRecord, translator: Translator | None, extra: MutableMapping[str, Any]
    ) -> None:
        self._job = job
        self._translator = translator
        self._extra = extra
        self._target = str(extra[TARGET_KEY])

    def check(self) -> None:
        """Raise `TranslationFailed` when nothing can be translated here, before any work is done."""
        if self._translator is None:
            raise TranslationFailed(
                "The worker that took this job has no translator, so it can't translate. Nothing was billed. "
                "The operator must set STENOBIRD_TRANSLATION_MODEL for every worker."
            )
        if (refusal := self._translator.refusal()) is not None:
            raise TranslationFailed(f"{refusal} Nothing was billed.")

    async def of(self, window: WindowResult) -> WindowResult:
        """Return the window in the target language; one that is in it already as it is.

        Silence needs no translator. Raises `TranslationFailed` and `TranslationUnavailable`.
        """
        said = [index for index, segment in enumerate(window.segments) if segment.text.strip()]
        if not said:
            return replace(window, language=self._target if window.language is not None else None)
        spoken = "en" if self._job.options.task == "translate" else window.language
        if spoken is None:
            raise TranslationFailed("The language that is spoken could not be told. Nothing was billed.")
        self._extra[SPOKEN_KEY] = spoken
        if spoken == self._target:
            return window
        self.check()
        assert self._translator is not None
        segments = list(window.segments)
        texts = [segments[index].text.strip() for index in said]
        translations = await self._translator.translate(
            texts, source=spoken, target=self._target, job_id=self._job.id
        )
        for index, translation in zip(said, translations, strict=True):
            segments[index] = _in_words(segments[index], translation.text)
        kept = sum(not translation.translated for translation in translations)
        if kept:
            self._extra[KEPT_KEY] = int(self._extra.get(KEPT_KEY, 0)) + kept
            _log.warning("segments_not_translated", job_id=self._job.id, segments=kept)
        return replace(window, segments=tuple(segments), language=self._target)

    def warning(self, other: str | None) -> str | None:
        """Return the job's warning: the audio's own, and that not all of the text is translated."""
        kept = int(self._extra.get(KEPT_KEY, 0))
        if not kept:
            return other
        ours = (
            "1 segment could not be translated and is in the language that was spoken."
            if kept == 1
            else f"{kept} segments could not be translated and are in the language that was spoken."
        )
        return f"{other} {ours}" if other else ours


def _in_words(segment: Segment, text: str) -> Segment:
    # Texts are joined as they are, and not every language that is spoken puts spaces between its words.
    return replace(segment, text=f" {text}", words=())
