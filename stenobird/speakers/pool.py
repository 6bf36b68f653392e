"""The speaker host on the pool that all model hosts share."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Final

from typing_extensions import override

from stenobird.errors import EngineUnavailable, TranscriptionFailed
from stenobird.inference.pool import HostPool
from stenobird.ports import VoiceFinder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.config import Settings
    from stenobird.inference.frames import Header
    from stenobird.ports import PCM, Clock

WINDOW_TIMEOUT_SECONDS: Final = 60.0
"""A window takes 0.2 s of a core."""


class SpeakerPool(HostPool, VoiceFinder):
    """`ports.VoiceFinder` on one speaker host, for all jobs in turn; see `HostPool`."""

    host: ClassVar = "speaker host"
    unavailable: ClassVar = EngineUnavailable
    failed: ClassVar = TranscriptionFailed

    def __init__(self, model: str, *, clock: Clock) -> None:
        command = (sys.executable, "-I", "-m", "stenobird.speakers.host_child")
        load = {"model": model, "cache_dir": None, "device": "cpu", "compute_type": "float32"}
        super().__init__(command, load, clock=clock, timeout_seconds=WINDOW_TIMEOUT_SECONDS)

    @override
    async def find_voices(self, job_id: str, pcm: PCM) -> bytes:
        _, voices = await self.request(job_id, {"type": "voices"}, pcm.tobytes(), urgent=False)
        return voices

    @override
    def refusal(self) -> str | None:
        return None if self._failure is None else f"Speakers can't be labelled: {self._failure}"

    def _adopt(self, _info: Header) -> tuple[int, int, bool]:
        return 1, 1, False


@asynccontextmanager
async def open_speakers(settings: Settings, clock: Clock) -> AsyncIterator[SpeakerPool | None]:
    """Start the speaker host, whose models load from now on; `None` where the settings name no model."""
    if not settings.speaker_model:
        yield None
        return
    pool = SpeakerPool(settings.speaker_model, clock=clock)
    async with pool.running():
        yield pool
