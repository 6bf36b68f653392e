"""Clips of unseen sentences, each with its text and the times of its sentences.

A clip is three files: the audio, `.txt` with the text on one line, and `.json` with one row a sentence
(`start`, `end` in seconds, `voice`, `text`).
"""

from __future__ import annotations

import json
import random
import subprocess
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tools.fixture_model.synthesis import PCM, SAMPLE_RATE, Delivery, draw_delivery, speak
from tools.fixture_model.vocabulary import sentence

if TYPE_CHECKING:
    from pathlib import Path

_LEAD_IN_SECONDS = 0.5


@dataclass(frozen=True)
class Row:
    """One sentence of a clip; times are seconds from the clip's start."""

    start: float
    end: float
    voice: str
    text: str


@dataclass
class ClipBuilder:
    """Collects sentences and pauses; `seconds` is the length so far."""

    rows: list[Row] = field(default_factory=list)
    parts: list[PCM] = field(default_factory=lambda: [silence(_LEAD_IN_SECONDS)])
    seconds: float = _LEAD_IN_SECONDS

    def say(self, text: str, delivery: Delivery, *, then_pause: float) -> None:
        """Add a sentence and the pause after it."""
        pcm = speak(text, delivery)
        end = self.seconds + len(pcm) / SAMPLE_RATE
        self.rows.append(Row(round(self.seconds, 2), round(end, 2), delivery.voice, text))
        self.parts += [pcm, silence(then_pause)]
        self.seconds = end + then_pause

    def write(self, out: Path) -> None:
        """Write `out` (mp3 at 64 kbit/s, or wav), with its `.txt` and `.json` beside it."""
        encode(np.concatenate(self.parts), out)
        out.with_suffix(".txt").write_text(" ".join(row.text for row in self.rows) + "\n")
        out.with_suffix(".json").write_text(json.dumps([asdict(row) for row in self.rows], indent=0) + "\n")


def silence(seconds: float) -> PCM:
    """Return this much digital silence."""
    return np.zeros(int(seconds * SAMPLE_RATE), np.int16)


def encode(pcm: PCM, out: Path) -> None:
    """Write the samples with ffmpeg; without its tag, so that the same samples give the same bytes."""
    rate = ["-b:a", "64k"] if out.suffix == ".mp3" else []
    source = ["-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", "-"]
    command = ["ffmpeg", "-v", "error", "-y", *source, *rate, "-map_metadata", "-1", "-fflags", "+bitexact"]
    subprocess.run([*command, str(out)], input=pcm.tobytes(), check=True)


def random_clip(seconds: float, seed: int) -> ClipBuilder:
    """Return at least `seconds` of random sentences in random voices."""
    rng = random.Random(seed)
    clip = ClipBuilder()
    while clip.seconds < seconds:
        delivery = draw_delivery(rng)
        # One voice keeps the floor for a few sentences, as in a conversation.
        for _ in range(rng.randint(2, 6)):
            clip.say(sentence(rng), delivery, then_pause=rng.uniform(0.2, 1.0))
            if clip.seconds >= seconds:
                break
    return clip
