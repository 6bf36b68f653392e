"""The second dialect over a real socket, with a worker, minutes and DNS that the test plays."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from limits.aio.storage import MemoryStorage
from sqlalchemy import update

from stenobird.accounts.gate import JobGate
from stenobird.accounts.key_service import KeyService
from stenobird.billing.gate import AccountGate
from stenobird.clock import SystemClock
from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from stenobird.jobs.checks import RequestChecks
from stenobird.jobs.service import JobService, ServiceOptions
from stenobird.ports import NewAccountRow
from stenobird.storage.account_store import SqlAccountStore
from stenobird.storage.billing_store import SqlBillingStore
from stenobird.storage.blobs import open_blobs
from stenobird.storage.delivery_store import SqlDeliveryStore
from stenobird.storage.idempotency_store import SqlIdempotencyStore
from stenobird.storage.job_store import SqlJobStore
from stenobird.storage.key_store import SqlKeyStore
from stenobird.storage.schema import accounts as accounts_table
from stenobird.storage.schema import db_now
from stenobird.storage.schema import uploads as uploads_table
from stenobird.storage.upload_store import SqlUploadStore
from stenobird.storage.webhook_store import SqlWebhookSecrets
from stenobird.uploads.service import UploadOptions, UploadService
from stenobird.wakeups.local import LocalWakeups
from stenobird.web.alefbot.services import DialectServices
from stenobird.web.app import create_app
from stenobird.web.idempotency import Idempotency
from stenobird.web.limits import RequestLimits
from stenobird.web.server import WebServer, running
from stenobird.webhooks.sender import WebhookSender
from stenobird.webhooks.service import WebhookService
from stenobird.webhooks.signature import new_secret
from stenobird.webhooks.targets import WebhookTargets
from tests.support.databases import sqlite_database
from tests.support.dns import FakeResolver
from tests.support.web_world import PlayedWorker, web_services, web_settings

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from stenobird.config import Settings
    from stenobird.ports import KeyMode, KeyScope, Tier
    from stenobird.speech import SpeechEngines
    from stenobird.storage.engine import Database
    from tests.support.dns import Answer


@dataclass
class Minutes(SystemClock):
    """The system's clock, whose minutes only pass when the test says so."""

    now: float = 1_800_000_000.0

    def time(self) -> float:
        """Return the test's time."""
        return self.now


@dataclass
class DialectWorld:
    """A running server with what stands behind it."""

    url: str
    root: str
    database: Database
    store: SqlJobStore
    keys: KeyService
    accounts: SqlAccountStore
    uploads: UploadService
    secrets: SqlWebhookSecrets
    worker: PlayedWorker
    minutes: Minutes
    blobs_dir: Path

    async def account(self, name: str = "acct_owner", *, tier: Tier = "premium") -> str:
        """Make an account and return its id."""
        await self.accounts.create_account(NewAccountRow(name, name, tier, "operator"), by="operator")
        return name

    async def key(
        self, account_id: str, *, mode: KeyMode = "live", scope: KeyScope = "full_access"
    ) -> dict[str, str]:
        """Return the headers of a new key."""
        secret, _ = await self.keys.create(account_id=account_id, mode=mode, scope=scope, family="alef_sk")
        return {"Authorization": f"Bearer {secret}"}

    async def secret(self, account_id: str = "acct_owner", *, mode: KeyMode = "live") -> str:
        """Return what signs the account's webhooks."""
        return (await self.secrets.signing_secrets(account_id, mode=mode, now=time.time())).current

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


@dataclass(frozen=True)
class WorldOptions:
    """What a world differs in. `allow` are networks that webhooks may reach besides the public ones."""

    settings: Settings = field(default_factory=web_settings)
    names: Mapping[str, Sequence[Answer]] = field(default_factory=dict)
    policy: EgressPolicy = field(default_factory=EgressPolicy)
    ssl_context: ssl.SSLContext | None = None
    uploads: UploadOptions = field(default_factory=UploadOptions)
    engines: SpeechEngines | None = None
    open_jobs: Mapping[Tier, int] = field(default_factory=dict)


@asynccontextmanager
async def alefbot_world(data_dir: Path, options: WorldOptions | None = None) -> AsyncIterator[DialectWorld]:
    """Serve the dialect over SQLite and a folder in `data_dir` while the context lasts."""
    options = options or WorldOptions()
    settings, clock, minutes = options.settings, SystemClock(), Minutes()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(sqlite_database(data_dir))
        store, wakeups = SqlJobStore(database), LocalWakeups()
        keys, accounts = KeyService(SqlKeyStore(database)), SqlAccountStore(database)
        blobs_dir = data_dir / "blobs"
        uploads = UploadService(
            SqlUploadStore(database), open_blobs(blobs_dir), clock=clock, options=options.uploads
        )
        resolver = FakeResolver(options.names)
        targets = WebhookTargets(options.policy, resolver)
        jobs = JobService(
            store,
            wakeups,
            RequestChecks(
                url=lambda url: str(options.policy.check_url(url)),
                engines=options.engines,
                account=JobGate(
                    accounts,
                    open_jobs=options.open_jobs,
                    checks=[AccountGate(SqlBillingStore(database), clock)],
                ),
                webhook_targets=targets,
            ),
            clock=clock,
            options=ServiceOptions(settings.max_queued, settings.sse_ping_seconds),
            uploads=uploads,
        )
        client = await stack.enter_async_context(
            EgressClient(options.policy, resolver=resolver, ssl_context=options.ssl_context)
        )
        limits = RequestLimits(MemoryStorage(), minutes)
        stack.push_async_callback(limits.aclose)
        secrets = SqlWebhookSecrets(database, new_secret)
        sender = WebhookSender(client, targets, secrets, clock)
        services = replace(
            web_services(settings, jobs, keys, job_counts=store),
            uploads=uploads,
            limits=limits,
            idempotency=Idempotency(SqlIdempotencyStore(database)),
            webhooks=WebhookService(SqlDeliveryStore(database), secrets, clock),
            alefbot=DialectServices(
                jobs=jobs, uploads=uploads, keys=keys, standings=accounts, webhooks=sender
            ),
        )
        server = WebServer(create_app(services), settings, services.shutting_down)
        url = await stack.enter_async_context(running(server))
        yield DialectWorld(
            url=url,
            root=f"{url}{settings.api_prefix}/api/v1",
            database=database,
            store=store,
            keys=keys,
            accounts=accounts,
            uploads=uploads,
            secrets=secrets,
            worker=PlayedWorker(store, wakeups),
            minutes=minutes,
            blobs_dir=blobs_dir,
        )
