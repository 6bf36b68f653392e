from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from faster_whisper import WhisperModel

from stenobird.config import Settings
from stenobird.demo import TALK_PATH, word_error_rate
from stenobird.errors import EngineUnavailable, InvalidRequest, TranscriptionFailed
from stenobird.ports import SAMPLE_RATE, Clock, RecognitionOptions, SpeechCheckpoint, WindowResult
from stenobird.speech.pool import SpeechPool
from stenobird.speech.protocol import DecodedWindow, EngineInfo, WindowRequest
from stenobird.speech.recognizer import WhisperRecognizer, open_recognizer
from tests.support.impatient_clock import ImpatientClock
from tests.support.speech import decode_clip
from tests.support.speech_host import FAKE_HOST_COMMAND, blocks, silence, tone
from tests.support.until import async_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from stenobird.ports import PCM

pytestmark = pytest.mark.anyio

NO_WISHES = RecognitionOptions()
BEGINNING = SpeechCheckpoint()


def open_fixture(model: Path, **changes: Any) -> AbstractAsyncContextManager[WhisperRecognizer]:
    settings = Settings.model_construct(engine="whisper", model=str(model), device="cpu", **changes)
    return open_recognizer(settings, clock=Clock())


def open_fake(
    *, clock: ImpatientClock | None = None, **changes: Any
) -> AbstractAsyncContextManager[WhisperRecognizer]:
    settings = Settings.model_construct(replicas=2, **changes)
    return open_recognizer(settings, clock=clock or ImpatientClock(), host_command=FAKE_HOST_COMMAND)


async def transcribed(
    recognizer: WhisperRecognizer,
    audio: AsyncIterator[PCM],
    *,
    checkpoint: SpeechCheckpoint = BEGINNING,
    options: RecognitionOptions = NO_WISHES,
) -> list[WindowResult]:
    windows = recognizer.transcribe(audio, job_id="job", lane="full", checkpoint=checkpoint, options=options)
    return [window async for window in windows]


@pytest.fixture(scope="module")
async def whisper(fixture_model: Path) -> AsyncIterator[WhisperRecognizer]:
    async with open_fixture(fixture_model) as recognizer:
        yield recognizer


@pytest.fixture(scope="module")
async def fake() -> AsyncIterator[WhisperRecognizer]:
    async with open_fake() as recognizer:
        yield recognizer


@pytest.fixture(scope="module")
async def undisturbed(whisper: WhisperRecognizer, clips: Path) -> dict[str, list[WindowResult]]:
    """What is recognized in each clip."""
    return {
        clip: await transcribed(whisper, blocks(decode_clip(clips / f"{clip}.mp3")))
        for clip in ("short", "long")
    }


def text_of(windows: list[WindowResult]) -> str:
    return "".join(segment.text for window in windows for segment in window.segments)


@pytest.mark.parametrize(("clip", "most"), [("short", 0.05), ("long", 0.06)])
async def test_a_clip_is_recognized_as_well_as_by_plain_faster_whisper(
    fixture_model: Path, clips: Path, undisturbed: dict[str, list[WindowResult]], clip: str, most: float
) -> None:
    reference = (clips / f"{clip}.txt").read_text()
    plain = WhisperModel(str(fixture_model), device="cpu", compute_type="int8", cpu_threads=1)
    segments, _ = plain.transcribe(
        str(clips / f"{clip}.mp3"), beam_size=5, vad_filter=True, condition_on_previous_text=False
    )
    plain_rate = word_error_rate(reference, "".join(segment.text for segment in segments))

    rate = word_error_rate(reference, text_of(undisturbed[clip]))
    assert rate <= most
    assert rate - plain_rate <= 0.005


@pytest.mark.parametrize("clip", ["short", pytest.param("long", marks=pytest.mark.slow)])
async def test_a_resume_at_any_checkpoint_gives_the_text_of_the_undisturbed_run(
    whisper: WhisperRecognizer, clips: Path, clip: str
) -> None:
    pcm = decode_clip(clips / f"{clip}.mp3")[: 100 * SAMPLE_RATE]
    pcm = np.tile(pcm, 3) if clip == "short" else pcm
    whole = await transcribed(whisper, blocks(pcm))
    assert len(whole) >= 3
    for done, window in enumerate(whole, 1):
        checkpoint = SpeechCheckpoint.from_json(window.checkpoint.to_json())
        rest = blocks(pcm, start=checkpoint.next_sample, size=1700 * done)

        assert await transcribed(whisper, rest, checkpoint=checkpoint) == whole[done:]


@pytest.mark.slow
async def test_a_real_model_killed_twenty_times_writes_the_same_text(tiny_en: Path) -> None:
    pcm = np.tile(decode_clip(TALK_PATH), 2)
    checkpoint, disturbed, killed = BEGINNING, list[WindowResult](), set[int]()
    async with open_fixture(tiny_en) as recognizer:
        undisturbed = await transcribed(recognizer, blocks(pcm))

        def can_be_killed() -> bool:
            status = recognizer.status()
            return status["windows_in_flight"] > 0 and status["host_pid"] not in {None, *killed}

        # As many runs as windows, each from the checkpoint of the one before, and each of several hosts.
        for done in range(len(undisturbed)):
            windows = recognizer.transcribe(
                blocks(pcm, start=checkpoint.next_sample),
                job_id=f"run {done}",
                lane="full",
                checkpoint=SpeechCheckpoint.from_json(checkpoint.to_json()),
                options=NO_WISHES,
            )
            window = asyncio.ensure_future(anext(windows))
            while not window.done() and len(killed) * len(undisturbed) < 20 * (done + 1):
                await async_until(can_be_killed)
                killed.add(recognizer.status()["host_pid"])
                os.kill(recognizer.status()["host_pid"], signal.SIGKILL)
            disturbed.append(await window)
            checkpoint = disturbed[-1].checkpoint
            await windows.aclose()

        assert disturbed == undisturbed
        assert len(killed) == recognizer.status()["restarts"] == 20


async def test_the_fixture_model_is_labelled_wherever_it_shows(fixture_model: Path, clips: Path) -> None:
    async with open_fixture(fixture_model) as recognizer:
        assert not await recognizer.ready()
        windows = await transcribed(recognizer, blocks(decode_clip(clips / "short.mp3")))

        assert await recognizer.ready()
        assert (recognizer.engine, recognizer.model) == ("whisper", "stenobird-fixture")
        assert {(window.engine, window.model) for window in windows} == {("whisper", "stenobird-fixture")}
        assert recognizer.status()["fixture"] is True
        assert recognizer.status()["state"] == "ready"


async def test_the_first_text_comes_before_the_audio_has_ended() -> None:
    pulled = 0

    async def counted() -> AsyncIterator[PCM]:
        nonlocal pulled
        for block in np.split(np.concatenate([tone(5), silence(115)]), 120):
            pulled += 1
            yield block

    async with open_fake() as recognizer:
        windows = recognizer.transcribe(
            counted(), job_id="job", lane="full", checkpoint=BEGINNING, options=NO_WISHES
        )
        first = await anext(windows)
        pulled_at_first = pulled
        await windows.aclose()

    assert [segment.text for segment in first.segments] == [" 0"]
    assert pulled_at_first < 120


async def test_a_session_plans_no_more_windows_than_its_consumer_takes() -> None:
    pulled = 0

    async def endless() -> AsyncIterator[PCM]:
        nonlocal pulled
        while True:
            pulled += 1
            yield tone(1) if pulled % 8 else silence(1)

    async with open_fake() as recognizer:
        windows = recognizer.transcribe(
            endless(), job_id="job", lane="full", checkpoint=BEGINNING, options=RecognitionOptions("en")
        )
        taken = [await anext(windows) for _ in range(3)]
        # 3 taken, 4 planned ahead at most, the plan of one more: none is longer than 30 s.
        assert pulled <= 8 * 31
        await windows.aclose()

    assert [window.checkpoint.window_index for window in taken] == [1, 2, 3]


async def test_blocks_after_a_slow_one_are_decoded_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = SpeechPool.decode
    begun: list[int] = []
    decoded: list[int] = []
    released = asyncio.Event()

    async def delayed(pool: SpeechPool, job: str, request: WindowRequest, **how: bool) -> DecodedWindow:
        begun.append(request.start_sample)
        if len(begun) == 2:
            await released.wait()
        result = await decode(pool, job, request, **how)
        decoded.append(request.start_sample)
        return result

    monkeypatch.setattr(SpeechPool, "decode", delayed)
    pcm = np.concatenate([tone(32), silence(4), *[tone(5), silence(4)] * 6])
    options = RecognitionOptions("en", prompt="change 1000")
    async with open_fake() as recognizer:
        task = asyncio.create_task(transcribed(recognizer, blocks(pcm), options=options))
        await async_until(lambda: len(decoded) == 4)  # the first window, and three blocks after the slow one
        assert max(decoded) > begun[1]
        released.set()
        windows = await task

    assert len([segment for window in windows for segment in window.segments]) == len(begun)


async def test_audio_is_pulled_while_speech_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    begun = asyncio.Event()
    find_speech = SpeechPool.find_speech

    async def recorded(pool: SpeechPool, job: str, pcm: PCM, state: bytes, *, urgent: bool) -> Any:
        searched.append(len(pcm))
        begun.set()
        return await find_speech(pool, job, pcm, state, urgent=urgent)

    async def audio() -> AsyncIterator[PCM]:
        yield tone(2)
        await begun.wait()  # the search begins with what is here
        async for block in blocks(tone(20)):
            yield block

    monkeypatch.setattr(SpeechPool, "find_speech", recorded)
    async with open_fake() as recognizer, asyncio.timeout(60):
        await transcribed(recognizer, audio())

    assert searched[0] <= 2 * SAMPLE_RATE
    assert max(searched) == 16 * 8 * 512  # then four seconds at once


async def test_the_second_block_begins_where_the_text_of_the_first_window_ends() -> None:
    pcm = np.concatenate([tone(40), silence(5), tone(5)])
    options = RecognitionOptions("en", prompt="keep 20")
    async with open_fake() as recognizer:
        windows = await transcribed(recognizer, blocks(pcm), options=options)
        first = windows[0].checkpoint
        rest = blocks(pcm, start=first.next_sample)
        resumed = await transcribed(recognizer, rest, checkpoint=first, options=options)

    spans = [(segment.start, segment.end) for window in windows for segment in window.segments]
    assert spans == [(0, 20), (20, pytest.approx(42, abs=0.1)), (pytest.approx(43, abs=0.5), 50)]
    assert (first.next_sample, first.block_samples) == (20 * SAMPLE_RATE, 0)
    assert [(s.start, s.end) for w in resumed for s in w.segments] == spans[1:]


async def test_silence_moves_the_checkpoint_without_decoding(fake: WhisperRecognizer) -> None:
    windows = await transcribed(fake, blocks(silence(100)))

    assert text_of(windows) == ""
    assert [round(w.checkpoint.next_sample / SAMPLE_RATE) for w in windows] == [30, 59, 89, 100]
    assert windows[-1].checkpoint.next_sample == 100 * SAMPLE_RATE


async def test_language_is_summed_up_then_pinned_and_the_sums_survive_a_resume() -> None:
    pcm = np.concatenate([tone(8), silence(25), *[tone(5.5), silence(0.5)] * 6])
    async with open_fake() as recognizer:
        windows = await transcribed(recognizer, blocks(pcm))
        scores = [window.checkpoint.language_scores for window in windows]
        pinned = [window.checkpoint.language for window in windows]

        assert pinned[:2] == [None, "en"]
        assert set(pinned[1:]) == {"en"}
        assert scores[0] == {"en": pytest.approx(-0.51, abs=0.01), "de": pytest.approx(-0.92, abs=0.01)}
        assert all(not later for later in scores[1:])
        assert {window.language for window in windows} == {"en"}
        checkpoint = windows[0].checkpoint
        rest = await transcribed(recognizer, blocks(pcm, start=checkpoint.next_sample), checkpoint=checkpoint)
        # The text of the fake counts its windows.
        assert [replace(w.checkpoint, context="") for w in rest] == [
            replace(w.checkpoint, context="") for w in windows[1:]
        ]


@pytest.mark.parametrize("seconds", [130, 150])
async def test_after_a_change_of_language_no_window_has_a_context_in_the_other_one(seconds: int) -> None:
    pcm = np.concatenate([tone(9), silence(1)] * 40)
    options = RecognitionOptions(prompt=f"change {seconds}")
    async with open_fake() as recognizer:
        windows = await transcribed(recognizer, blocks(pcm), options=options)

    segments = [segment for window in windows for segment in window.segments]
    german = [segment.text.strip() for segment in segments if segment.language == "de"]
    assert len(german) > 5
    assert set(german[1:]) == {"de text"}  # the decoder drops the first one's


async def test_a_window_goes_on_from_the_text_before_it_only_where_that_breaks_off() -> None:
    pcm = np.concatenate([tone(9), silence(1)] * 40)
    options = RecognitionOptions("en", prompt="sentences")
    async with open_fake(model="batches") as recognizer:
        windows = await transcribed(recognizer, blocks(pcm), options=options)

    opening = windows[0].checkpoint.opening
    assert opening.endswith(" ends.<|1.00|>")
    before = [segment.text for window in windows[1:] for segment in window.segments]
    assert len(before) > 5
    assert opening in before
    assert {text for text in before if text != opening} == {
        window.checkpoint.context for window in windows if window.checkpoint.context.endswith(" goes<|1.00|>")
    }


async def test_a_given_language_is_pinned_at_once(fake: WhisperRecognizer) -> None:
    windows = await transcribed(fake, blocks(tone(8)), options=RecognitionOptions("de"))

    assert {window.checkpoint.language for window in windows} == {"de"}


async def test_a_window_that_cannot_be_decoded_fails_after_the_windows_before_it(
    fake: WhisperRecognizer,
) -> None:
    pcm = np.concatenate([tone(5.5), silence(0.5)] * 12)
    with pytest.raises(TranscriptionFailed):
        await transcribed(fake, blocks(pcm), options=RecognitionOptions("en", prompt="raise"))

    assert len(await transcribed(fake, blocks(pcm))) >= 3


async def test_a_hung_window_is_watched(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    clock = ImpatientClock()

    async with open_fake(clock=clock) as recognizer, asyncio.TaskGroup() as tasks:
        options = RecognitionOptions("en", prompt=f"once {flag} hang")
        windows = tasks.create_task(transcribed(recognizer, blocks(tone(4)), options=options))
        await async_until(lambda: not flag.exists())

        def restarted() -> bool:
            restarts: int = recognizer.status()["restarts"]
            clock.ahead_seconds += 0 if restarts else Settings.model_fields["window_timeout_seconds"].default
            return restarts == 1

        await async_until(restarted)

        assert text_of(await windows) == " 0"
        assert recognizer.status()["restarts"] == 1


async def test_a_language_that_the_model_does_not_know_is_refused_before_work(
    whisper: WhisperRecognizer,
) -> None:
    pulled = False

    async def untouched() -> AsyncIterator[PCM]:
        nonlocal pulled
        pulled = True
        yield tone(1)

    with pytest.raises(InvalidRequest, match='does not know the language "de"') as refused:
        await transcribed(whisper, untouched(), options=RecognitionOptions("de"))

    assert refused.value.details == {"field": "language"}
    assert not pulled


async def test_closing_the_recognizer_ends_what_is_being_transcribed() -> None:
    async with open_fake() as recognizer:
        windows = recognizer.transcribe(
            blocks(np.concatenate([tone(5.5), silence(0.5)] * 20)),
            job_id="job",
            lane="full",
            checkpoint=BEGINNING,
            options=NO_WISHES,
        )
        await anext(windows)

    with pytest.raises(EngineUnavailable):
        async for _ in windows:
            pass


async def test_an_error_of_the_caller_s_block_comes_out_as_it_is() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with open_fake():
            raise LookupError("mine")


async def test_a_missing_model_folder_is_an_engine_that_is_unavailable(tmp_path: Path) -> None:
    async with open_fixture(tmp_path) as recognizer:
        with pytest.raises(EngineUnavailable, match=r"lacks config\.json"):
            await transcribed(recognizer, blocks(tone(1)))
        assert recognizer.status()["state"] == "failed"


async def test_auto_falls_back_to_the_offline_engine_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    settings = Settings.model_construct(device="cpu")
    async with open_recognizer(settings, clock=Clock(), cache_dir=str(tmp_path)) as recognizer:
        await recognizer.loaded()
        status = recognizer.status()

        assert (recognizer.engine, recognizer.model) == ("offline", "pocketsphinx")
        assert (status["state"], status["degraded"]) == ("degraded", True)
        assert "Hugging Face can't be reached" in status["message"]


async def test_whisper_without_a_model_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    settings = Settings.model_construct(engine="whisper", device="cpu")
    async with open_recognizer(settings, clock=Clock(), cache_dir=str(tmp_path)) as recognizer:
        with pytest.raises(EngineUnavailable, match="set STENOBIRD_MODEL to its folder"):
            await recognizer.loaded()


async def test_a_model_that_cannot_translate_is_not_asked_to() -> None:
    recognizer = WhisperRecognizer(Settings.model_construct(), clock=Clock())
    languages = ("de", "en")
    recognizer.check(RecognitionOptions(task="translate"))
    recognizer.info = EngineInfo("whisper", "turbo", "cuda", "float16", 1, 16, languages, translates=False)

    with pytest.raises(InvalidRequest, match="can't translate") as refused:
        recognizer.check(RecognitionOptions(task="translate"))
    assert refused.value.details == {"field": "task"}
    recognizer.check(RecognitionOptions(task="translate", language="en"))
    recognizer.check(RecognitionOptions())
