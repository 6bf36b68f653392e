"""Translates a job's windows to the language that its client asked for, each before its commit.

A segment keeps its times; its words are dropped, since the words of a translation were never spoken. The
translation is what is committed, so all readers, resumes and artifacts have it, and nothing is translated
twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from stenobird.errors import TranslationFailed, WorkerTrouble

if TYPE_CHECKING:
    from stenobird.ports import JobRecord, Translator, WindowResult

_log = structlog.get_logger(__name__)


class JobTranslation:
    """The translation of one job. Its public attributes cover all windows so far, of earlier runs too."""

    def __init__(self, job: JobRecord, target: str, translator: Translator | None) -> None:
        self.spoken_language = job.extra.spoken_language
        self.untranslated_segments = job.extra.untranslated_segments
        self._job = job
        self._target = target
        self._translator = translator

    def check(self) -> None:
        """Raise `WorkerTrouble` if this worker can't translate."""
        if self._translator is None:
            raise WorkerTrouble(
                "This worker has no translator. Set STENOBIRD_TRANSLATION_MODEL for every worker."
            )
        if (refusal := self._translator.refusal()) is not None:
            raise WorkerTrouble(refusal)

    async def of(self, window: WindowResult) -> WindowResult:
        """Return the window in the target language; speech in that language and silence stay as they are.

        Raises `TranslationFailed` and `TranslationUnavailable`.
        """
        spoken_at = [index for index, segment in enumerate(window.segments) if segment.text.strip()]
        if not spoken_at:
            return replace(window, language=self._target if window.language is not None else None)
        spoken = "en" if self._job.options.task == "translate" else window.language
        if spoken is None:
            raise TranslationFailed("The spoken language could not be detected. Nothing was billed.")
        self.spoken_language = spoken
        if spoken == self._target:
            return window
        self.check()
        assert self._translator is not None
        segments = list(window.segments)
        texts = [segments[index].text.strip() for index in spoken_at]
        translations = await self._translator.translate(
            texts, source=spoken, target=self._target, job_id=self._job.id
        )
        for index, translation in zip(spoken_at, translations, strict=True):
            text = segments[index].text.strip() if translation is None else translation
            # Texts are joined without a separator, and not every source language puts spaces between words.
            segments[index] = replace(segments[index], text=f" {text}", words=(), language=None)
        kept = sum(translation is None for translation in translations)
        if kept:
            self.untranslated_segments += kept
            _log.warning("segments_not_translated", segments=kept)
        return replace(window, segments=tuple(segments), language=self._target)

    @property
    def warning(self) -> str | None:
        """The job's warning about segments that are not translated, if there are any."""
        kept = self.untranslated_segments
        if kept == 1:
            return "1 segment could not be translated and is in the language that was spoken."
        return (
            f"{kept} segments could not be translated and are in the language that was spoken."
            if kept
            else None
        )
