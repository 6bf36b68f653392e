"""The speech host's requests, windows and voice activity, on the pool that all model hosts share."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import structlog

from stenobird.errors import EngineUnavailable, TranscriptionFailed
from stenobird.inference.host import MAX_REPLICAS, usable_cpus
from stenobird.inference.pool import HostPool
from stenobird.speech.protocol import VAD_STATE_BYTES, DecodedWindow, EngineInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.config import Settings
    from stenobird.inference.frames import Header
    from stenobird.ports import PCM, Clock
    from stenobird.speech.protocol import WindowRequest

_DESCRIBED = ("engine", "model", "device", "compute_type", "replicas")
HOST_COMMAND = (sys.executable, "-I", "-m", "stenobird.speech.host_child")

_log = structlog.get_logger(__name__)


class SpeechPool(HostPool):
    """Sends windows and voice-activity requests to the speech host; see `HostPool`.

    At most `EngineInfo.parallel` windows are being decoded, and as many as one replica takes are ready in the
    host. A window that ends two hosts, or fails twice, fails with `TranscriptionFailed`.
    """

    host: ClassVar = "speech host"
    unavailable: ClassVar = EngineUnavailable
    failed: ClassVar = TranscriptionFailed

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        host_command: Sequence[str] = HOST_COMMAND,
        cache_dir: str | None = None,
    ) -> None:
        load = {
            "engine": settings.engine,
            "model": settings.model,
            "device": settings.device,
            "compute_type": settings.compute_type,
            "replicas": settings.replicas or min(usable_cpus(), MAX_REPLICAS),
            "cache_dir": cache_dir,
        }
        seconds = settings.window_timeout_seconds
        super().__init__(host_command, load, clock=clock, timeout_seconds=seconds)
        self.info: EngineInfo | None = None
        """What the last host had loaded; `None` until the first has."""
        self.engine: str = settings.engine
        self.model: str = settings.model

    async def loaded(self) -> EngineInfo:
        """Wait until an engine is loaded, and return it. Raises `EngineUnavailable` when none can be."""
        await self.wait_ready()
        assert self.info is not None
        return self.info

    async def decode(
        self, job_id: str, request: WindowRequest, *, urgent: bool, live: bool = False
    ) -> DecodedWindow:
        """Decode one window. Cancels and raises as `request` does."""
        header, payload = request.to_frame()
        answer, _ = await self.request(job_id, header, payload, urgent=urgent, live=live)
        return DecodedWindow.from_header(answer)

    async def find_speech(
        self, job_id: str, pcm: PCM, state: bytes, *, urgent: bool = False
    ) -> tuple[npt.NDArray[np.float32], bytes]:
        """Return the probability of speech in each 512 samples and the state after them.

        `state` is what the last call for this window returned, empty at its start. Raises as `request` does.
        """
        header: Header = {"type": "vad", "state_bytes": len(state)}
        _, payload = await self.request(job_id, header, state + pcm.tobytes(), urgent=urgent, light=True)
        return np.frombuffer(payload[VAD_STATE_BYTES:], np.float32), payload[:VAD_STATE_BYTES]

    def status(self) -> dict[str, Any]:
        """Describe engine, host and queue, for `/healthz` and `doctor`; JSON-safe.

        `state` is `starting`, `downloading` (then `progress` is 0 to 1), `ready`, `degraded` (another engine
        than the one asked for, `message` says why) or `failed`. `fixture` marks the bundled test model.
        """
        info = self.info
        return {
            **{name: getattr(info, name) if info else self._load[name] for name in _DESCRIBED},
            "languages": len(info.languages) if info else None,
            "degraded": info is not None and info.degraded is not None,
            "fixture": info is not None and info.fixture,
            **self.host_status(),
        }

    def _adopt(self, info: Header) -> tuple[int, int, bool]:
        self.info = engine = EngineInfo(**{**info, "languages": tuple(info["languages"])})
        self.engine, self.model = engine.engine, engine.model
        if engine.degraded is not None:
            self._state, self._message = "degraded", engine.degraded
        if engine.fixture:
            self._message = "This is the bundled test model: it knows 178 words and is no speech model."
        _log.log(
            logging.INFO if engine.degraded is None else logging.ERROR,
            "speech_engine_ready",
            **{name: getattr(engine, name) for name in _DESCRIBED},
            state=self._state,
            message=self._message,
        )
        return engine.parallel, engine.batch, engine.device == "cuda"
