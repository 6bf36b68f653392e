"""The translation host: the child process in which a translation model runs, one request after the other.

The request is `translate`, the answer `translated`. The allocator is set up before anything large is
imported, hence the imports inside functions.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from stenobird.inference.child import choose_device, download_report, limit_memory, run_host, serve_in_turn

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

    def answer(request: Header, _payload: bytes) -> tuple[Header, bytes]:
        done = translate(request["texts"], request["source"], request["target"])
        return {"type": "translated", "translations": list(done)}, b""

    serve_in_turn(channel, info, answer)


if __name__ == "__main__":
    run_host(sys.argv[1:], load_model, model="translation model", settings="STENOBIRD_TRANSLATION_")
