"""Voice activity: Silero with its state carried, so that a stream gives what the whole file would give."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime
from faster_whisper.utils import get_assets_path

from stenobird.speech.windows import FRAME_SAMPLES

if TYPE_CHECKING:
    from stenobird.ports import PCM

FRAMES_PER_CALL = 8
"""Measured fastest on one thread. Calls are always this long, counted from a cut, so that a resumed run makes
the same calls as an undisturbed one and gets the same bits."""

_CONTEXT_SAMPLES = 64
_UNITS = 128

Floats: TypeAlias = npt.NDArray[np.float32]


def _zeros(*shape: int) -> Floats:
    return np.zeros(shape, np.float32)


@dataclass(frozen=True, slots=True)
class VADState:
    """What the network remembers: `h` and `c` of its LSTM, and the last 64 samples it heard."""

    h: Floats = field(default_factory=lambda: _zeros(1, 1, _UNITS))
    c: Floats = field(default_factory=lambda: _zeros(1, 1, _UNITS))
    context: Floats = field(default_factory=lambda: _zeros(_CONTEXT_SAMPLES))

    def to_bytes(self) -> bytes:
        """Return the state as `from_bytes` reads it."""
        return self.h.tobytes() + self.c.tobytes() + self.context.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> VADState:
        """Read what `to_bytes` wrote; no bytes are the state before the first sample."""
        if not data:
            return cls()
        values = np.frombuffer(data, np.float32)
        return cls(
            values[:_UNITS].reshape(1, 1, _UNITS),
            values[_UNITS : 2 * _UNITS].reshape(1, 1, _UNITS),
            values[2 * _UNITS :],
        )


class SileroVAD:
    """The network bundled with faster-whisper, on one thread.

    faster-whisper's own wrapper starts afresh at each call and overwrites the tail of the caller's array,
    hence this one.
    """

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            str(Path(get_assets_path()) / "silero_vad_v6.onnx"),
            providers=["CPUExecutionProvider"],
            sess_options=options,
        )

    def answer(self, pcm: bytes, state: bytes) -> tuple[bytes, bytes]:
        """Do the same on the bytes of the wire: PCM and state in, state and probabilities out."""
        probabilities, after = self(np.frombuffer(pcm, np.int16), VADState.from_bytes(state))
        return after.to_bytes(), probabilities.tobytes()

    def __call__(self, pcm: PCM, state: VADState) -> tuple[Floats, VADState]:
        """Return a probability for each 512 samples of `pcm`, shape `(n,)`, and the state after them.

        A last frame that is short is filled up with silence.
        """
        audio = pcm.astype(np.float32) / 32768.0
        audio = np.pad(audio, (0, -len(audio) % FRAME_SAMPLES))
        frames = audio.reshape(-1, FRAME_SAMPLES)
        contexts = np.vstack([state.context[np.newaxis], frames[:-1, -_CONTEXT_SAMPLES:]])
        inputs = np.concatenate([contexts, frames], axis=1)
        h, c = state.h, state.c
        outputs = []
        for first in range(0, len(inputs), FRAMES_PER_CALL):
            output, h, c = self._session.run(
                None, {"input": inputs[first : first + FRAMES_PER_CALL], "h": h, "c": c}
            )
            outputs.append(output.reshape(-1))
        return np.concatenate(outputs), VADState(h, c, frames[-1, -_CONTEXT_SAMPLES:].copy())
