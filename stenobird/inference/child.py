"""How a model host runs, in the host itself: its limits, its allocator, its channel, and how it loads."""

from __future__ import annotations

import ctypes
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from stenobird.children.confine import allow_only, confine, limit
from stenobird.inference.frames import Channel
from stenobird.inference.host import download_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stenobird.inference.frames import Header

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_LARGEST_INT = 2**31 - 1
_REPORT_SECONDS = 1.0

FILE_BYTES = 64 * 1024**3
"""The largest file that a host may write: a model that it downloads. NLLB's largest has 13 GB."""
OPEN_FILES = 1024
MEMORY_BYTES = 2 * 1024**3
"""What a worker may take besides the weights: libraries, activations, the allocator's spare room."""
WEIGHT_COPIES = 5
"""An int8 model that is computed in float32 takes four times its file, and the file is read beside it."""


def run_host(
    arguments: Sequence[str],
    load: Callable[[Header, Channel], tuple[Callable[[], None], str]],
    *,
    model: str,
    settings: str,
) -> None:
    """Run the host `HOST PARENT_PID` until the parent has gone.

    `load` loads what the `load` request names, and returns what answers the others and the device. Its errors
    are reported: as they are if they are `ModelUnavailable`, else with `model`, what is loaded, and
    `settings`, the start of the names of the settings that chose it.
    """
    channel = join_parent(arguments)
    tune_allocator()
    frame = channel.receive()
    if frame is not None:
        from stenobird.inference.hub import ModelUnavailable  # noqa: PLC0415  # after `tune_allocator`

        wanted, failure, retry = frame[0], "", False
        os.environ.update(wanted["environment"])
        try:
            serve, device = load(wanted, channel)
        except ModelUnavailable as exc:
            failure, retry = str(exc), exc.retry
        except Exception as exc:  # noqa: BLE001  # CTranslate2 and tokenizers raise bare ones for broken files
            failure = (
                f"The {model} {wanted['model']} can't be loaded on {wanted['device']} "
                f"({wanted['compute_type']}): {exc}. Check {settings}MODEL, {settings}DEVICE and "
                f"{settings}COMPUTE_TYPE."
            )
        if failure:
            channel.send({"type": "failed", "message": failure, "retry": retry})
        else:
            seal(device)
            serve()
    # Threads may be deep inside native code; there is nothing to save.
    os._exit(0)


def serve_in_turn(
    channel: Channel, info: Header, answer: Callable[[Header, bytes], tuple[Header, bytes]]
) -> None:
    """Answer one request after the other until the parent has gone. `info` describes the model."""
    channel.send({"type": "ready", "info": info})
    while (frame := channel.receive()) is not None:
        header, payload = frame
        channel.send({"type": "started", "id": header["id"]})
        try:
            answered, data = answer(header, payload)
        except Exception as exc:  # noqa: BLE001  # see `error_answer`
            channel.send(error_answer(header["id"], exc))
        else:
            channel.send({**answered, "id": header["id"]}, data)


def error_answer(request_id: int, exc: Exception) -> Header:
    """Return the answer to a request that failed. No request may end the host, whatever it raises."""
    return {"type": "error", "id": request_id, "message": f"{type(exc).__name__}: {exc}"}


def join_parent(arguments: Sequence[str]) -> Channel:
    """Confine this process and return the channel to its parent, whose process id is the last argument.

    Address space has no limit: CUDA reserves more of it than any machine has. See `limit_memory`.
    """
    confine(int(arguments[-1]), FSIZE=FILE_BYTES, NOFILE=OPEN_FILES)
    channel = Channel(socket.socket(fileno=os.dup(0)))
    os.dup2(2, 1)  # what a library prints must not get between the frames
    return channel


def limit_memory(weights_bytes: int, *, workers: int = 1) -> None:
    """Bound the process's memory; what exceeds it fails with `MemoryError` or `RuntimeError`. For CPUs only.

    Data, not address space: files that are mapped and room that is only reserved don't count. On CUDA, what
    the driver maps for its GPU can't be foreseen.
    """
    limit(DATA=MEMORY_BYTES * workers + WEIGHT_COPIES * weights_bytes)


def seal(device: str) -> None:
    """Give up what only loading the model needed: files, connections, programs. See `children.confine`.

    On CUDA files stay, because the driver opens devices and loads kernels as it needs them.
    """
    for name in download_environment(os.environ):
        del os.environ[name]
    if device == "cuda":
        allow_only("cuda")
    else:
        limit(FSIZE=0, NOFILE=0)
        allow_only("host")


def choose_device(load: Mapping[str, Any]) -> tuple[str, str]:
    """Return the device and compute type of a `load` request; `auto` is CUDA and float16 with a GPU."""
    import ctranslate2  # noqa: PLC0415  # after `tune_allocator`

    device, compute_type = load["device"], load["compute_type"]
    if device == "auto":
        device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
    if compute_type == "auto":
        compute_type = "float16" if device == "cuda" else "int8"
    return device, compute_type


def tune_allocator() -> None:
    """Keep large buffers on the heap instead of mapping and unmapping them at every layer.

    glibc only; elsewhere nothing happens. It makes the encoder of `base` 1.6 to 1.9 times faster, with one
    replica and with two. The single arena matters most: a thread's own arena holds blocks up to 64 MB, an
    attention buffer of `base` takes 72, so that each would be mapped, and faulted in page by page, after all.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    for option, value in (
        (_M_MMAP_THRESHOLD, _LARGEST_INT),
        (_M_TRIM_THRESHOLD, _LARGEST_INT),
        (_M_TOP_PAD, 256 * 1024**2),
        (_M_ARENA_MAX, 1),
    ):
        libc.mallopt(option, value)


def download_report(channel: Channel) -> Callable[[int, int], None]:
    """Return a function of the bytes done and needed that tells the parent of them, at most once a second."""
    last = 0.0

    def report(done: int, wanted: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_SECONDS or done >= wanted:
            last = now
            channel.send({"type": "state", "state": "downloading", "done": done, "wanted": wanted})

    return report
