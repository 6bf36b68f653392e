"""The wiring: settings in, open services out, everything closed in reverse order on every way out.

Nothing else in the package knows which implementation stands behind a port.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from stenobird.accounts.gate import JobGate
from stenobird.accounts.key_service import KeyService
from stenobird.accounts.service import AccountService
from stenobird.billing.gate import AccountGate
from stenobird.billing.mail import SMTPMailer
from stenobird.billing.metering import Metering
from stenobird.billing.service import BillingService, Recovery
from stenobird.billing.standing import BillingStanding
from stenobird.billing.worker import BillingWorker
from stenobird.clock import SystemClock
from stenobird.discovery.extractor.rung import Extractor, ExtractorRung
from stenobird.discovery.feeds.directory import DirectoryRung, PodcastDirectory
from stenobird.discovery.ladder import DiscoveryLadder, Rungs
from stenobird.discovery.parsing.parser import DocumentParser
from stenobird.discovery.platforms import PodcastIndexKey, platform_rules
from stenobird.discovery.urls import normalised
from stenobird.egress.addresses import SystemResolver
from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from stenobird.egress.proxy import EgressProxy
from stenobird.errors import ConfigurationError, TranslationUnavailable
from stenobird.jobs.checks import RequestChecks
from stenobird.jobs.pipeline import Engines, RunOptions
from stenobird.jobs.run import RunContext
from stenobird.jobs.service import JobService, ServiceOptions, remove_account_jobs
from stenobird.jobs.worker import Worker, WorkerOptions
from stenobird.media.opener import MediaOpener, MediaOptions
from stenobird.media.spool import SpoolFolder
from stenobird.speech import SpeechEngines, open_engines
from stenobird.storage.account_store import SqlAccountStore
from stenobird.storage.billing_store import SqlBillingStore
from stenobird.storage.blobs import open_blobs
from stenobird.storage.delivery_store import SqlDeliveryStore
from stenobird.storage.engine import open_database, sqlite_url
from stenobird.storage.idempotency_store import SqlIdempotencyStore
from stenobird.storage.job_store import SqlJobStore
from stenobird.storage.key_store import SqlKeyStore
from stenobird.storage.lock import locked_data_folder
from stenobird.storage.share_store import SqlShareStore
from stenobird.storage.upload_store import SqlUploadStore
from stenobird.storage.usage_store import SqlUsageStore
from stenobird.storage.webhook_store import SqlWebhookSecrets
from stenobird.translation import TranslationSettings, open_translator
from stenobird.uploads.origin import UploadOrigin
from stenobird.uploads.service import UploadOptions, UploadService
from stenobird.wakeups.local import LocalWakeups
from stenobird.wakeups.redis import open_redis_wakeups
from stenobird.web.limits import RequestLimits, open_limits
from stenobird.web.metrics import Metrics
from stenobird.webhooks.delivery import WebhookDeliverer
from stenobird.webhooks.sender import WebhookSender
from stenobird.webhooks.service import WebhookService
from stenobird.webhooks.signature import new_secret
from stenobird.webhooks.targets import WebhookTargets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.config import Settings
    from stenobird.ports import (
        Clock,
        FoundAudio,
        Translator,
        VerdictSink,
        Wakeups,
    )
    from stenobird.ports.billing import BillingGateway, BillingStore

_log = structlog.get_logger("stenobird")


@dataclass(frozen=True, slots=True)
class Storage:
    """The database and the folders of this machine, open; no engine, no network."""

    jobs: SqlJobStore
    keys: KeyService
    spool: SpoolFolder
    billing: SqlBillingStore
    shares: SqlShareStore
    account_store: SqlAccountStore
    accounts: AccountService
    idempotency: SqlIdempotencyStore
    upload_slots: SqlUploadStore
    webhook_secrets: SqlWebhookSecrets
    deliveries: SqlDeliveryStore


@asynccontextmanager
async def open_storage(settings: Settings) -> AsyncIterator[Storage]:
    """Open the database, migrated, for a command that needs neither engine nor network.

    Safe beside a running service: SQLite's writer is locked for milliseconds at a time.
    """
    if settings.database_url is None:
        _make_folder(settings.data_dir)
    async with open_database(_database_url(settings)) as database:
        jobs = SqlJobStore(database)
        spool = SpoolFolder(settings.data_dir / "spool", quota_bytes=settings.spool_quota_bytes)
        account_store = SqlAccountStore(database)
        billing_store = SqlBillingStore(database)
        yield Storage(
            jobs=jobs,
            keys=KeyService(SqlKeyStore(database)),
            spool=spool,
            account_store=account_store,
            accounts=AccountService(
                account_store,
                SqlUsageStore(database),
                remove_jobs=partial(remove_account_jobs, jobs, account_store, discard=spool.discard),
                before_delete=[billing_store.queue_account_deleted],
            ),
            idempotency=SqlIdempotencyStore(database),
            billing=billing_store,
            shares=SqlShareStore(database),
            upload_slots=SqlUploadStore(database),
            webhook_secrets=SqlWebhookSecrets(database, new_secret),
            deliveries=SqlDeliveryStore(database),
        )


@dataclass(frozen=True, slots=True)
class Billing:
    """Billing, open. Without Stripe in the settings there is no gateway and nothing for a worker to do."""

    service: BillingService
    gateway: BillingGateway | None
    worker: BillingWorker | None


@asynccontextmanager
async def open_billing(settings: Settings, store: BillingStore, clock: Clock) -> AsyncIterator[Billing]:
    """Open billing as the settings ask for. Raises `ConfigurationError` for settings that don't fit."""
    if settings.stripe_secret_key is None:
        yield Billing(BillingService(store, clock), None, None)
        return
    # Where nothing is sold, Stripe's library need not be loaded.
    from stenobird.billing.stripe_gateway import StripeOptions, open_stripe  # noqa: PLC0415

    recovery = None
    if settings.smtp_url is not None and settings.public_url is not None:
        # Without an address of our own, a forged Host header could lead the mailed link elsewhere.
        mailer = SMTPMailer.of(settings.smtp_url.get_secret_value(), settings.smtp_from)
        recovery = Recovery(mailer, settings.public_url)
    secrets = settings.stripe_webhook_secret
    options = StripeOptions(
        secret_key=settings.stripe_secret_key.get_secret_value(),
        webhook_secrets=tuple(secrets.get_secret_value().replace(" ", "").split(",")) if secrets else (),
        price_id=settings.stripe_price_id,
        meter_event_name=settings.stripe_meter_event_name,
        portal_configuration_id=settings.stripe_portal_configuration_id,
        api_base=settings.stripe_api_base,
    )
    async with open_stripe(options) as gateway:
        standing = BillingStanding(store, gateway, clock)
        wake = asyncio.Event()
        service = BillingService(
            store, clock, gateway=gateway, standing=standing, recovery=recovery, wake=wake.set
        )
        worker = BillingWorker(
            store,
            standing,
            Metering(store, gateway, clock),
            clock,
            wake=wake,
            mails=service.send_recoveries if recovery is not None else None,
        )
        yield Billing(service, gateway, worker)


@dataclass(frozen=True, slots=True)
class Finder:
    """The discovery ladder with the URL rules in front of it, and the client that it looks through."""

    policy: EgressPolicy
    client: EgressClient
    ladder: DiscoveryLadder

    def check(self, url: str) -> str:
        """Return the URL as it will be fetched, `feed:` and its like unwrapped. Raises `InvalidURL`."""
        return str(self.policy.check_url(normalised(url)))

    async def find(self, url: str, *, preview: bool, report: VerdictSink) -> FoundAudio:
        """Find the audio, see `ports.AudioFinder`."""
        return await self.ladder.find(url, preview=preview, report=report)


@asynccontextmanager
async def open_finder(settings: Settings) -> AsyncIterator[Finder]:
    """Open what finding audio needs: the guarded client, the ladder, and the children they start."""
    policy = EgressPolicy(settings.egress_allow, settings.egress_ports)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(EgressClient(policy, proxy=settings.egress_proxy))
        parser = await stack.enter_async_context(DocumentParser())
        proxy = await stack.enter_async_context(EgressProxy(client))
        authorities = os.environ.get("SSL_CERT_FILE")
        directory = PodcastDirectory(SystemClock())
        rungs = Rungs(
            platforms=platform_rules(directory, index_key=_podcast_index_key(settings)),
            directory=DirectoryRung(directory),
            extractor=ExtractorRung(Extractor(proxy, authorities=Path(authorities) if authorities else None)),
        )
        yield Finder(policy, client, DiscoveryLadder(client, parser, rungs))


@dataclass(frozen=True, slots=True)
class Services:
    """A whole service, open. `engines` and `worker` are `None` in a process that only answers HTTP.

    `translator` is `None` there too, and where no translation model is set.
    """

    settings: Settings
    storage: Storage
    jobs: JobService
    engines: SpeechEngines | None
    translator: Translator | None
    worker: Worker | None
    metrics: Metrics
    billing: Billing
    uploads: UploadService
    webhook_sender: WebhookSender
    webhook_deliverer: WebhookDeliverer
    webhooks: WebhookService
    limits: RequestLimits


@asynccontextmanager
async def open_services(settings: Settings, *, with_worker: bool = True) -> AsyncIterator[Services]:
    """Open everything that `settings` ask for. Nothing is carried out until `Services.worker` runs.

    On SQLite the data folder's lock is held, so whatever an earlier process had leased is free at once.
    Raises `ConfigurationError` for what an operator must change.
    """
    if settings.database_url is None and not with_worker:
        raise ConfigurationError(
            "Without a worker in this process the database must be PostgreSQL, which other processes can "
            "share: set STENOBIRD_DATABASE_URL, or leave --no-worker out."
        )
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        if settings.database_url is None:
            stack.enter_context(locked_data_folder(settings.data_dir))
        else:
            _make_folder(settings.data_dir)
        storage = await stack.enter_async_context(open_storage(settings))
        if settings.database_url is None:
            freed = await storage.jobs.expire_leases()
            if freed:
                _log.info("jobs of an earlier process go on", jobs=freed)
            await storage.deliveries.release_leases()
        finder = await stack.enter_async_context(open_finder(settings))
        wakeups = await stack.enter_async_context(_open_wakeups(settings))
        blobs = open_blobs(
            settings.data_dir / "uploads", settings.upload_store_url, endpoint=settings.upload_store_endpoint
        )
        uploads = UploadService(
            storage.upload_slots,
            blobs,
            clock=clock,
            options=UploadOptions(
                max_bytes=settings.max_audio_bytes, quota_bytes=settings.upload_quota_bytes
            ),
        )
        engines: SpeechEngines | None = None
        translator = None
        worker = None
        metrics = Metrics()
        if with_worker:
            engines = await stack.enter_async_context(open_engines(settings, clock))
            translator = await _open_translator(stack, settings, clock)
            client = await stack.enter_async_context(EgressClient(finder.policy, proxy=settings.egress_proxy))
            opener = await stack.enter_async_context(
                MediaOpener(
                    client,
                    spool_dir=settings.data_dir / "spool",
                    quota_bytes=settings.spool_quota_bytes,
                    clock=clock,
                    options=MediaOptions(origins={"upload": UploadOrigin(storage.upload_slots, blobs)}),
                )
            )
            await opener.sweep(await storage.jobs.open_job_ids())
            context = RunContext(
                store=storage.jobs,
                wakeups=wakeups,
                engines=Engines(finder, opener, engines, translator),
                clock=clock,
                options=RunOptions(
                    preview_seconds=settings.preview_seconds,
                    max_audio_seconds=settings.max_audio_seconds,
                    max_audio_bytes=settings.max_audio_bytes,
                ),
                observer=metrics,
            )
            worker = Worker(
                context,
                WorkerOptions(
                    worker_id=f"{socket.gethostname()}:{os.getpid()}",
                    max_running=settings.max_running,
                    grace_seconds=settings.grace_seconds,
                ),
            )
        webhooks = await stack.enter_async_context(_open_webhooks(settings, storage, finder, clock))
        jobs = JobService(
            storage.jobs,
            wakeups,
            RequestChecks(
                url=finder.check,
                engines=engines,
                account=JobGate(
                    storage.account_store,
                    open_jobs={
                        "premium": settings.jobs_per_account,
                        "platinum": 2 * settings.jobs_per_account,
                    },
                    checks=[AccountGate(storage.billing, clock)],
                ),
                webhook_targets=webhooks.targets,
            ),
            clock=clock,
            options=ServiceOptions(
                max_queued=settings.max_queued, sse_ping_seconds=settings.sse_ping_seconds
            ),
            discard=storage.spool.discard,
            uploads=uploads,
        )
        billing = await stack.enter_async_context(open_billing(settings, storage.billing, clock))
        limits = await stack.enter_async_context(open_limits(settings, clock))
        yield Services(
            settings,
            storage,
            jobs,
            engines,
            translator,
            worker,
            metrics,
            billing,
            uploads,
            webhook_sender=webhooks.sender,
            webhook_deliverer=webhooks.deliverer,
            webhooks=WebhookService(storage.deliveries, storage.webhook_secrets, clock),
            limits=limits,
        )


@dataclass(frozen=True, slots=True)
class _Webhooks:
    targets: WebhookTargets
    sender: WebhookSender
    deliverer: WebhookDeliverer


@asynccontextmanager
async def _open_webhooks(
    settings: Settings, storage: Storage, finder: Finder, clock: Clock
) -> AsyncIterator[_Webhooks]:
    """Open what sends to the addresses that clients chose. Behind an upstream proxy, that resolves names."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(EgressClient(finder.policy, proxy=settings.egress_proxy))
        resolver = None
        if settings.egress_proxy is None:
            resolver = SystemResolver()
            stack.push_async_callback(resolver.aclose)
        targets = WebhookTargets(finder.policy, resolver)
        yield _Webhooks(
            targets,
            WebhookSender(client, targets, storage.webhook_secrets, clock),
            WebhookDeliverer(storage.deliveries, storage.webhook_secrets, client, clock),
        )


@asynccontextmanager
async def _open_wakeups(settings: Settings) -> AsyncIterator[Wakeups]:
    if settings.redis_url is None:
        yield LocalWakeups()
        return
    url = settings.redis_url.get_secret_value()
    async with open_redis_wakeups(url, clock=SystemClock()) as wakeups:
        yield wakeups


def _podcast_index_key(settings: Settings) -> PodcastIndexKey | None:
    if settings.podcast_index_key is None or settings.podcast_index_secret is None:
        return None
    return PodcastIndexKey(
        settings.podcast_index_key.get_secret_value(),
        settings.podcast_index_secret.get_secret_value(),
        SystemClock(),
    )


async def _open_translator(stack: AsyncExitStack, settings: Settings, clock: Clock) -> Translator | None:
    """Open the translator that the settings ask for; its model loads, or downloads, from now on."""
    if not settings.translation_model:
        return None
    wish = TranslationSettings(
        model=settings.translation_model,
        device=settings.translation_device,
        compute_type=settings.translation_compute_type,
        timeout_seconds=settings.translation_timeout_seconds,
    )
    return await stack.enter_async_context(open_translator(wish, clock=clock))


def translation_refusal(settings: Settings, translator: Translator | None) -> str | None:
    """Return why a wish for a translation is refused, `None` where it is taken.

    A process that only answers HTTP has no translator to ask: the setting, which all processes share, counts.
    """
    if not settings.translation_model:
        return TranslationUnavailable().message
    return translator.refusal() if translator is not None else None


def _database_url(settings: Settings) -> str:
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return sqlite_url(settings.data_dir)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigurationError(
            f"The data folder {folder} can't be made ({exc.strerror}). Set STENOBIRD_DATA_DIR to another one."
        ) from exc
