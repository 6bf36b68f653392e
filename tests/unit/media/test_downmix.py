"""Channels that cancel each other are heard; others are summed as ever."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.support.audio import tone
from tests.support.media_server import Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.media_world import MediaWorld

pytestmark = pytest.mark.anyio

RATE = 16_000
VOICE = tone(4.0, RATE).astype(np.float64)
HUM = 20_000 * np.sin(np.arange(len(VOICE)) * 2 * np.pi * 50 / RATE)
HISS = np.random.default_rng(1).normal(0, 500, (2, len(VOICE)))
NOTHING = np.zeros(len(VOICE))


def wav(channels: Sequence[np.ndarray[Any, np.dtype[np.float64]]], rate: int = RATE) -> bytes:
    """Return a 16-bit file with these channels; six of them are 5.1."""
    data = np.stack(channels, axis=1).astype("<i2").tobytes()
    count = len(channels)
    mask = {1: 4, 2: 3, 6: 0x3F}[count]
    form = struct.pack("<HHIIHHHHI", 0xFFFE, count, rate, rate * 2 * count, 2 * count, 16, 22, 16, mask)
    form += bytes.fromhex("0100000000001000800000aa00389b71")
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def level(pcm: np.ndarray[Any, Any]) -> float:
    return float(np.sqrt(np.mean(pcm.astype(np.float64) ** 2)))


CANCELLING: dict[str, Callable[[], bytes]] = {
    "an inverted channel": lambda: wav([VOICE, -VOICE]),
    "another rate": lambda: wav([VOICE, -VOICE], 44_100),
    "an inverted channel that is weaker": lambda: wav([VOICE, -0.9 * VOICE]),
    "with an offset": lambda: wav([2500 + VOICE, 2500 - VOICE]),
    "with hiss": lambda: wav([VOICE + HISS[0], HISS[1] - VOICE]),
    "5.1, inverted in front": lambda: wav([VOICE, -VOICE, NOTHING, NOTHING, NOTHING, NOTHING]),
    "5.1 with a loud bass": lambda: wav([VOICE, -VOICE, NOTHING, HUM, NOTHING, NOTHING]),
    "5.1, inverted behind": lambda: wav([NOTHING, NOTHING, NOTHING, NOTHING, VOICE, -VOICE]),
}


@pytest.mark.parametrize("name", CANCELLING)
async def test_channels_that_cancel_each_other_are_heard(name: str, world: MediaWorld) -> None:
    world.server.resources["/a"] = Resource(CANCELLING[name]())
    heard = await world.hear("/a")
    assert level(heard.pcm) == pytest.approx(level(VOICE), rel=0.1)
    assert heard.warning is None


async def test_a_channel_that_is_inverted_for_a_while_is_heard_throughout(world: MediaWorld) -> None:
    sign = np.where(np.arange(len(VOICE)) // RATE % 2, 1, -1)
    world.server.resources["/a"] = Resource(wav([VOICE, sign * VOICE]))
    heard = await world.hear("/a")
    for second in range(4):
        assert level(heard.pcm[second * RATE : (second + 1) * RATE]) > 0.9 * level(VOICE)


async def test_channels_that_do_not_cancel_are_averaged(world: MediaWorld) -> None:
    for left, right in ((VOICE, VOICE), (VOICE, NOTHING), (VOICE, 10 * HISS[0]), (VOICE, -0.3 * VOICE)):
        world.server.resources["/a"] = Resource(wav([left, right]))
        heard = await world.hear("/a", job_id=f"tr_{len(world.server.requests)}")
        np.testing.assert_allclose(heard.pcm, (left + right) / 2, atol=2)


async def test_a_hum_in_antiphase_does_not_replace_the_voice(world: MediaWorld) -> None:
    world.server.resources["/a"] = Resource(wav([0.5 * VOICE + 0.5 * HUM, 0.5 * VOICE - 0.5 * HUM]))
    heard = await world.hear("/a")
    np.testing.assert_allclose(heard.pcm, 0.5 * VOICE, atol=2)
