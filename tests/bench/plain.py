"""The other side of each ratio: plain faster-whisper in a process of its own.

Run as a program (`python -m tests.bench.plain`), it loads the model, warms up, transcribes, and prints one
JSON object; `transcribe` does so from the bench.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tests.bench.processes import cpu_share

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TIMEOUT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class PlainRun:
    """One call of `transcribe`, read to its end or, if asked so, to its first segment."""

    wall_seconds: float
    cpu_seconds: float
    first_segment_seconds: float
    text: str

    @property
    def cpu_share(self) -> float:
        """The part of all cores it got."""
        return cpu_share(self.cpu_seconds, self.wall_seconds)


def transcribe(
    model: Path, audio: Path, warm_up: Path, *, runs: int = 1, first_segment_only: bool = False
) -> list[PlainRun]:
    """Transcribe `audio` so many times in turn in one new process, after one of `warm_up`.

    Loading the model and the warm-up are not timed. Raises `RuntimeError` with the process's output.
    """
    request = {
        "model": str(model),
        "audio": str(audio),
        "warm_up": str(warm_up),
        "runs": runs,
        "first_segment_only": first_segment_only,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.plain", json.dumps(request)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"plain faster-whisper failed:\n{done.stderr[-4000:]}")
    return [PlainRun(**row) for row in json.loads(done.stdout)]


def clean_environment() -> dict[str, str]:
    """Return what a child of the bench sees: no tunables and no thread counts of the caller's shell."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
    return {name: os.environ[name] for name in kept if name in os.environ}


def main(arguments: Sequence[str]) -> None:
    """Do what the request in the only argument asks for."""
    from faster_whisper import WhisperModel  # noqa: PLC0415  # the bench itself must not load it

    from stenobird.inference.host import usable_cpus  # noqa: PLC0415

    request = json.loads(arguments[0])
    whisper = WhisperModel(
        request["model"], device="cpu", compute_type="int8", cpu_threads=usable_cpus(), local_files_only=True
    )

    def run(audio: str, *, first_segment_only: bool) -> PlainRun:
        begun, cpu_begun = time.monotonic(), time.process_time()
        found, _ = whisper.transcribe(audio, beam_size=5, vad_filter=True, condition_on_previous_text=False)
        texts: list[str] = []
        first = 0.0
        for segment in found:
            first = first or time.monotonic() - begun
            texts.append(segment.text)
            if first_segment_only:
                break
        wall, cpu = time.monotonic() - begun, time.process_time() - cpu_begun
        return PlainRun(wall, cpu, first, "".join(texts))

    run(request["warm_up"], first_segment_only=False)
    results = [
        run(request["audio"], first_segment_only=request["first_segment_only"])
        for _ in range(request["runs"])
    ]
    json.dump([asdict(result) for result in results], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
