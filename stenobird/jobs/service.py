"""Jobs as HTTP sees them: made, looked at, streamed, cancelled, deleted, and only by those who may."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from stenobird.cursors import read_cursor, write_cursor
from stenobird.errors import (
    InvalidRequest,
    JobError,
    MissingAPIKey,
    ReadOnlyKey,
    TranscriptCancelled,
    TranscriptNotFound,
    TranscriptNotReady,
    UploadNotFound,
    WebhookRequiresAPIKey,
)
from stenobird.jobs.events import POLL_SECONDS, JobEvents, read_transcript
from stenobird.jobs.outbox import end_messages
from stenobird.jobs.sandbox import story
from stenobird.jobs.tail import JobTails
from stenobird.jobs.tokens import new_token
from stenobird.jobs.uploaded import EXTRA_KEY as UPLOAD_KEY
from stenobird.jobs.uploaded import TIER_KEY, UploadedJob, remember, upload_url
from stenobird.ports import NewJob

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from stenobird.jobs.checks import RequestChecks
    from stenobird.jobs.schemas import CreateTranscript
    from stenobird.jobs.uploaded import Uploads
    from stenobird.ports import (
        Caller,
        Clock,
        EventRow,
        JobPage,
        JobRecord,
        JobStore,
        Mode,
        Wakeups,
    )
    from stenobird.transcript import Transcript

ID_DIGITS: Final = 22
SECOND_DIALECT: Final = "alefbot"
"""Origin of the jobs that /api/v1 makes; the other dialects know nothing of them."""
RESULT_PAGE: Final = 1000
MAX_LIST: Final = 100


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Bounds of the service, from the settings. `poll_seconds` covers for wake-ups that get lost."""

    max_queued: int = 100
    sse_ping_seconds: float = 15.0
    poll_seconds: float = 5.0


class StoredJobError(JobError):
    """The job failed; the body says why."""

    def __init__(self, job: JobRecord) -> None:
        self._stored = dict(job.error or {"error": self.code, "message": "The job failed."})
        super().__init__(str(self._stored["message"]))

    def body(self) -> dict[str, Any]:
        """Return the error body exactly as the job's `error` event carried it."""
        return dict(self._stored)


class JobService:
    """What HTTP may do with jobs.

    `checks` are what a request has to pass, `discard` deletes a job's spool, and `uploads` is where jobs of
    uploads take their bytes from.
    """

    def __init__(
        self,
        store: JobStore,
        wakeups: Wakeups,
        checks: RequestChecks,
        *,
        clock: Clock,
        options: ServiceOptions | None = None,
        discard: Callable[[str], Awaitable[None]] | None = None,
        uploads: Uploads | None = None,
    ) -> None:
        self._store = store
        self._wakeups = wakeups
        self._checks = checks
        self._clock = clock
        self._options = options or ServiceOptions()
        self._tails = JobTails(store, clock)
        self._discard = discard
        self._uploads = uploads

    def check(self, request: CreateTranscript, *, caller: Caller | None) -> tuple[str, str | None]:
        """Return the audio's and the webhook's URL as they will be fetched (empty for an upload).

        Raises what is wrong with the request by itself, in this order: `ReadOnlyKey`, `InvalidURL`,
        `WebhookRequiresAPIKey`, `InvalidWebhookURL`, `WebhookTargetForbidden`, `MissingAPIKey` for an upload.
        Asks neither database nor network, so that a refusal need not count against a rate limit.
        """
        if caller is not None and caller.scope == "read_only":
            raise ReadOnlyKey
        audio_url = self._checks.url(request.audio_url) if request.audio_url is not None else ""
        webhook_url = None
        if request.webhook_url is not None:
            if caller is None:
                raise WebhookRequiresAPIKey
            webhook_url = self._checks.targets().check_url(request.webhook_url)
        if request.upload_id is not None and caller is None:
            raise MissingAPIKey
        return audio_url, webhook_url

    async def create(
        self,
        request: CreateTranscript,
        *,
        caller: Caller | None,
        base_url: str,
        job_id: str | None = None,
        origin: Literal["stenobird", "openai"] = "stenobird",
    ) -> JobRecord:
        """Queue a job and return it as committed, its first event included.

        With a `job_id` (from `new_job_id`, remembered with the Idempotency-Key of the request) calling again
        returns the job that is there already.

        Without a caller (or for one of tier free) it is a preview, with a test key a test, else full. Nothing
        here waits for the network, but that the name in a webhook URL is looked up. Raises, in this order:
        what `check` raises, `InvalidWebhookURL` and `WebhookTargetForbidden` for what that name leads to,
        `InvalidRequest` for a `preview_id` that can't be carried on, what the account gate raises,
        `InvalidRequest` for options the engine can't fulfil, `EngineUnavailable`, `QueueBusy`.
        """
        audio_url, webhook_url = self.check(request, caller=caller)
        if (there := await self._already(job_id)) is not None:
            return there
        if webhook_url is not None:
            webhook_url = await self._checks.targets().check(webhook_url)
        mode = _mode(caller)
        if request.upload_id is not None:
            assert caller is not None
            wish = UploadedJob(request.upload_id, request.options, webhook_url, origin=origin)
            return await self.create_uploaded(wish, caller=caller, base_url=base_url, job_id=job_id)
        preview_id = request.preview_id
        if preview_id is not None:
            await self._check_preview(preview_id, audio_url)
        max_open = await self._checks.admit(caller, mode, request.options)
        job = NewJob(
            id=job_id or new_job_id(),
            mode=mode,
            audio_url=audio_url,
            base_url=base_url.rstrip("/"),
            options=request.options,
            account_id=caller.account_id if caller else None,
            api_key_id=caller.api_key_id if caller else None,
            preview_id=preview_id if mode == "full" else None,
            webhook_url=webhook_url,
            origin=origin,
        )
        return await self._queue(job, max_open)

    async def create_uploaded(
        self, wish: UploadedJob, *, caller: Caller, base_url: str, job_id: str | None = None
    ) -> JobRecord:
        """Queue a job of an upload and return it as committed; `job_id` is as for `create`.

        With a test key, a job of the second dialect has ended when this returns. Raises, in this order:
        `ReadOnlyKey`, `UploadNotFound`, `UploadSlotExpired`, `UploadNotAvailable`, then as `create`.
        """
        if caller.scope == "read_only":
            raise ReadOnlyKey
        if (there := await self._already(job_id)) is not None:
            return there
        if self._uploads is None:
            raise UploadNotFound
        # The bytes are fixed for a job that is admitted: a refused client may still send others.
        await self._uploads.check(wish.upload_id, caller.account_id)
        mode = _mode(caller)
        max_open = await self._checks.admit(caller, mode, wish.options, tier=wish.extra.get(TIER_KEY))
        slot = await self._uploads.take(wish.upload_id, caller.account_id)
        second_dialect = wish.origin == SECOND_DIALECT
        job = NewJob(
            id=job_id or (str(uuid.uuid4()) if second_dialect else new_job_id()),
            mode=mode,
            audio_url=upload_url(slot.id),
            base_url=base_url.rstrip("/"),
            options=wish.options,
            account_id=caller.account_id,
            api_key_id=caller.api_key_id,
            origin=wish.origin,
            upload_id=slot.id,
            webhook_url=wish.webhook_url,
            extra={**wish.extra, UPLOAD_KEY: remember(slot)},
        )
        if mode == "test" and second_dialect:
            return await self._create_told(job)
        return await self._queue(job, max_open)

    async def _already(self, job_id: str | None) -> JobRecord | None:
        """Return the job that an earlier try of this request has made: nothing is asked of it again."""
        return await self._store.get(job_id) if job_id is not None else None

    async def _queue(self, job: NewJob, max_open: int | None) -> JobRecord:
        first = JobEvents(job.id, job.base_url).status("queued", "validating_url")
        record = await self._store.create(job, first, max_queued=self._options.max_queued, max_open=max_open)
        await self._wakeups.notify_job()
        return record

    async def _create_told(self, job: NewJob) -> JobRecord:
        """Commit a test job with its whole story, since its client is told at once that it is completed."""
        events = JobEvents(job.id, job.base_url)
        change, told = story(events, words=job.options.word_timestamps, extra=job.extra)
        first = events.status("queued", "validating_url")
        messages = end_messages(job, "completed")
        return await self._store.create_ended(job, change, [first, *told], outbox=messages)

    async def get(self, job_id: str, caller: Caller | None) -> JobRecord:
        """Return the job. Raises `TranscriptNotFound` for one that isn't there or isn't theirs, alike.

        A preview is readable by its id; any other job by its account. Whoever has such a job's id but sent no
        key gets `MissingAPIKey`: ids can't be guessed, so this is its owner, who forgot the header.
        """
        job = await self._store.get(job_id)
        if job is None or job.origin == SECOND_DIALECT:
            # Each dialect knows its own jobs only.
            raise TranscriptNotFound
        if job.mode != "preview" and caller is None:
            raise MissingAPIKey
        if not (job.mode == "preview" or _owns(job, caller)):
            raise TranscriptNotFound
        return job

    async def get_uploaded(self, job_id: str, caller: Caller) -> JobRecord:
        """Return a job of the second dialect. Raises `TranscriptNotFound` for any other one."""
        job = await self._store.get(job_id)
        if job is None or job.origin != SECOND_DIALECT or not _owns(job, caller):
            raise TranscriptNotFound
        return job

    async def result(self, job_id: str, caller: Caller | None) -> tuple[JobRecord, Transcript]:
        """Return the finished job with its transcript, built from its events.

        Raises `TranscriptNotFound`, `TranscriptNotReady`, `TranscriptCancelled`, or for a failed job
        `StoredJobError` (422), whose body is that of its `error` event.
        """
        job = await self.get(job_id, caller)
        if job.status == "failed":
            raise StoredJobError(job)
        if job.status == "cancelled":
            raise TranscriptCancelled
        if not job.result_ready:
            raise TranscriptNotReady(retry_after_seconds=POLL_SECONDS)
        return job, await self.transcript_of(job)

    async def transcript_of(self, job: JobRecord) -> Transcript:
        """Return what a job has heard so far, built from its events.

        Raises `TranscriptNotFound` for a job that was removed since it was looked up: half of its text must
        not pass for all of it.
        """
        rows: list[EventRow] = []
        seq = 0
        while page := await self._store.events_after(job.id, seq, limit=RESULT_PAGE):
            rows += (row for row in page if row.event == "transcript")
            seq = page[-1].seq
        if seq < job.last_seq:
            raise TranscriptNotFound
        return read_transcript(job, rows)

    async def cancel_or_delete(self, job_id: str, caller: Caller | None) -> JobRecord | None:
        """Cancel a job under way and return it, or delete a finished one and return `None`.

        A job that nobody works on is `cancelled` at once; one that a worker holds ends within moments, and
        its record says `cancel_requested` until then. Raises `TranscriptNotFound`, `ReadOnlyKey`.
        """
        job = await self.get(job_id, caller)
        if job.account_id is not None and not _owns(job, caller):
            raise TranscriptNotFound
        return await self._cancel_or_delete(job, caller)

    async def cancel_or_delete_uploaded(self, job_id: str, caller: Caller) -> JobRecord | None:
        """Do the same to a job of the second dialect."""
        return await self._cancel_or_delete(await self.get_uploaded(job_id, caller), caller)

    async def _cancel_or_delete(self, job: JobRecord, caller: Caller | None) -> JobRecord | None:
        if caller is not None and caller.scope == "read_only":
            raise ReadOnlyKey
        if job.terminal:
            await self._delete(job.id)
            return None
        done = JobEvents(job.id, job.base_url).done("cancelled")
        job = await self._store.request_cancel(job.id, [done], outbox=end_messages(job, "cancelled"))
        await self._wakeups.notify_event(job.id)
        if job.terminal and self._discard is not None:
            await self._discard(job.id)
        return job

    async def stream(
        self, job_id: str, caller: Caller | None, after: int = 0
    ) -> AsyncGenerator[EventRow | None, None]:
        """Yield the job's events with a higher `seq` than `after`, in order, until `done`.

        First what is committed, then what comes. Yields `None` after `sse_ping_seconds` without an event. A
        slow reader costs one page of events, no more: there is no queue, and the log is read as it is
        consumed, once for all readers that are up to date (`JobTails`). Raises `TranscriptNotFound` before
        the first item; ends early if the job is deleted.
        """
        await self.get(job_id, caller)
        options = self._options
        # Listening starts before the first read, so that no commit falls between the two.
        async with self._wakeups.watch(job_id) as watch:
            last_item_at = current_since = self._clock.monotonic()
            with self._tails.of(job_id) as tail:
                while (page := await tail.after(after, current_since=current_since)) is not None:
                    for event in page:
                        yield event
                        after = event.seq
                        if event.event == "done":
                            return
                    if page:
                        last_item_at = self._clock.monotonic()
                        continue
                    silence = self._clock.monotonic() - last_item_at
                    if silence >= options.sse_ping_seconds:
                        yield None
                        last_item_at = self._clock.monotonic()
                        silence = 0.0
                    notified = await watch.wait(min(options.poll_seconds, options.sse_ping_seconds - silence))
                    # A wake-up asks for a read from now on; a poll is content with one that another made.
                    current_since = self._clock.monotonic() - (0.0 if notified else options.poll_seconds)

    async def purge(self, *, older_than: float) -> Sequence[str]:
        """Delete finished jobs that ended before this time, with what is left of their audio."""
        purged = await self._store.purge(older_than=older_than)
        if self._discard is not None:
            for job_id in purged:
                await self._discard(job_id)
        return purged

    async def list_page(self, caller: Caller, page: JobPage) -> tuple[Sequence[JobRecord], int]:
        """Return a page of the account's jobs of one origin, newest first, and the number on all pages."""
        return await self._store.list_page(caller.account_id, replace(page, mode=caller.only_mode))

    async def list(
        self, caller: Caller | None, cursor: str | None = None, limit: int = 20
    ) -> tuple[Sequence[JobRecord], str | None]:
        """Return a page of the account's jobs, newest first, and the cursor of the next page, if any.

        Raises `MissingAPIKey`, and `InvalidRequest` for a cursor that this service did not make or a limit
        outside 1 to 100.
        """
        if caller is None:
            raise MissingAPIKey
        if not 1 <= limit <= MAX_LIST:
            raise InvalidRequest(f'"limit" must be 1 to {MAX_LIST}.', details={"field": "limit"})
        before = read_cursor(cursor) if cursor is not None else None
        jobs = await self._store.list_jobs(
            caller.account_id, mode=caller.only_mode, before=before, limit=limit + 1
        )
        page = jobs[:limit]
        return page, write_cursor(page[-1].created_at, page[-1].id) if len(jobs) > limit else None

    async def _delete(self, job_id: str) -> None:
        await self._store.delete(job_id)
        if self._discard is not None:
            await self._discard(job_id)
        await self._wakeups.notify_event(job_id)

    async def _check_preview(self, preview_id: str, audio_url: str) -> None:
        preview = await self._store.get(preview_id)
        if preview is None or preview.mode != "preview":
            reason = "there is no such preview (previews are kept for a limited time)"
        elif not preview.terminal:
            reason = "that preview has not ended yet; wait for its done event"
        elif preview.status != "preview_complete":
            reason = f"that preview {preview.status}, so there is nothing to carry on from"
        elif preview.audio_url != audio_url:
            reason = "that preview is of another audio_url"
        else:
            return
        raise InvalidRequest(
            f'"preview_id" can\'t be used: {reason}. Leave it out to start anew.',
            details={"field": "preview_id"},
        )


def new_job_id() -> str:
    """Return an unguessable id: `tr_` and 22 base62 digits, 131 bits."""
    return new_token("tr_", ID_DIGITS)


def _mode(caller: Caller | None) -> Mode:
    if caller is None:
        return "preview"
    if caller.mode == "test":
        return "test"
    return "preview" if caller.tier == "free" else "full"


def _owns(job: JobRecord, caller: Caller | None) -> bool:
    if caller is None or job.account_id != caller.account_id:
        return False
    return caller.only_mode in {None, job.mode}
