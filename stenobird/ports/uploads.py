"""Upload slots, and the store of their bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An upload slot to create; it expires after `lifetime_seconds`."""

    id: str
    account_id: str
    api_key_id: str
    filename: str
    content_type: str
    size_bytes: int
    lifetime_seconds: float


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """An upload slot's row. `blob_key` names its bytes once they are complete; times are epoch seconds.

    `expired` was true or false on the database's clock when the row was read. From `used_at` on, when the
    first job used the slot, its bytes do not change.
    """

    id: str
    account_id: str
    filename: str
    content_type: str
    size_bytes: int
    created_at: float
    expires_at: float
    expired: bool
    blob_key: str | None = None
    used_at: float | None = None
