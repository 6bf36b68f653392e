"""The offline engine: pocketsphinx with its bundled US-English model, for machines that have no other.

It recognizes far less than Whisper; status and results say so.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stenobird.ports import SAMPLE_RATE
from stenobird.speech.protocol import DecodedWindow
from stenobird.speech.segments import is_spoken
from stenobird.transcript import Segment, Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.speech.protocol import WindowRequest

MODEL_NAME = "pocketsphinx"
LANGUAGES = ("en",)
PHRASE_GAP_SECONDS = 0.5
"""A pause between words that ends a segment."""
HANDOVER_FROM = 0.4
"""A last word in the part of a window after this may be left to the next window."""

_FRAMES_A_SECOND = 100


class PocketsphinxDecoder:
    """A loaded pocketsphinx; `decode` takes one call at a time, others wait.

    Making one raises `ImportError` where pocketsphinx is not installed.
    """

    def __init__(self) -> None:
        from pocketsphinx import Decoder  # noqa: PLC0415  # an extra that need not be installed

        self._decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")
        self._lock = threading.Lock()

    def decode(self, requests: Sequence[WindowRequest]) -> list[DecodedWindow]:
        """Decode each request; always English, prompts and tasks are ignored."""
        with self._lock:
            return [self._decode(request) for request in requests]

    def _decode(self, request: WindowRequest) -> DecodedWindow:
        # Cepstral means adapt from one utterance to the next. Each window starts from the model's own, so
        # that its text depends on nothing else.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(request.pcm.tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        origin = request.start_sample / SAMPLE_RATE
        limit = origin + len(request.pcm) / SAMPLE_RATE
        first_end = origin + HANDOVER_FROM * (limit - origin)
        words = []
        for found in self._decoder.seg() or ():
            if found.word.startswith(("<", "[", "+")):
                continue
            start = min(origin + found.start_frame / _FRAMES_A_SECOND, limit)
            end = min(origin + (found.end_frame + 1) / _FRAMES_A_SECOND, limit)
            text = " " + found.word.partition("(")[0]
            probability = self._decoder.logmath.exp(found.prob)
            words.append(Word(round(start, 3), round(end, 3), text, round(min(1.0, probability), 4)))
        speech = [(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in request.speech]
        resume = None
        if request.unfinished_tail and len(words) > 1 and words[-1].start >= first_end:
            # The cut may have split the last word, so the next window starts with it.
            resume = round(words.pop().start * SAMPLE_RATE)
        segments = tuple(
            Segment(
                start=phrase[0].start,
                end=phrase[-1].end,
                text="".join(word.text for word in phrase),
                words=tuple(phrase) if request.word_timestamps else (),
            )
            for phrase in _phrases(words)
            if is_spoken(phrase[0].start - origin, phrase[-1].end - origin, speech)
        )
        return DecodedWindow(segments, LANGUAGES[0], resume_sample=resume)


def _phrases(words: Sequence[Word]) -> list[list[Word]]:
    phrases: list[list[Word]] = []
    for word in words:
        if phrases and word.start - phrases[-1][-1].end < PHRASE_GAP_SECONDS:
            phrases[-1].append(word)
        else:
            phrases.append([word])
    return phrases
