"""Live HLS: a playlist that is read again and again, and the segments that are new in it, in order.

The media sequence says what follows what. Segments that were missed are fetched as long as the playlist has
them; what it no longer has is counted by the length of the others. A playlist that only repeats, or is older
than the one before, changes nothing; one that goes on from a lower number has been started anew.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stenobird.errors import EgressError, JobError, ResponseBroken, UnsupportedURL
from stenobird.media.feed import MAX_TITLE_CHARACTERS, Stretch
from stenobird.media.hls import resolve_playlist
from stenobird.media.intake import UnusableStatus
from stenobird.ports import Title

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from stenobird.media.hls import Fetcher
    from stenobird.media.placement import SteadyClock
    from stenobird.media.playlist import MediaPlaylist, Part

MAX_LIVE_PART_BYTES: Final = 8 * 1024 * 1024
MIN_POLL_SECONDS: Final = 0.5
MAX_POLL_SECONDS: Final = 10.0
EDGE_POLL_SECONDS: Final = 0.5
"""How exactly it is known when a playlist grows, where it has no dates."""
PATIENCE: Final = 3.0
"""After so many target durations without a new segment, the connection counts as broken."""
TRIES: Final = 3
"""How often a segment is requested that can't be fetched."""
PLAUSIBLE_SECONDS: Final = 3600.0
"""A date in a playlist that is further from now is not believed."""
EDGE_SECONDS: Final = 30.0
"""A playlist whose last segment, by its media sequence, ended so long before or after now counts anew."""
RESUMED_SECONDS: Final = 300.0
"""What is listed and was on air longer ago is left out, so that a takeover leads back to the present."""


class LivePlaylist:
    """A `live.LiveOrigin` that follows a media playlist until `#EXT-X-ENDLIST`.

    `anchor` is the media sequence of a segment that an earlier worker has read, and when that was on air.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        clock: SteadyClock,
        first: MediaPlaylist,
        url: str,
        *,
        entry_url: str,
        anchor: tuple[int, float] | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._anchor = anchor
        self._entry_url = entry_url
        self._url = url
        self._playlist = first
        self._loaded_at = clock.monotonic()
        self._grew_at: float | None = None
        """When the playlist was seen with a new segment (epoch seconds): then its last one has just ended."""
        self._pending: deque[Part] = deque()
        self._last: Part | None = None
        """The last segment that was sent or given up."""
        self._behind = -1
        """The end of a playlist that was older than the one before it."""
        self._tries = 0
        self._restarted = False
        self._title = ""

    async def next_stretch(self, reached: float | None) -> Stretch | None:
        """See `live.LiveOrigin`. The first segment is the first one after `reached`, or the newest."""
        if self._last is None and not self._pending:
            await self._enter(reached)
        segment = await self._next()
        if segment is None:
            return None
        start, missing = None, None
        if self._last is not None and not self._restarted:
            missing = (segment.sequence - self._last.sequence - 1) * self._usual_seconds()
        elif (
            segment.starts_at is not None and abs(segment.starts_at - self._clock.time()) < PLAUSIBLE_SECONDS
        ):
            start = segment.starts_at
        else:
            since = [part.seconds for part in self._playlist.segments if part.sequence >= segment.sequence]
            start = (self._grew_at or self._clock.time()) - sum(since)
        self._restarted = False
        return Stretch(self._body(), "expired" if missing else "disconnected", start, missing, stitched=True)

    async def _body(self) -> AsyncGenerator[bytes | tuple[bytes, Part] | Title]:
        first = self._pending[0]
        if first.init is not None:
            yield await self._fetcher.part(first.init, max_bytes=MAX_LIVE_PART_BYTES)
        while True:
            part = self._pending[0]
            if part.title and part.title != self._title:
                self._title = part.title
                yield Title(part.title[:MAX_TITLE_CHARACTERS])
            data = await self._fetched(part)
            if data is None:
                return
            self._last = self._pending.popleft()
            yield data, part
            following = await self._next()
            if (
                following is None
                or self._restarted
                or following.sequence != part.sequence + 1
                or not following.follows
                or _address(following.init) != _address(first.init)
            ):
                return

    async def _fetched(self, part: Part) -> bytes | None:
        """Return a segment, `None` where it is given up. Raises while another try may have it."""
        try:
            data = await self._fetcher.part(part, max_bytes=MAX_LIVE_PART_BYTES)
        except UnsupportedURL:
            raise
        except (EgressError, UnusableStatus, JobError) as exc:
            self._tries += 1
            if self._tries < TRIES and not (isinstance(exc, UnusableStatus) and exc.final):
                raise
            self._tries = 0
            self._pending.popleft()
            return None
        self._tries = 0
        return data

    # --- the playlist -------------------------------------------------------------------------------------

    def _usual_seconds(self) -> float:
        lengths = [part.seconds for part in self._playlist.segments]
        return sum(lengths) / len(lengths) if lengths else self._playlist.target_seconds

    async def _enter(self, reached: float | None) -> None:
        """Choose the first segment: the first one after `reached`, if times show that, or the newest one."""
        segments, ended = self._timed(self._playlist.segments), self._playlist.ended
        after = [part for part in segments if reached is not None and _ends_after(part, reached)]
        recent = bool(after) and _ends_after(after[0], self._clock.time() - RESUMED_SECONDS)
        if recent or (ended and reached is not None):
            self._pending.extend(after)
            return
        if segments and segments[-1].starts_at is None and not ended:
            await self._see_growth()
            segments, ended = self._playlist.segments, self._playlist.ended
        if not ended:
            self._pending.extend(segments[-1:])
        elif reached is None:
            self._pending.extend(segments)
        # Else it has ended meanwhile, and nothing shows what an earlier worker has read.

    def _timed(self, segments: tuple[Part, ...]) -> tuple[Part, ...]:
        """Return the segments with times that follow from the anchor, where the playlist states none."""
        if self._anchor is None or not segments or segments[-1].starts_at is not None:
            return segments
        sequence, start = self._anchor
        start -= sum(part.seconds for part in segments if part.sequence < sequence)
        unlisted = max(0, segments[0].sequence - sequence) - max(0, sequence - segments[-1].sequence - 1)
        start += unlisted * self._usual_seconds()
        timed = []
        for part in segments:
            timed.append(replace(part, starts_at=start))
            start += part.seconds
        edge_seconds = max(EDGE_SECONDS, PATIENCE * self._playlist.target_seconds)
        return tuple(timed) if abs(start - self._clock.time()) < edge_seconds else segments

    async def _see_growth(self) -> None:
        """Wait until the playlist grows, which shows when its last segment ended."""
        end = self._playlist.segments[-1].sequence
        until = self._clock.monotonic() + 2 * self._playlist.target_seconds
        while self._clock.monotonic() < until:
            await self._clock.sleep(EDGE_POLL_SECONDS)
            with suppress(EgressError, UnusableStatus, JobError):
                await self._load()
            segments = self._playlist.segments
            if self._playlist.ended or (segments and segments[-1].sequence != end):
                self._grew_at = self._clock.time()
                return

    async def _next(self) -> Part | None:
        """Return the next segment, which stays in `_pending`; `None` after the last one of all.

        Raises `ResponseBroken` when none comes, and why the playlist can't be read.
        """
        quiet_since = self._clock.monotonic()
        while not self._pending:
            if self._playlist.ended:
                return None
            target = self._playlist.target_seconds
            if self._clock.monotonic() - quiet_since > max(PATIENCE * target, MAX_POLL_SECONDS):
                raise ResponseBroken("The playlist has had no new segment for long.")
            wait = min(max(target / 2, MIN_POLL_SECONDS), MAX_POLL_SECONDS)
            await self._clock.sleep(max(0.0, self._loaded_at + wait - self._clock.monotonic()))
            await self._load()
            self._take_new()
        return self._pending[0]

    async def _load(self) -> None:
        self._loaded_at = self._clock.monotonic()
        try:
            self._playlist, self._url = await resolve_playlist(self._fetcher, self._url)
        except JobError:
            # Its address may have expired; the one that led to it may lead to another.
            self._url = self._entry_url
            raise

    def _take_new(self) -> None:
        segments = self._playlist.segments
        if not segments:
            return
        if self._last is None:
            self._pending.extend(segments[-1:])
            return
        end, last = segments[-1].sequence, self._last.sequence
        if end < last:
            # An old copy from a cache, or a stream that counts from a lower number now: only that goes on.
            if self._behind < 0 or end <= self._behind:
                self._behind = max(end, self._behind)
                return
            self._restarted = True
            self._grew_at = self._clock.time()
            self._pending.append(segments[-1])
        self._behind = -1
        self._pending.extend(part for part in segments if part.sequence > last and end >= last)


def _address(part: Part | None) -> tuple[str, range | None] | None:
    return None if part is None else (part.url, part.byte_range)


def _ends_after(part: Part, moment: float) -> bool:
    return part.starts_at is not None and part.starts_at + part.seconds > moment
