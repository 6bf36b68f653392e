"""Jobs whose audio was uploaded: what HTTP asks for, what the row keeps, and the source it stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from stenobird.ports import RecognitionOptions
from stenobird.sources import AudioSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.ports import JobRecord, UploadRecord

EXTRA_KEY: Final = "upload"
"""Where a job's row keeps what `remember` returns."""
SCHEME: Final = "upload"
"""Scheme of the URLs that stand for uploads inside the service; `media` has an origin for it."""


TIER_KEY: Final = "model_tier"
"""Where a job's row keeps the model tier that its client asked for."""
UNIT_FACTOR_KEY: Final = "unit_factor"
"""Where a job's row keeps how many units a minute of it costs, if that is not one."""


class Uploads(Protocol):
    """Where the bytes are taken from."""

    async def check(self, upload_id: str, account_id: str) -> None:
        """Raise what `take` would raise, without fixing anything."""

    async def take(self, upload_id: str, account_id: str) -> UploadRecord:
        """Return the slot, its bytes fixed from here on.

        Raises `UploadNotFound`, `UploadSlotExpired`, `UploadNotAvailable`.
        """


@dataclass(frozen=True, slots=True)
class UploadedJob:
    """A wish for a job of the second dialect. `webhook_url` has been checked; `extra` is kept in the row."""

    upload_id: str
    options: RecognitionOptions = field(default_factory=RecognitionOptions)
    webhook_url: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    origin: Literal["stenobird", "alefbot", "openai"] = "alefbot"


def units_of(job: JobRecord, minutes: int) -> int:
    """Return what so many minutes of a job cost."""
    return minutes * int(job.extra.get(UNIT_FACTOR_KEY, 1))


def upload_url(upload_id: str) -> str:
    """Return the URL that stands for an upload."""
    return f"{SCHEME}:{upload_id}"


def remember(slot: UploadRecord) -> dict[str, Any]:
    """Return what a job keeps of its upload."""
    return {
        "filename": slot.filename,
        "content_type": slot.content_type,
        "size_bytes": slot.size_bytes,
    }


def uploaded_source(job: JobRecord) -> AudioSource:
    """Return the source of a job that was made of an upload; nothing has to be found."""
    assert job.upload_id is not None
    kept: Mapping[str, Any] = job.extra.get(EXTRA_KEY, {})
    url = upload_url(job.upload_id)
    return AudioSource(
        submitted_url=url,
        media_url=url,
        final_url=url,
        technique="upload",
        reason="The file was uploaded.",
        title=_title(str(kept.get("filename", ""))),
        content_type=kept.get("content_type"),
        size_bytes=kept.get("size_bytes"),
    )


def _title(filename: str) -> str | None:
    name = filename.replace("\\", "/").rpartition("/")[2]
    return (name.rpartition(".")[0] or name).strip() or None
