"""Every format that people publish, from a real server through a real child, decoded whole and in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stenobird.containers import FORMATS as CONTAINERS
from tests.support.audio import FORMATS, pitches
from tests.support.media_server import Resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.media_world import MediaWorld

DATA = Path(__file__).parents[2] / "data"

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", FORMATS)
async def test_each_format_is_decoded_whole_and_in_order(
    name: str, world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/a"] = Resource(audio(name))
    heard = await world.hear("/a")
    assert heard.warning is None
    assert heard.duration_seconds == len(heard.pcm) / 16_000
    assert heard.duration_seconds == pytest.approx(8.0, abs=0.1)
    assert [round(pitch, -1) for pitch in pitches(heard.pcm)][:7] == [
        pytest.approx(300 + 100 * second, abs=20) for second in range(7)
    ]


@pytest.mark.parametrize("name", ["mp3", "m4a-index-last", "opus"])
async def test_a_stream_starts_at_the_exact_sample_that_was_asked_for(
    name: str, world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/a"] = Resource(audio(name))
    whole = await world.hear("/a")
    rest = await world.hear("/a", job_id="tr_2", start_sample=50_001)
    np.testing.assert_array_equal(rest.pcm, whole.pcm[50_001:])
    assert rest.duration_seconds == whole.duration_seconds


def test_each_format_is_named_in_the_docs() -> None:
    page = (DATA.parents[1] / "docs" / "explanation" / "how-audio-is-found.md").read_text()
    section = page.partition("## Formats")[2].partition("##")[0]
    assert {one.name for one in CONTAINERS} <= set(re.findall(r"\w+", section))


@pytest.mark.parametrize("name", ["voice.dts", "tone.thd", "tone.mlp"])
async def test_formats_without_an_encoder_are_decoded_whole(name: str, world: MediaWorld) -> None:
    """Decode a second from a file: PyAV has no encoder for these formats."""
    world.server.resources["/a"] = Resource(DATA / name)
    heard = await world.hear("/a")
    assert len(heard.pcm) / 16_000 == pytest.approx(1.0, abs=0.1)
    assert heard.warning is None
