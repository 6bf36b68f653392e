"""`ports.Translator` on a translation host."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final

import structlog

from stenobird.errors import TranslationFailed, TranslationUnavailable
from stenobird.inference.host import usable_cpus
from stenobird.inference.pool import HostPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from stenobird.config import Settings
    from stenobird.inference.frames import Header
    from stenobird.ports import Clock

HOST_COMMAND: Final = (sys.executable, "-I", "-m", "stenobird.translation.host_child")
MAX_CHARACTERS: Final = 100_000
"""Most text of one call: a hundred times what a window holds."""
MAX_THREADS: Final = 4
"""A sentence gains little from more, and speech needs cores too."""

_log = structlog.get_logger(__name__)


class HostTranslator(HostPool):
    """`ports.Translator` on one translation host. Make one with `open_translator`.

    Jobs take turns, a window each; one window is worked on, and one more is ready in the host. Texts that end
    two hosts, or fail twice, fail with `TranslationFailed`.
    """

    host: ClassVar = "translation host"
    unavailable: ClassVar = TranslationUnavailable
    failed: ClassVar = TranslationFailed

    def __init__(
        self, settings: Settings, *, clock: Clock, host_command: Sequence[str], cache_dir: str | None
    ) -> None:
        load = {
            "model": settings.translation_model,
            "device": settings.translation_device,
            "compute_type": settings.translation_compute_type,
            "threads": min(usable_cpus(), MAX_THREADS),
            "cache_dir": cache_dir,
        }
        seconds = settings.translation_timeout_seconds
        super().__init__(host_command, load, clock=clock, timeout_seconds=seconds)
        self._info: Header = {name: load[name] for name in ("model", "device", "compute_type")}
        """What was asked for until a host has loaded it, then what that host says of it."""

    @property
    def model(self) -> str:
        """The model that was asked for until the host has loaded, then the host's name for it."""
        return str(self._info["model"])

    async def translate(
        self, texts: Sequence[str], *, source: str, target: str, job_id: str
    ) -> Sequence[str | None]:
        """Translate, as `ports.Translator` promises. At most `MAX_CHARACTERS` in all."""
        if sum(map(len, texts)) > MAX_CHARACTERS:
            raise TranslationFailed(
                f"More than {MAX_CHARACTERS} characters in one window can't be translated."
            )
        await self.wait_ready()
        if source not in (self.sources(target) or ()):
            raise TranslationFailed(
                f'The audio is in "{source}", which the translation model {self.model} can\'t translate to '
                f'"{target}". Nothing was billed. Without translation you get the words as they are spoken.'
            )
        request = {"type": "translate", "texts": list(texts), "source": source, "target": target}
        answer, _ = await self.request(job_id, request, urgent=False)
        translations: Sequence[str | None] = answer["translations"]
        return translations

    def sources(self, target: str) -> frozenset[str] | None:
        """Return what can be translated into `target`: all that the model knows, if it knows that one."""
        if "languages" not in self._info:
            return None
        known = frozenset(self._info["languages"])
        return known - {target} if target in known else frozenset()

    def refusal(self) -> str | None:
        """Return why nothing can be translated: the model can't be loaded, or not be had for now."""
        return self._failure

    def status(self) -> dict[str, Any]:
        """Describe model, host and queue, for `/healthz`; JSON-safe."""
        info = self._info
        return {
            "model": info["model"],
            "device": info["device"],
            "compute_type": info["compute_type"],
            "languages": len(info["languages"]) if "languages" in info else None,
            **self.host_status(),
        }

    def _adopt(self, info: Header) -> tuple[int, int, bool]:
        self._info = info
        _log.info("translator_ready", **{**info, "languages": len(info["languages"])})
        return 1, 1, info["device"] == "cuda"


@asynccontextmanager
async def open_translator(
    settings: Settings,
    *,
    clock: Clock,
    host_command: Sequence[str] = HOST_COMMAND,
    cache_dir: str | None = None,
) -> AsyncIterator[HostTranslator]:
    """Start the translation host and yield the translator at once, while the model loads or downloads.

    It is downloaded to `cache_dir`, or else to the cache of Hugging Face. The host and every task have ended
    when this ends.
    """
    translator = HostTranslator(settings, clock=clock, host_command=host_command, cache_dir=cache_dir)
    async with translator.running():
        yield translator
