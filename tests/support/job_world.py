"""A job service and its worker without HTTP: a real SQLite store, local wake-ups, and fake engines."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from stenobird.egress.policy import EgressPolicy
from stenobird.errors import InvalidURL
from stenobird.jobs.pipeline import RunContext, RunOptions
from stenobird.jobs.run import JobRun
from stenobird.jobs.schemas import CreateTranscript
from stenobird.jobs.service import JobService, ServiceOptions
from stenobird.jobs.spec import RequestChecks
from stenobird.jobs.worker import Worker
from stenobird.ports import Caller, Clock, Wakeups
from stenobird.speech.engines import SpeechEngines
from stenobird.storage.schema import jobs, outbox, usage
from stenobird.testing import FakeFinder, FakeOpener, FakeRecognizer, spoken
from stenobird.webhooks.service import WebhookTargets

if TYPE_CHECKING:
    from stenobird.ports import Claim, EventRow, JobRecord, Translator, VoiceFinder
    from stenobird.storage.engine import Database
    from stenobird.storage.job_store import JobStore

BASE = "https://stenobird.test"
URL = "https://example.com/a.mp3"
PAYER = Caller("acct_1", "key_1", "live", "full_access", "premium")


def check_url(url: str) -> str:
    """Stand in for the egress policy: only `file:` is refused."""
    if url.startswith("file:"):
        raise InvalidURL
    return url


@dataclass
class JobWorld:
    """Everything a test needs to post, run and read jobs."""

    database: Database
    store: JobStore
    finder: FakeFinder = field(default_factory=FakeFinder)
    opener: FakeOpener = field(default_factory=lambda: FakeOpener(spoken(range(1, 41))))
    recognizer: FakeRecognizer = field(default_factory=FakeRecognizer)
    translator: Translator | None = None
    speakers: VoiceFinder | None = None
    wakeups: Wakeups = field(default_factory=Wakeups)
    clock: Any = field(default_factory=Clock)
    run_options: RunOptions = field(default_factory=RunOptions)
    options: ServiceOptions = field(default_factory=ServiceOptions)
    payer: Caller = PAYER

    @property
    def service(self) -> JobService:
        """The service as it is wired now."""
        return JobService(
            self.store,
            self.wakeups,
            RequestChecks(
                url=check_url,
                engines=SpeechEngines(self.recognizer),
                labels_speakers=self.speakers is not None,
                speakers=self.speakers,
                webhook_targets=WebhookTargets(EgressPolicy(), None),
            ),
            clock=self.clock,
            options=self.options,
            discard=self.opener.discard,
        )

    def context(self, store: JobStore | None = None, **options: Any) -> RunContext:
        """Return the context of runs, over another store if given."""
        return RunContext(
            store=store or self.store,
            wakeups=self.wakeups,
            finder=self.finder,
            opener=self.opener,
            speech=SpeechEngines(self.recognizer),
            translator=self.translator,
            speakers=self.speakers,
            clock=self.clock,
            options=replace(self.run_options, **options),
        )

    def worker(self, store: JobStore | None = None, **options: Any) -> Worker:
        """Return a worker, over another store if given."""
        return Worker(self.context(store), **options)

    async def post(self, caller: Caller | None = None, **body: Any) -> JobRecord:
        """Create a job."""
        spec = CreateTranscript.parse({"audio_url": URL, **body}).spec()
        return await self.service.create(spec, caller=caller, base_url=BASE)

    async def claim(self) -> Claim:
        """Claim the next job."""
        claim = await self.store.claim("worker", lanes=["preview", "full", "live"])
        assert claim is not None
        return claim

    async def run_next(self, store: JobStore | None = None) -> None:
        """Claim a job and run it to its end."""
        await JobRun(self.context(store), await self.claim()).carry_out()

    async def lose_leases(self) -> None:
        """Let every lease run out, as if its worker hung or died."""
        async with self.database.write() as connection:
            await connection.execute(update(jobs).values(lease_expires_at=0.0))

    async def end_waiting(self) -> None:
        """Let jobs that wait for a while be claimed at once."""
        async with self.database.write() as connection:
            await connection.execute(update(jobs).values(claimable_at=0.0))

    async def job(self, job_id: str) -> JobRecord:
        """Return a job that exists."""
        job = await self.store.get(job_id)
        assert job is not None
        return job

    async def events(self, job_id: str) -> list[EventRow]:
        """Return all its events."""
        return await self.store.events_after(job_id, 0)

    async def rows(self, table: Any = usage) -> list[dict[str, Any]]:
        """Return all rows of a table, the ledger by default."""
        async with self.database.read() as connection:
            return [dict(row) for row in (await connection.execute(select(table))).mappings()]

    async def messages(self) -> list[dict[str, Any]]:
        """Return all rows of the outbox."""
        return await self.rows(outbox)
