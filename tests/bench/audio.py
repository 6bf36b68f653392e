"""The audio of the bench: long speech with its text, made once and kept while the bench runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stenobird.demo import CLIP_PATH
from tests.support.speech import LongSpeech, load_sentences

if TYPE_CHECKING:
    from tests.support.speech import Sentence

CLIPS = Path(__file__).parents[1] / "data" / "clips"
SEED = 20


@dataclass(frozen=True, slots=True)
class Clip:
    """An mp3 of 64 kbit/s and what is said in it."""

    path: Path
    text: str
    duration_seconds: float


class Studio:
    """Makes clips in a folder; one that is there already is used again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _sentences(self) -> tuple[Sentence, ...]:
        return load_sentences(CLIP_PATH, CLIPS / "short.mp3", CLIPS / "long.mp3")

    def clip(self, minutes: float) -> Clip:
        """Return a clip of at least so many minutes."""
        speech = LongSpeech(self._sentences, 60 * minutes, seed=SEED)
        path = self._folder / f"speech-{SEED}-{minutes:g}min.mp3"
        if not path.exists():
            unfinished = path.with_suffix(".part.mp3")
            speech.write(unfinished)
            unfinished.rename(path)
        return Clip(path, speech.text, speech.duration_seconds)
