"""What every `ports.AudioOpener` promises, kept by the real one and by the fake that jobs are tested with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stenobird.errors import AudioTooLarge
from stenobird.ports import SAMPLE_RATE, AudioLimits, AudioRequest
from stenobird.sources import AudioSource
from stenobird.testing import FakeOpener
from tests.support.audio import FORMATS, encode, tone
from tests.support.media_server import Resource
from tests.support.media_world import collect, media_world, pcm_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stenobird.ports import PCM, AudioOpener

pytestmark = pytest.mark.anyio

SECONDS = 8
AUDIO = tone(SECONDS, SAMPLE_RATE)


@dataclass
class Subject:
    """An opener, and the address at which it finds `AUDIO`."""

    opener: AudioOpener
    url: str

    def request(
        self, *, start: int = 0, stop: int | None = None, most: int = 3600 * SAMPLE_RATE
    ) -> AudioRequest:
        source = AudioSource(self.url, self.url, self.url, "direct", "a test")
        return AudioRequest("tr_1", source, AudioLimits(1 << 30, most, stop), start)

    async def hear(self, *, start: int = 0, stop: int | None = None, most: int = 3600 * SAMPLE_RATE) -> PCM:
        async with self.opener.open(self.request(start=start, stop=stop, most=most)) as stream:
            return await collect(stream)


@pytest.fixture(params=["media", "fake"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    if request.param == "fake":
        yield Subject(FakeOpener(AUDIO), "https://example.com/a.wav")
        return
    async with media_world(tmp_path / "spool") as world:
        world.server.resources["/a.wav"] = Resource(encode(FORMATS["wav-16k-mono"], SECONDS))
        yield Subject(world.opener, world.server.url("/a.wav"))


async def test_the_audio_comes_whole_and_in_order(subject: Subject) -> None:
    async with subject.opener.open(subject.request()) as stream:
        pcm = await collect(stream)
        assert stream.duration_seconds == SECONDS
        assert stream.warning is None
    assert pcm.dtype == np.int16
    np.testing.assert_array_equal(pcm, AUDIO)


@pytest.mark.parametrize("start", [1, SAMPLE_RATE, 50_001, len(AUDIO) - 1, len(AUDIO)])
async def test_a_stream_starts_at_the_sample_that_was_asked_for(subject: Subject, start: int) -> None:
    np.testing.assert_array_equal(await subject.hear(start=start), AUDIO[start:])


@pytest.mark.parametrize("stop", [1, SAMPLE_RATE, 50_001, len(AUDIO), len(AUDIO) + 1])
async def test_a_stream_stops_at_the_sample_that_was_asked_for(subject: Subject, stop: int) -> None:
    np.testing.assert_array_equal(await subject.hear(stop=stop), AUDIO[:stop])


@pytest.mark.parametrize("start", [20_000, 20_001])
async def test_a_stream_that_starts_where_it_stops_is_empty(subject: Subject, start: int) -> None:
    assert len(await subject.hear(start=start, stop=20_000)) == 0


async def test_the_most_that_is_allowed_is_allowed_and_one_sample_more_is_not(subject: Subject) -> None:
    assert len(await subject.hear(most=len(AUDIO))) == len(AUDIO)
    with pytest.raises(AudioTooLarge):
        await subject.hear(most=len(AUDIO) - 1)


async def test_a_reader_may_leave_and_another_carry_on(subject: Subject) -> None:
    async with subject.opener.open(subject.request()) as stream:
        first = await anext(pcm_of(stream))
        heard = json.loads(json.dumps(stream.fingerprint))
    assert isinstance(heard, dict)
    np.testing.assert_array_equal(await subject.hear(start=len(first)), AUDIO[len(first) :])


async def test_what_the_reader_raises_is_not_wrapped(subject: Subject) -> None:
    async def read() -> None:
        async with subject.opener.open(subject.request()) as stream:
            async for _block in stream:
                raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await read()


async def test_discarding_what_is_not_there_is_fine(subject: Subject) -> None:
    await subject.opener.discard("tr_1")
    await subject.hear()
    await subject.opener.discard("tr_1")
    await subject.opener.discard("tr_1")
