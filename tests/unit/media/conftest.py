"""Audio made on the spot, kept for the session, and a loopback world to hear it in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.support.audio import FORMATS, encode
from tests.support.media_world import media_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.media_world import MediaWorld


class Audio(Protocol):
    """Makes files, and keeps them: `audio("mp3", seconds=3)`."""

    def __call__(self, name: str, *, seconds: float = 8.0, bit_rate: int | None = None) -> bytes: ...


@pytest.fixture(scope="session")
def audio() -> Audio:
    made: dict[tuple[str, float, int | None], bytes] = {}

    def make(name: str, *, seconds: float = 8.0, bit_rate: int | None = None) -> bytes:
        key = (name, seconds, bit_rate)
        if key not in made:
            how = FORMATS[name]
            made[key] = encode(replace(how, bit_rate=how.bit_rate or bit_rate), seconds)
        return made[key]

    return make


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[MediaWorld]:
    async with media_world(tmp_path / "spool") as world:
        yield world
