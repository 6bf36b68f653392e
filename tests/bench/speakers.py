"""How well speakers are told apart: errors on recordings with RTTM, and on dialogues stitched from readers.

    python -m tests.bench.speakers --folder DIR [--models DIR] [--seed N]
    python -m tests.bench.speakers --folder DIR [--models DIR] --wall MODEL

`DIR` has a `manifest.jsonl`, in whose set `speakers` each row names an `rttm`. Dialogues are made from the
sets `accent` and `stream` and `long`: 2 to 4 readers, turns of 2 to 15 s. The error is that of NIST: missed,
false and confused speech in the share of all speech, but for 0.25 s around each boundary. With `--wall` it is
instead what labels cost a job that the speech model MODEL transcribes: wall clock with labels over without.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import statistics
import tempfile
import time
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import av
import numpy as np
import numpy.typing as npt
from click import echo
from faster_whisper.vad import VadOptions, get_speech_timestamps

from stenobird.client import TranscriptOptions
from stenobird.ports import SAMPLE_RATE
from stenobird.speakers.finder import VoiceModels
from stenobird.speakers.labels import find_turns
from stenobird.speakers.models import EMBEDDING_FILE, SEGMENTATION_FILE, resolve
from stenobird.speakers.voices import WINDOW_SAMPLES
from tests.bench.service import Service, served
from tests.support.speaker_models import window_starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stenobird.ports import PCM

FRAMES: Final = 100
COLLAR_SECONDS: Final = 0.25
DIALOGUES: Final = 12
DIALOGUE_SECONDS: Final = 100
WALL_PAIRS: Final = 3
WALL_SECONDS: Final = 300

Turns: TypeAlias = "list[tuple[float, float, str]]"


@dataclass(frozen=True, slots=True)
class Recording:
    """Audio and who speaks when."""

    name: str
    pcm: PCM
    turns: Turns


@dataclass(slots=True)
class Score:
    """Frames of one set, and its recordings with the right number of speakers."""

    missed: int = 0
    false: int = 0
    confused: int = 0
    spoken: int = 0
    recordings: int = 0
    counted: int = 0

    @property
    def error(self) -> float:
        """The error rate in percent."""
        return 100 * (self.missed + self.false + self.confused) / max(1, self.spoken)


def compare(reference: Turns, found: Turns, seconds: float) -> tuple[int, int, int, int]:
    """Return missed, false, confused and all spoken frames under the best matching of speakers."""
    frames = int(seconds * FRAMES)
    scored = np.ones(frames, bool)
    for start, end, _ in reference:
        for bound in (start, end):
            first = max(0, round((bound - COLLAR_SECONDS) * FRAMES))
            scored[first : round((bound + COLLAR_SECONDS) * FRAMES)] = False
    said, heard = (_active(turns, frames)[:, scored] for turns in (reference, found))
    common = (said[:, None] & heard[None]).sum(axis=2)
    if common.shape[0] > common.shape[1]:
        common = common.T
    most = range(common.shape[1])

    @functools.cache
    def matched(row: int, taken: int) -> int:
        if row == len(common):
            return 0
        free = (
            int(common[row, one]) + matched(row + 1, taken | 1 << one) for one in most if not taken >> one & 1
        )
        return max(matched(row + 1, taken), *free, 0)

    speaking, hearing = said.sum(axis=0), heard.sum(axis=0)
    both = int(np.minimum(speaking, hearing).sum())
    missed, false = np.maximum(speaking - hearing, 0).sum(), np.maximum(hearing - speaking, 0).sum()
    return int(missed), int(false), both - matched(0, 0), int(speaking.sum())


def _active(turns: Turns, frames: int) -> npt.NDArray[np.bool_]:
    names = sorted({name for _, _, name in turns})
    active = np.zeros((max(1, len(names)), frames), bool)
    for start, end, name in turns:
        active[names.index(name), round(start * FRAMES) : round(end * FRAMES)] = True
    return active


def labelled(folder: Path, rows: Sequence[dict[str, str]]) -> Iterator[Recording]:
    """Yield the recordings that have an RTTM."""
    for row in rows:
        if row["set"] == "speakers":
            fields = [line.split() for line in (folder / row["rttm"]).read_text().splitlines()]
            turns = [(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in fields]
            yield Recording(row["file"], _decode(folder / row["file"]), turns)


def dialogues(folder: Path, files: Sequence[str], seed: int) -> Iterator[Recording]:
    """Yield dialogues of readers who take turns; pauses are not speech."""
    audio = {name: _decode(folder / name) for name in files}
    pick = random.Random(seed)
    for number in range(DIALOGUES):
        readers = pick.sample(list(files), 2 + number % 3)
        left = {name: _speech(audio[name]) for name in readers}
        pieces: list[PCM] = []
        turns: Turns = []
        at, last = 0, ""
        while at < DIALOGUE_SECONDS * SAMPLE_RATE:
            able = [name for name in readers if name != last and left[name]]
            new = [name for name in able if name not in {turn[2] for turn in turns}]
            if not able:
                break
            last = pick.choice(new or able)
            runs = left[last]
            start = runs[0][0]
            end = start + int(pick.uniform(2, 15) * SAMPLE_RATE)
            said = [(max(a, start), min(b, end)) for a, b in runs if a < end]
            end = min(end, said[-1][1])
            left[last] = [(max(a, end), b) for a, b in runs if b > end + SAMPLE_RATE]
            if end - start < SAMPLE_RATE:
                continue
            piece = audio[last][start:end].astype(np.float32)
            pieces.append(
                (piece / (np.sqrt((piece**2).mean()) + 1) * 2000).clip(-32000, 32000).astype(np.int16)
            )
            turns += [((at + a - start) / SAMPLE_RATE, (at + b - start) / SAMPLE_RATE, last) for a, b in said]
            pause = int(pick.uniform(0, 0.6) * SAMPLE_RATE)
            pieces.append(np.zeros(pause, np.int16))
            at += end - start + pause
        yield Recording(f"dialogue {number}", np.concatenate(pieces), turns)


def _decode(path: Path) -> PCM:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])


def _speech(pcm: PCM) -> list[tuple[int, int]]:
    options = VadOptions(min_silence_duration_ms=250, speech_pad_ms=30)
    found = get_speech_timestamps(pcm.astype(np.float32) / 32768, options)
    return [(row["start"], row["end"]) for row in found]


def wall(folder: Path, rows: Sequence[dict[str, str]], models: Path, speech_model: str) -> None:
    """Print the wall clock of jobs with labels over that of jobs without, in turn on one service."""
    names = [row["file"] for row in rows if row["set"] in {"stream", "long"}]
    settings = {"MODEL": speech_model, "SPEAKER_MODEL": str(models)}
    with tempfile.TemporaryDirectory() as scratch:
        audio = Path(scratch) / "talk.wav"
        with wave.open(str(audio), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            pcm = np.concatenate([_decode(folder / name) for name in names])
            file.writeframes(pcm[: WALL_SECONDS * SAMPLE_RATE].tobytes())
        files = [audio, folder / names[0]]
        with Service(files[1], settings=settings) as service, served(files) as (_, [url, short]):
            service.transcribe(short, options=TranscriptOptions(speakers=True))
            ratios = []
            for _ in range(WALL_PAIRS):
                plain = service.transcribe(url)
                with_labels = service.transcribe(url, options=TranscriptOptions(speakers=True))
                ratios.append(with_labels.wall_seconds / plain.wall_seconds)
                for name, run in (("plain", plain), ("labels", with_labels)):
                    echo(
                        f"  {name}: {run.wall_seconds:.1f} s, first words after "
                        f"{run.first_words_seconds[0]:.2f} s, CPU {run.cpu_seconds:.1f} s"
                    )
    echo(f"wall clock with labels over without: {statistics.median(ratios):.2f}")


def main() -> None:
    """Print the error of each recording and set, and the share of a core that it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--models", default="auto")
    parser.add_argument("--seed", type=int, default=7, help="Another seed makes other dialogues.")
    parser.add_argument("--wall", metavar="MODEL", help="Measure wall clock with this speech model.")
    arguments = parser.parse_args()
    models = resolve(arguments.models, cache_dir=None, progress=lambda _done, _wanted: None)
    finder = VoiceModels(models / SEGMENTATION_FILE, models / EMBEDDING_FILE)
    lines = (arguments.folder / "manifest.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    if arguments.wall is not None:
        wall(arguments.folder, rows, models, arguments.wall)
        return
    readers = [row["file"] for row in rows if row["set"] == "accent"]
    others = [row["file"] for row in rows if row["set"] in {"stream", "long"} and row["seconds"] > 60]
    for name, recordings in (
        ("recordings with RTTM", labelled(arguments.folder, rows)),
        ("dialogues, accents", dialogues(arguments.folder, readers, arguments.seed)),
        ("dialogues, readers", dialogues(arguments.folder, others, arguments.seed + 4)),
    ):
        score, seconds, cpu = Score(), 0.0, 0.0
        for recording in recordings:
            began, length = time.process_time(), len(recording.pcm)
            starts = window_starts(length)
            windows = [finder.find(recording.pcm[at : at + WINDOW_SAMPLES]) for at in starts]
            found = [(turn.start, turn.end, str(turn.speaker)) for turn in find_turns(windows)]
            cpu += time.process_time() - began
            seconds += length / SAMPLE_RATE
            missed, false, confused, spoken = compare(recording.turns, found, length / SAMPLE_RATE)
            speakers = len({turn[2] for turn in recording.turns}), len({turn[2] for turn in found})
            score.missed += missed
            score.false += false
            score.confused += confused
            score.spoken += spoken
            score.recordings += 1
            score.counted += speakers[0] == speakers[1]
            error = 100 * (missed + false + confused) / max(1, spoken)
            echo(f"  {recording.name}: {error:.1f} %, speakers {speakers[1]} of {speakers[0]}")
        echo(
            f"{name}: error {score.error:.1f} %, right number of speakers in {score.counted} of "
            f"{score.recordings}, {cpu / seconds:.3f} of a core"
        )


if __name__ == "__main__":
    main()
