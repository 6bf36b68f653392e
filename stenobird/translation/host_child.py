"""The translation host: the child process in which a translation model runs.

It answers requests as `protocol` describes, on a socket it inherits, one after the other, and dies with its
parent. The allocator is set up before anything large is imported, hence the imports inside functions.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from stenobird.inference.child import (
    choose_device,
    download_report,
    join_parent,
    limit_memory,
    tune_allocator,
)
from stenobird.translation.protocol import TranslationRequest, TranslatorInfo, translated_header

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stenobird.inference.frames import Channel, Header
    from stenobird.ports import Translation


Translate: TypeAlias = "Callable[[TranslationRequest], Sequence[Translation]]"
"""A loaded model: translates a window's texts, one translation a text, in order."""


def load_model(load: Mapping[str, Any], channel: Channel) -> tuple[Translate, TranslatorInfo] | None:
    """Load what the `load` request asks for; on failure report it to the parent and return `None`."""
    from stenobird.inference.hub import ModelUnavailable  # noqa: PLC0415

    try:
        return _load(load, channel)
    except ModelUnavailable as exc:
        channel.send({"type": "failed", "message": str(exc), "retry": exc.retry})
    except Exception as exc:  # noqa: BLE001  # CTranslate2 and tokenizers raise bare ones for broken files
        message = (
            f"The translation model {load['model']} can't be loaded on {load['device']} "
            f"({load['compute_type']}): {exc}. Check STENOBIRD_TRANSLATION_MODEL, "
            "STENOBIRD_TRANSLATION_DEVICE and STENOBIRD_TRANSLATION_COMPUTE_TYPE."
        )
        channel.send({"type": "failed", "message": message, "retry": False})
    return None


def _load(load: Mapping[str, Any], channel: Channel) -> tuple[Translate, TranslatorInfo]:
    from stenobird.translation.engine import TranslationEngine  # noqa: PLC0415
    from stenobird.translation.models import resolve  # noqa: PLC0415

    device, compute_type = choose_device(load)
    folder = resolve(load["model"], cache_dir=load["cache_dir"], progress=download_report(channel))
    channel.send({"type": "state", "state": "starting", "message": f"Loading {load['model']}."})
    if device == "cpu":
        limit_memory((folder / "model.bin").stat().st_size)
    engine = TranslationEngine(folder, device=device, compute_type=compute_type, threads=load["threads"])
    return engine.translate, TranslatorInfo(
        model=load["model"] if load["model"].count("/") == 1 else folder.name,
        device=device,
        compute_type=engine.compute_type,
        threads=load["threads"],
        languages=engine.languages,
    )


def serve(channel: Channel, translate: Translate, info: TranslatorInfo) -> None:
    """Answer until the parent has gone."""
    channel.send({"type": "ready", "info": asdict(info)})
    while (frame := channel.receive()) is not None:
        header, _ = frame
        channel.send({"type": "started", "id": header["id"]})
        channel.send(_answer(translate, header))


def _answer(translate: Translate, header: Header) -> Header:
    try:
        return translated_header(header["id"], translate(TranslationRequest.from_header(header)))
    except Exception as exc:  # noqa: BLE001  # a text must not end the host, whatever it raises
        return {"type": "error", "id": header["id"], "message": f"{type(exc).__name__}: {exc}"}


def main(arguments: Sequence[str]) -> None:
    """Run the host: `host_child PARENT_PID`."""
    channel = join_parent(arguments)
    tune_allocator()
    frame = channel.receive()
    if frame is not None:
        loaded = load_model(frame[0], channel)
        if loaded is not None:
            serve(channel, *loaded)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
