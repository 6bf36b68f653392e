"""HLS as one file: the parts of a playlist, fetched through egress, decrypted, and appended to the spool."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from stenobird.containers import syncsafe
from stenobird.egress.client import RequestOptions, retry_after_seconds
from stenobird.errors import (
    AudioContentTypeNotSupported,
    AudioTooLarge,
    AudioUnreachable,
    EgressError,
    JobError,
    ResponseBroken,
    UnsupportedURL,
)
from stenobird.media.intake import (
    PREVIEW_RETRY_AFTER_SECONDS,
    RETRY_SECONDS,
    WITH_AUDIO,
    Intake,
    SourceChanged,
    UnusableStatus,
    as_job_error,
)
from stenobird.media.playlist import kind_of, parse_media_playlist, ranked_variants

if TYPE_CHECKING:
    from stenobird.egress.client import EgressClient
    from stenobird.media.playlist import MediaPlaylist, Part
    from stenobird.media.spool import Spool
    from stenobird.ports import AudioRequest, Clock
    from stenobird.sources import AudioSource

MAX_PLAYLIST_BYTES = 4 * 1024 * 1024
MAX_PART_BYTES = 32 * 1024 * 1024
MAX_KEY_BYTES = 64
MAX_KEYS = 200
MAX_PLAYLISTS = 5
MAX_VARIANTS_TRIED = 3

_SENT_ANYWHERE = frozenset({"user-agent", "accept", "accept-language", "referer", "origin"})
"""Headers of the source that other hosts in its playlist may see; all others might be credentials."""


class Fetcher:
    """Fetches small resources through egress, with the source's headers where they belong."""

    def __init__(self, client: EgressClient, source: AudioSource) -> None:
        self._client = client
        self._source = source
        self._keys: dict[str, bytes] = {}

    async def get(
        self, url: str, *, max_bytes: int, byte_range: range | None = None, retry_seconds: float = 0.0
    ) -> tuple[bytes, str]:
        """Return the bytes and the URL after redirects. Raises `EgressError` and `UnusableStatus`."""
        own = urlsplit(url)[:2] == urlsplit(self._source.media_url)[:2]
        headers = {
            name: value
            for name, value in self._source.request_headers.items()
            if own or name.lower() in _SENT_ANYWHERE
        }
        wanted = None if byte_range is None else (byte_range.start, byte_range.stop - 1)
        response = await self._client.open(
            url,
            RequestOptions(
                headers=headers, byte_range=wanted, referer=self._source.page_url, retry_seconds=retry_seconds
            ),
        )
        async with response:
            if response.status not in WITH_AUDIO:
                raise UnusableStatus(response.status, retry_after_seconds(response.headers))
            if byte_range is None:
                return await response.read(max_bytes), response.final_url
            skip = byte_range.start - response.offset
            if skip < 0:
                raise ResponseBroken("The server sent another part of the file than was requested.")
            size = len(byte_range)
            data = await response.read(min(skip + size, max_bytes), truncate=True)
        if len(data) < skip + size:
            raise ResponseBroken("The server sent less of the file than the playlist says there is.")
        return data[skip : skip + size], response.final_url

    async def part(self, part: Part, *, max_bytes: int = MAX_PART_BYTES) -> bytes:
        """Return a part of a playlist, decrypted. Raises as `get` does, and `JobError` for bad encryption."""
        data, _ = await self.get(part.url, max_bytes=max_bytes, byte_range=part.byte_range)
        if part.key is not None:
            url, vector = part.key
            data = await self._decrypted(data, url, vector or part.sequence.to_bytes(16, "big"))
        while len(data) >= 10 and data[:3] == b"ID3":
            data = data[10 + syncsafe(data[6:10]) :]  # it carries the timestamp of packed audio
        return data

    async def _decrypted(self, data: bytes, key_url: str, vector: bytes) -> bytes:
        if (secret := self._keys.get(key_url)) is None:
            if len(self._keys) >= MAX_KEYS and not self._source.live:
                raise UnsupportedURL(
                    f"The stream changes its key more than {MAX_KEYS} times. Send another link."
                )
            if len(self._keys) >= MAX_KEYS:
                del self._keys[next(iter(self._keys))]
            secret, _ = await self.get(key_url, max_bytes=MAX_KEY_BYTES)
        if len(secret) != 16 or len(data) % 16 or not data:
            raise AudioUnreachable(
                "The stream's encryption is broken. Check that it plays, then send it again."
            )
        self._keys[key_url] = secret  # a page that was sent instead is not kept

        def work() -> bytes:
            decryptor = Cipher(algorithms.AES(secret), modes.CBC(vector)).decryptor()
            plain = decryptor.update(data) + decryptor.finalize()
            return plain[: -plain[-1]] if 1 <= plain[-1] <= 16 else plain

        return await asyncio.to_thread(work)


async def resolve_playlist(fetcher: Fetcher, url: str) -> tuple[MediaPlaylist, str]:
    """Return what to fetch, and the URL of the playlist that says so.

    If a variant is gone, the next best one is used. At most `MAX_PLAYLISTS` documents are read. Raises
    `JobError`.
    """
    others: list[str] = []
    for _ in range(MAX_PLAYLISTS):
        try:
            body, base_url = await fetcher.get(
                url, max_bytes=MAX_PLAYLIST_BYTES, retry_seconds=PREVIEW_RETRY_AFTER_SECONDS
            )
        except (EgressError, UnusableStatus) as exc:
            if not others:
                raise as_job_error(exc) from exc
            url = others.pop(0)
            continue
        text = body.decode("utf-8", "replace")
        kind = await asyncio.to_thread(kind_of, text)
        if kind == "master":
            url, *others = ranked_variants(text, base_url)[:MAX_VARIANTS_TRIED]
        elif kind == "media":
            return await asyncio.to_thread(parse_media_playlist, text, base_url), url
        else:
            raise AudioContentTypeNotSupported(
                "This is no playlist with audio in it. Send the audio's own URL."
            )
    raise UnsupportedURL("The playlist leads to playlists without end. Send the audio's own URL.")


class PlaylistIntake(Intake):
    """An `Intake` that appends the parts of a media playlist to the spool, one after the other.

    On demand, a part is fetched when the decoder gets there; else `run` fetches ahead. What is claimed on
    disk ends with a whole part, so a resume fetches none of them twice.
    """

    stitched = True

    def __init__(
        self,
        spool: Spool,
        request: AudioRequest,
        clock: Clock,
        seconds: float,
        *,
        fetcher: Fetcher,
        playlist: MediaPlaylist,
    ) -> None:
        super().__init__(spool, request, clock, seconds)
        self._fetcher = fetcher
        self._playlist = playlist
        self.stated_seconds = playlist.seconds or None
        spool.facts.content_type = "application/vnd.apple.mpegurl"

    async def aclose(self) -> None:
        """Nothing stays open between two parts."""

    async def run(self) -> None:
        """Append all parts; a preview has nothing to do here."""
        try:
            while not self._on_demand and not self._spool.complete:
                await self._append_next()
        except JobError as exc:
            self._fail(exc)

    async def _demand(self, offset: int) -> bool:  # noqa: ARG002  # parts come in order, whatever the offset
        if self._on_demand:
            await self._append_next()
        return self._on_demand

    async def _append_next(self) -> None:
        ends = self._spool.facts.part_ends
        if len(ends) == len(self._playlist.parts):
            await self._spool.mark_complete()
            return
        if len(ends) > len(self._playlist.parts):
            raise SourceChanged
        position = ends[-1] if ends else 0
        data = await self._fetched(self._playlist.parts[len(ends)])
        if position + len(data) > self._limits.max_bytes:
            raise AudioTooLarge(
                f"The stream has more than the {self._limits.max_bytes} bytes that this service accepts. "
                "Send a shorter one."
            )
        await self._spool.write(position, data)
        ends.append(position + len(data))

    async def _fetched(self, part: Part) -> bytes:
        """Fetch a part, through breaks and with growing delays."""
        for delay in (*RETRY_SECONDS[:4], None):
            self._check_deadline()
            try:
                return await self._fetcher.part(part)
            except (EgressError, UnusableStatus) as exc:
                error = as_job_error(exc)
                final = isinstance(exc, UnusableStatus) and exc.final
                if delay is None or final or not isinstance(error, AudioUnreachable):
                    raise error from exc
                await self._wait(delay, exc)
        raise AssertionError("the last try returns or raises")
