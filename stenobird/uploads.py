"""Upload slots: created, filled, read by jobs, and swept after they have expired."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import structlog
from pydantic import Field

from stenobird.bodies import RequestBody, example
from stenobird.errors import (
    AudioUnreachable,
    EmptyUploadBody,
    QueueBusy,
    ResponseBroken,
    StorageUnavailable,
    UploadNotAvailable,
    UploadNotFound,
    UploadSizeMismatch,
    UploadSlotExpired,
    UploadTooLarge,
)
from stenobird.ports import Caller, Clock, UploadedFile
from stenobird.storage.upload_store import LIFETIME_SECONDS, UploadRecord, UploadStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

    from stenobird.sources import AudioSource
    from stenobird.storage.blobs import BlobStore

GONE: Final = "The uploaded file is no longer there. Upload it again, then make a new job."
MAX_FILENAME_CHARS: Final = 255
MAX_SIZE_BYTES: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps whole; settings decide what is accepted."""
BLOB_PREFIX: Final = "uploads"
SWEEP_PAGE: Final = 100
END_BYTES: Final = 64 * 1024
GRACE_SECONDS: Final = 600.0
"""How long the bytes of an expired slot stay, for a job that is being created from it just then."""
ORPHAN_SECONDS: Final = 86_400.0
"""The age from which bytes without a slot are swept: a process died while it received them."""
SLOT_MEMORY_SECONDS: Final = 30 * 86_400.0
"""How long an expired slot is answered with 410 instead of 404."""
RESERVE_SECONDS: Final = 120.0
"""How long room is kept for bytes that don't arrive. A later PUT needs room again."""
MAX_WRITERS: Final = 4
"""Concurrent calls of `write` for one slot in a process; each stores a copy until the last one wins."""
WRITERS_RETRY_SECONDS: Final = 5

_POSSIBLE_ID: Final = re.compile(r"[A-Za-z0-9_\-]{1,64}")

_log = structlog.get_logger(__name__)


class CreateUpload(RequestBody):
    """A file to upload. Unknown fields are ignored."""

    model_config = example({"filename": "lecture.mp3", "content_type": "audio/mpeg", "size_bytes": 2048})

    filename: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_FILENAME_CHARS,
            description="Original media filename.",
            examples=["lecture.mp3"],
        ),
    ]
    content_type: Annotated[
        str, Field(min_length=1, max_length=255, description="MIME type.", examples=["audio/mpeg"])
    ]
    size_bytes: Annotated[
        int, Field(ge=1, le=MAX_SIZE_BYTES, description="Media file size in bytes.", examples=[2048])
    ]


class UploadService:
    """The upload slots of all accounts, with their bytes. Other accounts get `UploadNotFound` for a slot.

    A file has at most `max_bytes`, all files together `quota_bytes`, those of one account
    `account_quota_bytes`. Room is reserved from the creation of a slot, for `RESERVE_SECONDS` at a time as
    long as bytes arrive.
    """

    def __init__(
        self,
        slots: UploadStore,
        blobs: BlobStore,
        *,
        clock: Clock,
        max_bytes: int = 2 * 1024**3,
        quota_bytes: int = 50 * 1024**3,
        account_quota_bytes: int = 10 * 1024**3,
    ) -> None:
        self._slots = slots
        self._blobs = blobs
        self._clock = clock
        self._max_bytes = max_bytes
        self._quotas = {"total_bytes": quota_bytes, "account_bytes": account_quota_bytes}
        self._writers: Counter[str] = Counter()

    def new_id(self) -> str:
        """Return an unguessable id for a slot: 80 random bits."""
        return f"upl_{secrets.token_hex(10)}"

    async def create(
        self, request: CreateUpload, caller: Caller, *, upload_id: str | None = None
    ) -> UploadRecord:
        """Create a slot. Raises `UploadTooLarge`, and `QueueBusy` if there is no room for it.

        With an `upload_id` (from `new_id`, stored with the Idempotency-Key of the request) a second call
        returns the slot of the first.
        """
        if upload_id is not None and (existing := await self._slots.get(upload_id)) is not None:
            return existing
        if request.size_bytes > self._max_bytes:
            raise UploadTooLarge(
                f"The file has {request.size_bytes} bytes; this service accepts {self._max_bytes}. "
                "Send a smaller one.",
                details={"max_bytes": self._max_bytes},
            )
        return await self._slots.create(
            upload_id or self.new_id(),
            caller,
            UploadedFile(request.filename, request.content_type, request.size_bytes),
            **self._quotas,
            reserve_seconds=RESERVE_SECONDS,
        )

    async def write(
        self,
        upload_id: str,
        caller: Caller,
        chunks: AsyncIterator[bytes],
        *,
        content_length: int | None = None,
    ) -> int:
        """Store the bytes of a slot and return their number; the last complete call wins, atomically.

        Once a job uses the slot its bytes stay, and new ones are read and dropped: a client that repeats a
        PUT because it missed the response may continue. Raises `UploadNotFound`, `UploadSlotExpired` (also
        when the body takes longer than the lifetime of a slot), `EmptyUploadBody`, `UploadSizeMismatch`,
        `QueueBusy` for more than `MAX_WRITERS` calls at once and when there is no room any more, and whatever
        `chunks` raises; earlier bytes stay then.
        """
        slot = await self._slot(upload_id, caller.account_id)
        if content_length == 0:
            raise EmptyUploadBody
        if content_length is not None and content_length != slot.size_bytes:
            raise _mismatch(slot, content_length)
        with self._writing(slot.id):
            await self._write(slot, _whole_file(slot, self._reserved(slot, chunks)))
        return slot.size_bytes

    async def _write(self, slot: UploadRecord, file: AsyncIterator[bytes]) -> None:
        if slot.used_at is not None:
            async for _ in file:
                pass
            return
        key = f"{BLOB_PREFIX}/{slot.id}/{secrets.token_hex(8)}"
        await self._blobs.put(key, file)
        # If this raises, the slot may have these bytes or not, so they are left for the sweep.
        accepted, replaced = await self._slots.accept(slot.id, key)
        unused = replaced if accepted else key
        if unused is not None:
            await self._blobs.delete(unused)
        if not accepted:
            # The slot has expired meanwhile, or a job uses the bytes of another PUT.
            await self._slot(slot.id, slot.account_id)

    @contextmanager
    def _writing(self, upload_id: str) -> Iterator[None]:
        writers = self._writers[upload_id]
        if writers >= MAX_WRITERS:
            raise QueueBusy(
                f"{writers} requests are sending bytes for this upload already. Wait until one has ended.",
                retry_after_seconds=WRITERS_RETRY_SECONDS,
            )
        self._writers[upload_id] += 1
        try:
            yield
        finally:
            self._writers -= Counter([upload_id])  # keeps only what is above 0

    async def _reserved(self, slot: UploadRecord, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """Yield the chunks, and keep room for the rest. Raises `UploadSlotExpired` and `QueueBusy`."""
        began = self._clock.monotonic()
        renew_at = began
        async for chunk in chunks:
            now = self._clock.monotonic()
            if now - began > LIFETIME_SECONDS:
                raise UploadSlotExpired
            if now >= renew_at and slot.used_at is None:
                await self._slots.reserve(slot, **self._quotas, seconds=RESERVE_SECONDS)
                renew_at = now + RESERVE_SECONDS / 2
            yield chunk

    async def check(self, upload_id: str, account_id: str) -> None:
        """Raise what `take` would raise, without fixing the bytes."""
        if (await self._slot(upload_id, account_id)).blob_key is None:
            raise UploadNotAvailable

    async def take(self, upload_id: str, account_id: str) -> UploadRecord:
        """Return the slot for a job that is about to be created; from now on its bytes are fixed.

        Raises `UploadNotFound`, `UploadSlotExpired`, `UploadNotAvailable`.
        """
        await self.check(upload_id, account_id)
        used = await self._slots.use(upload_id)
        if used is None or used.expired or used.blob_key is None:
            raise UploadSlotExpired
        return used

    async def ends(self, slot: UploadRecord) -> bytes:
        """Return the first and the last `END_BYTES` of a file, where tags are; nothing if it is gone."""
        assert slot.blob_key is not None
        ends = b""
        with suppress(KeyError):
            for start, end in ((0, END_BYTES), (max(END_BYTES, slot.size_bytes - END_BYTES), None)):
                async for chunk in self._blobs.get(slot.blob_key, start=start, end=end):
                    ends += chunk
        return ends

    async def sweep(self) -> int:
        """Delete the bytes of expired slots that no job needs, and bytes that belong to no slot.

        Returns how many blobs were deleted. Several processes may sweep at once.
        """
        swept = 0
        while slots := await self._slots.removable(expired_seconds=GRACE_SECONDS, limit=SWEEP_PAGE):
            for slot in slots:
                assert slot.blob_key is not None
                await self._blobs.delete(slot.blob_key)
                await self._slots.forget_bytes(slot.id)
            swept += len(slots)
        swept += await self._sweep_orphans()
        await self._slots.purge(expired_seconds=SLOT_MEMORY_SECONDS)
        if swept:
            _log.info("uploads_swept", blobs=swept)
        return swept

    async def _sweep_orphans(self) -> int:
        swept = 0
        page: list[str] = []

        async def delete_orphans() -> int:
            known = await self._slots.known_blobs(page)
            orphans = [key for key in page if key not in known]
            for key in orphans:
                await self._blobs.delete(key)
            page.clear()
            return len(orphans)

        async for key, _, written_at in self._blobs.list(BLOB_PREFIX):
            if self._clock.time() - written_at < ORPHAN_SECONDS:
                continue
            page.append(key)
            if len(page) == SWEEP_PAGE:
                swept += await delete_orphans()
        return swept + (await delete_orphans() if page else 0)

    async def _slot(self, upload_id: str, account_id: str) -> UploadRecord:
        # PostgreSQL, for one, takes no NUL in a text.
        slot = await self._slots.get(upload_id) if _POSSIBLE_ID.fullmatch(upload_id) else None
        if slot is None or slot.account_id != account_id:
            raise UploadNotFound
        if slot.expired:
            raise UploadSlotExpired
        return slot


async def _whole_file(slot: UploadRecord, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield a body that has the size of the slot. Raises `EmptyUploadBody` or `UploadSizeMismatch`."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > slot.size_bytes:
            raise _mismatch(slot, size)
        yield chunk
    if size == 0:
        raise EmptyUploadBody
    if size < slot.size_bytes:
        raise _mismatch(slot, size)


def _mismatch(slot: UploadRecord, received: int) -> UploadSizeMismatch:
    details: Mapping[str, int] = {"size_bytes": slot.size_bytes, "bytes_received": received}
    return UploadSizeMismatch(
        f"The slot was created for {slot.size_bytes} bytes, but {received} were sent. Send the whole file, "
        "or create a slot with its size.",
        details=details,
    )


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
