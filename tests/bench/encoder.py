"""The encoder's time on a random-weight model, with and without the speech host's allocator set-up.

Run as a program (`python -m tests.bench.encoder MODEL ROUNDS stock|tuned`), it prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from tests.bench.plain import clean_environment
from tests.bench.processes import cpu_share

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Allocator = Literal["stock", "tuned"]
TIMEOUT_SECONDS = 600.0
WARM_UP_WINDOWS = 2


@dataclass(frozen=True, slots=True)
class EncoderRun:
    """Encoding `windows` windows of 30 s, one replica with one thread a core, as the speech host does."""

    windows: int
    wall_seconds: float
    cpu_seconds: float

    @property
    def seconds_a_window(self) -> float:
        """Wall seconds from one finished window to the next, all replicas together."""
        return self.wall_seconds / self.windows

    @property
    def cpu_share(self) -> float:
        """The part of all cores it got."""
        return cpu_share(self.cpu_seconds, self.wall_seconds)


def encode(model: Path, windows_a_replica: int, allocator: Allocator) -> EncoderRun:
    """Encode in a new process, after a warm-up. Raises `RuntimeError` with the process's output."""
    command = [sys.executable, "-m", "tests.bench.encoder", str(model), str(windows_a_replica), allocator]
    done = subprocess.run(
        command,
        # As `inference.host.host_environment` sets it: one thread a library.
        env=clean_environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the encoder run failed:\n{done.stderr[-4000:]}")
    return EncoderRun(**json.loads(done.stdout))


def main(arguments: Sequence[str]) -> None:
    """Set up the allocator if asked to, before anything large is imported; then encode."""
    folder, windows_a_replica, allocator = arguments
    if allocator == "tuned":
        from stenobird.inference.child import tune_allocator  # noqa: PLC0415

        tune_allocator()
    import ctranslate2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    from stenobird.inference.host import usable_cpus  # noqa: PLC0415

    replicas = usable_cpus()
    model = ctranslate2.models.Whisper(
        folder, device="cpu", compute_type="int8", inter_threads=replicas, intra_threads=1
    )
    features = ctranslate2.StorageView.from_array(
        np.random.default_rng(0).standard_normal((1, model.n_mels, 3000), np.float32)
    )

    def run(windows: int) -> EncoderRun:
        begun, cpu_begun = time.monotonic(), time.process_time()
        for _ in executor.map(lambda _: model.encode(features), range(windows)):
            pass
        return EncoderRun(windows, time.monotonic() - begun, time.process_time() - cpu_begun)

    with ThreadPoolExecutor(replicas) as executor:
        run(WARM_UP_WINDOWS * replicas)
        json.dump(asdict(run(int(windows_a_replica) * replicas)), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
