"""Upload slots, and the store of their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


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


class UploadStore(Protocol):
    """Upload slots. Every method is one transaction."""

    async def create(self, upload: NewUpload, *, max_bytes: int) -> UploadRecord:
        """Insert the slot. Raises `QueueBusy` when all slots that hold bytes would exceed `max_bytes`."""

    async def get(self, upload_id: str) -> UploadRecord | None:
        """Return the slot, or `None`."""

    async def accept(self, upload_id: str, blob_key: str) -> tuple[bool, str | None]:
        """Make these the slot's bytes, unless the slot is used, expired or deleted.

        Return whether they are, and the key that they replace. The last caller wins.
        """

    async def use(self, upload_id: str) -> UploadRecord | None:
        """Fix the bytes of a slot that has some and has not expired; return the slot."""

    async def removable(self, *, expired_seconds: float, limit: int) -> list[UploadRecord]:
        """Return slots with bytes that expired at least that long ago and that no unfinished job needs."""

    async def forget_bytes(self, upload_id: str) -> None:
        """Note that the slot's bytes are deleted. The slot stays, so that it differs from an unknown one."""

    async def known_blobs(self, keys: Sequence[str]) -> set[str]:
        """Return the keys that belong to a slot."""

    async def purge(self, *, expired_seconds: float) -> int:
        """Delete slots without bytes that expired at least that long ago; return how many."""


class BlobStore(Protocol):
    """Blobs by key. Writes are atomic: a blob is complete or absent.

    Every method raises `StorageUnavailable` when the store is unreachable or full.
    """

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Store the bytes under the key and return their number. A blob that exists is replaced at the end.

        Memory use is bounded. When `chunks` raises or the task is cancelled, nothing changes.
        """

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to before `end`. Raises `KeyError` when there is no such key."""

    async def delete(self, key: str) -> None:
        """Delete the blob, if it exists."""

    def list(self, prefix: str) -> AsyncIterator[tuple[str, int, float]]:
        """Yield key, size (bytes) and time (epoch seconds) of the blobs below `prefix` and a slash."""
