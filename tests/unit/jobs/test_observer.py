"""What a run reports to its observer, for the metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from stenobird.jobs.run import JobRun
from stenobird.ports import JobObserver

if TYPE_CHECKING:
    from tests.support.job_world import JobWorld

pytestmark = pytest.mark.anyio


class Notes(JobObserver):
    """Records what it gets."""

    def __init__(self) -> None:
        self.audio_seconds = 0.0
        self.first_transcripts: list[float] = []

    @override
    def audio_transcribed(self, seconds: float) -> None:
        self.audio_seconds += seconds

    @override
    def first_transcript(self, seconds: float) -> None:
        self.first_transcripts.append(seconds)


async def test_an_observer_gets_the_seconds_of_audio_and_the_time_to_the_first_words(
    world: JobWorld,
) -> None:
    job = await world.post(world.payer)
    notes = Notes()
    claim = await world.store.claim("observed", lanes=["preview", "full"])
    assert claim is not None
    await JobRun(replace(world.context(), observer=notes), claim).carry_out()
    ended = await world.job(job.id)
    assert ended.status == "completed"
    assert notes.audio_seconds == pytest.approx(ended.duration_seconds)
    assert len(notes.first_transcripts) == 1
    assert 0 <= notes.first_transcripts[0] < 60
