"""A speech host that follows commands in the prompt, for tests of the code around the host.

Loud samples are speech. The text of a window counts the windows decoded so far, so that their order shows.
A prompt makes a window misbehave, see `misbehaviour.obey`. With `keep SECONDS`, a window that ends in speech
keeps that much and leaves the rest to the next one; with `change SECONDS`, speech is English before that
second and German from there on, and the text of a window is its context. So it is with `sentences`, where
every other window breaks off inside a sentence. The model `batches` decodes four windows at once.
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import TYPE_CHECKING

import numpy as np

from stenobird.inference.child import join_parent
from stenobird.ports import SAMPLE_RATE
from stenobird.speech.host_child import serve
from stenobird.speech.language import LanguageState, follow
from stenobird.speech.protocol import VAD_STATE_BYTES, DecodedWindow, EngineInfo
from stenobird.speech.windows import FRAME_SAMPLES
from stenobird.transcript import Segment
from tests.support.misbehaviour import obey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import numpy.typing as npt

    from stenobird.ports import PCM
    from stenobird.speech.protocol import WindowRequest

FAKE_HOST_COMMAND = (sys.executable, "-m", "tests.support.speech_host")

LOUD = 1000
"""Mean absolute sample above which a frame is speech."""

LANGUAGES = ("de", "en")
EVIDENCE = {"de": 0.4, "en": 0.6}
"""What every window's language detection says."""


async def blocks(pcm: PCM, *, start: int = 0, size: int = SAMPLE_RATE) -> AsyncIterator[PCM]:
    """Yield PCM from `start` on as a decoder would."""
    for first in range(start, len(pcm), size):
        yield pcm[first : min(first + size, len(pcm))]


def tone(seconds: float) -> PCM:
    """Return what the fake host takes for speech."""
    wave = np.sin(np.arange(round(seconds * SAMPLE_RATE)) * 0.3) * 8000
    pcm: PCM = wave.astype(np.int16)
    return pcm


def silence(seconds: float) -> PCM:
    """Return digital silence."""
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


class ObedientDecoder:
    """Answers windows as their prompts say."""

    def __init__(self) -> None:
        self._count = itertools.count()

    def decode(self, requests: Sequence[WindowRequest]) -> list[DecodedWindow]:
        """Decode each request; all start in the language that the evidence favours."""
        return [self._decode(request) for request in requests]

    def _decode(self, request: WindowRequest) -> DecodedWindow:
        number = next(self._count)
        words = (request.prompt or "").split()
        obey(words)
        start, seconds, resume = request.start_sample / SAMPLE_RATE, len(request.pcm) / SAMPLE_RATE, None
        if words[:1] == ["keep"] and request.unfinished_tail:
            seconds = float(words[1])
            resume = round((start + seconds) * SAMPLE_RATE)
        if words[:1] == ["change"]:
            language = "en" if start < float(words[1]) else "de"
            segment = Segment(start, start + seconds, f" {request.context}", language=language)
            return DecodedWindow((segment,), language, LanguageState(language), context=f"{language} text")
        if words == ["sentences"]:
            segment = Segment(start, start + seconds, request.context)
            text = f" {number} ends." if number % 2 == 0 else f" {number} ends. It goes"
            return DecodedWindow((segment,), "en", LanguageState("en"), context=f"<|0.00|>{text}<|1.00|>")
        segment = Segment(start, start + seconds, f" {number}")
        if request.language is not None:
            return DecodedWindow((segment,), request.language, resume_sample=resume)
        seconds = sum(end - start for start, end in request.speech) / SAMPLE_RATE
        language, state = follow(request.language_state, EVIDENCE, seconds)
        return DecodedWindow((segment,), language, state)


def find_loud(pcm: PCM, state: bytes) -> tuple[npt.NDArray[np.float32], bytes]:
    """Take loud frames for speech; the state passes through unread, unless it says `crash`."""
    if state == b"crash":
        obey(["crash"])
    samples = pcm.astype(np.float32)
    samples = np.pad(samples, (0, -len(samples) % FRAME_SAMPLES))
    loud = np.abs(samples.reshape(-1, FRAME_SAMPLES)).mean(axis=1) > LOUD
    return loud.astype(np.float32), state or bytes(VAD_STATE_BYTES)


def main(arguments: Sequence[str]) -> None:
    """Run as `stenobird.speech.host_child` runs; `replicas`, `device` and `model` of the request are used."""
    channel = join_parent(arguments)
    frame = channel.receive()
    if frame is not None:
        replicas = frame[0]["replicas"]
        device = "cuda" if frame[0]["device"] == "cuda" else "cpu"
        parallel = replicas * (4 if frame[0]["model"] == "batches" else 1)
        info = EngineInfo("fake", "fake", device, "int8", replicas, parallel, LANGUAGES)
        serve(channel, ObedientDecoder().decode, info, find_loud)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
