"""What `BlobStore` promises on a folder and on S3."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
from typing import TYPE_CHECKING

import pytest

from stenobird.errors import ConfigurationError, StorageUnavailable
from stenobird.storage.blobs import open_blobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from stenobird.storage.blobs import BlobStore

pytestmark = pytest.mark.anyio

MB = 1024 * 1024


async def chunks(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(blobs: BlobStore, key: str, *, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in blobs.get(key, start=start, end=end)])


async def keys(blobs: BlobStore, prefix: str) -> list[str]:
    return sorted([key async for key, _, _ in blobs.list(prefix)])


async def test_what_is_put_can_be_got_whole_and_in_part(blobs: BlobStore) -> None:
    data = os.urandom(3 * MB + 17)

    size = await blobs.put("a/one", chunks(data[at : at + 65_000] for at in range(0, len(data), 65_000)))

    assert size == len(data)
    assert await read(blobs, "a/one") == data
    assert await read(blobs, "a/one", start=MB) == data[MB:]
    assert await read(blobs, "a/one", start=10, end=20) == data[10:20]
    assert await read(blobs, "a/one", start=len(data)) == b""
    assert await read(blobs, "a/one", start=len(data) - 1, end=len(data) + 9) == data[-1:]


async def test_an_unknown_key_is_a_key_error(blobs: BlobStore) -> None:
    with pytest.raises(KeyError, match="a/none"):
        await read(blobs, "a/none")


async def test_a_second_put_replaces_the_first(blobs: BlobStore) -> None:
    await blobs.put("a/one", chunks([b"first"]))
    await blobs.put("a/one", chunks([b"second"]))

    assert await read(blobs, "a/one") == b"second"


async def test_a_put_whose_source_breaks_leaves_what_was_there(blobs: BlobStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield bytes(MB // 2)
        raise ConnectionError("the client went")

    await blobs.put("a/one", chunks([b"whole"]))

    with pytest.raises(ConnectionError, match="the client went"):
        await blobs.put("a/one", broken())
    with pytest.raises(ConnectionError):
        await blobs.put("a/two", broken())

    assert await read(blobs, "a/one") == b"whole"
    assert await keys(blobs, "a") == ["a/one"]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_cancelled_put_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield bytes(MB // 2)
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(blobs.put("a/one", endless()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await keys(blobs, "a") == []
    assert files(tmp_path) == []


async def test_delete_is_idempotent(blobs: BlobStore) -> None:
    await blobs.put("a/one", chunks([b"x"]))

    await blobs.delete("a/one")
    await blobs.delete("a/one")

    assert await keys(blobs, "a") == []


async def test_list_tells_keys_sizes_and_times_below_a_prefix_only(blobs: BlobStore) -> None:
    await blobs.put("a/one", chunks([b"12345"]))
    await blobs.put("a/b/two", chunks([b"12"]))
    await blobs.put("ab/three", chunks([b"1"]))

    found = sorted([entry async for entry in blobs.list("a")])

    assert [(key, size_bytes) for key, size_bytes, _ in found] == [("a/b/two", 2), ("a/one", 5)]
    assert all(written_at > 1_600_000_000 for _, _, written_at in found)


async def test_memory_does_not_grow_with_the_size(tmp_path: Path) -> None:
    """Peak RSS is a high-water mark: 200 MB may raise it by the parts in flight, not by the file.

    On the folder only: the S3 server of these tests lives in the same process and keeps what it gets.
    """
    blobs = open_blobs(tmp_path / "blobs")
    await blobs.put("a/warm", chunks(bytes(65_536) for _ in range(320)))
    digest = hashlib.sha256()
    piece = bytes(65_536)

    async def many() -> AsyncIterator[bytes]:
        for _ in range(1600):
            yield piece

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = await blobs.put("a/big", many())
    async for chunk in blobs.get("a/big"):
        digest.update(chunk)

    assert size == 1600 * 65_536
    assert digest.hexdigest() == hashlib.sha256(bytes(size)).hexdigest()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


async def test_a_store_that_is_away_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "blobs"
    blobs = open_blobs(folder)
    folder.rmdir()
    folder.write_bytes(b"")

    with pytest.raises(StorageUnavailable, match="store of uploads"):
        await blobs.put("a/one", chunks([b"x"]))


@pytest.mark.parametrize("url", ["ftp://x/y", "s3://", "uploads"])
def test_a_url_that_names_no_store_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match="STENOBIRD_UPLOAD_STORE_URL"):
        open_blobs(tmp_path, url)
