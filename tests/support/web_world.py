"""The service over a real socket, for tests: `open_services` with a worker that the test plays by hand.

`measured_world` has event streams made to measure instead.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from sqlalchemy import update

from stenobird.bootstrap import Overrides, open_services
from stenobird.config import Settings
from stenobird.errors import TranscriptNotFound
from stenobird.jobs.events import JobEvents, SpeakerLabel
from stenobird.jobs.service import JobService
from stenobird.ports import Clock, JobChange, JobRecord, RecognitionOptions, Wakeups
from stenobird.storage.schema import accounts as accounts_table
from stenobird.storage.schema import db_now
from stenobird.storage.schema import uploads as uploads_table
from stenobird.storage.stores import open_stores
from stenobird.testing import a_source
from stenobird.transcript import Segment
from stenobird.web.app import create_app
from stenobird.web.server import WebServer, running
from tests.support.databases import migrated_sqlite
from tests.support.dns import FakeResolver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from stenobird.accounts.keys import KeyService
    from stenobird.errors import JobError
    from stenobird.jobs.tail import Page
    from stenobird.ports import Caller, EventRow, KeyMode, KeyScope, Lease, NewEvent, Tier
    from stenobird.sources import AudioSource
    from stenobird.storage.account_store import AccountStore
    from stenobird.storage.engine import Database
    from stenobird.storage.job_store import JobStore
    from stenobird.storage.stores import Stores
    from stenobird.web.services import Services
    from stenobird.web.sse import OpenStreams


def web_settings(**changes: Any) -> Settings:
    """Return settings for a server on a free loopback port, whatever the environment says."""
    values: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "grace_seconds": 5.0}
    return Settings.model_construct(**(values | changes))


def served_from(data_dir: Path, settings: Settings | None = None) -> Settings:
    """Return the settings of a service without a worker over SQLite in `data_dir`.

    A process without a worker takes any database that has an address, so it gets that one's.
    """
    assert settings is None or settings.port != Settings.model_fields["port"].default, "use web_settings()"
    return (settings or web_settings()).model_copy(
        update={"data_dir": data_dir, "database_url": SecretStr(migrated_sqlite(data_dir))}
    )


@dataclass
class FrozenMinutes(Clock):
    """The system's clock, whose time of day only passes when the test says so: at first, a minute begins."""

    now: float = field(default_factory=lambda: time.time() // 60 * 60)

    def time(self) -> float:
        """Return the test's time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@dataclass
class PlayedWorker:
    """A worker whose every commit is a call of the test."""

    store: JobStore
    wakeups: Wakeups
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

    async def start_next(self) -> str:
        """Wait for a job, then `start` it."""
        while not (await self.store.counts()).get("queued"):
            await self.wakeups.wait_job(5.0)
        return await self.start()

    async def carry_out(self, *texts: str) -> str:
        """Wait for a job, `say` its texts and `complete` it; return its id."""
        job_id = await self.start_next()
        await self.say(job_id, *texts)
        await self.complete(job_id)
        return job_id

    async def say(self, job_id: str, *texts: str) -> None:
        """Commit one chunk of a second for each text, each in a commit of its own."""
        for text in texts:
            index = self.chunks[job_id]
            event = self.events[job_id].transcript(
                Segment(float(index), index + 1.0, text), index, language=None if index else "en"
            )
            await self._commit(job_id, event, language="en")
            self.chunks[job_id] += 1

    async def go_live(self, job_id: str) -> None:
        """Commit that the audio is live, and began half an hour before 2027."""
        await self.find(job_id, a_source(live=True, at=1_798_759_800.0))

    async def find(self, job_id: str, source: AudioSource) -> None:
        """Commit what was found."""
        started = self.events[job_id].status("transcribing", "transcribing", source=source)
        await self._commit(job_id, started, source=source)

    async def miss(self, job_id: str, seconds: float, *, start: float | None = None) -> None:
        """Commit a gap, after what was said so far if its start is not given."""
        job = await self.store.get(job_id)
        assert job is not None
        extra = replace(job.extra, gap_seconds=job.extra.gap_seconds + seconds)
        after = self.chunks[job_id] if start is None else start
        gap = self.events[job_id].stream_gap(after, seconds, "disconnected")
        await self._commit(job_id, gap, extra=extra)

    async def play(self, job_id: str, title: str) -> None:
        """Commit what the station says it is playing."""
        job = await self.store.get(job_id)
        assert job is not None
        playing = self.events[job_id].now_playing(title)
        await self._commit(job_id, playing, extra=replace(job.extra, now_playing=title))

    async def _commit(self, job_id: str, event: NewEvent, **change: Any) -> None:
        await self.store.append(self.leases[job_id], JobChange(stage="transcribing", **change), [event])
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
        if job.options.speakers:  # two people who take turns
            labels = [SpeakerLabel.of(index, index % 2 + 1) for index in range(self.chunks[job_id])]
            last.insert(0, events.speakers(labels, final=True))
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
    services: Services
    stores: Stores
    server: WebServer
    worker: PlayedWorker
    clock: Any

    @property
    def database(self) -> Database:
        """The database."""
        return self.stores.database

    @property
    def streams(self) -> OpenStreams:
        """The open event streams."""
        streams: OpenStreams = self.server.config.app.state.streams  # type: ignore[union-attr]
        return streams

    @property
    def store(self) -> JobStore:
        """The jobs."""
        return self.stores.jobs

    @property
    def accounts(self) -> AccountStore:
        """The accounts."""
        return self.stores.accounts

    @property
    def keys(self) -> KeyService:
        """The API keys."""
        return self.services.keys

    @property
    def root(self) -> str:
        """Where the AlefBot dialect is."""
        return f"{self.url}{self.services.settings.api_prefix}/api/v1"

    @property
    def blobs_dir(self) -> Path:
        """Where the bytes of uploads are."""
        return self.services.settings.data_dir / "uploads"

    async def account(self, name: str = "acct_owner", *, tier: Tier = "premium") -> str:
        """Make an account and return its id."""
        await self.accounts.create_account(name, name, tier, "operator", by="operator")
        return name

    async def key(
        self, account_id: str, *, mode: KeyMode = "live", scope: KeyScope = "full_access"
    ) -> dict[str, str]:
        """Return the headers of a new key of the AlefBot dialect."""
        secret, _ = await self.keys.create(account_id=account_id, mode=mode, scope=scope, family="alef_sk")
        return {"Authorization": f"Bearer {secret}"}

    async def secret(self, account_id: str = "acct_owner", *, mode: KeyMode = "live") -> str:
        """Return what signs the account's webhooks."""
        secrets = self.stores.deliveries
        return (await secrets.signing_secrets(account_id, mode=mode, now=time.time())).current

    async def change_account(self, account_id: str, **columns: Any) -> None:
        """Write columns of an account."""
        async with self.database.write() as connection:
            await connection.execute(
                update(accounts_table).where(accounts_table.c.id == account_id).values(**columns)
            )

    async def expire(self, upload_id: str, *, ago_seconds: float = 1.0) -> None:
        """Make an upload slot one that expired so long ago."""
        async with self.database.write() as connection:
            await connection.execute(
                update(uploads_table)
                .where(uploads_table.c.id == upload_id)
                .values(expires_at=db_now() - ago_seconds)
            )


@asynccontextmanager
async def web_world(
    data_dir: Path, settings: Settings | None = None, overrides: Overrides | None = None
) -> AsyncIterator[WebWorld]:
    """Serve what `open_services` opens, without a worker, over SQLite in `data_dir`.

    Worlds in the same folder, one after the other or at once, see the same jobs. Time of day stands still,
    and no host name exists, unless `overrides` say otherwise.
    """
    settings = served_from(data_dir, settings)
    wakeups = Wakeups()
    overrides = overrides or Overrides()
    async with AsyncExitStack() as stack:
        stores = overrides.stores
        if stores is None:
            opening = open_stores(settings)
            stores = await stack.enter_async_context(opening)
        clock = overrides.clock or FrozenMinutes()
        overrides = replace(
            overrides,
            stores=stores,
            clock=clock,
            wakeups=wakeups,
            resolver=overrides.resolver or FakeResolver({}),
        )
        services = await stack.enter_async_context(
            open_services(settings, with_worker=False, overrides=overrides)
        )
        server = WebServer(create_app(services), settings, services.shutting_down)
        url = await stack.enter_async_context(running(server))
        yield WebWorld(url, services, stores, server, PlayedWorker(stores.jobs, wakeups), clock)


# --- event streams made to measure --------------------------------------------------------------------------


class MeasuredStreams(JobService):
    """A `JobService` with one running job, "tr_measured", whose stream is what the subclass says.

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
        self, job_id: str, caller: Caller | None, after: int = 0, **_options: Any
    ) -> AsyncGenerator[Page, None]:
        """Yield what `items` says, one event or ping at a time, and keep count."""
        await self._count(open_streams=1)
        try:
            async for item in self.items(after):
                self.taken += 1
                yield () if item is None else (item,)
        finally:
            await self._count(open_streams=-1)

    async def _count(self, open_streams: int) -> None:
        self.open += open_streams
        async with self.changed:
            self.changed.notify_all()

    async def get(self, job_id: str, *_args: Any, **_options: Any) -> JobRecord:
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

    def check(self, *_args: Any, **_options: Any) -> Any:
        """Fail with an unexpected error."""
        raise RuntimeError("secret internals")

    async def create(self, *_args: Any, **_options: Any) -> JobRecord:
        """Fail with an unexpected error."""
        raise RuntimeError("secret internals")


@asynccontextmanager
async def open_world_services(settings: Settings | None = None) -> AsyncIterator[Services]:
    """Open services as those of a `web_world`, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="stenobird-world-") as folder:
        async with open_services(served_from(Path(folder), settings), with_worker=False) as services:
            yield services


@asynccontextmanager
async def measured_world(
    jobs: MeasuredStreams, settings: Settings | None = None
) -> AsyncIterator[tuple[str, Services]]:
    """Serve measured streams while the context lasts; yield the URL and the services."""
    async with open_world_services(settings) as opened:
        services = replace(opened, jobs=jobs)
        server = WebServer(create_app(services), services.settings, services.shutting_down)
        async with running(server) as url:
            yield url, services
