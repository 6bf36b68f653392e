"""Speech of any length, with its text, made from the sentences of clips that exist: no synthesiser needed.

The clips are those that the fixture model understands (`stenobird/demo/clip.mp3`, `tests/data/clips`). What
is made is a stream: three hours of it never exist as one array.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import av.audio
import numpy as np

from stenobird.ports import PCM, SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

MARGIN_SECONDS = 0.08
"""Kept around a sentence, whose times are those of the loud part. No pause in a clip is below 0.2 s."""

PAUSE_SECONDS = (0.2, 1.0)
"""The shortest and the longest pause between two sentences, as in the clips."""

LEAD_IN_SECONDS = 0.5
BLOCK_SAMPLES = SAMPLE_RATE
"""The longest block that `LongSpeech.blocks` yields."""


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """One spoken sentence: its text, and its samples with `MARGIN_SECONDS` around them."""

    text: str
    pcm: PCM


@dataclass(frozen=True, slots=True)
class Placed:
    """A sentence's place in a stream; `start` and `end` are seconds and include the margins."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class _Codec:
    name: str
    bit_rate: int | None = None


CODECS = {".mp3": _Codec("libmp3lame", 64_000), ".wav": _Codec("pcm_s16le"), ".flac": _Codec("flac")}
"""What `write_audio` can write, by suffix. The mp3 has a constant bit rate of 64 kbit/s: 8 kB a second."""


def decode_clip(clip: Path) -> PCM:
    """Return a whole clip. For trusted short files only: nothing bounds what is decoded."""
    blocks: list[PCM] = []
    resampler = av.audio.resampler.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(clip)) as container:
        for frame in container.decode(audio=0):
            blocks += map(_to_pcm, resampler.resample(frame))
        blocks += map(_to_pcm, resampler.resample(None))
    return np.concatenate(blocks)


def load_sentences(*clips: Path) -> tuple[Sentence, ...]:
    """Cut clips at their sentences' times, which lie beside each in a `.json`."""
    sentences = []
    for clip in clips:
        pcm = decode_clip(clip)
        for row in json.loads(clip.with_suffix(".json").read_text()):
            first = max(0, _samples(row["start"] - MARGIN_SECONDS))
            sentences.append(Sentence(row["text"], pcm[first : _samples(row["end"] + MARGIN_SECONDS)]))
    return tuple(sentences)


class LongSpeech:
    """Sentences in a random order with random pauses, at least `seconds` long; the last one is whole.

    Every sentence comes once before any comes again. The same sentences, seconds and seed give the same
    samples; the plan costs a few bytes a sentence, the samples are made as they are read.
    """

    def __init__(self, sentences: Sequence[Sentence], seconds: float, *, seed: int) -> None:
        if not sentences:
            raise ValueError("There is nothing to speak: pass at least one sentence.")
        self._plan = list(_lay_out(sentences, _samples(seconds), random.Random(seed)))  # not a secret
        self.samples = sum(pause + len(sentence.pcm) for pause, sentence in self._plan)

    @property
    def duration_seconds(self) -> float:
        """The length of the audio."""
        return self.samples / SAMPLE_RATE

    @property
    def text(self) -> str:
        """What is said: the reference for a word error rate."""
        return " ".join(sentence.text for _, sentence in self._plan)

    def placed(self) -> Iterator[Placed]:
        """Yield where each sentence lies, in order."""
        position = 0
        for pause, sentence in self._plan:
            start = position + pause
            position = start + len(sentence.pcm)
            yield Placed(start / SAMPLE_RATE, position / SAMPLE_RATE, sentence.text)

    def blocks(self) -> Iterator[PCM]:
        """Yield the samples in order, in blocks of at most `BLOCK_SAMPLES`."""
        for pause, sentence in self._plan:
            for part in (np.zeros(pause, np.int16), sentence.pcm):
                for first in range(0, len(part), BLOCK_SAMPLES):
                    yield part[first : first + BLOCK_SAMPLES]

    def write(self, path: Path) -> None:
        """Write the audio to `path`; its suffix says the format, see `CODECS`."""
        write_audio(path, self.blocks())


def write_audio(path: Path, blocks: Iterable[PCM]) -> None:
    """Encode a stream of PCM to a file while it is read; memory does not depend on its length.

    Raises `ValueError` for a suffix that is not in `CODECS`.
    """
    codec = CODECS.get(path.suffix)
    if codec is None:
        raise ValueError(f"{path.name} can't be written: use one of {', '.join(CODECS)}.")
    position = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec.name, rate=SAMPLE_RATE)
        assert isinstance(stream, av.audio.stream.AudioStream)
        stream.layout = "mono"
        if codec.bit_rate is not None:
            stream.bit_rate = codec.bit_rate
        for block in blocks:
            frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts = position
            position += len(block)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _to_pcm(frame: av.AudioFrame) -> PCM:
    return frame.to_ndarray().reshape(-1).astype(np.int16, copy=False)


def _lay_out(
    sentences: Sequence[Sentence], samples: int, rng: random.Random
) -> Iterator[tuple[int, Sentence]]:
    """Yield pairs of a pause in samples and the sentence after it."""
    pause = _samples(LEAD_IN_SECONDS)
    position = 0
    while True:
        for sentence in rng.sample(sentences, len(sentences)):
            yield pause, sentence
            position += pause + len(sentence.pcm)
            if position >= samples:
                return
            pause = _samples(rng.uniform(*PAUSE_SECONDS))


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
