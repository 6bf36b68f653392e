"""The only wiring: settings in, open services out. Everything is closed in reverse order, however it ends.

No other module knows which implementation is behind a port.
"""

from __future__ import annotations

import os
import socket
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from stenobird.accounts.keys import KeyService
from stenobird.accounts.service import AccountService, admit_job, open_job_limits
from stenobird.billing.service import open_billing
from stenobird.billing.standing import check_payment
from stenobird.discovery.finder import checked_url, open_finder
from stenobird.egress.policy import EgressPolicy, Resolver
from stenobird.errors import ConfigurationError
from stenobird.jobs.pipeline import RunContext, RunOptions
from stenobird.jobs.service import JobService, ServiceOptions, remove_account_jobs
from stenobird.jobs.sharing import ShareService
from stenobird.jobs.spec import RequestChecks
from stenobird.jobs.worker import Worker
from stenobird.media.opener import open_media
from stenobird.media.spool import SpoolFolder
from stenobird.ports import AudioFinder, AudioOpener, Clock, Translator, VoiceFinder, Wakeups
from stenobird.speakers.pool import open_speakers
from stenobird.speech.engines import SpeechEngines, open_engines
from stenobird.storage.blobs import open_blobs
from stenobird.storage.engine import locked_data_folder
from stenobird.storage.stores import Stores, make_data_folder, open_stores
from stenobird.translation.translator import open_translator
from stenobird.uploads import UploadOrigin, UploadService
from stenobird.wakeups import open_wakeups
from stenobird.web.idempotency import Idempotency
from stenobird.web.limits import RequestLimits
from stenobird.web.probes import Metrics
from stenobird.web.services import Services
from stenobird.webhooks.service import open_webhooks

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from stenobird.config import Settings
    from stenobird.ports.billing import Mailer

_log = structlog.get_logger("stenobird")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Implementations to use instead of those that the settings choose; `None` means the settings' choice.

    The caller opens and closes what it passes. Discovery and webhooks use `resolver`, webhooks use `tls`. A
    process without a worker may have `engines` and a `translator`, too, to check requests with.
    """

    clock: Clock | None = None
    stores: Stores | None = None
    wakeups: Wakeups | None = None
    finder: AudioFinder | None = None
    opener: AudioOpener | None = None
    engines: SpeechEngines | None = None
    translator: Translator | None = None
    speakers: VoiceFinder | None = None
    mailer: Mailer | None = None
    resolver: Resolver | None = None
    tls: ssl.SSLContext | None = None


NO_OVERRIDES = Overrides()


@dataclass(frozen=True, slots=True)
class Storage:
    """The open database and spool folder of this machine, and the services that need nothing else."""

    stores: Stores
    spool: SpoolFolder
    keys: KeyService
    accounts: AccountService


@asynccontextmanager
async def open_storage(settings: Settings, stores: Stores | None = None) -> AsyncIterator[Storage]:
    """Open the database and what needs no engine and no network. Safe next to a running service.

    `stores` are used if given; else they are opened, migrated, and closed at the end.
    """
    async with AsyncExitStack() as stack:
        if stores is None:
            stores = await stack.enter_async_context(open_stores(settings))
        spool = SpoolFolder(settings.data_dir / "spool", quota_bytes=settings.spool_quota_bytes)
        accounts = AccountService(
            stores.accounts,
            remove_jobs=partial(remove_account_jobs, stores.jobs, discard=spool.discard),
            before_delete=[stores.billing.queue_account_deleted],
        )
        yield Storage(stores, spool, KeyService(stores.accounts), accounts)


@asynccontextmanager
async def open_services(
    settings: Settings, *, with_worker: bool = True, overrides: Overrides = NO_OVERRIDES
) -> AsyncIterator[Services]:
    """Open a whole service, and close it in reverse order. Jobs run when `Services.worker` does.

    With SQLite it holds the data folder's lock, so the leases of an earlier process end at once. Raises
    `ConfigurationError` for settings that an operator must change.
    """
    embedded = settings.database_url is None
    if embedded and not with_worker:
        raise ConfigurationError(
            "Without a worker in this process the database must be PostgreSQL, which other processes can "
            "share: set STENOBIRD_DATABASE_URL, or leave --no-worker out."
        )
    clock = overrides.clock or Clock()
    async with AsyncExitStack() as stack:
        opened = stack.enter_async_context
        if embedded:
            stack.enter_context(locked_data_folder(settings.data_dir))
        else:
            make_data_folder(settings.data_dir)
        storage = await opened(open_storage(settings, overrides.stores))
        stores = storage.stores
        if embedded:
            if freed := await stores.jobs.expire_leases():
                _log.info("jobs_of_earlier_process_resumed", jobs=freed)
            await stores.deliveries.release_leases()
        metrics = Metrics()
        policy = EgressPolicy(settings.egress_allow, settings.egress_ports)
        finder = await opened(open_finder(settings, policy, clock, resolver=overrides.resolver))
        wakeups = overrides.wakeups
        if wakeups is None:
            wakeups = await opened(open_wakeups(settings, clock))
        blobs = open_blobs(
            settings.data_dir / "uploads", settings.upload_store_url, endpoint=settings.upload_store_endpoint
        )
        uploads = UploadService(
            stores.uploads,
            blobs,
            clock=clock,
            max_bytes=settings.max_audio_bytes,
            quota_bytes=settings.upload_quota_bytes,
            account_quota_bytes=settings.upload_account_quota_bytes,
        )
        engines, translator, worker = overrides.engines, overrides.translator, None
        speakers = overrides.speakers
        if with_worker:
            if engines is None:
                engines = await opened(open_engines(settings, clock))
            if translator is None and settings.translation_model:
                translator = await opened(open_translator(settings, clock=clock))
            speakers = speakers or await opened(open_speakers(settings, clock))
            opener = overrides.opener
            if opener is None:
                origins = {"upload": UploadOrigin(stores.uploads, blobs)}
                opener = await opened(open_media(settings, policy, clock, storage.spool, origins))
                await storage.spool.sweep(await stores.jobs.open_job_ids())
            context = RunContext(
                store=stores.jobs,
                wakeups=wakeups,
                finder=overrides.finder or finder,
                opener=opener,
                speech=engines,
                translator=translator,
                speakers=speakers,
                clock=clock,
                options=RunOptions(
                    preview_seconds=settings.preview_seconds,
                    live_default_minutes=settings.live_default_minutes,
                    max_audio_seconds=settings.max_audio_seconds,
                    max_audio_bytes=settings.max_audio_bytes,
                ),
                observer=metrics,
            )
            worker = Worker(
                context,
                worker_id=f"{socket.gethostname()}:{os.getpid()}",
                max_running=settings.max_running,
                live_max_running=settings.live_max_running,
                grace_seconds=settings.grace_seconds,
            )
        webhooks, deliverer = await opened(
            open_webhooks(
                settings, policy, stores.deliveries, clock, resolver=overrides.resolver, tls=overrides.tls
            )
        )
        jobs = JobService(
            stores.jobs,
            wakeups,
            RequestChecks(
                url=partial(checked_url, policy),
                engines=engines,
                labels_speakers=bool(settings.speaker_model) or speakers is not None,
                speakers=speakers,
                account=partial(
                    admit_job,
                    stores.accounts.standing,
                    [partial(check_payment, stores.billing, clock)],
                    open_job_limits(settings),
                ),
                webhook_targets=webhooks.targets,
            ),
            clock=clock,
            options=ServiceOptions(
                max_queued=settings.max_queued,
                live_max_minutes=settings.live_max_minutes,
                sse_ping_seconds=settings.sse_ping_seconds,
            ),
            discard=storage.spool.discard,
            uploads=uploads,
        )
        billing, biller = await opened(open_billing(settings, stores.billing, clock, mailer=overrides.mailer))
        limits = await opened(aclosing(RequestLimits(settings, clock)))
        yield Services(
            settings=settings,
            clock=clock,
            job_store=stores.jobs,
            jobs=jobs,
            shares=ShareService(stores.shares, stores.jobs, jobs),
            keys=storage.keys,
            accounts=storage.accounts,
            uploads=uploads,
            billing=billing,
            webhooks=webhooks,
            limits=limits,
            idempotency=Idempotency(stores.idempotency),
            metrics=metrics,
            engines=engines,
            translator=translator,
            speakers=speakers,
            worker=worker,
            billing_worker=biller,
            webhook_deliverer=deliverer,
        )
