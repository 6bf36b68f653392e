"""The jobs as the APIs use them: create, read, stream, list, cancel and delete, with access control."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from stenobird.accounts.keys import random_base62
from stenobird.discovery.tags import title_of
from stenobird.errors import (
    InvalidRequest,
    JobError,
    MissingAPIKey,
    TranscriptCancelled,
    TranscriptNotFound,
    TranscriptNotReady,
    UploadNotFound,
    WebhookRequiresAPIKey,
)
from stenobird.jobs.events import POLL_SECONDS, JobEvents, read_transcript
from stenobird.jobs.leased import end_webhook
from stenobird.jobs.sandbox import canned_transcript
from stenobird.jobs.spec import JobSpec, RequestChecks, upload_url
from stenobird.jobs.tail import JobTails, Page, Take, take_nothing
from stenobird.ports import Caller, Clock, JobPage, JobRecord, Mode, NewJob, Origin, UploadedFile, Wakeups

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from stenobird.storage.job_store import JobStore
    from stenobird.storage.queue import QueueStore
    from stenobird.transcript import Transcript
    from stenobird.uploads import UploadService

_log = structlog.get_logger(__name__)

ID_DIGITS: Final = 22
MAX_LIST: Final = 100


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Bounds of the service, from the settings. Streams also poll, since a wake-up may be lost."""

    max_queued: int = 100
    live_max_minutes: int = 240
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
    """The jobs of all APIs.

    `checks` are what a request has to pass, `discard` deletes a job's spool, and `uploads` has the files that
    clients sent.
    """

    def __init__(
        self,
        store: JobStore,
        wakeups: Wakeups,
        checks: RequestChecks,
        *,
        clock: Clock,
        discard: Callable[[str], Awaitable[None]],
        options: ServiceOptions | None = None,
        uploads: UploadService | None = None,
    ) -> None:
        self._store = store
        self._wakeups = wakeups
        self._checks = checks
        self._options = options or ServiceOptions()
        self._tails = JobTails(
            store,
            wakeups,
            clock,
            poll_seconds=self._options.poll_seconds,
            ping_seconds=self._options.sse_ping_seconds,
        )
        self._discard = discard
        self._uploads = uploads

    def check(self, spec: JobSpec, *, caller: Caller | None) -> JobSpec:
        """Return the spec with its URLs as they will be fetched.

        Raises what is wrong with the request by itself, in this order: `ReadOnlyKey`, `InvalidURL`,
        `WebhookRequiresAPIKey`, `InvalidWebhookURL`, `WebhookTargetForbidden`, `MissingAPIKey` for an upload,
        `InvalidRequest` for more minutes of live audio than a job may have.
        Uses neither database nor network, so that a refusal need not count against a rate limit.
        """
        if caller is not None:
            caller.require_write()
        audio_url, webhook_url = spec.audio_url, spec.webhook_url
        if spec.upload_id is None:
            audio_url = self._checks.url(audio_url)
        if webhook_url is not None:
            if caller is None:
                raise WebhookRequiresAPIKey
            webhook_url = self._checks.webhook_targets.check_url(webhook_url)
        if spec.upload_id is not None and caller is None:
            raise MissingAPIKey
        if (spec.extra.max_minutes or 0) > (most := self._options.live_max_minutes):
            raise InvalidRequest(
                f'"max_minutes" must be at most {most} here.', details={"field": "max_minutes"}
            )
        return replace(spec, audio_url=audio_url, webhook_url=webhook_url, checked=True)

    async def create(
        self, spec: JobSpec, *, caller: Caller | None, base_url: str, job_id: str | None = None
    ) -> JobRecord:
        """Queue a job and return it as committed, its first event included.

        With a `job_id` (from `new_job_id`, stored with the Idempotency-Key of the request) a second call
        returns the job of the first.

        Without a caller (or for one of tier free) the job is a preview, with a test key a test, else full. A
        test job of `/api/v1` has ended when this returns. The only use of the network is the DNS lookup of
        the webhook's host. Raises, in this order: what `check` raises, `InvalidWebhookURL` and
        `WebhookTargetForbidden` after that lookup, `UploadNotFound`, `UploadSlotExpired` and
        `UploadNotAvailable` for an upload, `InvalidRequest` for a `preview_id` that can't be continued, what
        the account gate raises, `InvalidRequest` for options the engine can't fulfil, `EngineUnavailable`,
        `QueueBusy`.
        """
        if not spec.checked:
            spec = self.check(spec, caller=caller)
        if job_id is not None and (existing := await self._store.get(job_id)) is not None:
            return existing
        if spec.webhook_url is not None:
            spec = replace(spec, webhook_url=await self._checks.webhook_targets.check(spec.webhook_url))
        mode = _mode(caller)
        url, preview_id, extra = spec.audio_url, spec.preview_id, spec.extra
        if spec.upload_id is not None:
            assert caller is not None
            uploads = self._uploads
            if uploads is None:
                raise UploadNotFound
            # Only a job that is admitted fixes the bytes: after a refusal the client may still send others.
            await uploads.check(spec.upload_id, caller.account_id)
            max_open = await self._checks.admit(caller, mode, spec.options, tier=extra.tier)
            slot = await uploads.take(spec.upload_id, caller.account_id)
            url = upload_url(slot.id)
            file = UploadedFile(slot.filename, slot.content_type, slot.size_bytes)
            extra = replace(extra, upload=file, title=title_of(await uploads.ends(slot)))
        else:
            if preview_id is not None:
                await self._check_preview(preview_id, url)
            max_open = await self._checks.admit(caller, mode, spec.options, tier=extra.tier)
        job = NewJob(
            id=job_id or new_job_id(spec.origin),
            mode=mode,
            audio_url=url,
            base_url=base_url.rstrip("/"),
            options=spec.options,
            account_id=caller.account_id if caller else None,
            api_key_id=caller.api_key_id if caller else None,
            origin=spec.origin,
            preview_id=preview_id if mode == "full" else None,
            upload_id=spec.upload_id,
            webhook_url=spec.webhook_url,
            extra=extra,
        )
        events = JobEvents(job.id, job.base_url)
        first = events.status("queued", "validating_url")
        if mode == "test" and spec.origin == "alefbot":
            # The answer to its POST has the transcript.
            change, rest = canned_transcript(events, spec.options, extra)
            webhook = end_webhook(job, "completed")
            record = await self._store.create_ended(job, change, [first, *rest], webhook=webhook)
        else:
            max_queued = self._options.max_queued
            record = await self._store.create(job, first, max_queued=max_queued, max_open=max_open)
            await self._wakeups.notify_job()
        _log.info("job_created", job_id=record.id, mode=record.mode, origin=record.origin)
        return record

    async def get(self, job_id: str, caller: Caller | None, origin: Origin = "stenobird") -> JobRecord:
        """Return the job. Raises the same `TranscriptNotFound` if it does not exist or is not the caller's.

        For `origin` alefbot only the jobs of alefbot exist, for any other only the other ones. A preview can
        be read by anyone who has its id, any other job by its account. The id of such a job without a key is
        answered with `MissingAPIKey`: ids can't be guessed, so the owner forgot the header.
        """
        job = await self._store.get(job_id)
        if job is None or (job.origin == "alefbot") != (origin == "alefbot"):
            raise TranscriptNotFound
        if job.mode == "preview" and origin != "alefbot":
            return job
        if caller is None:
            raise MissingAPIKey
        if not _owns(job, caller):
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

    async def name_speakers(self, job_id: str, caller: Caller | None, names: Mapping[str, str]) -> JobRecord:
        """Replace the names of a finished transcript's speakers, and return its job.

        Raises what `result` raises, `ReadOnlyKey`, and `InvalidRequest` for a preview, which belongs to
        nobody, and for a label that the transcript does not have.
        """
        job, transcript = await self.result(job_id, caller)
        if caller is not None:
            caller.require_write()
        if job.mode == "preview":
            raise InvalidRequest(
                "The speakers of a preview can't be named. Transcribe all of it with a key first.",
                details={"field": "id"},
            )
        labels = {segment.speaker for segment in transcript.segments}
        labels |= {word.speaker for segment in transcript.segments for word in segment.words}
        if unknown := names.keys() - labels:
            raise InvalidRequest(
                f'"names" is not valid: there is no "{min(unknown)[:40]}" in this transcript.',
                details={"field": "names"},
            )
        job = await self._store.name_speakers(job_id, names)
        _log.info("speakers_named", job_id=job_id, speakers=len(names))
        return job

    async def transcript_of(self, job: JobRecord) -> Transcript:
        """Return the transcript of a job so far, built from its events.

        Raises `TranscriptNotFound` for a job that was deleted since `job` was read: what is left of its text
        must not pass for all of it.
        """
        events = await self._store.all_events(job.id)
        if not events or events[-1].seq < job.last_seq:
            raise TranscriptNotFound
        return read_transcript(job, events)

    async def cancel_or_delete(
        self, job_id: str, caller: Caller | None, origin: Origin = "stenobird"
    ) -> JobRecord | None:
        """Cancel a job under way and return it, or delete a finished one and return `None`.

        A job without a worker is `cancelled` at once; one that a worker holds, or whose audio is live, ends
        within moments, and its record says `cancel_requested` until then. Raises `TranscriptNotFound`,
        `MissingAPIKey`, `ReadOnlyKey`.
        """
        job = await self._get_to_write(job_id, caller, origin)
        if job.terminal:
            await self._store.delete(job.id)
            _log.info("job_deleted", job_id=job.id)
            await self._discard(job.id)
            await self._wakeups.notify_event(job.id)
            return None
        return await self._cancel(job)

    async def _cancel(self, job: JobRecord) -> JobRecord:
        done = JobEvents(job.id, job.base_url).done("cancelled")
        job = await self._store.request_cancel(job.id, [done], webhook=end_webhook(job, "cancelled"))
        _log.info("job_cancelled" if job.terminal else "job_cancel_requested", job_id=job.id)
        await self._wakeups.notify_event(job.id)
        await self._wakeups.notify_job()  # of live audio that no worker holds
        if job.terminal:
            await self._discard(job.id)
        return job

    async def stop(self, job_id: str, caller: Caller | None) -> JobRecord:
        """Stop the transcription of live audio and return the job, which then ends within moments.

        Its record says `stop_requested_at` until then. What was transcribed is kept and the job completed; if
        nothing was, it is cancelled, at once if no audio has been found yet. A job that has ended is returned
        as it is. Raises `TranscriptNotLive` for a recording, and what `cancel_or_delete` raises.
        """
        job = await self._get_to_write(job_id, caller)
        if job.terminal:
            return job
        if job.source is None:
            return await self._cancel(job)
        job = await self._store.request_stop(job.id)
        _log.info("job_stop_requested", job_id=job.id)
        await self._wakeups.notify_event(job.id)
        await self._wakeups.notify_job()
        return job

    async def stream(
        self, job_id: str, caller: Caller | None, after: int = 0, *, take: Take = take_nothing
    ) -> AsyncGenerator[Page, None]:
        """Yield the job's events with a higher `seq` than `after`, in order, until `done`.

        Committed events come first, new ones as they are committed; each item is all that is due, at most a
        page, shared with other readers (`JobTails`). An item without events is a ping, due after
        `sse_ping_seconds` of silence. There is no queue: a slow reader costs at most a page of events. What
        `take` takes is not yielded. Raises `TranscriptNotFound` before the first item; ends early if the job
        is deleted.
        """
        job = await self.get(job_id, caller)
        async with self._tails.of(job_id, job.last_seq) as tail:
            while (page := await tail.after(after, take)) is not None:
                yield page
                if page:
                    after = page[-1].seq
                    if page[-1].event == "done":
                        return

    async def purge(self, *, older_than: float) -> Sequence[str]:
        """Delete finished jobs that ended before this time, with what is left of their audio."""
        purged = await self._store.purge(older_than=older_than)
        for job_id in purged:
            await self._discard(job_id)
        return purged

    async def list(self, caller: Caller | None, page: JobPage) -> tuple[Sequence[JobRecord], bool]:
        """Return a page of the account's jobs, newest first, and whether there are more after it.

        Raises `MissingAPIKey`, and `InvalidRequest` for a limit outside 1 to 100.
        """
        if caller is None:
            raise MissingAPIKey
        if not 1 <= page.limit <= MAX_LIST:
            raise InvalidRequest(f'"limit" must be 1 to {MAX_LIST}.', details={"field": "limit"})
        one_more = replace(page, limit=page.limit + 1, mode=caller.only_mode)
        jobs = await self._store.list_jobs(caller.account_id, one_more)
        return jobs[: page.limit], len(jobs) > page.limit

    async def count(self, caller: Caller, page: JobPage) -> int:
        """Return how many jobs there are on all pages."""
        return await self._store.count_jobs(caller.account_id, replace(page, mode=caller.only_mode))

    async def _get_to_write(
        self, job_id: str, caller: Caller | None, origin: Origin = "stenobird"
    ) -> JobRecord:
        job = await self.get(job_id, caller, origin)
        if job.account_id is not None and not _owns(job, caller):
            raise TranscriptNotFound
        if caller is not None:
            caller.require_write()
        return job

    async def _check_preview(self, preview_id: str, audio_url: str) -> None:
        preview = await self._store.get(preview_id)
        if preview is None or preview.mode != "preview":
            reason = "there is no such preview (previews are kept for a limited time)"
        elif not preview.terminal:
            reason = "that preview has not ended yet; wait for its done event"
        elif preview.status != "preview_complete":
            reason = f"that preview {preview.status}, so there is nothing to continue from"
        elif preview.audio_url != audio_url:
            reason = "that preview is of another audio_url"
        else:
            return
        raise InvalidRequest(
            f'"preview_id" can\'t be used: {reason}. Leave it out to start from the beginning.',
            details={"field": "preview_id"},
        )


def new_job_id(origin: Origin = "stenobird") -> str:
    """Return an unguessable id: `tr_` and 22 base62 digits, 131 bits; a random UUID for alefbot."""
    return str(uuid.uuid4()) if origin == "alefbot" else f"tr_{random_base62(ID_DIGITS)}"


async def retry_job(store: JobStore, queue: QueueStore, job_id: str) -> str:
    """Queue a new job like a failed one, and return its id.

    Raises `TranscriptNotFound`, and `InvalidRequest` for a job that has not failed.
    """
    job = await store.get(job_id)
    if job is None:
        raise TranscriptNotFound
    new_id = new_job_id(job.origin)
    await queue.retry(job_id, new_id, JobEvents(new_id, job.base_url).status("queued", "validating_url"))
    return new_id


async def remove_account_jobs(
    store: JobStore, account_id: str, *, discard: Callable[[str], Awaitable[None]]
) -> int:
    """Cancel the jobs of a deleted account and delete those that have ended; return how many still ran.

    Works in batches, and goes on after a crash when it is called again. A job that a worker holds ends when
    its lease is next renewed, and is deleted by the next call. Only live audio is billed then.
    """
    for job_id in await store.open_job_ids(account_id):
        job = await store.get(job_id)
        if job is not None and not job.cancel_requested:
            await store.request_cancel(job_id, [JobEvents(job_id, job.base_url).done("cancelled")])
    still_open = await store.open_job_ids(account_id)  # before deleting: a job may end meanwhile
    while deleted := await store.delete_of_account(account_id):
        for job_id in deleted:
            await discard(job_id)
    return len(still_open)


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
