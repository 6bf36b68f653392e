"""How a job reads an upload: opens the blob of `upload:<id>` like a media URL with byte ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from stenobird.errors import AudioUnreachable, ResponseBroken, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from stenobird.sources import AudioSource
    from stenobird.storage.blobs import BlobStore
    from stenobird.storage.upload_store import UploadRecord, UploadStore

GONE: Final = "The uploaded file is no longer there. Upload it again, then make a new job."


class UploadOrigin:
    """A `ports.MediaOrigin` over the stored uploads."""

    def __init__(self, slots: UploadStore, blobs: BlobStore) -> None:
        self._slots = slots
        self._blobs = blobs

    async def open(
        self,
        url: str,
        source: AudioSource,  # noqa: ARG002  # part of the Protocol
        *,
        first: int,
        last: int | None,
        if_range: str | None,  # noqa: ARG002  # the bytes of a used slot never change
    ) -> StoredMedia:
        """Return bytes `first` to `last`. Raises `AudioUnreachable` when they are gone."""
        try:
            slot = await self._slots.get(urlsplit(url).path)
        except StorageUnavailable as exc:
            raise ResponseBroken(exc.message) from exc
        if slot is None or slot.blob_key is None:
            raise AudioUnreachable(GONE)
        total = slot.size_bytes
        end = total if last is None else min(last + 1, total)
        return StoredMedia(self._blobs, slot, first, end)


class StoredMedia:
    """A blob as `ports.OpenedMedia`. Nothing is open between reads of its body."""

    def __init__(self, blobs: BlobStore, slot: UploadRecord, first: int, end: int) -> None:
        assert slot.blob_key is not None
        key, total = slot.blob_key, slot.size_bytes
        self.offset = first
        self.end: int | None = end
        self.status = 206 if first < total else 416
        self.total_bytes: int | None = total
        self.final_url = f"upload:{slot.id}"
        self.headers: Mapping[str, str] = {
            "content-type": slot.content_type,
            "etag": f'"{key.rpartition("/")[2]}"',
        }
        self._blobs = blobs
        self._key = key

    async def body(self) -> AsyncGenerator[bytes]:
        """Yield the bytes.

        Raises `ResponseBroken` if the store fails, `AudioUnreachable` if the blob is gone.
        """
        try:
            async for chunk in self._blobs.get(self._key, start=self.offset, end=self.end):
                yield chunk
        except KeyError as exc:
            raise AudioUnreachable(GONE) from exc
        except StorageUnavailable as exc:
            raise ResponseBroken(exc.message) from exc

    async def aclose(self) -> None:
        """Do nothing: the iterator of the body is closed by its reader."""
