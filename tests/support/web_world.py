# fakes take what their Protocols give
"""The web layer over a real socket, for tests.

`web_world` has the real job service, over SQLite, and a worker that the test plays by hand; `measured_world`
has event streams made to measure.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from stenobird.accounts.gate import JobGate
from stenobird.accounts.key_service import KeyService
from stenobird.accounts.service import AccountService
from stenobird.clock import SystemClock
from stenobird.config import Settings
from stenobird.egress.policy import EgressPolicy
from stenobird.errors import TranscriptNotFound
from stenobird.jobs.checks import RequestChecks
from stenobird.jobs.events import JobEvents
from stenobird.jobs.service import JobService, ServiceOptions, remove_account_jobs
from stenobird.jobs.sharing import ShareService
from stenobird.ports import EventRow, JobChange, JobPage, JobRecord, RecognitionOptions
from stenobird.storage.account_store import SqlAccountStore
from stenobird.storage.blobs import open_blobs
from stenobird.storage.delivery_store import SqlDeliveryStore
from stenobird.storage.idempotency_store import SqlIdempotencyStore
from stenobird.storage.job_store import SqlJobStore
from stenobird.storage.key_store import SqlKeyStore
from stenobird.storage.share_store import SqlShareStore
from stenobird.storage.upload_store import SqlUploadStore
from stenobird.storage.usage_store import SqlUsageStore
from stenobird.storage.webhook_store import SqlWebhookSecrets
from stenobird.transcript import Segment
from stenobird.uploads.service import UploadService
from stenobird.wakeups.local import LocalWakeups
from stenobird.web.app import create_app
from stenobird.web.idempotency import Idempotency
from stenobird.web.limits import open_limits
from stenobird.web.metrics import Metrics
from stenobird.web.server import WebServer, running
from stenobird.web.services import Readiness, WebServices
from stenobird.webhooks.service import WebhookService
from stenobird.webhooks.signature import new_secret
from stenobird.webhooks.targets import WebhookTargets
from tests.support.databases import sqlite_database
from tests.support.dns import FakeResolver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from stenobird.errors import JobError
    from stenobird.jobs.spec import JobSpec
    from stenobird.ports import Caller, Clock, Lease
    from stenobird.speech import SpeechEngines
    from stenobird.storage.engine import Database
    from stenobird.transcript import Transcript
    from stenobird.web.services import Jobs, Keys


def web_settings(**changes: Any) -> Settings:
    """Return settings for a server on a free loopback port, whatever the environment says."""
    values: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "grace_seconds": 5.0}
    return Settings.model_construct(**(values | changes))


@dataclass
class PlayedWorker:
    """A worker whose every commit is a call of the test."""

    store: SqlJobStore
    wakeups: LocalWakeups
    leases: dict[str, Lease] = field(default_factory=dict)
    chunks: dict[str, int] = field(default_factory=dict)
    events: dict[str, JobEvents] = field(default_factory=dict)

    async def start(self) -> str:
        """Claim the oldest job and commit `transcribing`, `submitted`; return its id."""
        claim = await self.store.claim("played", lanes=["preview", "full"])
        assert claim is not None, "no job is waiting"
        job = claim.job
        self.leases[job.id] = claim.lease
        self.chunks[job.id] = 0
        self.events[job.id] = events = JobEvents(job.id, job.base_url)
        change = JobChange(status="transcribing", stage="submitted")
        await self.store.append(claim.lease, change, [events.status("transcribing", "submitted")])
        await self.wakeups.notify_event(job.id)
        return job.id

    async def say(self, job_id: str, *texts: str) -> None:
        """Commit one chunk of a second for each text, each in a commit of its own."""
        for text in texts:
            index = self.chunks[job_id]
            event = self.events[job_id].transcript(
                Segment(float(index), index + 1.0, text), index, language=None if index else "en"
            )
            await self.store.append(
                self.leases[job_id], JobChange(stage="transcribing", language="en"), [event]
            )
            self.chunks[job_id] += 1
            await self.wakeups.notify_event(job_id)

    async def complete(self, job_id: str) -> None:
        """Commit the end of a job that went well."""
        job = await self.store.get(job_id)
        assert job is not None
        events = self.events[job_id]
        change = JobChange(
            status="preview_complete" if job.mode == "preview" else "completed",
            duration_seconds=float(self.chunks[job_id]),
            engine="played",
            model="by-hand",
            billable_minutes=None if job.mode == "preview" else 1,
        )
        if job.mode == "preview":
            last = [events.preview_locked(), events.done("preview_complete")]
        else:
            last = [events.done("completed", billable_minutes=1)]
        await self.store.finish(self.leases.pop(job_id), change, last)
        await self.wakeups.notify_event(job_id)

    async def fail(self, job_id: str, error: JobError) -> None:
        """Commit the end of a job that failed."""
        events = self.events[job_id]
        change = JobChange(status="failed", error=error.body())
        last = [events.error(error.body()), events.done("failed", error=error.code)]
        await self.store.finish(self.leases.pop(job_id), change, last)
        await self.wakeups.notify_event(job_id)

    async def end_cancelled(self, job_id: str) -> None:
        """Commit the end of a job whose cancel was requested."""
        last = [self.events[job_id].done("cancelled")]
        await self.store.finish(self.leases.pop(job_id), JobChange(status="cancelled"), last)
        await self.wakeups.notify_event(job_id)


@dataclass
class WebWorld:
    """A running server with what stands behind it."""

    url: str
    services: WebServices
    server: WebServer
    store: SqlJobStore
    key_store: SqlKeyStore
    keys: KeyService
    worker: PlayedWorker
    accounts: SqlAccountStore
    database: Database


@asynccontextmanager
async def web_world(
    data_dir: Path,
    settings: Settings | None = None,
    *,
    engines: SpeechEngines | None = None,
    clock: Clock | None = None,
    webhook_targets: WebhookTargets | None = None,
) -> AsyncIterator[WebWorld]:
    """Serve the real job and key services over SQLite in `data_dir` while the context lasts.

    Worlds in the same folder, one after the other, see the same jobs. `clock` is that of the rate limits.
    No name that a webhook URL may have exists, unless `webhook_targets` know one.
    """
    settings = settings or web_settings()
    clock = clock or SystemClock()
    policy = EgressPolicy()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(sqlite_database(data_dir))
        store, wakeups = SqlJobStore(database), LocalWakeups()
        key_store = SqlKeyStore(database)
        keys = KeyService(key_store)
        uploads = UploadService(SqlUploadStore(database), open_blobs(data_dir / "blobs"), clock=SystemClock())
        accounts = SqlAccountStore(database)

        async def keep_spools(_job_id: str) -> None:
            """Delete nothing: played workers spool nothing."""

        async def remove_jobs(account_id: str) -> int:
            return await remove_account_jobs(store, accounts, account_id, discard=keep_spools)

        jobs = JobService(
            store,
            wakeups,
            RequestChecks(
                url=lambda url: str(policy.check_url(url)),
                engines=engines,
                account=JobGate(accounts, open_jobs={"premium": settings.jobs_per_account}),
                webhook_targets=webhook_targets or WebhookTargets(policy, FakeResolver({})),
            ),
            clock=SystemClock(),
            options=ServiceOptions(settings.max_queued, settings.sse_ping_seconds),
            uploads=uploads,
        )
        shares = ShareService(SqlShareStore(database), store, jobs)
        services = replace(
            web_services(settings, jobs, keys, job_counts=store, shares=shares),
            uploads=uploads,
            own_keys=keys,
            accounts=AccountService(accounts, SqlUsageStore(database), remove_jobs=remove_jobs),
            limits=await stack.enter_async_context(open_limits(settings, clock)),
            idempotency=Idempotency(SqlIdempotencyStore(database)),
            webhooks=WebhookService(
                SqlDeliveryStore(database), SqlWebhookSecrets(database, new_secret), SystemClock()
            ),
        )
        server = WebServer(create_app(services), settings, services.shutting_down)
        url = await stack.enter_async_context(running(server))
        yield WebWorld(
            url, services, server, store, key_store, keys, PlayedWorker(store, wakeups), accounts, database
        )


def web_services(
    settings: Settings,
    jobs: Jobs,
    keys: Keys,
    *,
    job_counts: SqlJobStore | None = None,
    shares: ShareService | None = None,
) -> WebServices:
    """Return services whose engine is in order and whose readiness needs nothing."""

    async def readiness() -> Readiness:
        return Readiness(ready=True)

    async def counts() -> Mapping[str, int]:
        return await job_counts.counts() if job_counts is not None else {}

    return WebServices(
        settings=settings,
        jobs=jobs,
        keys=keys,
        health=lambda: {"engine": "played", "degraded": False},
        readiness=readiness,
        job_counts=counts,
        metrics=Metrics(),
        shutting_down=asyncio.Event(),
        shares=shares,
    )


# --- event streams made to measure --------------------------------------------------------------------------


class NoKeys:
    """Nobody has a key."""

    async def authenticate(self, authorization: str | None) -> Caller | None:
        """Return nobody."""
        return None


class MeasuredStreams:
    """A `Jobs` with one running job, "tr_measured", whose stream is what the subclass says.

    `open` counts the streams being read, `taken` the events asked for; `changed` is notified at each change.
    """

    job_id = "tr_measured"

    def __init__(self) -> None:
        self.open = 0
        self.taken = 0
        self.changed = asyncio.Condition()

    def items(self, after: int) -> AsyncGenerator[EventRow | None, None]:
        """Return the events of a stream."""
        raise NotImplementedError

    async def wait_until_open(self, count: int) -> None:
        """Return when that many streams are open."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.open == count)

    async def stream(
        self, job_id: str, caller: Caller | None, after: int
    ) -> AsyncGenerator[EventRow | None, None]:
        """Yield what `items` says, and keep count."""
        await self._count(open_streams=1)
        try:
            async for item in self.items(after):
                self.taken += 1
                yield item
        finally:
            await self._count(open_streams=-1)

    async def _count(self, open_streams: int) -> None:
        self.open += open_streams
        async with self.changed:
            self.changed.notify_all()

    async def get(self, job_id: str, caller: Caller | None) -> JobRecord:
        """Return the job."""
        if job_id != self.job_id:
            raise TranscriptNotFound
        return JobRecord(
            id=job_id,
            mode="preview",
            origin="stenobird",
            audio_url="https://example.com/a.mp3",
            base_url="http://test",
            options=RecognitionOptions(),
            account_id=None,
            status="transcribing",
            stage="transcribing",
            created_at=0.0,
            updated_at=0.0,
            completed_at=None,
            last_seq=1_000_000,
            next_chunk_index=0,
            cancel_requested=False,
        )

    def check(self, spec: JobSpec, *, caller: Caller | None) -> JobSpec:
        """Refuse: nobody may make a job here."""
        raise NotImplementedError

    async def create(
        self, spec: JobSpec, *, caller: Caller | None, base_url: str, job_id: str | None = None
    ) -> JobRecord:
        """Fail in a way that nobody expects."""
        raise RuntimeError("secret internals")

    async def list(self, caller: Caller | None, page: JobPage) -> tuple[Sequence[JobRecord], bool]:
        """Return nothing."""
        return [], False

    async def result(self, job_id: str, caller: Caller | None) -> tuple[JobRecord, Transcript]:
        """Find nothing."""
        raise TranscriptNotFound

    async def cancel_or_delete(self, job_id: str, caller: Caller | None) -> JobRecord | None:
        """Find nothing."""
        raise TranscriptNotFound


@asynccontextmanager
async def measured_world(
    jobs: MeasuredStreams, settings: Settings | None = None
) -> AsyncIterator[tuple[str, WebServices]]:
    """Serve measured streams while the context lasts; yield the URL and the services."""
    settings = settings or web_settings()
    services = web_services(settings, jobs, NoKeys())
    async with running(WebServer(create_app(services), settings, services.shutting_down)) as url:
        yield url, services
