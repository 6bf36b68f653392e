"""What every `ports.SpeechRecognizer` promises, on the engines that need no download."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stenobird.config import Settings
from stenobird.errors import AudioUnreachable, InvalidRequest
from stenobird.ports import SAMPLE_RATE, Clock, RecognitionOptions, SpeechCheckpoint, SpeechRecognizer
from stenobird.speech.recognizer import open_recognizer
from tests.support.speech import decode_clip
from tests.support.speech_host import FAKE_HOST_COMMAND, blocks, silence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stenobird.ports import PCM, WindowResult

pytestmark = pytest.mark.anyio

NO_WISHES = RecognitionOptions()
BEGINNING = SpeechCheckpoint()


@pytest.fixture(scope="module", params=["whisper", "offline", "fake"])
async def recognizer(request: pytest.FixtureRequest, fixture_model: Path) -> AsyncIterator[SpeechRecognizer]:
    if request.param == "fake":
        opening = open_recognizer(
            Settings.model_construct(replicas=2), clock=Clock(), host_command=FAKE_HOST_COMMAND
        )
    else:
        if request.param == "offline":
            pytest.importorskip("pocketsphinx")
        settings = Settings.model_construct(engine=request.param, model=str(fixture_model), device="cpu")
        opening = open_recognizer(settings, clock=Clock())
    async with opening as opened:
        await opened.loaded()
        yield opened


@pytest.fixture(scope="module")
def pcm(clips: Path) -> PCM:
    """Two sentences and a pause that closes the first block."""
    clip = decode_clip(clips / "short.mp3")
    return np.concatenate([clip[: round(2.8 * SAMPLE_RATE)], silence(30), clip[3 * SAMPLE_RATE :]])[
        : round(36.5 * SAMPLE_RATE)
    ]


async def transcribed(
    recognizer: SpeechRecognizer,
    audio: AsyncIterator[PCM],
    *,
    checkpoint: SpeechCheckpoint = BEGINNING,
    options: RecognitionOptions = NO_WISHES,
) -> list[WindowResult]:
    windows = recognizer.transcribe(
        audio, job_id="job", lane="preview", checkpoint=checkpoint, options=options
    )
    return [window async for window in windows]


async def test_windows_account_for_all_audio_in_order(recognizer: SpeechRecognizer, pcm: PCM) -> None:
    windows = await transcribed(recognizer, blocks(pcm))

    ends = [window.checkpoint.next_sample for window in windows]
    assert [window.checkpoint.window_index for window in windows] == list(range(1, len(windows) + 1))
    assert all(a < b for a, b in itertools.pairwise([0, *ends]))
    assert ends[-1] == len(pcm)
    assert {(window.engine, window.model) for window in windows} == {(recognizer.engine, recognizer.model)}


async def test_segments_have_the_source_s_times(recognizer: SpeechRecognizer, pcm: PCM) -> None:
    windows = await transcribed(recognizer, blocks(pcm))

    segments = [segment for window in windows for segment in window.segments]
    times = [time for segment in segments for time in (segment.start, segment.end)]
    assert len(segments) >= 2
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= len(pcm) / SAMPLE_RATE
    assert all(segment.text.startswith(" ") for segment in segments)


async def test_a_resume_gives_the_rest(recognizer: SpeechRecognizer, pcm: PCM) -> None:
    windows = await transcribed(recognizer, blocks(pcm))
    checkpoint = SpeechCheckpoint.from_json(windows[0].checkpoint.to_json())

    rest = await transcribed(
        recognizer, blocks(pcm, start=checkpoint.next_sample, size=5000), checkpoint=checkpoint
    )

    if recognizer.engine == "fake":  # its texts are a count of windows
        assert [replace(w.checkpoint, context="") for w in rest] == [
            replace(w.checkpoint, context="") for w in windows[1:]
        ]
    else:
        assert rest == windows[1:]


async def test_silence_gives_no_text_and_moves_the_checkpoint(recognizer: SpeechRecognizer) -> None:
    windows = await transcribed(recognizer, blocks(silence(40)))

    assert [segment for window in windows for segment in window.segments] == []
    assert windows[-1].checkpoint.next_sample == 40 * SAMPLE_RATE


async def test_no_audio_gives_no_window(recognizer: SpeechRecognizer) -> None:
    assert await transcribed(recognizer, blocks(silence(0))) == []


async def test_an_error_of_the_audio_comes_after_the_windows_before_it(
    recognizer: SpeechRecognizer, pcm: PCM
) -> None:
    async def broken() -> AsyncIterator[PCM]:
        async for block in blocks(pcm[: 35 * SAMPLE_RATE]):
            yield block
        raise AudioUnreachable

    windows = recognizer.transcribe(
        broken(), job_id="job", lane="full", checkpoint=BEGINNING, options=NO_WISHES
    )
    first = await anext(windows)
    with pytest.raises(AudioUnreachable):
        await anext(windows)

    assert first.segments


async def test_closing_early_leaves_the_engine_to_others(recognizer: SpeechRecognizer, pcm: PCM) -> None:
    windows = recognizer.transcribe(
        blocks(pcm), job_id="one", lane="full", checkpoint=BEGINNING, options=NO_WISHES
    )
    first = await anext(windows)
    await windows.aclose()

    again = await transcribed(recognizer, blocks(pcm[: first.checkpoint.next_sample]))
    assert again[0].checkpoint.next_sample == first.checkpoint.next_sample


async def test_an_unknown_language_is_refused(recognizer: SpeechRecognizer, pcm: PCM) -> None:
    with pytest.raises(InvalidRequest, match="xx"):
        await transcribed(recognizer, blocks(pcm), options=RecognitionOptions(language="xx"))


@pytest.mark.parametrize("recognizer", ["whisper", "offline"], indirect=True)
async def test_words_are_returned_when_requested(recognizer: SpeechRecognizer, pcm: PCM) -> None:
    options = RecognitionOptions(word_timestamps=True)
    windows = await transcribed(recognizer, blocks(pcm[: 6 * SAMPLE_RATE]), options=options)

    segments = [segment for window in windows for segment in window.segments]
    assert segments
    for segment in segments:
        assert "".join(word.text for word in segment.words) == segment.text
        assert segment.start <= segment.words[0].start <= segment.words[-1].end <= segment.end


async def test_status_names_engine_model_and_state(recognizer: SpeechRecognizer) -> None:
    await transcribed(recognizer, blocks(silence(0)))

    status = recognizer.status()
    assert await recognizer.ready()
    assert status["state"] == "ready"
    assert (status["engine"], status["model"]) == (recognizer.engine, recognizer.model)
    assert {"device", "compute_type", "replicas", "degraded", "message"} <= status.keys()
