"""The speech host: the child process in which models run.

It answers requests as `protocol` describes, on a socket it inherits, and dies with its parent. The
allocator is set up before anything large is imported, hence the imports inside functions.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stenobird.inference.child import (
    choose_device,
    download_report,
    join_parent,
    limit_memory,
    tune_allocator,
)
from stenobird.speech.protocol import EngineInfo, WindowRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from stenobird.inference.frames import Channel, Header
    from stenobird.ports import PCM
    from stenobird.speech.protocol import DecodedWindow

CUDA_BATCH = 16
"""Windows decoded at once on CUDA: what is ready, never waiting for more."""

SpeechFinder: TypeAlias = "Callable[[PCM, bytes], tuple[npt.NDArray[np.float32], bytes]]"
"""PCM and state in, probabilities and state out, see `vad.SileroVAD`."""

Decode: TypeAlias = "Callable[[Sequence[WindowRequest]], list[DecodedWindow]]"
"""A loaded engine: decodes a batch, one result a request, in order; called from a thread for each replica."""


def load_engine(load: Mapping[str, Any], channel: Channel) -> tuple[Decode, EngineInfo] | None:
    """Load what the `load` request asks for; on failure report it to the parent and return `None`."""
    # Everything here is heavy or optional, and must come after `tune_allocator`.
    from stenobird.inference.hub import ModelUnavailable  # noqa: PLC0415

    if load["engine"] == "offline":
        return _load_offline(channel, degraded=None)
    try:
        return _load_whisper(load, channel)
    except ModelUnavailable as exc:
        if load["engine"] == "auto" and exc.offline:
            return _load_offline(channel, degraded=str(exc))
        channel.send({"type": "failed", "message": str(exc), "retry": exc.retry})
    except (RuntimeError, ValueError, OSError) as exc:  # CTranslate2, tokenizers and the file system
        message = (
            f"The model {load['model']} can't be loaded on {load['device']} ({load['compute_type']}): {exc}. "
            "Check STENOBIRD_MODEL, STENOBIRD_DEVICE and STENOBIRD_COMPUTE_TYPE."
        )
        channel.send({"type": "failed", "message": message, "retry": False})
    return None


def _load_whisper(load: Mapping[str, Any], channel: Channel) -> tuple[Decode, EngineInfo]:
    from stenobird.speech.decoder import WhisperDecoder  # noqa: PLC0415
    from stenobird.speech.models import resolve, translates  # noqa: PLC0415

    device, compute_type = choose_device(load)
    files = resolve(
        load["model"], device=device, cache_dir=load["cache_dir"], progress=download_report(channel)
    )
    channel.send({"type": "state", "state": "starting", "message": f"Loading {files.name}."})
    replicas = 1 if device == "cuda" else load["replicas"]
    if device == "cpu":
        limit_memory((files.folder / "model.bin").stat().st_size, workers=replicas)
    decoder = WhisperDecoder(
        files.folder,
        device=device,
        compute_type=compute_type,
        replicas=replicas,
        beam_size=load["beam_size"],
    )
    return decoder.decode, EngineInfo(
        engine="whisper",
        model=files.name,
        device=device,
        compute_type=decoder.compute_type,
        replicas=replicas,
        parallel=CUDA_BATCH if device == "cuda" else replicas,
        languages=decoder.languages,
        fixture=files.fixture,
        translates=translates(files.name),
    )


def _load_offline(channel: Channel, degraded: str | None) -> tuple[Decode, EngineInfo] | None:
    from stenobird.speech.offline import LANGUAGES, MODEL_NAME, PocketsphinxDecoder  # noqa: PLC0415

    try:
        decoder = PocketsphinxDecoder()
    except ImportError:
        remedy = 'The offline engine is not installed: run pip install "stenobird[offline]".'
        message = remedy if degraded is None else f"{degraded} {remedy}"
        channel.send({"type": "failed", "message": message, "retry": degraded is not None})
        return None
    return decoder.decode, EngineInfo(
        engine="offline",
        model=MODEL_NAME,
        device="cpu",
        compute_type="fixed-point",
        replicas=1,
        parallel=1,
        languages=LANGUAGES,
        degraded=degraded,
    )


class Host:
    """Serves requests: one thread a replica for windows, one for voice activity, one that reads frames.

    The parent bounds what it sends, so the queues here need no bound of their own.
    """

    def __init__(self, channel: Channel, decode: Decode, info: EngineInfo, find_speech: SpeechFinder) -> None:
        self._channel = channel
        self._decode = decode
        self._info = info
        self._find_speech = find_speech
        self._windows: queue.SimpleQueue[tuple[int, WindowRequest]] = queue.SimpleQueue()
        self._activity: queue.SimpleQueue[tuple[int, bytes, bytes]] = queue.SimpleQueue()

    def serve(self) -> None:
        """Answer until the parent has gone."""
        threads = [threading.Thread(target=self._find_activity, daemon=True)]
        threads += [
            threading.Thread(target=self._decode_windows, daemon=True) for _ in range(self._info.replicas)
        ]
        for thread in threads:
            thread.start()
        self._channel.send({"type": "ready", "info": asdict(self._info)})
        while (frame := self._channel.receive()) is not None:
            header, payload = frame
            if header["type"] == "decode":
                self._windows.put((header["id"], WindowRequest.from_frame(header, payload)))
            else:
                split = header["state_bytes"]
                self._activity.put((header["id"], payload[:split], payload[split:]))

    def _find_activity(self) -> None:
        while True:
            request_id, state, pcm = self._activity.get()
            try:
                probabilities, after = self._find_speech(np.frombuffer(pcm, np.int16), state)
            except Exception as exc:  # noqa: BLE001  # this thread has to go on, whatever the audio
                self._channel.send(_error(request_id, exc))
            else:
                self._channel.send({"type": "vad", "id": request_id}, after + probabilities.tobytes())

    def _decode_windows(self) -> None:
        size = self._info.parallel // self._info.replicas
        while True:
            batch = [self._windows.get()]
            while len(batch) < size and not self._windows.empty():
                batch.append(self._windows.get())
            for request_id, _ in batch:
                self._channel.send({"type": "started", "id": request_id})
            self._answer(batch)

    def _answer(self, batch: list[tuple[int, WindowRequest]]) -> None:
        try:
            decoded = self._decode([request for _, request in batch])
        except Exception as exc:  # noqa: BLE001  # a window must not end the host, whatever it raises
            if len(batch) > 1:
                for item in batch:  # out of memory, or one bad window: each may work alone
                    self._answer([item])
                return
            self._channel.send(_error(batch[0][0], exc))
            return
        for (request_id, _), window in zip(batch, decoded, strict=True):
            self._channel.send(window.to_header(request_id))


def _error(request_id: int, exc: Exception) -> Header:
    return {"type": "error", "id": request_id, "message": f"{type(exc).__name__}: {exc}"}


def main(arguments: Sequence[str]) -> None:
    """Run the host: `host_child PARENT_PID`."""
    channel = join_parent(arguments)
    tune_allocator()
    frame = channel.receive()
    if frame is not None:
        loaded = load_engine(frame[0], channel)
        if loaded is not None:
            from stenobird.speech.vad import SileroVAD  # noqa: PLC0415

            Host(channel, *loaded, SileroVAD()).serve()
    # Decoding threads may be deep inside native code; there is nothing to save.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
