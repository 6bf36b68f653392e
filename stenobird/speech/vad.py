"""Voice activity: Silero with its state carried from call to call, but not over a long silence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime
from faster_whisper.utils import get_assets_path

from stenobird.speech.protocol import VAD_STATE_BYTES
from stenobird.speech.windows import FRAME_SAMPLES

if TYPE_CHECKING:
    from stenobird.ports import PCM

FRAMES_PER_CALL = 8
"""The fastest on one thread. Calls are always this long, counted from a cut, so that a resumed run makes the
same calls as an undisturbed one and gets the same bits."""
SILENCE_PROBABILITY = 0.35
SILENT_CALLS = 4
"""After so many calls without speech, a second, the network starts afresh, once in each silence: its state
adapts to loud voices, and it takes a quiet one after them for noise."""

_CONTEXT_SAMPLES = 64
_UNITS = 128

Floats: TypeAlias = npt.NDArray[np.float32]


class SileroVAD:
    """The network bundled with faster-whisper, on one thread.

    faster-whisper's own wrapper starts without state at each call and overwrites the tail of its input.
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

    def __call__(self, pcm: PCM, state: bytes) -> tuple[Floats, bytes]:
        """Return a probability for each 512 samples of `pcm`, shape `(n,)`, and the state after them.

        The state is `h` and `c` of the network's LSTM, the number of silent calls and the last 64 samples, as
        float32; no bytes are the state before the first sample. A last frame that is short is filled up with
        silence.
        """
        h, c, silent, context = np.split(
            np.frombuffer(state or bytes(VAD_STATE_BYTES), np.float32), (_UNITS, 2 * _UNITS, 2 * _UNITS + 1)
        )
        h, c = h.reshape(1, 1, _UNITS), c.reshape(1, 1, _UNITS)
        audio = pcm.astype(np.float32) / 32768.0
        audio = np.pad(audio, (0, -len(audio) % FRAME_SAMPLES))
        frames = audio.reshape(-1, FRAME_SAMPLES)
        contexts = np.vstack([context[np.newaxis], frames[:-1, -_CONTEXT_SAMPLES:]])
        inputs = np.concatenate([contexts, frames], axis=1)
        outputs = []
        for first in range(0, len(inputs), FRAMES_PER_CALL):
            output, h, c = self._session.run(
                None, {"input": inputs[first : first + FRAMES_PER_CALL], "h": h, "c": c}
            )
            outputs.append(output.reshape(-1))
            silent = silent + 1 if output.max() < SILENCE_PROBABILITY else np.zeros_like(silent)
            if silent == SILENT_CALLS:
                h, c = np.zeros_like(h), np.zeros_like(c)
        after = (h, c, silent, frames[-1, -_CONTEXT_SAMPLES:])
        return np.concatenate(outputs), b"".join(part.tobytes() for part in after)
