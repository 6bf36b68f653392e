"""What a request has to pass before it becomes a job, each check brought by the feature that knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from stenobird.errors import EngineUnavailable, InvalidWebhookURL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from stenobird.accounts.gate import Admission
    from stenobird.ports import Caller, Mode, RecognitionOptions, WebhookTargets

ENGINE_RETRY_SECONDS: Final = 30

EngineRefusal: TypeAlias = "Callable[[Mode], str | None]"
"""Says, in words for the client, why a job of a mode can't be served now, or returns `None`."""


def no_refusal(_mode: Mode) -> str | None:
    """Say that any job can be served."""
    return None


def no_objection(_options: RecognitionOptions) -> None:
    """Accept any wishes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestChecks:
    """The checks of one service.

    `url` returns the URL as it will be fetched or raises `InvalidURL`. `engine` refuses modes; `tiers` do so
    for the model tiers that have an engine of their own. `options` raises `InvalidRequest` for wishes that
    the engine is known not to fulfil. `account` raises what keeps an account from new jobs (a payment that
    failed, a cap that is reached), and says how many jobs it may have under way. `webhook_targets` judges
    webhook URLs; without it none is taken.
    """

    url: Callable[[str], str]
    engine: EngineRefusal = no_refusal
    tiers: Mapping[str, EngineRefusal] = field(default_factory=dict)
    options: Callable[[RecognitionOptions], None] = no_objection
    account: Callable[[Caller, Mode], Awaitable[Admission | None]] | None = None
    webhook_targets: WebhookTargets | None = None

    async def admit(
        self, caller: Caller | None, mode: Mode, options: RecognitionOptions, tier: str | None = None
    ) -> int | None:
        """Return how many jobs the account may have under way, `None` for no bound.

        Raises, in this order: what `account` raises, what `options` raises, `EngineUnavailable`. A test job
        needs no engine.
        """
        admission = None
        if caller is not None and self.account is not None:
            admission = await self.account(caller, mode)
        if mode != "test":
            self.options(options)
            if (refusal := self.tiers.get(tier or "", self.engine)(mode)) is not None:
                raise EngineUnavailable(refusal, retry_after_seconds=ENGINE_RETRY_SECONDS)
        return admission.max_open_jobs if admission is not None else None

    def targets(self) -> WebhookTargets:
        """Return what judges webhook URLs. Raises `InvalidWebhookURL` where none may be sent."""
        if self.webhook_targets is None:
            raise InvalidWebhookURL("This service sends no webhooks. Leave webhook_url out.")
        return self.webhook_targets
