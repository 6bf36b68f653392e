"""Blobs in a local folder or in S3, behind one library."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from stenobird.errors import ConfigurationError, StorageUnavailable

_log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from pathlib import Path

LOCAL_PART_BYTES: Final = 1024 * 1024
S3_PART_BYTES: Final = 8 * 1024 * 1024
"""S3 takes at most 10,000 parts of at least 5 MiB."""
PARTS_AT_ONCE: Final = 2
PIECE_BYTES: Final = 256 * 1024
"""Small chunks are joined into pieces of this size, because each piece is passed to the library's threads."""
READ_BYTES: Final = 256 * 1024


class BlobStore:
    """Blobs by key. Writes are atomic: a blob is complete or absent.

    A write holds at most `PARTS_AT_ONCE` parts and one piece in memory. Every method raises
    `StorageUnavailable` when the store is unreachable or full.
    """

    def __init__(self, store: LocalStore | S3Store, *, part_bytes: int) -> None:
        self._store = store
        self._part_bytes = part_bytes

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Store the bytes under the key and return their number. A blob that exists is replaced at the end.

        Memory use is bounded. When `chunks` raises or the task is cancelled, nothing changes.
        """
        # Each piece is taken before the next one is read, so that none queue up.
        sending, receiving = anyio.create_memory_object_stream[bytes](0)
        complete = False

        async def pieces() -> AsyncGenerator[bytes]:
            async for piece in receiving:
                yield piece
            if not complete:
                # Then the library removes what it wrote; a cancelled future would keep writing.
                raise RuntimeError("The writer has stopped.")

        async def give(piece: bytes) -> None:
            try:
                await sending.send(piece)
            except anyio.BrokenResourceError:
                with _translated():
                    future.result()
                raise StorageUnavailable from None

        size = 0
        pending = bytearray()
        with sending, receiving:
            with _translated():
                future = asyncio.ensure_future(
                    obstore.put_async(
                        self._store,
                        key,
                        pieces(),
                        use_multipart=True,
                        chunk_size=self._part_bytes,
                        max_concurrency=PARTS_AT_ONCE,
                    )
                )
            # A writer does not wait for a library that has given up.
            future.add_done_callback(lambda _: receiving.close())
            try:
                async for chunk in chunks:
                    size += len(chunk)
                    pending += chunk
                    if len(pending) >= PIECE_BYTES:
                        await give(bytes(pending))
                        pending.clear()
                if pending:
                    await give(bytes(pending))
                complete = True
                sending.close()
                with _translated():
                    await asyncio.shield(future)
            except BaseException:
                complete = False
                sending.close()
                await _ended(future)
                raise
        return size

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Yield the bytes from `start` to before `end`. Raises `KeyError` when there is no such key."""
        with _translated(key):
            size = (await obstore.head_async(self._store, key))["size"]
            if start >= min(size, size if end is None else end):
                return
            span: Any = {"offset": start} if end is None else (start, min(end, size))
            found = await obstore.get_async(self._store, key, options={"range": span})
            async for chunk in found.stream(min_chunk_size=READ_BYTES):
                yield bytes(chunk)

    async def delete(self, key: str) -> None:
        """Delete the blob, if it exists."""
        try:
            with _translated(key):
                await obstore.delete_async(self._store, key)
        except KeyError:
            return

    async def list(self, prefix: str) -> AsyncGenerator[tuple[str, int, float]]:
        """Yield key, size (bytes) and time (epoch seconds) of the blobs below `prefix` and a slash."""
        with _translated():
            async for page in obstore.list(self._store, prefix, chunk_size=500):
                for entry in page:
                    yield entry["path"], entry["size"], entry["last_modified"].timestamp()


async def _ended(future: asyncio.Future[Any]) -> None:
    """Wait until the library has cleaned up, even if the waiting task is cancelled."""
    await asyncio.wait({future})
    if not future.cancelled():
        # Retrieved so that asyncio does not log it; the writer raises its own error.
        future.exception()


@contextmanager
def _translated(key: str = "") -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as exc:
        raise KeyError(key) from exc
    except (BaseError, OSError) as exc:
        _log.warning("uploads_unreachable", reason=str(exc))
        raise StorageUnavailable(
            "The store of uploads did not answer. Send the same request again in a moment."
        ) from exc


def open_blobs(folder: Path, url: str | None = None, *, endpoint: str | None = None) -> BlobStore:
    """Return the store at an `s3://bucket/prefix` URL, or in the folder if there is no URL.

    Credentials and region for S3 come from `AWS_*` or the machine's role, as for the AWS tools; `endpoint` is
    for S3-compatible services. Does not connect. Raises `ConfigurationError`.
    """
    if url is None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return BlobStore(LocalStore(folder, automatic_cleanup=True), part_bytes=LOCAL_PART_BYTES)
        except (BaseError, OSError) as exc:
            raise ConfigurationError(f"The folder {folder} for uploads can't be used ({exc}).") from exc
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ConfigurationError(
            "STENOBIRD_UPLOAD_STORE_URL must be s3://bucket or s3://bucket/prefix. Unset it to keep uploads "
            "in the data folder."
        )
    try:
        store = S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            **({"endpoint": endpoint, "virtual_hosted_style_request": False} if endpoint else {}),  # type: ignore[arg-type]  # one of the library's many spellings
            client_options={"allow_http": bool(endpoint and endpoint.startswith("http://"))},
        )
    except (BaseError, OSError, ValueError) as exc:
        raise ConfigurationError(f"STENOBIRD_UPLOAD_STORE_URL can't be used: {exc}") from exc
    return BlobStore(store, part_bytes=S3_PART_BYTES)
