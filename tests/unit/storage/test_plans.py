"""How SQLite goes about what is asked at each request: by an index, whatever the tables hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from stenobird.storage.engine import open_database, sqlite_url

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("query", "how"),
    [
        (
            "SELECT count(*) FROM jobs WHERE account_id = 'a' AND completed_at IS NULL",
            "SEARCH jobs USING COVERING INDEX ix_jobs_account_open ",
        ),
        (
            # This index has no other jobs than open ones.
            "SELECT count(*) FROM jobs WHERE completed_at IS NULL AND status = 'queued'",
            "SCAN jobs USING INDEX ix_jobs_account_open",
        ),
        (
            "SELECT id FROM jobs WHERE completed_at < 5",
            "SEARCH jobs USING INDEX ix_jobs_completed_at ",
        ),
        (
            "SELECT data FROM events WHERE job_id = 'j' AND seq > 5 ORDER BY seq",
            "SEARCH events USING INDEX sqlite_autoindex_events_1 ",
        ),
        (
            "SELECT id FROM outbox WHERE kind = 'webhook' AND settled_at IS NULL AND next_attempt_at <= 5",
            "SEARCH outbox USING INDEX ix_outbox_due ",
        ),
    ],
    ids=["open jobs of an account", "queued jobs", "expired jobs", "events after one", "due webhooks"],
)
async def test_what_every_request_asks_is_found_by_an_index(tmp_path: Path, query: str, how: str) -> None:
    async with open_database(sqlite_url(tmp_path)) as database, database.read() as connection:
        [(*_, step)] = await connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))
    assert step.startswith(how)
