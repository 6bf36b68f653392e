"""The description of a new job, the same for all APIs, and the audio source of an uploaded file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stenobird.ports import RecognitionOptions
from stenobird.sources import AudioSource

if TYPE_CHECKING:
    from stenobird.ports import JobRecord, Origin


@dataclass(frozen=True, slots=True)
class Link:
    """A URL with audio behind it. `preview_id` names a finished preview of the same URL to continue from."""

    url: str
    preview_id: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that the caller has uploaded."""

    upload_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job to create. `translate_to` is ISO 639-1; `unit_factor` is what a minute costs in wallet units."""

    source: Link | Upload
    options: RecognitionOptions = field(default_factory=RecognitionOptions)
    tier: str | None = None
    translate_to: str | None = None
    unit_factor: int = 1
    webhook_url: str | None = None
    origin: Origin = "stenobird"


def upload_url(upload_id: str) -> str:
    """Return the URL of an upload inside the service; `uploads.origin` opens it."""
    return f"upload:{upload_id}"


def uploaded_source(job: JobRecord) -> AudioSource:
    """Return the source of a job whose audio was uploaded; there is nothing to find."""
    assert job.upload_id is not None
    file, url = job.extra.upload, upload_url(job.upload_id)
    return AudioSource(
        submitted_url=url,
        media_url=url,
        final_url=url,
        technique="upload",
        reason="The file was uploaded.",
        title=_title(file.filename) if file else None,
        content_type=file.content_type if file else None,
        size_bytes=file.size_bytes if file else None,
    )


def _title(filename: str) -> str | None:
    name = filename.replace("\\", "/").rpartition("/")[2]
    return (name.rpartition(".")[0] or name).strip() or None
