"""Which model transcribes a job, and what a minute of it costs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stenobird.jobs.run import JobRun
from stenobird.ports import JobExtra, NewEvent, NewJob, RecognitionOptions, UploadedFile
from stenobird.speech.engines import SpeechEngines, premium_units, tier_models
from stenobird.storage.job_store import JobStore
from stenobird.testing import FakeOpener, FakeRecognizer, spoken
from tests.support.databases import sqlite_database
from tests.support.job_world import JobWorld
from tests.support.web_world import web_settings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


def test_without_models_of_their_own_all_tiers_are_the_default() -> None:
    settings = web_settings(model="base")

    assert tier_models(settings) == {}
    assert premium_units(settings) == 1
    assert premium_units(web_settings(model="base", model_premium="base")) == 1


def test_a_distinct_premium_costs_two_units() -> None:
    settings = web_settings(model="base", model_fast="tiny", model_premium="large-v3")

    assert tier_models(settings) == {"fast_low_cost": "tiny", "premium_quality": "large-v3"}
    assert premium_units(settings) == 2
    assert premium_units(web_settings(model="base", model_standard="turbo", model_premium="turbo")) == 1


async def test_a_tier_uses_its_recognizer_at_its_price(tmp_path: Path) -> None:
    async with sqlite_database(tmp_path) as database:
        world = JobWorld(database, JobStore(database))
        premium = FakeRecognizer(model="premium")
        world.opener = FakeOpener(spoken(range(1, 151)))
        engines = SpeechEngines(world.recognizer, {"premium_quality": premium})
        new = NewJob(
            id="job_1",
            mode="full",
            audio_url="upload:upl_1",
            base_url="http://test",
            options=RecognitionOptions(),
            account_id="acct_1",
            origin="alefbot",
            upload_id="upl_1",
            extra=JobExtra(
                tier="premium_quality", unit_factor=2, upload=UploadedFile("talk.mp3", "audio/mpeg", 5)
            ),
        )
        await world.store.create(new, NewEvent("status", "{}"), max_queued=9)
        await JobRun(replace(world.context(), speech=engines), await world.claim()).carry_out()

        job = await world.job("job_1")
        assert (job.status, job.model, job.billable_minutes) == ("completed", "premium", 2)
        assert [request.source.media_url for request in world.opener.requests] == ["upload:upl_1"]
        assert [row["minutes"] for row in await world.rows()] == [4]
        assert world.recognizer.windows_decoded == 0


async def test_a_tier_served_by_a_lesser_engine_is_given_back_and_not_billed(tmp_path: Path) -> None:
    async with sqlite_database(tmp_path) as database:
        world = JobWorld(database, JobStore(database))
        premium = FakeRecognizer(model="premium")

        async def fall_back(_window: int) -> None:
            premium.engine = "offline"

        premium.before_window = fall_back
        world.opener = FakeOpener(spoken(range(1, 151)))
        engines = SpeechEngines(world.recognizer, {"premium_quality": premium})
        new = NewJob(
            id="job_1",
            mode="full",
            audio_url="upload:upl_1",
            base_url="http://test",
            options=RecognitionOptions(),
            account_id="acct_1",
            origin="alefbot",
            upload_id="upl_1",
            extra=JobExtra(tier="premium_quality"),
        )
        await world.store.create(new, NewEvent("status", "{}"), max_queued=9)
        await JobRun(replace(world.context(), speech=engines), await world.claim()).carry_out()

        job = await world.job("job_1")
        assert (job.status, job.error) == ("transcribing", None)
        assert await world.rows() == []
        await world.end_waiting()
        assert (await world.claim()).attempts == 1
