"""What the web layer needs from the rest of the service: `bootstrap` hands it in, tests fake it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from stenobird.accounts.key_service import KeyService
    from stenobird.accounts.service import AccountService
    from stenobird.billing.service import BillingService
    from stenobird.config import Settings
    from stenobird.jobs.sharing import ShareService
    from stenobird.jobs.spec import JobSpec
    from stenobird.ports import Caller, EventRow, JobPage, JobRecord
    from stenobird.transcript import Transcript
    from stenobird.uploads.service import UploadService
    from stenobird.web.alefbot.services import DialectServices
    from stenobird.web.idempotency import Idempotency
    from stenobird.web.limits import RequestLimits
    from stenobird.web.metrics import Metrics
    from stenobird.webhooks.service import WebhookService


class Jobs(Protocol):
    """The jobs as one caller sees them: a job that isn't the caller's is `TranscriptNotFound`."""

    def check(self, spec: JobSpec, *, caller: Caller | None) -> JobSpec:
        """Raise what is wrong with the request by itself, before it counts against a limit."""

    async def create(
        self, spec: JobSpec, *, caller: Caller | None, base_url: str, job_id: str | None = None
    ) -> JobRecord:
        """Commit a job. Raises `QueueBusy`, `EngineUnavailable` and the other refusals of a POST."""

    async def get(self, job_id: str, caller: Caller | None) -> JobRecord:
        """Return the job."""

    async def list(self, caller: Caller | None, page: JobPage) -> tuple[Sequence[JobRecord], bool]:
        """Return a page of the caller's jobs, newest first, and whether there are more after it."""

    async def result(self, job_id: str, caller: Caller | None) -> tuple[JobRecord, Transcript]:
        """Return what was said. Raises `TranscriptNotReady`, `TranscriptCancelled`, or the job's error."""

    async def cancel_or_delete(self, job_id: str, caller: Caller | None) -> JobRecord | None:
        """Cancel a running job and return it, or remove a finished one and return `None`."""

    def stream(self, job_id: str, caller: Caller | None, after: int) -> AsyncGenerator[EventRow | None, None]:
        """Yield the events with a higher `seq`, live; `None` when a ping is due. Ends after `done`."""


class Keys(Protocol):
    """The API keys of the service."""

    async def authenticate(self, authorization: str | None) -> Caller | None:
        """Return who sent this `Authorization` header, `None` where there is none. Raises `InvalidAPIKey`."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests should be sent here; `reasons` says why not."""

    ready: bool
    reasons: tuple[str, ...] = ()
    checks: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WebServices:
    """Everything the web layer touches.

    `health` answers at once from memory (no database, no engine call). `readiness` may take its time and is
    cut off by the route. `job_counts` feeds the gauges of `/metrics`. Setting `shutting_down` ends every
    event stream; clients come back with their last id. Without `billing` nothing can be
    bought, without `shares` nothing shared, without `uploads` no file sent. Without `own_keys` and
    `accounts` their owners can't manage them, without `limits` nothing is counted, and without `idempotency`
    an Idempotency-Key is ignored.
    """

    settings: Settings
    jobs: Jobs
    keys: Keys
    health: Callable[[], Mapping[str, Any]]
    readiness: Callable[[], Awaitable[Readiness]]
    job_counts: Callable[[], Awaitable[Mapping[str, int]]]
    metrics: Metrics
    shutting_down: asyncio.Event
    billing: BillingService | None = None
    shares: ShareService | None = None
    uploads: UploadService | None = None
    own_keys: KeyService | None = None
    accounts: AccountService | None = None
    limits: RequestLimits | None = None
    idempotency: Idempotency | None = None
    webhooks: WebhookService | None = None
    """The log of deliveries and the signing secret; without it there is no `/v1/webhooks`."""
    alefbot: DialectServices | None = None
    """What `/api/v1` needs; without it there is no such address."""
    check_timeout_seconds: float = 2.0
    """A check of readiness or metrics that takes longer has failed; probes wait a second or so."""
    body_timeout_seconds: float = 30.0
    """Time a client has to send its whole JSON body."""
