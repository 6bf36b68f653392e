"""The services that the web layer calls, as `bootstrap.open_services` has opened them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stenobird.errors import StorageUnavailable, TranslationUnavailable

if TYPE_CHECKING:
    from stenobird.accounts.keys import KeyService
    from stenobird.accounts.service import AccountService
    from stenobird.billing.service import BillingService
    from stenobird.billing.worker import BillingWorker
    from stenobird.config import Settings
    from stenobird.jobs.service import JobService
    from stenobird.jobs.sharing import ShareService
    from stenobird.jobs.worker import Worker
    from stenobird.ports import Clock, Translator, VoiceFinder
    from stenobird.speech.engines import SpeechEngines
    from stenobird.storage.job_store import JobStore
    from stenobird.uploads import UploadService
    from stenobird.web.idempotency import Idempotency
    from stenobird.web.limits import RequestLimits
    from stenobird.web.probes import Metrics
    from stenobird.webhooks.delivery import WebhookDeliverer
    from stenobird.webhooks.service import WebhookService


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """A whole service, open.

    A process that only answers HTTP has no `worker`, and knows neither `engines`, `translator` nor
    `speakers`. Without Stripe there is no `billing_worker`. Setting `shutting_down` ends every event stream;
    clients reconnect with their last event id.
    """

    settings: Settings
    clock: Clock
    job_store: JobStore
    jobs: JobService
    shares: ShareService
    keys: KeyService
    accounts: AccountService
    uploads: UploadService
    billing: BillingService
    webhooks: WebhookService
    limits: RequestLimits
    idempotency: Idempotency
    metrics: Metrics
    engines: SpeechEngines | None
    translator: Translator | None
    speakers: VoiceFinder | None
    worker: Worker | None
    billing_worker: BillingWorker | None
    webhook_deliverer: WebhookDeliverer
    shutting_down: asyncio.Event = field(default_factory=asyncio.Event)
    check_timeout_seconds: float = 2.0
    """A readiness or metrics check that takes longer has failed."""
    body_timeout_seconds: float = 30.0
    """Time a client has to send its whole JSON body."""

    def health(self) -> dict[str, Any]:
        """Describe the process from memory, at once: no database, no engine call."""
        engine = self.engines.default.status() if self.engines is not None else None
        degraded = engine is not None and bool(engine.get("degraded"))
        return {
            "status": "degraded" if degraded else "ok",
            "engine": engine,
            "running": self.worker.running if self.worker is not None else 0,
            "translator": self.translator.status() if self.translator is not None else None,
            "speakers": self.speakers.host_status() if self.speakers is not None else None,
        }

    async def readiness(self) -> tuple[str, ...]:
        """Return why requests should not be sent to this process; nothing when they should."""
        reasons = []
        try:
            await self.job_store.counts()
        except StorageUnavailable as error:
            reasons.append(error.message)
        if self.engines is not None and not await self.engines.default.ready():
            status = self.engines.default.status()
            reasons.append(
                f"The speech engine is {status.get('state')}: {status.get('message') or 'please wait'}"
            )
        if self.worker is not None and self.worker.trouble is not None:
            reasons.append(f"The worker pauses: {self.worker.trouble}")
        return tuple(reasons)

    def translation_refusal(self) -> str | None:
        """Return why translation is refused, in words for the client, or `None` where it is offered.

        A process that only answers HTTP has no translator, so it goes by the setting, which all share.
        """
        if not self.settings.translation_model:
            return TranslationUnavailable().message
        return self.translator.refusal() if self.translator is not None else None
