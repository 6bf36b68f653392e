"""Bytes of one file from its server to its spool: at line speed for a whole job, on demand for a preview.

    opened by discovery ──┐
                          ├─► Download ──► Spool ──► decoder child
    ranged GETs (Origin) ─┘

A whole job's download runs ahead of the decoder, because a second download may differ or be refused. A
preview fetches blocks as its decoder asks for them, and drops the connection when it has enough. A read far
ahead (an mp4 whose index stands at the end) is fetched as a range of its own where the server can.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from functools import partial
from typing import TYPE_CHECKING

from stenobird.egress.client import retry_after_seconds
from stenobird.errors import (
    AudioContentTypeNotSupported,
    AudioTooLarge,
    AudioUnreachable,
    EgressError,
    JobError,
    ResponseBroken,
)
from stenobird.media.intake import (
    RETRY_SECONDS,
    WITH_AUDIO,
    Intake,
    SourceChanged,
    UnusableStatus,
    as_job_error,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from stenobird.media.spool import Spool
    from stenobird.ports import AudioRequest, Clock, MediaOrigin, OpenedMedia

PROGRESS_BYTES = 64 * 1024
BARREN_ANSWERS = 3
"""After so many answers in a row that resume at the right place but hold nothing new, there is no more."""

FIRST_BLOCK_BYTES = 64 * 1024
MIN_BLOCK_BYTES = 32 * 1024
MAX_BLOCK_BYTES = 1024 * 1024
FAR_BYTES = 512 * 1024
OVERLAP_BYTES = 4 * 1024
"""A resumed download starts this much earlier and compares: many servers send no usable validator."""


class Download(Intake):
    """An `Intake` that is one file on one server.

    On demand, nothing is fetched that was not asked for, give or take a block. If audio of this file was
    transcribed before, bytes of another file must not follow it.
    """

    def __init__(
        self, spool: Spool, request: AudioRequest, clock: Clock, seconds: float, origin: MediaOrigin
    ) -> None:
        super().__init__(spool, request, clock, seconds)
        self._origin = origin
        self._source = request.source
        self._used = request.start_sample > 0
        self._url = request.source.final_url
        # The answer that is being read sequentially, and its body.
        self._unread = opened = request.opened
        self._answer: OpenedMedia | None = None
        self._body: AsyncIterator[bytes] | None = None
        self._position = 0
        self._answer_end: int | None = None
        self._answer_start_front = 0
        self._ranges = opened is not None and opened.status == 206
        self._block_bytes = MIN_BLOCK_BYTES if self._on_demand else 4 * FIRST_BLOCK_BYTES
        # Where nothing has come yet, it is tried less often.
        self._delays = iter(RETRY_SECONDS if spool.front else RETRY_SECONDS[:3])
        self._stored_at_reset = spool.stored_bytes
        self._barren_answers = 0

    async def run(self) -> None:
        """Download the whole file; a preview has nothing to do here."""
        if self._on_demand:
            return
        try:
            await self._keep_trying(self._read_on)
        except JobError as exc:
            self._fail(exc)
        finally:
            await self.aclose()

    async def read(self, offset: int, size: int) -> bytes:
        """See `Intake.read`."""
        self._used = True
        return await super().read(offset, size)

    async def aclose(self) -> None:
        """Drop the connection. Safe to call twice."""
        unread, answer, body = self._unread, self._answer, self._body
        self._unread, self._answer, self._body = None, None, None
        await _close(unread, None)
        await _close(answer, body)

    # --- what to request next -------------------------------------------------------------------------------

    async def _demand(self, offset: int) -> bool:
        sequential = self._unread is not None or self._body is not None
        far = offset - max(self._position, self.front) > FAR_BYTES
        if self._ranges and self.total_bytes is not None:
            if far and not self._on_demand:
                with contextlib.suppress(EgressError, UnusableStatus, SourceChanged):
                    await self._fetch_block(offset)
                    return True
                # The sequential download gets there as well, with retries and checks.
                self._ranges = False
            elif self._on_demand and (far or not sequential):
                await self._keep_trying(partial(self._fetch_block, offset), once=True)
                return True
        if not self._on_demand:
            return False
        await self._keep_trying(self._read_on, once=True)
        return True

    async def _keep_trying(self, step: Callable[[], Awaitable[None]], *, once: bool = False) -> None:
        """Repeat `step`, through breaks and with growing delays, until all is there or it works `once`.

        A step that makes no progress raises. Only `PROGRESS_BYTES` of progress reset the delays, so a server
        that breaks off every few bytes soon uses them up.
        """
        while not self._spool.complete:
            self._check_deadline()
            try:
                await step()
            except (SourceChanged, UnusableStatus, EgressError) as exc:
                problem = exc
                front = self.front
                barren = self._body is not None and 0 < front == self._answer_start_front <= self._position
                self._barren_answers = self._barren_answers + 1 if barren else 0
                await self.aclose()
                reason = await self._recover(exc)
                if self._barren_answers >= BARREN_ANSWERS:
                    raise reason from exc
            else:
                if once:
                    return
                continue
            if self._spool.stored_bytes >= self._stored_at_reset + PROGRESS_BYTES:
                self._delays = iter(RETRY_SECONDS)
                self._stored_at_reset = self._spool.stored_bytes
            delay = next(self._delays, None)
            if delay is None:
                raise reason
            await self._wait(delay, problem)

    async def _recover(self, problem: SourceChanged | UnusableStatus | EgressError) -> JobError:
        """Prepare for another try; return the error for the last one, or raise it if no try would help."""
        if isinstance(problem, SourceChanged):
            if self._used:
                raise problem
            await self._spool.reset()
            return SourceChanged()
        reason = as_job_error(problem)
        if isinstance(problem, UnusableStatus):
            # A signed address may have expired while the original link still leads to the file.
            if problem.final and self._url != self._source.media_url:
                self._url = self._source.media_url
                return reason
            retryable = not problem.final
        else:
            retryable = isinstance(reason, AudioUnreachable)
        # The reason may be raised much later; what is behind it decides whether this machine is to blame.
        reason.__cause__ = problem
        if not retryable:
            raise reason from problem
        return reason

    async def _fetch_block(self, offset: int) -> None:
        """Fetch one block from `offset` on, as a request of its own."""
        last = min(offset + self._block_bytes, self.total_bytes or 0) - 1
        next_start = self._spool.present.next_start(offset)
        if next_start is not None:
            last = min(last, next_start - 1)
        response = await self._request(offset, last)
        body = response.body()
        try:
            if response.status in WITH_AUDIO - {206}:
                self._ranges = False
                return
            self._accept(response)
            if response.offset != offset:
                raise ResponseBroken("The server sent another part of the file than was requested.")
            stored = self._spool.stored_bytes
            position = offset
            async for data in body:
                await self._spool.write(position, data[: last + 1 - position])
                position += len(data)
            if self._spool.stored_bytes == stored:
                raise ResponseBroken("The server sent nothing.")
        finally:
            await _close(response, body)
        # Blocks grow with what was fetched, so what is fetched in vain stays a fraction of what was needed.
        smallest = MIN_BLOCK_BYTES if self._on_demand else 4 * FIRST_BLOCK_BYTES
        self._block_bytes = min(max(smallest, self._spool.stored_bytes // 4), MAX_BLOCK_BYTES)

    # --- the file from its front on -------------------------------------------------------------------------

    async def _read_on(self) -> None:
        """Store the next piece of the answer that is open, opening one where none is."""
        if self._body is None:
            await self._open_at_front()
            if self._spool.complete:
                return
        assert self._body is not None
        data = await anext(self._body, b"")
        if data:
            await self._store(data)
            return
        position, end, total = self._position, self._answer_end, self.total_bytes
        progressed = self.front > self._answer_start_front
        complete = self.front >= total if total is not None else end is None
        if total is None and not progressed and self.front == position == end:
            complete = True  # nothing follows, by an answer that does not state the length of the file
        if not complete and (not progressed or (end is not None and position < end)):
            raise ResponseBroken(f"The answer ended at byte {position} of {total or 'an unknown number'}.")
        await self.aclose()
        if complete:
            await self._complete()

    async def _open_at_front(self) -> None:
        front = self.front
        answer, self._unread = self._unread, None
        if answer is not None and answer.offset > front:
            await _close(answer, None)
            answer = None
        if answer is None:
            first = max(0, front - OVERLAP_BYTES)
            answer = await self._request(
                first, FIRST_BLOCK_BYTES - 1 if self._on_demand and first == 0 else None
            )
        self._answer = answer
        if answer.status == 416:
            await self._judge_416(answer, front)
            return
        self._accept(answer)
        self._position = answer.offset
        self._answer_start_front = front
        self._answer_end = answer.end
        if answer.status == 206 and answer.end is None and self._on_demand:
            self._answer_end = 0  # it is a part, so it does not end where the file ends
        self._body = answer.body()

    async def _judge_416(self, answer: OpenedMedia, front: int) -> None:
        """Nothing from here on: an empty file, or one that ends where the spool ends, or another file."""
        total = answer.total_bytes
        await self.aclose()
        if front == 0 or (total is None and self.total_bytes is None):
            await self._complete()
        elif total == front:
            self._spool.facts.total_bytes = total
            await self._complete()
        else:
            raise SourceChanged

    async def _complete(self) -> None:
        if self.front == 0:
            raise AudioContentTypeNotSupported("The file is empty. Send a link to a file with audio in it.")
        await self._spool.mark_complete()

    async def _request(self, first: int, last: int | None) -> OpenedMedia:
        facts = self._spool.facts
        validator = None
        if self.front > 0:
            validator = facts.etag if facts.etag and _strong(facts.etag) else facts.last_modified
        return await self._origin.open(self._url, self._source, first=first, last=last, if_range=validator)

    def _accept(self, answer: OpenedMedia) -> None:
        """Check an answer against the limits and against what is known of the file; note what is new."""
        if answer.status not in WITH_AUDIO:
            raise UnusableStatus(answer.status, retry_after_seconds(answer.headers))
        facts, headers, total = self._spool.facts, answer.headers, answer.total_bytes
        if total is not None and total > self._limits.max_bytes:
            raise AudioTooLarge(
                f"The file has {total} bytes; this service accepts {self._limits.max_bytes}. "
                "Send a smaller file."
            )
        etag = headers.get("etag")
        if self.front > 0:
            # If everything is there, a first length that was wrong does not make it another file.
            other_size = None not in {total, facts.total_bytes} and total not in {
                facts.total_bytes,
                self.front,
            }
            other_etag = etag and facts.etag and _strong(etag) and _strong(facts.etag) and etag != facts.etag
            if other_size or other_etag:
                raise SourceChanged
        self._ranges = self._ranges or answer.status == 206
        self._url = facts.url = answer.final_url
        facts.etag = etag or facts.etag
        facts.last_modified = headers.get("last-modified") or facts.last_modified
        facts.content_type = headers.get("content-type") or facts.content_type
        if total is not None:
            facts.total_bytes = total
            if not self._on_demand:
                self._spool.require_room(total)

    async def _store(self, data: bytes) -> None:
        """Store the next piece of the answer: compare what is on disk already, write what is new."""
        position, front = self._position, self.front
        if position + len(data) > self._limits.max_bytes:
            raise AudioTooLarge(
                f"The file has more than the {self._limits.max_bytes} bytes that this service accepts. "
                "Send a smaller file."
            )
        known = min(len(data), max(0, front - position))
        at = 0
        while at < known:
            have = await self._spool.read(position + at, known - at)
            if not have or have != data[at : at + len(have)]:
                raise SourceChanged
            at += len(have)
        await self._spool.write(position + known, data[known:])
        self._position = position + len(data)


async def _close(answer: OpenedMedia | None, body: AsyncIterator[bytes] | None) -> None:
    if isinstance(body, AsyncGenerator):
        await body.aclose()
    if answer is not None:
        with contextlib.suppress(EgressError):
            await answer.aclose()


def _strong(etag: str) -> bool:
    return not etag.startswith("W/")
