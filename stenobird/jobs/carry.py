"""How a full job continues from a preview: it reuses the source and all windows but the last one.

The end of a preview closes its last window early. All windows before that one are those that the full job
would have made itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stenobird.jobs.events import read_segment
from stenobird.ports import SpeechCheckpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.ports import JobRecord
    from stenobird.sources import AudioSource
    from stenobird.storage.job_store import JobStore
    from stenobird.transcript import Segment

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Carried:
    """What a full job reuses. Without segments, and with a fresh `checkpoint`, only the source is reused."""

    source: AudioSource
    checkpoint: SpeechCheckpoint
    fingerprint: Mapping[str, Any] | None
    segments: tuple[Segment, ...]
    language: str | None


async def carry_over(store: JobStore, job: JobRecord, *, engine: str, model: str) -> Carried | None:
    """Return what `job` can reuse of its preview, `None` if that is gone or was of live audio.

    Text is reused only where engine, model and options are the same, so that the job would write the same
    text, and never if one of the two jobs is translated.
    """
    if job.preview_id is None:
        return None
    point = await store.resume_point(job.preview_id)
    if point is None or point.source is None or point.source.live:
        return None
    preview = point.job
    kept = preview.extra.carry
    if (
        kept is None
        or kept.chunks == 0
        or preview.extra.translate_to is not None
        or job.extra.translate_to is not None
        or preview.options != job.options
        or job.options.speakers
        or (preview.engine, preview.model) != (engine, model)
    ):
        return Carried(point.source, SpeechCheckpoint(), None, (), None)
    segments, language = await _chunks(store, preview.id, kept.chunks)
    return Carried(point.source, kept.checkpoint, point.fingerprint, segments, language)


async def _chunks(store: JobStore, job_id: str, count: int) -> tuple[tuple[Segment, ...], str | None]:
    segments: list[Segment] = []
    language: str | None = None
    seq = 0
    while len(segments) < count and (page := await store.events_after(job_id, seq, limit=_PAGE)):
        for row in page:
            if row.event != "transcript" or len(segments) == count:
                continue
            data = json.loads(row.data)
            language = language or data.get("language")
            segments.append(read_segment(data))
        seq = page[-1].seq
    return tuple(segments), language
