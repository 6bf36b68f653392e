"""Upload slots and the store of large bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An upload slot about to be made; it expires `lifetime_seconds` after that."""

    id: str
    account_id: str
    api_key_id: str
    filename: str
    content_type: str
    size_bytes: int
    lifetime_seconds: float


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """An upload slot's row. `blob_key` names its bytes once they are all there; times are epoch seconds.

    `expired` is as of the moment it was read, by the database's clock. From `used_at` on, when the first job
    was made of it, its bytes do not change.
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
        """Insert the slot. Raises `QueueBusy` where all slots that are not swept would exceed `max_bytes`."""

    async def get(self, upload_id: str) -> UploadRecord | None:
        """Return the slot, or `None`."""

    async def accept(self, upload_id: str, blob_key: str) -> tuple[bool, str | None]:
        """Make these the slot's bytes, unless it is used, expired or gone.

        Returns whether they are now, and the key that they replace. The last caller wins.
        """

    async def use(self, upload_id: str) -> UploadRecord | None:
        """Fix the bytes of a slot that has some and has not expired; return it as it is now."""

    async def removable(self, *, expired_seconds: float, limit: int) -> list[UploadRecord]:
        """Return slots with bytes that expired so long ago and that no unfinished job needs."""

    async def forget_bytes(self, upload_id: str) -> None:
        """Note that the slot's bytes are deleted; the slot itself stays, to be told from one unknown."""

    async def known_blobs(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys that belong to a slot."""

    async def purge(self, *, expired_seconds: float) -> int:
        """Delete slots without bytes that expired so long ago; return their number."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A stored blob: its key, its size, and when it was written (epoch seconds)."""

    key: str
    size_bytes: int
    written_at: float


class BlobStore(Protocol):
    """Large bytes by key: uploads. Writes are atomic: a key is either whole or absent.

    Every method raises `StorageUnavailable` when the store does not answer or has no room.
    """

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Store the bytes under the key, replacing what was there when complete; return their number.

        Memory is bounded whatever their number. When `chunks` raises or the task is cancelled, nothing of it
        stays behind, and what was there is untouched.
        """

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to before `end`. Raises `KeyError` when there is no such key."""

    async def delete(self, key: str) -> None:
        """Remove the key; fine if it is not there."""

    def list(self, prefix: str) -> AsyncIterator[BlobInfo]:
        """Yield what is stored under keys that begin with `prefix` and a slash."""
