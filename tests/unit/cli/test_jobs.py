"""`stenobird jobs`, on a data folder of its own."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from stenobird.cli.jobs import jobs
from stenobird.config import Settings
from stenobird.errors import InvalidRequest, TranscriptNotFound
from stenobird.jobs.events import JobEvents
from stenobird.ports import JobChange, NewJob, RecognitionOptions
from stenobird.storage.stores import open_stores

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from stenobird.storage.stores import Stores


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("STENOBIRD_DATA_DIR", str(tmp_path))
    return Settings()


def with_stores(settings: Settings, work: Callable[[Stores], Awaitable[None]]) -> None:
    async def run() -> None:
        async with open_stores(settings) as stores:
            await work(stores)

    asyncio.run(run())


async def fail_after_trouble(stores: Stores) -> None:
    events = JobEvents("tr_1", "http://t")
    job = NewJob("tr_1", "full", "https://x.test/a.mp3", "http://t", RecognitionOptions(), "acct_1")
    await stores.jobs.create(job, events.status("queued", "validating_url"), max_queued=9)
    claim = await stores.jobs.claim("sick worker", lanes=["full"])
    assert claim is not None
    await stores.jobs.release(claim.lease, trouble="The disk is full.")
    async with stores.database.write() as connection:
        await connection.exec_driver_sql("UPDATE jobs SET claimable_at = 0")
    claim = await stores.jobs.claim("worker", lanes=["full"])
    assert claim is not None
    change = JobChange(status="failed", error={"error": "audio_unreachable", "message": "Gone."})
    await stores.jobs.finish(claim.lease, change, [events.done("failed")])


def run(*arguments: str) -> str:
    done = CliRunner().invoke(jobs, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_job_is_shown_with_its_attempts_and_retried(settings: Settings) -> None:
    with_stores(settings, fail_after_trouble)
    assert "tr_1" in run("list", "--status", "failed")
    shown = json.loads(run("show", "tr_1", "--json"))
    assert (shown["status"], shown["error"]["error"]) == ("failed", "audio_unreachable")
    assert [(one["worker"], one["outcome"], one["reason"]) for one in shown["attempts"]] == [
        ("sick worker", "trouble", "The disk is full."),
        ("worker", "failed", ""),
    ]
    assert all(one["started_at"] and one["ended_at"] for one in shown["attempts"])
    assert "The disk is full." in run("show", "tr_1")

    old, new = run("retry", "tr_1").split()
    assert old == "tr_1"
    assert json.loads(run("show", new, "--json"))["status"] == "queued"
    assert json.loads(run("show", "tr_1", "--json"))["status"] == "failed"
    with pytest.raises(InvalidRequest):
        run("retry", new)
    with pytest.raises(TranscriptNotFound):
        run("show", "tr_none")


def test_the_queue_is_paused_drained_and_resumed(settings: Settings) -> None:
    async def expect(stores: Stores, *names: str) -> None:
        assert set(await stores.queue.switches()) == set(names)

    run("pause")
    with_stores(settings, lambda stores: expect(stores, "paused"))
    run("drain")
    with_stores(settings, lambda stores: expect(stores, "paused", "draining"))
    listed = run("list")
    assert "is paused since" in listed
    assert "is draining since" in listed
    run("resume")
    assert "since" not in run("list")
    with_stores(settings, expect)
