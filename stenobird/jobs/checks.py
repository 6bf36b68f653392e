"""What a request has to pass before it becomes a job. Each check belongs to another feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stenobird.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stenobird.ports import Caller, Mode, RecognitionOptions, WebhookTargets
    from stenobird.speech import SpeechEngines

ENGINE_RETRY_SECONDS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestChecks:
    """The checks of one service.

    `url` returns the URL as it will be fetched or raises `InvalidURL`. `engines` are `None` in a process that
    runs no jobs: it accepts every mode and option. `account` raises what keeps an account from new jobs (a
    failed payment, a reached cap), and returns how many jobs it may have open. `webhook_targets` checks
    webhook URLs.
    """

    url: Callable[[str], str]
    webhook_targets: WebhookTargets
    engines: SpeechEngines | None = None
    account: Callable[[Caller, Mode], Awaitable[int | None]] | None = None

    async def admit(
        self, caller: Caller | None, mode: Mode, options: RecognitionOptions, tier: str | None = None
    ) -> int | None:
        """Return how many jobs the account may have under way, `None` for no bound.

        Raises, in this order: what `account` raises, what `SpeechEngines.check` raises, `EngineUnavailable`.
        A test job needs no engine.
        """
        max_open_jobs = None
        if caller is not None and self.account is not None:
            max_open_jobs = await self.account(caller, mode)
        if mode != "test" and self.engines is not None:
            self.engines.check(options)
            if (refusal := self.engines.refusal(mode, tier)) is not None:
                raise EngineUnavailable(refusal, retry_after_seconds=ENGINE_RETRY_SECONDS)
        return max_open_jobs
