"""The log lines of a job: what happened to it, from top to bottom."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from stenobird.errors import AudioSourceNotFound
from stenobird.jobs.run import JobRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.job_world import JobWorld

pytestmark = pytest.mark.anyio


@contextmanager
def captured() -> Iterator[list[dict[str, Any]]]:
    """Yield the log lines, with what is bound to their context."""
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        yield lines  # type: ignore[misc]  # an event dict is a mapping of strings


def story(lines: list[dict[str, Any]], job_id: str) -> list[str]:
    """Check that every line is about the job and return the names of the events."""
    names = [str(line["event"]) for line in lines]
    assert {line.get("job_id") for line in lines} == {job_id}
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []
    return names


async def test_the_log_of_a_completed_job_can_be_read_from_top_to_bottom(world: JobWorld) -> None:
    with captured() as lines:
        job = await world.post(world.payer)
        await world.run_next()

    assert story(lines, job.id) == [
        "job_created",
        "job_claimed",
        "discovery_verdict",
        "audio_opened",
        "first_words",
        "job_completed",
    ]
    claimed, verdict, opened, words, completed = lines[1:]
    assert (claimed["mode"], claimed["attempt"]) == ("full", 1)
    assert (verdict["stage"], verdict["outcome"]) == ("resolving_direct", "found")
    assert (opened["technique"], opened["host"], opened["start_seconds"]) == ("direct", "example.com", 0.0)
    assert 0 <= words["seconds"] <= completed["seconds"]
    assert (completed["status"], completed["audio_seconds"]) == ("completed", 40.0)


async def test_the_log_of_a_failed_job_ends_with_the_reason(world: JobWorld) -> None:
    world.finder.error = AudioSourceNotFound()
    with captured() as lines:
        job = await world.post(world.payer)
        await world.run_next()

    assert story(lines, job.id)[-1] == "job_failed"
    failed = lines[-1]
    assert (failed["error"], failed["log_level"]) == ("audio_source_not_found", "info")
    assert failed["reason"] == AudioSourceNotFound().message
    assert failed["seconds"] >= 0


async def test_an_unexpected_exception_is_logged_with_the_job(world: JobWorld) -> None:
    world.finder.error = ValueError("a bug")
    with captured() as lines:
        job = await world.post(world.payer)
        await world.run_next()

    names = story(lines, job.id)
    assert names[-2:] == ["unexpected_exception", "job_failed"]
    assert isinstance(lines[-2]["exc_info"], ValueError)


async def test_a_job_released_by_its_worker_has_its_id_on_the_last_line(world: JobWorld) -> None:
    job = await world.post(world.payer)
    run = JobRun(world.context(), await world.claim())
    with captured() as lines:
        await run.release()

    assert story(lines, job.id) == ["job_released"]


async def test_a_cancelled_and_deleted_job_is_logged(world: JobWorld) -> None:
    with captured() as lines:
        job = await world.post(world.payer)
        await world.service.cancel_or_delete(job.id, world.payer)
        await world.service.cancel_or_delete(job.id, world.payer)

    assert story(lines, job.id) == ["job_created", "job_cancelled", "job_deleted"]
