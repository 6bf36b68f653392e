"""All stores of one database, opened together."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stenobird.errors import ConfigurationError
from stenobird.storage.account_store import AccountStore
from stenobird.storage.billing_store import BillingStore
from stenobird.storage.delivery_store import DeliveryStore
from stenobird.storage.engine import Database, open_database, sqlite_url
from stenobird.storage.idempotency_store import IdempotencyStore
from stenobird.storage.job_store import JobStore, ShareStore
from stenobird.storage.queue import QueueStore
from stenobird.storage.upload_store import UploadStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stenobird.config import Settings


@dataclass(frozen=True, slots=True)
class Stores:
    """One open database and its stores."""

    database: Database
    accounts: AccountStore
    billing: BillingStore
    deliveries: DeliveryStore
    idempotency: IdempotencyStore
    jobs: JobStore
    queue: QueueStore
    shares: ShareStore
    uploads: UploadStore


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """Open the database that the settings name, with its schema up to date, and close it on the way out.

    Safe beside a running service: SQLite's writer is locked for milliseconds at a time.
    """
    if settings.database_url is None:
        make_data_folder(settings.data_dir)
        url = sqlite_url(settings.data_dir)
    else:
        url = settings.database_url.get_secret_value()
    async with open_database(url) as database:
        yield Stores(
            database=database,
            accounts=AccountStore(database),
            billing=BillingStore(database),
            deliveries=DeliveryStore(database),
            idempotency=IdempotencyStore(database),
            jobs=JobStore(database),
            queue=QueueStore(database),
            shares=ShareStore(database),
            uploads=UploadStore(database),
        )


def make_data_folder(folder: Path) -> None:
    """Make the folder, for this user alone. Raises `ConfigurationError` when that fails."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigurationError(
            f"The data folder {folder} can't be made ({exc.strerror}). Set STENOBIRD_DATA_DIR to another one."
        ) from exc
