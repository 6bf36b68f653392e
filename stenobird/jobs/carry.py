"""How a full job continues from a preview: it reuses the source and all windows but the last one.

The end of a preview closes its last window early. All windows before that one are those that the full job
would have made itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stenobird.jobs.events import read_segment

if TYPE_CHECKING:
    from stenobird.ports import JobRecord, ResumePoint
    from stenobird.storage.job_store import JobStore
    from stenobird.transcript import Segment


async def carry_over(
    store: JobStore, job: JobRecord, *, engine: str, model: str
) -> tuple[ResumePoint, tuple[Segment, ...]] | None:
    """Return what `job` can reuse of its preview, `None` if that is gone or was of live audio.

    That is the source, and the segments up to a checkpoint, or none. Text is reused only where engine, model
    and options are the same, so that the job would write the same text, and never if one of the two jobs is
    translated.
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
        return replace(point, checkpoint=None, fingerprint=None), ()
    chunks = [row.data for row in await store.all_events(preview.id) if row.event == "transcript"]
    return replace(point, checkpoint=kept.checkpoint), tuple(map(read_segment, chunks[: kept.chunks]))
