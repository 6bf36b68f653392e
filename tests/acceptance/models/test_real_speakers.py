"""The real speaker models on speech that sounds natural: how many people speak, who when, and after kills.

The second person is the first one, played slower: a lower voice in a longer throat. Speaker models are
trained with such copies as further people, so it is another person to them.
"""

from __future__ import annotations

import random
import time
import wave
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stenobird.demo import TALK_PATH
from stenobird.inference.hub import ModelUnavailable
from stenobird.ports import SAMPLE_RATE
from stenobird.speakers.finder import VoiceModels
from stenobird.speakers.labels import Span, label
from stenobird.speakers.models import EMBEDDING_FILE, SEGMENTATION_FILE, resolve
from stenobird.speakers.voices import WINDOW_SAMPLES
from tests.support.http_reader import EventReader, ReadEvent
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.server_process import ServerProcess
from tests.support.speaker_models import window_starts
from tests.support.speech import decode_clip

if TYPE_CHECKING:
    from pathlib import Path

    from stenobird.ports import PCM
    from stenobird.speakers.labels import Label

SLOWER = 1.3
TURN_SECONDS = 7
KILLS = 10


@pytest.fixture(scope="module")
def folder() -> Path:
    """The folder of the speaker models, downloaded once into the user's cache."""
    try:
        return resolve("auto", cache_dir=None, progress=lambda *_: None)
    except ModelUnavailable as error:
        pytest.skip(f"NOT TESTED WITH REAL SPEAKER MODELS: {error}")


@pytest.fixture(scope="module")
def models(folder: Path) -> VoiceModels:
    """The speaker models, loaded."""
    return VoiceModels(folder / SEGMENTATION_FILE, folder / EMBEDDING_FILE)


@pytest.fixture(scope="module")
def talk() -> PCM:
    """A reader who speaks for half a minute."""
    return decode_clip(TALK_PATH)[: 4 * TURN_SECONDS * SAMPLE_RATE]


@pytest.fixture(scope="module")
def dialogue(talk: PCM) -> PCM:
    """Two people who take turns, three each."""
    slow = np.interp(np.arange(0, len(talk) - 1, 1 / SLOWER), np.arange(len(talk)), talk).astype(np.int16)
    turns = [
        voice[turn * TURN_SECONDS * SAMPLE_RATE : (turn + 1) * TURN_SECONDS * SAMPLE_RATE]
        for turn in range(3)
        for voice in (talk, slow)
    ]
    return np.concatenate(turns)


def labels(models: VoiceModels, pcm: PCM) -> list[Label]:
    """Return who speaks in each second."""
    windows = [models.find(pcm[start : start + WINDOW_SAMPLES]) for start in window_starts(len(pcm))]
    return label(windows, [Span(second, second + 1) for second in range(len(pcm) // SAMPLE_RATE)])


def test_one_reader_is_one_speaker(models: VoiceModels, talk: PCM) -> None:
    assert {one.speaker for one in labels(models, talk)} == {1}


def test_two_people_who_take_turns_are_two_speakers(models: VoiceModels, dialogue: PCM) -> None:
    found = [one.speaker for one in labels(models, dialogue)]
    heard = [speaker for speaker, _ in groupby(found)]
    assert heard == [1, 2] * 3
    expected = [turn % 2 + 1 for turn in range(6) for _ in range(TURN_SECONDS)]
    assert sum(one != other for one, other in zip(found, expected, strict=True)) <= len(heard)


def lasting(events: list[ReadEvent]) -> list[tuple[str, dict[str, Any]]]:
    """Return what must not depend on how often a job was interrupted, without its links."""
    links = {"id", "links", "result_url"}
    return [
        (event.event, {name: value for name, value in event.body.items() if name not in links})
        for event in events
        if event.event in {"transcript", "speakers", "done"}
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_kills_change_no_word_and_no_label(folder: Path, dialogue: PCM, tmp_path: Path) -> None:
    recording = tmp_path / "dialogue.wav"
    with wave.open(str(recording), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(np.concatenate([dialogue, dialogue]).tobytes())
    resources = {
        "/whole.wav": Resource(recording),
        "/paced.wav": Resource(recording, bytes_per_second=300_000),
    }
    settings = {"SPEAKER_MODEL": str(folder)}
    options = {"speakers": True, "word_timestamps": True}
    moments = random.Random(10)
    with (
        ThreadedMediaServer(resources) as media,
        ServerProcess(tmp_path / "data", settings=settings) as server,
    ):
        key = server.create_key()
        with EventReader(server.url, key) as reader:
            undisturbed = list(reader.events(reader.create(media.url("/whole.wav"), **options)["id"]))
            job_id = reader.create(media.url("/paced.wav"), **options)["id"]
        seen: list[ReadEvent] = []
        for _ in range(KILLS):
            with EventReader(server.url, key) as reader:
                for event in reader.events(job_id, after=seen[-1].id if seen else None):
                    seen.append(event)
                    if event.event in {"transcript", "speakers"}:
                        break
            time.sleep(moments.uniform(0, 0.5))
            server.kill()
            server.forget_deaths()
            server.start()
        with EventReader(server.url, key) as reader:
            seen += reader.events(job_id, after=seen[-1].id)
    assert lasting(seen) == lasting(undisturbed)
    final = undisturbed[-2].body
    assert final["final"] is True
    assert len({label["speaker"] for label in final["labels"]}) == 2
