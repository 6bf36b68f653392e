"""Jobs whose client asked for Hebrew: what is committed, what a failure costs, and what a resume commits."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.errors import TranslationFailed, TranslationUnavailable
from stenobird.jobs.events import JobEvents, read_transcript
from stenobird.jobs.run import JobRun
from stenobird.jobs.sandbox import canned_transcript
from stenobird.jobs.service import new_job_id
from stenobird.ports import JobExtra, NewJob, RecognitionOptions
from stenobird.storage.queue import QueueStore
from stenobird.testing import FakeRecognizer, FakeTranslator, spoken
from tests.support.faults import survives_a_death
from tests.support.job_world import BASE, URL, JobWorld
from tests.support.translation_model import EMPTY, spell, spelled

if TYPE_CHECKING:
    from stenobird.ports import PCM, EventRow, JobRecord, Mode, SpeechCheckpoint, WindowResult

pytestmark = pytest.mark.anyio

HEBREW = JobExtra(translate_to="he")
PLAIN = JobExtra()


@dataclass
class WordyRecognizer(FakeRecognizer):
    """Says a word for each number. Number 13 has no translation."""

    async def _window(
        self, pcm: PCM, checkpoint: SpeechCheckpoint, options: RecognitionOptions
    ) -> WindowResult:
        window = await super()._window(pcm, checkpoint, options)
        segments = tuple(replace(segment, text=word(int(segment.text))) for segment in window.segments)
        return replace(window, segments=segments)


def word(number: int) -> str:
    return f" {EMPTY}." if number == 13 else f" word {chr(ord('a') + number)}."


@pytest.fixture(autouse=True)
def translator(world: JobWorld) -> FakeTranslator:
    """The translator of all jobs of these tests."""
    translator = FakeTranslator(spelled)
    world.translator = translator
    world.recognizer = WordyRecognizer()
    world.opener.audio = spoken([1, 2, 0, 3, 4, 5, 6, 0, 0, 0, 0, 7])
    return translator


async def create(
    world: JobWorld,
    extra: JobExtra,
    *,
    mode: Mode = "full",
    preview_id: str | None = None,
    **options: Any,
) -> JobRecord:
    job_id = new_job_id()
    job = NewJob(
        id=job_id,
        mode=mode,
        audio_url=URL,
        base_url=BASE,
        options=RecognitionOptions(**options),
        account_id=world.payer.account_id if mode == "full" else None,
        extra=extra,
        preview_id=preview_id,
    )
    first = JobEvents(job_id, BASE).status("queued", "validating_url")
    return await world.store.create(job, first, max_queued=10)


async def run(world: JobWorld, extra: JobExtra, **choices: Any) -> JobRecord:
    job = await create(world, extra, **choices)
    await world.run_next()
    return await world.job(job.id)


def chunks(events: list[EventRow]) -> list[dict[str, Any]]:
    rows = [json.loads(event.data) for event in events if event.event == "transcript"]
    for row in rows:
        del row["id"]
    return rows


def done(events: list[EventRow]) -> dict[str, Any]:
    assert events[-1].event == "done"
    data: dict[str, Any] = json.loads(events[-1].data)
    return data


# --- what is committed --------------------------------------------------------------------------------------


async def test_segments_are_translated_and_keep_their_times(world: JobWorld) -> None:
    plain = chunks(await world.events((await run(world, PLAIN)).id))
    job = await run(world, HEBREW)

    said = chunks(await world.events(job.id))

    assert [row["text"] for row in said] == [spell(row["text"]) for row in plain]
    assert said[0]["text"] == spell("word b.")
    assert [(row["start"], row["end"], row["chunk_index"]) for row in said] == [
        (row["start"], row["end"], row["chunk_index"]) for row in plain
    ]
    assert (plain[0]["language"], said[0]["language"]) == ("en", "he")


async def test_the_language_is_that_of_the_text_and_the_spoken_one_is_kept_in_extra(world: JobWorld) -> None:
    job = await run(world, HEBREW, language="fr")

    assert (job.language, job.extra.spoken_language) == ("he", "fr")
    assert read_transcript(job, await world.events(job.id)).language == "he"


async def test_a_window_is_one_request(world: JobWorld, translator: FakeTranslator) -> None:
    await run(world, HEBREW)

    assert translator.calls == [
        ("en", ("word b.", "word c.", "word d.", "word e.")),
        ("en", ("word f.", "word g.")),
        ("en", ("word h.",)),
    ]


async def test_words_of_a_translation_have_no_times(world: JobWorld) -> None:
    plain = chunks(await world.events((await run(world, PLAIN, word_timestamps=True)).id))
    said = chunks(await world.events((await run(world, HEBREW, word_timestamps=True)).id))

    assert all(row["words"] for row in plain)
    assert not any("words" in row for row in said)


async def test_speech_that_is_hebrew_already_is_left_alone(
    world: JobWorld, translator: FakeTranslator
) -> None:
    job = await run(world, HEBREW, language="he", word_timestamps=True)

    said = chunks(await world.events(job.id))

    assert translator.calls == []
    assert [row["text"] for row in said] == [
        word(n) if index else word(n).lstrip() for index, n in enumerate(range(1, 8))
    ]
    assert all(row["words"] for row in said)
    assert (job.status, job.language, job.extra.spoken_language) == ("completed", "he", "he")


async def test_english_that_whisper_wrote_is_translated_from_english(
    world: JobWorld, translator: FakeTranslator
) -> None:
    await run(world, HEBREW, language="fr", task="translate")

    assert {source for source, _ in translator.calls} == {"en"}


async def test_silence_needs_no_translator(world: JobWorld, translator: FakeTranslator) -> None:
    world.opener.audio = spoken([0] * 12)

    job = await run(world, HEBREW)

    assert (job.status, translator.calls) == ("completed", [])


async def test_a_translated_job_costs_the_same(world: JobWorld) -> None:
    await run(world, PLAIN)
    await run(world, HEBREW)

    plain, translated = await world.rows()
    assert (plain["minutes"], plain["audio_seconds"]) == (translated["minutes"], translated["audio_seconds"])


async def test_segments_without_a_translation_stay_and_cause_a_warning(world: JobWorld) -> None:
    world.opener.audio = spoken([1, 13, 2, 3, 4, 13])
    world.opener.warning = "The audio broke off."

    job = await run(world, HEBREW)

    events = await world.events(job.id)
    assert [row["text"] for row in chunks(events)][:3] == [spell("word b."), f" {EMPTY}.", spell(" word c.")]
    warning = (
        "The audio broke off. 2 segments could not be translated and are in the language that was spoken."
    )
    assert done(events)["warning"] == job.warning == warning
    assert job.extra.untranslated_segments == 2


async def test_a_preview_is_translated_too(world: JobWorld) -> None:
    job = await run(world, HEBREW, mode="preview")

    assert job.status == "preview_complete"
    assert chunks(await world.events(job.id))[0]["text"] == spell("word b.")


# --- dying and resuming -------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_commit", [False, True], ids=["before-commit", "after-commit"])
async def test_a_worker_killed_at_any_commit_leaves_the_same_translation(
    world: JobWorld, *, after_commit: bool
) -> None:
    world.opener.audio = spoken([1, 13, 2, 3, 4, 13, 5, 6, 7, 13, 8, 9, 10, 11, 12])
    reference = await run(world, HEBREW)
    expected = chunks(await world.events(reference.id))
    for dies_at in range(100):
        job = await create(world, HEBREW)
        survived = await survives_a_death(world, job.id, dies_at=dies_at, after_commit=after_commit)
        record = await world.job(job.id)
        assert chunks(await world.events(job.id)) == expected
        assert (record.extra, record.warning, record.language) == (
            reference.extra,
            reference.warning,
            reference.language,
        )
        if survived:
            assert dies_at > 5
            return
    pytest.fail("the job never got through")


async def test_a_translated_job_reuses_no_text_of_a_preview(world: JobWorld) -> None:
    preview = await run(world, PLAIN, mode="preview")

    job = await run(world, HEBREW, preview_id=preview.id)

    assert world.finder.found == 1
    assert world.opener.requests[-1].start_sample == 0
    texts = [row["text"] for row in chunks(await world.events(job.id))]
    assert texts == [
        spell(word(n)) if index else spell(word(n)).lstrip() for index, n in enumerate(range(1, 8))
    ]


async def test_a_job_reuses_no_text_of_a_translated_preview(world: JobWorld) -> None:
    preview = await run(world, HEBREW, mode="preview")

    job = await run(world, PLAIN, preview_id=preview.id)

    texts = [row["text"] for row in chunks(await world.events(job.id))]
    assert texts == [word(n) if index else word(n).lstrip() for index, n in enumerate(range(1, 8))]


# --- failing ------------------------------------------------------------------------------------------------


async def failed(world: JobWorld, job: JobRecord) -> str:
    """Check that the job failed unbilled, and return the message for its client."""
    events = await world.events(job.id)
    assert job.error is not None
    assert (job.status, done(events)["error"], job.error["error"]) == (
        "failed",
        "transcription_failed",
        "transcription_failed",
    )
    assert await world.rows() == []
    message: str = job.error["message"]
    assert "Nothing was billed." in message or "nothing was billed" in message
    return message


@pytest.mark.parametrize("refuses", [None, "The model is not on disk."], ids=["none", "broken"])
async def test_a_worker_that_can_not_translate_gives_the_job_back_before_any_work(
    world: JobWorld, translator: FakeTranslator, refuses: str | None
) -> None:
    translator.refuses = refuses
    world.translator = translator if refuses else None

    job = await run(world, HEBREW)

    assert (job.status, world.finder.found) == ("queued", 0)
    (attempt,) = await QueueStore(world.database).attempts(job.id)
    assert (refuses or "STENOBIRD_TRANSLATION_MODEL") in (attempt.reason or "")


async def test_other_jobs_need_no_translator(world: JobWorld, translator: FakeTranslator) -> None:
    translator.refuses = "The model is not on disk."

    assert (await run(world, PLAIN)).status == "completed"


@pytest.mark.parametrize("away", [False, True], ids=["failed", "away"])
async def test_a_translation_that_fails_permanently_fails_the_job_unless_the_model_is_away(
    world: JobWorld, translator: FakeTranslator, *, away: bool
) -> None:
    error = TranslationUnavailable("It can't be loaded.") if away else TranslationFailed()

    async def fail_at_the_second() -> None:
        if len(translator.calls) == 2:
            raise error

    translator.before = fail_at_the_second

    job = await run(world, HEBREW)

    assert len(chunks(await world.events(job.id))) == 4
    if away:
        assert (job.status, job.error) == ("transcribing", None)
    else:
        assert str(error) in await failed(world, job)


async def test_a_language_that_it_does_not_know_fails_the_job_with_the_reason(world: JobWorld) -> None:
    job = await run(world, HEBREW, language="la")

    assert job.error is not None
    assert (job.status, job.error["error"]) == ("failed", "transcription_failed")
    assert "from la to he" in job.error["message"]
    assert await world.rows() == []


@pytest.mark.parametrize("stop", ["cancel", "drain"])
async def test_a_job_can_be_stopped_while_its_translator_works(
    world: JobWorld, translator: FakeTranslator, stop: str
) -> None:
    asked = asyncio.Event()

    async def never() -> None:
        asked.set()
        await asyncio.Event().wait()

    expected = chunks(await world.events((await run(world, HEBREW)).id))
    job = await create(world, HEBREW)
    translator.before = never
    running = JobRun(world.context(), await world.claim())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(running.carry_out())
        await asked.wait()
        if stop == "cancel":
            await world.service.cancel_or_delete(job.id, world.payer)
        else:
            await running.drain()
    translator.before = None
    if stop == "cancel":
        assert (await world.job(job.id)).status == "cancelled"
        assert chunks(await world.events(job.id)) == []
    else:
        await world.run_next()
        assert chunks(await world.events(job.id)) == expected


# --- test keys ----------------------------------------------------------------------------------------------


TIMED = RecognitionOptions(word_timestamps=True)


async def test_the_canned_transcript_exists_in_hebrew_too() -> None:
    change, translated = canned_transcript(JobEvents("tr_x", BASE), TIMED, HEBREW)
    plain_change, plain = canned_transcript(JobEvents("tr_x", BASE), RecognitionOptions(), PLAIN)

    said, expected = (
        [json.loads(e.data) for e in events if e.event == "transcript"] for events in (translated, plain)
    )
    assert [(row["start"], row["end"]) for row in said] == [(row["start"], row["end"]) for row in expected]
    assert all("א" <= row["text"].strip()[0] <= "ת" for row in said)
    assert not any("words" in row for row in said)
    assert (said[0]["language"], change.language) == ("he", "he")
    assert (expected[0]["language"], plain_change.language) == ("en", "en")


async def test_a_test_job_uses_no_translator(world: JobWorld, translator: FakeTranslator) -> None:
    translator.refuses = "The model is not on disk."

    job = await run(world, HEBREW, mode="test")

    assert (job.status, job.language, translator.calls) == ("completed", "he", [])
