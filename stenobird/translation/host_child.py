"""The translation host: the child process in which a translation model runs, one request after the other.

The request is `translate`, the answer `translated`. The allocator is set up before anything large is
imported, hence the imports inside functions.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from stenobird.inference.child import choose_device, download_report, error_answer, limit_memory, run_host

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stenobird.inference.frames import Channel, Header


Translate: TypeAlias = "Callable[[Sequence[str], str, str], Sequence[str | None]]"
"""A loaded model: translates texts from a language to another, in order, as `ports.Translator` does."""


def load_model(load: Mapping[str, Any], channel: Channel) -> tuple[Callable[[], None], str]:
    """Load what the `load` request asks for; return what answers with it, and the device."""
    from stenobird.translation.engine import TranslationEngine  # noqa: PLC0415
    from stenobird.translation.models import resolve  # noqa: PLC0415

    device, compute_type = choose_device(load)
    folder = resolve(load["model"], cache_dir=load["cache_dir"], progress=download_report(channel))
    channel.send({"type": "state", "state": "starting", "message": f"Loading {load['model']}."})
    if device == "cpu":
        limit_memory((folder / "model.bin").stat().st_size)
    engine = TranslationEngine(folder, device=device, compute_type=compute_type, threads=load["threads"])
    info = {
        "model": load["model"] if load["model"].count("/") == 1 else folder.name,
        "device": device,
        "compute_type": engine.compute_type,
        "threads": load["threads"],
        "languages": engine.languages,
    }
    return lambda: serve(channel, engine.translate, info), device


def serve(channel: Channel, translate: Translate, info: Header) -> None:
    """Answer until the parent has gone. `info` describes the model."""
    channel.send({"type": "ready", "info": info})
    while (frame := channel.receive()) is not None:
        header, _ = frame
        channel.send({"type": "started", "id": header["id"]})
        try:
            done = translate(header["texts"], header["source"], header["target"])
        except Exception as exc:  # noqa: BLE001  # see `error_answer`
            channel.send(error_answer(header["id"], exc))
        else:
            channel.send({"type": "translated", "id": header["id"], "translations": list(done)})


if __name__ == "__main__":
    run_host(sys.argv[1:], load_model, model="translation model", settings="STENOBIRD_TRANSLATION_")
