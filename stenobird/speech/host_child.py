"""The speech host: the child process in which models run.

It answers requests as `protocol` describes. The allocator is set up before anything large is imported, hence
the imports inside functions.
"""

from __future__ import annotations

import itertools
import queue
import sys
import threading
from bisect import insort
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from stenobird.inference.child import choose_device, download_report, error_answer, limit_memory, run_host
from stenobird.speech.protocol import EngineInfo, WindowRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from stenobird.inference.frames import Channel, Header
    from stenobird.ports import PCM
    from stenobird.speech.protocol import DecodedWindow

CUDA_BATCH = 16
"""Windows decoded at once on CUDA: what is ready, never waiting for more."""
CPU_BATCH = 4
"""Windows that a replica on CPU decodes at once where so many are ready for each. CTranslate2 packs the 8-bit
weights anew for each token, whatever the number of windows: four take 0.7 of the time of four alone. Larger
models decode one at a time, so that text comes often enough."""

SpeechFinder: TypeAlias = "Callable[[PCM, bytes], tuple[npt.NDArray[np.float32], bytes]]"
"""PCM and state in, probabilities and state out, see `vad.SileroVAD`."""

Decode: TypeAlias = "Callable[[Sequence[WindowRequest]], list[DecodedWindow]]"
"""A loaded engine: decodes a batch, one result a request, in order; called from a thread for each replica."""

Batch: TypeAlias = "list[tuple[int, WindowRequest]]"
"""Windows with the numbers of their requests."""
_Activity: TypeAlias = "queue.SimpleQueue[tuple[int, bytes, bytes]]"
"""Request, state and PCM."""


def load_engine(load: Header, channel: Channel) -> tuple[Callable[[], None], str]:
    """Load what the `load` request asks for; return what answers with it, and the device."""
    from stenobird.inference.hub import ModelUnavailable  # noqa: PLC0415
    from stenobird.speech.vad import SileroVAD  # noqa: PLC0415

    if load["engine"] == "offline":
        decode, info = _load_offline(degraded=None)
    else:
        try:
            decode, info = _load_whisper(load, channel)
        except ModelUnavailable as exc:
            if load["engine"] != "auto" or not exc.offline:
                raise
            decode, info = _load_offline(degraded=str(exc))
    find_speech = SileroVAD()
    return lambda: serve(channel, decode, info, find_speech), info.device


def _load_whisper(load: Header, channel: Channel) -> tuple[Decode, EngineInfo]:
    from stenobird.speech.decoder import WhisperDecoder, copies, is_small  # noqa: PLC0415
    from stenobird.speech.models import resolve, translates  # noqa: PLC0415

    device, compute_type = choose_device(load)
    files = resolve(
        load["model"], device=device, cache_dir=load["cache_dir"], progress=download_report(channel)
    )
    channel.send({"type": "state", "state": "starting", "message": f"Loading {files.name}."})
    replicas, batch = 1, CUDA_BATCH
    if device == "cpu":
        replicas, batch = load["replicas"], CPU_BATCH if is_small(files.folder) else 1
        loaded = copies(files.folder, device=device, replicas=replicas)
        limit_memory(len(loaded) * (files.folder / "model.bin").stat().st_size, workers=loaded[0][1])
    decoder = WhisperDecoder(files.folder, device=device, compute_type=compute_type, replicas=replicas)
    return decoder.decode, EngineInfo(
        engine="whisper",
        model=files.name,
        device=device,
        compute_type=decoder.compute_type,
        replicas=replicas,
        parallel=replicas * batch,
        languages=decoder.languages,
        fixture=files.fixture,
        translates=translates(files.name),
    )


def _load_offline(degraded: str | None) -> tuple[Decode, EngineInfo]:
    from stenobird.inference.hub import ModelUnavailable  # noqa: PLC0415
    from stenobird.speech.offline import LANGUAGES, MODEL_NAME, PocketsphinxDecoder  # noqa: PLC0415

    try:
        decoder = PocketsphinxDecoder()
    except ImportError as exc:
        remedy = 'The offline engine is not installed: run pip install "stenobird[offline]".'
        message = remedy if degraded is None else f"{degraded} {remedy}"
        raise ModelUnavailable(message, retry=degraded is not None) from exc
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


class WindowQueue:
    """The windows that wait for a replica: urgent ones first, the others in the order of their arrival."""

    def __init__(self, info: EngineInfo) -> None:
        self._replicas = info.replicas
        self._most = info.batch
        self._mixed = info.device == "cuda"
        self._waiting: list[tuple[bool, int, int, WindowRequest]] = []
        """Whether it can wait, its place in the order of arrival, and the request with its number."""
        self._places = itertools.count()
        self._changed = threading.Condition()

    def put(self, request_id: int, request: WindowRequest, *, urgent: bool) -> None:
        """Add a window."""
        with self._changed:
            insort(self._waiting, (not urgent, next(self._places), request_id, request))
            self._changed.notify_all()

    def take(self) -> Batch:
        """Wait for a window; return it and what is decoded with it.

        On CPU those are windows with the same text before them, whose prompts therefore have the same length,
        and not more than an equal share of what is ready. What is urgent there is decoded alone.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            can_wait, _, _, first = self._waiting[0]
            most = min(self._most, -(-len(self._waiting) // self._replicas))
            together = [
                place
                for place, (*_, request) in enumerate(self._waiting)
                if place == 0 or self._mixed or (can_wait and request.context == first.context)
            ][:most]
            return [self._waiting.pop(place)[2:] for place in reversed(together)][::-1]

    def take_urgent(self) -> Batch:
        """Wait for an urgent window."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting and not self._waiting[0][0])
            return [self._waiting.pop(0)[2:]]


def serve(channel: Channel, decode: Decode, info: EngineInfo, find_speech: SpeechFinder) -> None:
    """Answer until the parent has gone: a thread for each replica, and two for voice activity.

    One of these is for urgent requests, which so wait for no other. Where replicas take batches on CPU, one
    more thread is for urgent windows.

    The parent bounds what it sends, so the queues here need no bound of their own.
    """
    windows = WindowQueue(info)
    activity: dict[bool, _Activity] = {urgent: queue.SimpleQueue() for urgent in (False, True)}
    threads = [
        threading.Thread(target=_find_activity, args=(channel, find_speech, each), daemon=True)
        for each in activity.values()
    ]
    takes = [windows.take] * info.replicas
    if info.device == "cpu" and info.batch > 1:
        takes.append(windows.take_urgent)
    threads += [
        threading.Thread(target=_decode_windows, args=(channel, decode, take, info.device), daemon=True)
        for take in takes
    ]
    for thread in threads:
        thread.start()
    channel.send({"type": "ready", "info": asdict(info)})
    while (frame := channel.receive()) is not None:
        header, payload = frame
        if header["type"] == "decode":
            request = WindowRequest.from_frame(header, payload)
            windows.put(header["id"], request, urgent=header["urgent"])
        else:
            split = header["state_bytes"]
            activity[header["urgent"]].put((header["id"], payload[:split], payload[split:]))


def _find_activity(channel: Channel, find_speech: SpeechFinder, activity: _Activity) -> None:
    while True:
        request_id, state, pcm = activity.get()
        try:
            probabilities, after = find_speech(np.frombuffer(pcm, np.int16), state)
        except Exception as exc:  # noqa: BLE001  # see `error_answer`
            channel.send(error_answer(request_id, exc))
        else:
            channel.send({"type": "vad", "id": request_id}, after + probabilities.tobytes())


def _decode_windows(channel: Channel, decode: Decode, take: Callable[[], Batch], device: str) -> None:
    while True:
        batch = take()
        # On CPU, a batch takes most of the time of its windows one by one.
        times = 1 if device == "cuda" else len(batch)
        for request_id, _ in batch:
            channel.send({"type": "started", "id": request_id, "times": times})
        _answer(channel, decode, batch)


def _answer(channel: Channel, decode: Decode, batch: Batch) -> None:
    try:
        decoded = decode([request for _, request in batch])
    except Exception as exc:  # noqa: BLE001  # see `error_answer`
        if len(batch) == 1:
            channel.send(error_answer(batch[0][0], exc))
        else:
            for item in batch:  # out of memory, or one bad window: each may work alone
                _answer(channel, decode, [item])
        return
    for (request_id, _), window in zip(batch, decoded, strict=True):
        channel.send(window.to_header(request_id))


if __name__ == "__main__":
    run_host(sys.argv[1:], load_engine, model="model", settings="STENOBIRD_")
