from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from faster_whisper.vad import get_vad_model

from stenobird.ports import SAMPLE_RATE
from stenobird.speech.protocol import VAD_STATE_BYTES
from stenobird.speech.vad import FRAMES_PER_CALL, SileroVAD
from stenobird.speech.windows import FRAME_SAMPLES
from tests.support.speech import decode_clip

if TYPE_CHECKING:
    from pathlib import Path

    from stenobird.ports import PCM


@pytest.fixture(scope="module")
def pcm(clips: Path) -> PCM:
    clip = decode_clip(clips / "short.mp3")
    return clip[: len(clip) // FRAME_SAMPLES * FRAME_SAMPLES]


@pytest.fixture(scope="module")
def vad() -> SileroVAD:
    return SileroVAD()


def test_stream_gives_what_the_whole_file_gives(pcm: PCM, vad: SileroVAD) -> None:
    # faster-whisper overwrites the last 64 samples of what it is given.
    whole = get_vad_model()(pcm.astype(np.float32) / 32768.0).reshape(-1)
    state, parts = b"", []
    block = 3 * FRAMES_PER_CALL * FRAME_SAMPLES
    for start in range(0, len(pcm), block):
        probabilities, state = vad(pcm[start : start + block], state)
        parts.append(probabilities)
    streamed = np.concatenate(parts)

    assert streamed.shape == whole.shape
    assert float(np.max(np.abs(streamed[:-1] - whole[:-1]))) < 0.0004


def test_a_quiet_voice_after_a_loud_one_and_a_pause_is_speech(pcm: PCM, vad: SileroVAD) -> None:
    pause = np.zeros(2 * SAMPLE_RATE // FRAME_SAMPLES * FRAME_SAMPLES, np.int16)
    quiet = (pcm / 200).astype(np.int16)  # 46 dB less
    probabilities, _ = vad(np.concatenate([pcm, pause, quiet]), b"")
    frames = len(pcm) // FRAME_SAMPLES

    loud_frames, quiet_frames = (
        int((part > 0.5).sum()) for part in (probabilities[:frames], probabilities[-frames:])
    )
    assert quiet_frames >= 0.95 * loud_frames > 0


def test_the_size_of_a_block_does_not_change_a_bit(pcm: PCM, vad: SileroVAD) -> None:
    pcm = np.concatenate([pcm, np.zeros(2 * SAMPLE_RATE, np.int16), pcm])
    call = FRAMES_PER_CALL * FRAME_SAMPLES
    at_once, _ = vad(pcm, b"")
    state, parts = b"", []
    for start in range(0, len(pcm), call):
        probabilities, state = vad(pcm[start : start + call], state)
        parts.append(probabilities)

    assert np.concatenate(parts).tobytes() == at_once.tobytes()
    assert len(state) == VAD_STATE_BYTES


def test_a_short_last_frame_is_filled_up(vad: SileroVAD) -> None:
    probabilities, _ = vad(np.zeros(FRAME_SAMPLES + 1, np.int16), b"")

    assert probabilities.shape == (2,)
    assert float(probabilities.max()) < 0.2
