"""Speaker labels of a job: their events, what a resumed run writes, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from stenobird.egress.policy import EgressPolicy
from stenobird.errors import (
    EngineUnavailable,
    InvalidRequest,
    MissingAPIKey,
    ReadOnlyKey,
    TranscriptionFailed,
    TranscriptNotFound,
    TranscriptNotReady,
)
from stenobird.jobs.events import JobEvents, read_transcript
from stenobird.jobs.labelling import UNLABELLED, JobLabelling
from stenobird.jobs.schemas import SpeakerNames, TranscriptResult, TranscriptStatus
from stenobird.jobs.spec import RequestChecks
from stenobird.ports import RecognitionOptions
from stenobird.storage.schema import voices
from stenobird.testing import FakeVoices, spoken
from stenobird.webhooks.service import WebhookTargets
from tests.support.faults import DyingStore, survives_a_death
from tests.support.job_world import PAYER, JobWorld

if TYPE_CHECKING:
    from stenobird.ports import Caller, EventRow

pytestmark = pytest.mark.anyio

LINKS = {"id", "result_url"}
FIRST, SECOND = "Speaker 1", "Speaker 2"
CONVERSATION = [*range(1, 9), 0, *range(10, 19), *range(1, 6), 0, 0, *range(10, 17), *range(2, 9)]
"""The numbers that are said, one a second: those under 10 by one speaker, the others by another."""


@pytest.fixture(autouse=True)
def finder(world: JobWorld) -> FakeVoices:
    """What finds the voices in all jobs of these tests."""
    world.speakers = finder = FakeVoices()
    world.opener.audio = spoken(CONVERSATION)
    return finder


async def run(world: JobWorld, **body: Any) -> str:
    job = await world.post(PAYER, speakers=True, **body)
    await world.run_next()
    return job.id


async def label_events(world: JobWorld, job_id: str) -> list[dict[str, Any]]:
    return [json.loads(row.data) for row in await world.events(job_id) if row.event == "speakers"]


def tail(events: list[EventRow]) -> list[tuple[str, str]]:
    """Everything but what has the job's id in it."""
    return [
        (
            row.event,
            json.dumps({name: value for name, value in json.loads(row.data).items() if name not in LINKS}),
        )
        for row in events
        if row.event in {"transcript", "speakers", "done"}
    ]


async def test_every_segment_gets_the_speaker_who_says_it(world: JobWorld) -> None:
    job_id = await run(world, word_timestamps=True)
    transcript = read_transcript(await world.job(job_id), await world.events(job_id))
    expected = [FIRST if number < 10 else SECOND for number in CONVERSATION if number]
    assert [segment.speaker for segment in transcript.segments] == expected
    assert [word.speaker for segment in transcript.segments for word in segment.words] == expected
    assert not any(segment.overlap for segment in transcript.segments)


async def test_labels_follow_the_words_and_the_final_event_has_all_of_them(world: JobWorld) -> None:
    job_id = await run(world)
    events = await world.events(job_id)
    said = 0
    for row in events:
        if row.event == "transcript":
            said += 1
        elif row.event == "speakers":
            assert all(label["chunk_index"] < said for label in json.loads(row.data)["labels"])
    labels = await label_events(world, job_id)
    assert len(labels) > 2
    assert not any("final" in event for event in labels[:-1])
    assert labels[-1]["final"] is True
    assert [label["chunk_index"] for label in labels[-1]["labels"]] == list(range(said))
    assert [row.event for row in events[-2:]] == ["speakers", "done"]


async def test_words_are_those_of_a_job_without_labels_which_looks_for_no_voices(
    world: JobWorld, finder: FakeVoices
) -> None:
    plain = await world.post(PAYER)
    await world.run_next()
    assert finder.windows == 0
    job_id = await run(world)
    chunks = [
        [row for row in tail(await world.events(one)) if row[0] == "transcript"] for one in (plain.id, job_id)
    ]
    assert chunks[0] == chunks[1]
    assert await label_events(world, plain.id) == []


async def test_two_voices_at_once_are_an_overlap_of_the_dominant_speaker(world: JobWorld) -> None:
    world.opener.audio = spoken([1, 2, 3, -1, 4, 5, 10, 11, 12, 13])
    job_id = await run(world)
    (*_, final) = await label_events(world, job_id)
    assert final["labels"][3] == {"chunk_index": 3, "speaker": FIRST, "overlap": True}
    assert [label["speaker"] for label in final["labels"]] == [FIRST] * 6 + [SECOND] * 4


@pytest.mark.parametrize(
    ("bounds", "speakers"), [({"max_speakers": 1}, 1), ({"min_speakers": 3}, 3), ({}, 2)]
)
async def test_the_client_bounds_the_number_of_speakers(
    world: JobWorld, bounds: dict[str, int], speakers: int
) -> None:
    world.opener.audio = spoken([*range(1, 9), *range(11, 19), *range(21, 29), *range(1, 9)])
    job_id = await run(world, **bounds)
    (*_, final) = await label_events(world, job_id)
    assert len({label["speaker"] for label in final["labels"]}) == speakers


@pytest.mark.parametrize("after_commit", [False, True])
async def test_a_killed_worker_changes_no_event(world: JobWorld, *, after_commit: bool) -> None:
    expected = tail(await world.events(await run(world, word_timestamps=True)))
    for dies_at in range(100):
        job = await world.post(PAYER, speakers=True, word_timestamps=True)
        survived = await survives_a_death(world, job.id, dies_at=dies_at, after_commit=after_commit)
        assert tail(await world.events(job.id)) == expected
        assert await world.rows(voices) == []
        if survived:
            assert dies_at > 8
            return
    pytest.fail("the job never got through")


async def test_a_resumed_run_asks_only_for_windows_that_no_commit_has(
    world: JobWorld, finder: FakeVoices
) -> None:
    await run(world)
    windows = finder.windows
    await world.post(PAYER, speakers=True)
    finder.windows = 0
    with pytest.raises(BaseExceptionGroup):
        await world.run_next(DyingStore(world.store, dies_at=7, after_commit=True))
    assert len(await world.rows(voices)) >= 3
    finder.windows = 0
    await world.store.expire_leases()
    await world.run_next()
    assert finder.windows <= windows - 3


async def turns_of_the_loop() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_no_voice_is_looked_for_before_the_first_words(world: JobWorld, finder: FakeVoices) -> None:
    job = await world.post(PAYER, speakers=True)
    labelling = JobLabelling(await world.job(job.id), finder)
    minute = spoken([5] * 60)
    async with labelling.running():
        await labelling.feed(minute)
        await turns_of_the_loop()
        assert finder.windows == 0
        await labelling.commit([], 0, JobEvents(job.id, "http://test"))
        await turns_of_the_loop()
        assert finder.windows == 9


async def test_a_recording_that_begins_with_silence_is_not_held_up(
    world: JobWorld, finder: FakeVoices
) -> None:
    job = await world.post(PAYER, speakers=True)
    labelling = JobLabelling(await world.job(job.id), finder)
    with anyio.fail_after(60):
        async with labelling.running():
            for _ in range(15):
                await labelling.feed(spoken([0] * 60))
    assert finder.windows > 0


async def test_what_is_known_of_voices_is_removed_when_a_job_is_cancelled(world: JobWorld) -> None:
    job = await world.post(PAYER, speakers=True)
    with pytest.raises(BaseExceptionGroup):
        await world.run_next(DyingStore(world.store, dies_at=7, after_commit=True))
    assert await world.rows(voices) != []
    await world.store.expire_leases()
    await world.service.cancel_or_delete(job.id, PAYER)
    assert await world.rows(voices) == []


async def test_a_window_that_cannot_be_done_costs_only_its_labels(
    world: JobWorld, finder: FakeVoices
) -> None:
    async def fail_first(number: int) -> None:
        if number == 2:
            raise TranscriptionFailed

    finder.before = fail_first
    job_id = await run(world)
    transcript = read_transcript(await world.job(job_id), await world.events(job_id))
    assert (await world.job(job_id)).status == "completed"
    assert {segment.speaker for segment in transcript.segments} == {FIRST, SECOND}


async def test_a_job_waits_for_another_try_when_the_speaker_host_is_gone(
    world: JobWorld, finder: FakeVoices
) -> None:
    async def refuse(_number: int) -> None:
        raise EngineUnavailable

    finder.before = refuse
    job_id = await run(world)
    assert (await world.job(job_id)).status == "transcribing"
    finder.before = None
    await world.end_waiting()
    await world.run_next()
    assert (await world.job(job_id)).status == "completed"


async def test_silence_has_no_labels(world: JobWorld) -> None:
    world.opener.audio = spoken([0] * 30)
    job_id = await run(world)
    assert (await world.job(job_id)).status == "completed"
    assert await label_events(world, job_id) == []


async def test_a_preview_has_labels_too(world: JobWorld) -> None:
    job = await world.post(speakers=True)
    await world.run_next()
    events = await world.events(job.id)
    assert [row.event for row in events[-3:]] == ["speakers", "preview_locked", "done"]


async def test_a_full_job_labels_all_of_it_after_a_preview(world: JobWorld) -> None:
    preview = await world.post(speakers=True)
    await world.run_next()
    job_id = await run(world, preview_id=preview.id)
    (*_, final) = await label_events(world, job_id)
    assert len(final["labels"]) == sum(number > 0 for number in CONVERSATION)


async def test_a_service_without_the_models_refuses_the_option(world: JobWorld) -> None:
    world.speakers = None
    with pytest.raises(InvalidRequest, match="STENOBIRD_SPEAKER_MODEL"):
        await world.post(PAYER, speakers=True)
    await world.post(PAYER)


async def test_a_job_is_refused_while_the_speaker_host_cannot_start(
    world: JobWorld, finder: FakeVoices
) -> None:
    finder.refuses = "Speakers can't be labelled: no memory."
    with pytest.raises(EngineUnavailable, match="no memory"):
        await world.post(PAYER, speakers=True)
    await world.post(PAYER)


async def test_a_worker_without_the_models_completes_the_words_with_a_warning(world: JobWorld) -> None:
    job = await world.post(PAYER, speakers=True)
    world.speakers = None
    await world.run_next()
    done = await world.job(job.id)
    assert (done.status, done.warning) == ("completed", UNLABELLED)
    events = await world.events(job.id)
    assert sum(row.event == "transcript" for row in events) == sum(number > 0 for number in CONVERSATION)
    assert json.loads(events[-1].data)["warning"] == UNLABELLED
    assert await label_events(world, job.id) == []


@pytest.mark.parametrize("labels", [False, True])
async def test_a_process_without_a_worker_goes_by_its_settings(*, labels: bool) -> None:
    checks = RequestChecks(
        url=str, webhook_targets=WebhookTargets(EgressPolicy(), None), labels_speakers=labels
    )
    options = RecognitionOptions(speakers=True)
    if labels:
        await checks.admit(PAYER, "full", options)
    else:
        with pytest.raises(InvalidRequest, match="STENOBIRD_SPEAKER_MODEL"):
            await checks.admit(PAYER, "full", options)
    await checks.admit(PAYER, "full", RecognitionOptions())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"min_speakers": 2}, "min_speakers"),
        ({"max_speakers": 2}, "max_speakers"),
        ({"speakers": True, "min_speakers": 3, "max_speakers": 2}, "min_speakers"),
        ({"speakers": True, "min_speakers": 0}, "min_speakers"),
        ({"speakers": True, "max_speakers": 51}, "max_speakers"),
    ],
)
async def test_bounds_must_make_sense(world: JobWorld, body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await world.post(PAYER, **body)
    assert refused.value.details["field"] == field


# --- names --------------------------------------------------------------------------------------------------


async def test_the_owner_names_speakers_and_takes_names_back(world: JobWorld) -> None:
    job_id = await run(world)
    before = await world.events(job_id)
    for names in ({FIRST: "Ada", SECOND: "Grace"}, {FIRST: "Ada", SECOND: "Grace"}, {SECOND: "Ada"}, {}):
        job = await world.service.name_speakers(job_id, PAYER, names)
        job, transcript = await world.service.result(job_id, PAYER)
        assert (transcript.speaker_names or {}) == names
        body = json.loads(TranscriptResult.of(job, transcript).encode())
        assert body.get("speaker_names", {}) == names
        assert {segment["speaker"] for segment in body["segments"]} == {FIRST, SECOND}
        assert json.loads(TranscriptStatus.of(job).encode()).get("speaker_names", {}) == names
    assert await world.events(job_id) == before


async def test_only_speakers_of_a_finished_transcript_can_be_named(world: JobWorld) -> None:
    names = {FIRST: "Ada"}
    queued = await world.post(PAYER, speakers=True)
    with pytest.raises(TranscriptNotReady):
        await world.service.name_speakers(queued.id, PAYER, names)
    await world.run_next()
    with pytest.raises(InvalidRequest, match="Speaker 9"):
        await world.service.name_speakers(queued.id, PAYER, {"Speaker 9": "Ada"})
    preview = await world.post(speakers=True)
    await world.run_next()
    with pytest.raises(InvalidRequest, match="preview"):
        await world.service.name_speakers(preview.id, None, names)


@pytest.mark.parametrize(
    ("caller", "error"),
    [
        (None, MissingAPIKey),
        (replace(PAYER, scope="read_only"), ReadOnlyKey),
        (replace(PAYER, account_id="acct_other"), TranscriptNotFound),
    ],
)
async def test_nobody_else_can_name_speakers(
    world: JobWorld, caller: Caller | None, error: type[Exception]
) -> None:
    job_id = await run(world)
    with pytest.raises(error):
        await world.service.name_speakers(job_id, caller, {FIRST: "Ada"})
    _, transcript = await world.service.result(job_id, PAYER)
    assert transcript.speaker_names is None


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x00", "a\u2028b", "\u202eabc", "x" * 81, 7, None])
async def test_a_name_is_a_short_line_of_text(name: Any) -> None:
    with pytest.raises(InvalidRequest):
        SpeakerNames.parse({"names": {FIRST: name}})
    assert SpeakerNames.parse({"names": {FIRST: " نی\u200cلوفر "}}).names == {FIRST: "نی\u200cلوفر"}
