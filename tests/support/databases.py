"""Empty databases of each kind, for contract tests: SQLite in a folder, PostgreSQL on a server at hand."""

from __future__ import annotations

import os
import secrets
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.postgresql import postgresql_available, running_postgresql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NOT_TESTED = "NOT TESTED ON POSTGRESQL: install it, or set STENOBIRD_TEST_POSTGRESQL"


@contextmanager
def postgresql_server_at_hand() -> Iterator[str | None]:
    """Yield the URL of a server: the one STENOBIRD_TEST_POSTGRESQL names, one of our own, or none."""
    named = os.environ.get("STENOBIRD_TEST_POSTGRESQL")
    if named:
        yield named
    elif postgresql_available():
        with running_postgresql() as url:
            yield url
    else:
        yield None


@asynccontextmanager
async def empty_postgresql_database(server: str) -> AsyncIterator[str]:
    """Make an empty database on the server, yield its URL, and drop it."""
    name = f"test_{secrets.token_hex(6)}"
    admin = create_async_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    try:
        async with admin.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
        yield f"{server}/{name}"
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        await admin.dispose()
