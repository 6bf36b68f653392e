"""The speaker host with random models: it answers, always the same, and says what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stenobird.config import Settings
from stenobird.errors import EngineUnavailable, TranscriptionFailed
from stenobird.ports import Clock
from stenobird.speakers.pool import SpeakerPool, open_speakers
from stenobird.speakers.voices import unpack
from tests.support.speaker_models import write_speaker_models

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_the_same_audio_has_the_same_voices_in_every_host(tmp_path: Path) -> None:
    write_speaker_models(tmp_path)
    pcm = np.random.default_rng(3).integers(-9000, 9000, 7 * 16_000).astype(np.int16)
    answers = []
    for _ in range(2):
        pool = SpeakerPool(str(tmp_path), clock=Clock())
        async with pool.running():
            answers += [await pool.find_voices("tr_1", pcm), await pool.find_voices("tr_1", pcm)]
            # Odd bytes are no samples: a request that fails must not end the host.
            with pytest.raises(TranscriptionFailed):
                await pool.request("tr_1", {"type": "voices"}, b"odd", urgent=False)
            assert pool.refusal() is None
    assert len(set(answers)) == 1
    voices = unpack(answers[0])
    assert voices
    for voice in voices:
        assert all(0 <= start < end <= len(pcm) for start, end in voice.runs)
        assert voice.embedding is None or np.linalg.norm(voice.embedding) == pytest.approx(1, abs=1e-2)


async def test_a_folder_without_the_models_is_named(tmp_path: Path) -> None:
    pool = SpeakerPool(str(tmp_path), clock=Clock())
    async with pool.running():
        with pytest.raises(EngineUnavailable, match="STENOBIRD_SPEAKER_MODEL"):
            await pool.wait_ready()
        assert "STENOBIRD_SPEAKER_MODEL" in str(pool.refusal())


async def test_without_a_model_no_host_is_started() -> None:
    async with open_speakers(Settings(speaker_model=""), Clock()) as pool:
        assert pool is None
