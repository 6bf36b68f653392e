"""The speaker host: the child process in which the two speaker models run, one window after the other.

The request is `voices` with PCM, the answer `voices` with what `voices.pack` makes. The allocator is set up
before anything large is imported, hence the imports inside functions.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from stenobird.inference.child import download_report, limit_memory, run_host, serve_in_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stenobird.inference.frames import Channel, Header


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

    def find(_request: Header, payload: bytes) -> tuple[Header, bytes]:
        return {"type": "voices"}, pack(models.find(np.frombuffer(payload, np.int16)))

    return lambda: serve_in_turn(channel, {}, find), "cpu"


if __name__ == "__main__":
    run_host(sys.argv[1:], load_models, model="speaker models", settings="STENOBIRD_SPEAKER_")
