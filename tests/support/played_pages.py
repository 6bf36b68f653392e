"""A service whose transcripts a test plays by hand; for tests without an event loop, as browsers' are."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
from anyio.from_thread import start_blocking_portal

from stenobird.ports import JobChange
from stenobird.sources import AudioSource
from stenobird.transcript import Segment, Word
from tests.support.web_world import web_world

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from stenobird.config import Settings
    from stenobird.errors import JobError
    from tests.support.web_world import WebWorld

SEGMENT_SECONDS = 2.0
WORDS_A_SECOND = 2
SEGMENTS_A_COMMIT = 1000


@dataclass
class PlayedPages:
    """The service at `url`. No worker takes a job by itself: each event is a call of the test."""

    world: WebWorld
    portal: BlockingPortal

    @property
    def url(self) -> str:
        """Where the service listens, without a slash at the end."""
        return self.world.url

    def begin(
        self, audio_url: str = "https://example.com/show/episode.mp3", *, key: str | None = None, **body: Any
    ) -> str:
        """Make a transcript, have it claimed, and return its id. `body` are more fields of the request."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with httpx.Client(base_url=self.url, headers=headers, trust_env=False) as http:
            http.post("/v1/transcripts", json={"audio_url": audio_url, **body}).raise_for_status()
        return self.portal.call(self.world.worker.start)

    def find(self, job_id: str, **facts: Any) -> None:
        """Commit that the audio was found, with what is known of it: `AudioSource` has the fields."""
        url = facts.get("final_url", "https://media.example.com/episode.mp3")
        known = {"submitted_url": url, "media_url": url, "final_url": url, "technique": "direct"}
        source = AudioSource(**{**known, "reason": "The URL is audio.", **facts})
        self.portal.call(self._find, job_id, source)

    def say(self, job_id: str, *texts: str) -> None:
        """Commit one segment of each text, all at once; its words are where its blanks are."""
        self.portal.call(self._say, job_id, texts)

    def hear(self, job_id: str, *segments: Segment) -> None:
        """Commit these segments, all at once."""
        self.portal.call(self._hear, job_id, segments)

    def miss(self, job_id: str, seconds: float) -> None:
        """Commit that live audio is missing after what was said so far."""
        worker = self.world.worker
        start = SEGMENT_SECONDS * worker.chunks[job_id]
        self.portal.call(partial(worker.miss, job_id, seconds, start=start))

    def play(self, job_id: str, title: str) -> None:
        """Commit what the station of live audio says it is playing."""
        self.portal.call(self.world.worker.play, job_id, title)

    def stop_requested(self, job_id: str) -> bool:
        """Return whether somebody has stopped the live transcript."""
        job = self.portal.call(self.world.store.get, job_id)
        return job is not None and job.stop_request == "stop"

    def complete(self, job_id: str) -> None:
        """Commit the end of a transcript that went well."""
        self.portal.call(self.world.worker.complete, job_id)

    def fail(self, job_id: str, error: JobError) -> None:
        """Commit the end of a transcript that failed."""
        self.portal.call(self.world.worker.fail, job_id, error)

    def create_key(self) -> str:
        """Make an API key of the operator's account."""
        return self.portal.call(self._create_key)

    async def _create_key(self) -> str:
        secret, _ = await self.world.keys.create()
        return secret

    async def _find(self, job_id: str, source: AudioSource) -> None:
        worker = self.world.worker
        event = worker.events[job_id].status("transcribing", "source_resolved", source=source)
        change = JobChange(stage="source_resolved", source=source)
        await worker.store.append(worker.leases[job_id], change, [event])
        await worker.wakeups.notify_event(job_id)

    async def _say(self, job_id: str, texts: Sequence[str]) -> None:
        first = self.world.worker.chunks[job_id]
        await self._hear(
            job_id, [_segment(text, SEGMENT_SECONDS * index) for index, text in enumerate(texts, first)]
        )

    async def _hear(self, job_id: str, segments: Sequence[Segment]) -> None:
        worker = self.world.worker
        for at in range(0, len(segments), SEGMENTS_A_COMMIT):
            events = []
            for segment in segments[at : at + SEGMENTS_A_COMMIT]:
                index = worker.chunks[job_id]
                worker.chunks[job_id] += 1
                language = None if index else "en"
                events.append(worker.events[job_id].transcript(segment, index, language=language))
            change = JobChange(stage="transcribing", language="en")
            await worker.store.append(worker.leases[job_id], change, events)
        await worker.wakeups.notify_event(job_id)


def _segment(text: str, start: float) -> Segment:
    words = [
        Word(start + index / WORDS_A_SECOND, start + (index + 1) / WORDS_A_SECOND, f" {word}", 0.9)
        for index, word in enumerate(text.split())
    ]
    return Segment(start, start + SEGMENT_SECONDS, f" {text}", tuple(words))


@contextmanager
def played_pages(data_dir: Path, settings: Settings | None = None) -> Iterator[PlayedPages]:
    """Serve while the context lasts, with an event loop in a thread of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(web_world(data_dir, settings)) as world,
    ):
        yield PlayedPages(world, portal)
