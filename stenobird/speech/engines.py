"""The speech engines of one service: the default, and those of model tiers that have a model of their own."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from stenobird.speech.recognizer import open_recognizer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from stenobird.config import Settings
    from stenobird.ports import Clock, Mode, RecognitionOptions, SpeechRecognizer

OFFLINE: Final = "offline"
"""`engine` of the pocketsphinx fallback."""


class SpeechEngines:
    """Chooses the recognizer of a job, and refuses jobs that no engine can serve now.

    `tiers` are the model tiers that have a recognizer of their own; any other tier gets the default. Paid
    jobs are refused on the offline engine unless `offline_for_paid` is set.
    """

    def __init__(
        self,
        default: SpeechRecognizer,
        tiers: Mapping[str, SpeechRecognizer] | None = None,
        *,
        offline_for_paid: bool = False,
    ) -> None:
        self.default = default
        self._tiers = dict(tiers or {})
        self._offline_for_paid = offline_for_paid

    def for_tier(self, tier: str | None) -> SpeechRecognizer:
        """Return the recognizer of a model tier, the default one where the tier has none of its own."""
        return self._tiers.get(tier or "", self.default)

    def refusal(self, mode: Mode, tier: str | None = None) -> str | None:
        """Return why a job of this mode and tier can't be served now, in words for the client, or `None`."""
        status = self.for_tier(tier).status()
        if status.get("state") == "failed":
            return f"No speech engine is ready: {status.get('message')}"
        if mode == "full" and status.get("engine") == OFFLINE and not self._offline_for_paid:
            return (
                "Only the offline fallback engine is available, which is not good enough to charge for. "
                "Try again later; the operator can provide a Whisper model or set STENOBIRD_OFFLINE_FOR_PAID."
            )
        return None

    def check(self, options: RecognitionOptions) -> None:
        """Raise `InvalidRequest` for options that the default engine is known not to support."""
        self.default.check(options)


@asynccontextmanager
async def open_engines(settings: Settings, clock: Clock) -> AsyncIterator[SpeechEngines]:
    """Start one speech host for each configured model; the models load from now on."""
    async with AsyncExitStack() as stack:
        by_model: dict[str, SpeechRecognizer] = {}
        for model in (settings.model, *tier_models(settings).values()):
            if model not in by_model:
                recognizer = open_recognizer(settings.model_copy(update={"model": model}), clock=clock)
                by_model[model] = await stack.enter_async_context(recognizer)
        yield SpeechEngines(
            by_model[settings.model],
            {tier: by_model[model] for tier, model in tier_models(settings).items()},
            offline_for_paid=settings.offline_for_paid,
        )


def tier_models(settings: Settings) -> dict[str, str]:
    """Return the model of each AlefBot tier that has one of its own."""
    configured = {
        "standard": settings.model_standard,
        "fast_low_cost": settings.model_fast,
        "premium_quality": settings.model_premium,
    }
    return {
        tier: model for tier, model in configured.items() if model is not None and model != settings.model
    }


def premium_units(settings: Settings) -> int:
    """Return the units that a minute of premium_quality costs: 2 where its model is not that of standard."""
    models = tier_models(settings)
    standard = models.get("standard", settings.model)
    return 2 if models.get("premium_quality", settings.model) != standard else 1
