"""Speak a sentence with espeak-ng or flite, as 16 kHz mono int16."""

from __future__ import annotations

import pickle
import random
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from tools.fixture_model.vocabulary import sentence

SAMPLE_RATE = 16_000
PCM: TypeAlias = npt.NDArray[np.int16]

ESPEAK_VOICES = [
    f"{language}{variant}"
    for language in ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland")
    for variant in ("", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+f1", "+f2", "+f3", "+f4", "+f5")
]
FLITE_VOICES = ["slt", "rms", "awb", "kal16", "kal"]
FLITE_SHARE = 0.35

_FLITE_NORMAL_SPEED = 160  # words a minute at duration_stretch 1
_SILENCE_AMPLITUDE = 200
_SHORTEST_SAMPLES = 3000  # anything shorter is a voice that failed


class Delivery(NamedTuple):
    """How a sentence is spoken: the voice, words a minute, and espeak-ng's pitch (0 to 99)."""

    voice: str
    speed: int
    pitch: int


class Spoken(NamedTuple):
    """A sentence of a bank: its text, its voice, its samples. Pickled as a plain tuple of the three."""

    text: str
    voice: str
    pcm: PCM


def draw_delivery(rng: random.Random) -> Delivery:
    """Return a delivery; draws from `rng` in a fixed order, so that seeds keep their meaning."""
    voices = FLITE_VOICES if rng.random() < FLITE_SHARE else ESPEAK_VOICES
    return Delivery(rng.choice(voices), rng.randint(125, 190), rng.randint(25, 75))


def speak(text: str, delivery: Delivery) -> PCM:
    """Return the spoken sentence without the silence around it."""
    wav = _flite(text, delivery) if delivery.voice in FLITE_VOICES else _espeak(text, delivery)
    pcm = _resample(wav)
    loud = np.flatnonzero(np.abs(pcm) > _SILENCE_AMPLITUDE)
    return pcm[loud[0] : loud[-1] + 1] if len(loud) else pcm


def _espeak(text: str, delivery: Delivery) -> bytes:
    command = ["espeak-ng", "-v", delivery.voice, "-s", str(delivery.speed), "-p", str(delivery.pitch)]
    return subprocess.run([*command, "--stdout", text], capture_output=True, check=True).stdout


def _flite(text: str, delivery: Delivery) -> bytes:
    stretch = f"duration_stretch={_FLITE_NORMAL_SPEED / delivery.speed:.2f}"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "speech.wav"
        command = ["flite", "-voice", delivery.voice, "--setf", stretch, "-t", text, "-o", str(out)]
        subprocess.run(command, capture_output=True, check=True)
        return out.read_bytes()


def _resample(wav: bytes) -> PCM:
    # -R repeats the dither, so that a seed always gives the same samples.
    command = ["sox", "-R", "-t", "wav", "-", "-r", str(SAMPLE_RATE), "-c", "1", "-b", "16", "-e", "signed"]
    raw = subprocess.run([*command, "-t", "raw", "-"], input=wav, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.int16)


def speak_seed(seed: int) -> Spoken:
    """Return the sentence that a seed stands for, spoken."""
    rng = random.Random(seed)
    text = sentence(rng)
    delivery = draw_delivery(rng)
    return Spoken(text, delivery.voice, speak(text, delivery))


def make_bank(seeds: range, out: Path) -> tuple[int, float]:
    """Write the sentences of these seeds to `out` as a pickle; return their number and seconds."""
    with ThreadPoolExecutor(2) as executor:
        bank = [spoken for spoken in executor.map(speak_seed, seeds) if len(spoken.pcm) > _SHORTEST_SAMPLES]
    out.write_bytes(pickle.dumps([tuple(spoken) for spoken in bank]))
    return len(bank), sum(len(spoken.pcm) for spoken in bank) / SAMPLE_RATE


def load_bank(*files: Path) -> list[Spoken]:
    """Read banks that `make_bank` wrote. They are pickles: open only your own."""
    return [Spoken(*row) for file in files for row in pickle.loads(file.read_bytes())]
