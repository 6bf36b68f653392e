"""A short day of live audio, with cut connections and kills; `make live-day` runs a long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.live_day import SHORT, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.slow
async def test_live_audio_survives_cuts_and_kills_without_a_lost_or_doubled_word(tmp_path: Path) -> None:
    day = await run(SHORT, tmp_path)

    figures = day.figures()
    assert figures["gaps"] >= SHORT.kills
    assert figures["sentences"] > 0
