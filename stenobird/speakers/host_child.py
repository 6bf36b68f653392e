"""The speaker host: the child process in which the two speaker models run, one window after the other.

The request is `voices` with PCM, the answer `voices` with what `voices.pack` makes. The allocator is set up
before anything large is imported, hence the imports inside functions.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stenobird.inference.child import download_report, error_answer, limit_memory, run_host

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stenobird.inference.frames import Channel
    from stenobird.ports import PCM

Find: TypeAlias = "Callable[[PCM], bytes]"
"""The loaded models: PCM of a window in, its packed voices out."""


def load_models(load: Mapping[str, Any], channel: Channel) -> tuple[Callable[[], None], str]:
    """Load what the `load` request asks for; return what answers with it, and the device."""
    from stenobird.speakers.finder import VoiceModels  # noqa: PLC0415
    from stenobird.speakers.models import EMBEDDING_FILE, SEGMENTATION_FILE, resolve  # noqa: PLC0415
    from stenobird.speakers.voices import pack  # noqa: PLC0415

    folder = resolve(load["model"], cache_dir=load["cache_dir"], progress=download_report(channel))
    channel.send({"type": "state", "state": "starting", "message": "Loading the speaker models."})
    files = folder / SEGMENTATION_FILE, folder / EMBEDDING_FILE
    limit_memory(sum(file.stat().st_size for file in files))
    models = VoiceModels(*files)
    return lambda: serve(channel, lambda pcm: pack(models.find(pcm))), "cpu"


def serve(channel: Channel, find: Find) -> None:
    """Answer until the parent has gone."""
    channel.send({"type": "ready", "info": {}})
    while (frame := channel.receive()) is not None:
        header, payload = frame
        channel.send({"type": "started", "id": header["id"]})
        try:
            voices = find(np.frombuffer(payload, np.int16))
        except Exception as exc:  # noqa: BLE001  # see `error_answer`
            channel.send(error_answer(header["id"], exc))
        else:
            channel.send({"type": "voices", "id": header["id"]}, voices)


if __name__ == "__main__":
    run_host(sys.argv[1:], load_models, model="speaker models", settings="STENOBIRD_SPEAKER_")
