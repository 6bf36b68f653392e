"""The seams of the service: what a feature may ask of the outside world, as Protocols and their values.

Each port has one contract suite under `tests/contract` that every implementation passes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from stenobird.sources import AudioSource, Verdict
    from stenobird.transcript import Segment

SAMPLE_RATE = 16_000
"""Samples a second of every PCM array in the service: mono, what Whisper, Silero and pocketsphinx expect."""

PCM: TypeAlias = npt.NDArray[np.int16]
"""Mono audio at `SAMPLE_RATE`, shape `(n,)`, int16."""


class Clock(Protocol):
    """Time as the service sees it, so that tests decide how it passes."""

    def time(self) -> float:
        """Return seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; cancellable."""


# --- finding audio ------------------------------------------------------------------------------------------


class VerdictSink(Protocol):
    """Receives each rung's verdict as it falls; the runner turns it into an event."""

    async def __call__(self, verdict: Verdict) -> None:
        """Take one verdict. May raise `LeaseLost`, which stops the search."""


@dataclass(frozen=True, slots=True)
class FoundAudio:
    """The chosen source, and the open response that already holds its first bytes, if there is one.

    Whoever takes `opened` owns it and closes it. It is `None` when the source was recorded earlier and the
    download must start anew.
    """

    source: AudioSource
    opened: OpenedMedia | None = None


class OpenedMedia(Protocol):
    """A response whose body is the media from byte `offset` on; the bytes already read are not lost."""

    offset: int
    status: int
    headers: Mapping[str, str]
    final_url: str
    total_bytes: int | None

    def body(self) -> AsyncIterator[bytes]:
        """Yield the body, the sniffed bytes first. Raises `EgressError` when it breaks off."""

    async def aclose(self) -> None:
        """Drop the connection. Safe to call twice."""


class AudioFinder(Protocol):
    """Turns a URL into the audio behind it."""

    async def find(self, url: str, *, preview: bool, report: VerdictSink) -> FoundAudio:
        """Return the one right audio. Raises a `JobError` that says what was tried.

        With `preview`, the first request is bounded to 64 KiB, since only 15 seconds will be heard.
        """


# --- hearing audio ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """Bounds on one job's media. `max_samples` counts decoded samples from the start of the audio."""

    max_bytes: int
    max_samples: int
    stop_samples: int | None = None
    """Stop cleanly here (a preview); `max_samples` raises `AudioTooLarge` instead."""


@dataclass(frozen=True, slots=True)
class AudioRequest:
    """One job's wish to hear its source. `start_sample` skips what an earlier worker has committed.

    `heard` is what the checkpoint recorded about the bytes that were heard, see `AudioStream.heard`.
    """

    job_id: str
    source: AudioSource
    limits: AudioLimits
    start_sample: int = 0
    heard: Mapping[str, Any] | None = None
    opened: OpenedMedia | None = None


class AudioStream(Protocol):
    """Decoded audio, in order, pulled by its reader: an async iterator of PCM blocks of at most a second.

    At most 60 s are decoded ahead of the reader. Ends cleanly at the end of the audio or at
    `limits.stop_samples`; raises a `JobError` (`AudioUnreachable`, `AudioTooLarge`,
    `AudioContentTypeNotSupported`) when nothing more can be heard and nothing was.
    """

    def __aiter__(self) -> AsyncIterator[PCM]:
        """Yield PCM blocks from `start_sample` on."""

    @property
    def duration_seconds(self) -> float | None:
        """Length of the whole audio as far as it is known: exact after the end, the container's before."""

    @property
    def warning(self) -> str | None:
        """What is wrong with audio that could be heard only in part (`None` if nothing is)."""

    @property
    def heard(self) -> dict[str, Any]:
        """Facts that identify the bytes heard so far (size, type, ETag, SHA-256 of a prefix), JSON-safe."""


class AudioOpener(Protocol):
    """Opens a source for hearing."""

    def open(self, request: AudioRequest) -> AbstractAsyncContextManager[AudioStream]:
        """Return the stream; leaving the context ends the download, the decoder child and open files.

        The spool of the job stays on disk until `discard`.
        """

    async def discard(self, job_id: str) -> None:
        """Delete what was spooled for the job; fine if there is nothing."""


# --- speech -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecognitionOptions:
    """What a client may wish of one transcript. `language` is ISO 639-1, `None` to detect it."""

    language: str | None = None
    prompt: str | None = None
    word_timestamps: bool = False
    task: Literal["transcribe", "translate"] = "transcribe"


@dataclass(frozen=True, slots=True)
class SpeechCheckpoint:
    """Where recognition stands after a committed window: enough to go on as if nothing had happened.

    `next_sample` is the first sample not yet accounted for. `language_scores` are summed log-probabilities
    while the language is open; `language` is set once it is pinned. JSON-safe through `to_json`.
    """

    window_index: int = 0
    next_sample: int = 0
    language: str | None = None
    language_scores: Mapping[str, float] = field(default_factory=dict)
    speech_seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return {
            "window_index": self.window_index,
            "next_sample": self.next_sample,
            "language": self.language,
            "language_scores": dict(self.language_scores),
            "speech_seconds": self.speech_seconds,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> SpeechCheckpoint:
        """Read what `to_json` wrote."""
        return cls(
            window_index=int(row["window_index"]),
            next_sample=int(row["next_sample"]),
            language=row["language"],
            language_scores={str(k): float(v) for k, v in row["language_scores"].items()},
            speech_seconds=float(row["speech_seconds"]),
        )


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What one window said. `checkpoint` is the state after it; `segments` may be empty (silence).

    `language` is the pinned or best guess so far. Segment texts keep the model's leading spaces.
    """

    segments: tuple[Segment, ...]
    checkpoint: SpeechCheckpoint
    language: str | None
    engine: str
    model: str


Lane: TypeAlias = Literal["preview", "full"]


class SpeechRecognizer(Protocol):
    """Turns audio into windows of text, in order."""

    engine: str
    model: str

    def transcribe(
        self,
        audio: AsyncIterator[PCM],
        *,
        job_id: str,
        lane: Lane,
        checkpoint: SpeechCheckpoint,
        options: RecognitionOptions,
    ) -> AsyncIterator[WindowResult]:
        """Yield one result a window, in order, from `checkpoint` on; the audio starts at its `next_sample`.

        The windows and their text depend only on the audio, the checkpoint and the options (on CPU), so a
        resume continues the undisturbed run. Closing the iterator cancels the windows in flight. Raises
        `TranscriptionFailed` when a window can't be decoded after a retry, `EngineUnavailable` when no
        engine can be started.
        """

    async def ready(self) -> bool:
        """Whether a window sent now would be decoded without loading or downloading anything first."""

    def status(self) -> Mapping[str, Any]:
        """Describe engine, model, device, replicas and any degradation, for `/healthz` and `doctor`."""


# --- storage ------------------------------------------------------------------------------------------------

JobStatus: TypeAlias = Literal[
    "queued", "transcribing", "completed", "preview_complete", "failed", "cancelled"
]
Mode: TypeAlias = Literal["preview", "full", "test"]


@dataclass(frozen=True, slots=True)
class EventRow:
    """One committed event: `seq` counts from 1 within a job; `data` is the JSON text exactly as sent."""

    seq: int
    event: str
    data: str


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event about to be committed; `chunk_index` is set for `transcript` events only."""

    event: str
    data: str
    chunk_index: int | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job about to be created. `base_url` is where the client reached us; its links start with it."""

    id: str
    mode: Mode
    audio_url: str
    base_url: str
    options: RecognitionOptions
    account_id: str | None = None
    api_key_id: str | None = None
    origin: Literal["stenobird", "alefbot", "openai"] = "stenobird"
    preview_id: str | None = None
    upload_id: str | None = None
    webhook_url: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job's row as last committed. Times are seconds since the epoch, UTC."""

    id: str
    mode: Mode
    origin: str
    audio_url: str
    base_url: str
    options: RecognitionOptions
    account_id: str | None
    status: JobStatus
    stage: str
    created_at: float
    updated_at: float
    completed_at: float | None
    last_seq: int
    next_chunk_index: int
    cancel_requested: bool
    source: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    warning: str | None = None
    duration_seconds: float | None = None
    language: str | None = None
    engine: str | None = None
    model: str | None = None
    billable_minutes: int | None = None
    preview_id: str | None = None
    upload_id: str | None = None
    webhook_url: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    audio_seconds: float = 0.0
    """Audio accounted for by the last checkpoint."""

    @property
    def terminal(self) -> bool:
        """Whether nothing more will be committed for this job."""
        return self.status in {"completed", "preview_complete", "failed", "cancelled"}

    @property
    def result_ready(self) -> bool:
        """Whether the result can be fetched."""
        return self.status in {"completed", "preview_complete"}


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one job. `token` is part of the WHERE of every write."""

    job_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that a worker has just leased, with where the last worker stopped."""

    lease: Lease
    job: JobRecord
    source: AudioSource | None
    checkpoint: SpeechCheckpoint | None
    heard: Mapping[str, Any] | None
    attempts: int
    """Claims since the last progress, this one included."""


@dataclass(frozen=True, slots=True)
class JobChange:
    """The columns of a job that one commit changes; `None` leaves a column as it is."""

    status: JobStatus | None = None
    stage: str | None = None
    source: AudioSource | None = None
    checkpoint: SpeechCheckpoint | None = None
    heard: Mapping[str, Any] | None = None
    duration_seconds: float | None = None
    language: str | None = None
    engine: str | None = None
    model: str | None = None
    warning: str | None = None
    error: Mapping[str, Any] | None = None
    billable_minutes: int | None = None
    extra: Mapping[str, Any] | None = None
    reserve_units: int | None = None
    """Wallet units that the job will probably use, set aside in the same commit."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a job stands, with what only workers may see: how another job carries on from a preview."""

    job: JobRecord
    source: AudioSource | None
    checkpoint: SpeechCheckpoint | None
    heard: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What a completed job costs, written in the commit of `done`. One row a job."""

    job_id: str
    account_id: str
    minutes: int
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message that must leave the service after this commit: a webhook or a meter event."""

    kind: str
    job_id: str
    account_id: str | None
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of an account's jobs of one origin, by offset; `status` counts only jobs with that one."""

    origin: Literal["stenobird", "alefbot", "openai"]
    offset: int = 0
    limit: int = 20
    status: JobStatus | None = None


@runtime_checkable
class JobStore(Protocol):
    """Jobs and their event log. Every method is one transaction; every write is all or nothing."""

    async def create(
        self, job: NewJob, first: NewEvent, *, max_queued: int, max_open: int | None = None
    ) -> JobRecord:
        """Insert the job and its first event; a job with this id that is there already is returned as it is.

        Raises `QueueBusy` when `max_queued` jobs are waiting, `RateLimited` when `max_open` jobs of the
        account are under way.
        """

    async def create_ended(
        self,
        job: NewJob,
        change: JobChange,
        events: Sequence[NewEvent],
        *,
        outbox: Sequence[OutboxRow] = (),
    ) -> JobRecord:
        """Insert a job that has ended already (a test key's), with all its events, in one transaction."""

    async def get(self, job_id: str) -> JobRecord | None:
        """Return the job, or `None`."""

    async def resume_point(self, job_id: str) -> ResumePoint | None:
        """Return the job with its full source and checkpoint, or `None`."""

    async def list_jobs(
        self, account_id: str, *, before: tuple[float, str] | None = None, limit: int = 20
    ) -> list[JobRecord]:
        """Return an account's jobs, newest first, strictly older than the `(created_at, id)` of `before`.

        Those of the second dialect are not among them: see `list_page`.
        """

    async def list_page(self, account_id: str, page: JobPage) -> tuple[list[JobRecord], int]:
        """Return the jobs of a page, newest first, and how many there are on all pages."""

    async def events_after(self, job_id: str, seq: int, *, limit: int = 500) -> list[EventRow]:
        """Return committed events with a higher `seq`, in order, at most `limit`."""

    async def claim(self, worker_id: str, *, lanes: Sequence[Lane]) -> Claim | None:
        """Lease the oldest claimable job of these lanes (queued, or its lease has expired), if any."""

    async def renew(self, lease: Lease) -> bool:
        """Extend the lease by 60 s of the database's clock; return whether a cancel was requested.

        Raises `LeaseLost` when the token no longer matches.
        """

    async def append(self, lease: Lease, change: JobChange, events: Sequence[NewEvent]) -> int:
        """Commit a state change with its events and extend the lease; return the last `seq`.

        After an ambiguous COMMIT the rows are re-read, so the events exist once. Raises `LeaseLost`, and
        `InsufficientCredits` where a prepaid account can't reserve the units.
        """

    async def finish(
        self,
        lease: Lease,
        change: JobChange,
        events: Sequence[NewEvent],
        *,
        usage: UsageRow | None = None,
        outbox: Sequence[OutboxRow] = (),
    ) -> None:
        """Commit the end of a job, its usage row and its outbox rows together, and end the lease."""

    async def release(self, lease: Lease) -> None:
        """Give the job back to the queue without ending it (drain). The attempt is not counted."""

    async def request_cancel(
        self, job_id: str, terminal_events: Sequence[NewEvent], *, outbox: Sequence[OutboxRow] = ()
    ) -> JobRecord:
        """End a job that nobody works on at once with these events, or ask its worker to end it.

        A finished job is returned as it is. Raises `TranscriptNotFound` when there is no such job.
        """

    async def delete(self, job_id: str) -> None:
        """Delete a finished job with its events; its usage row stays."""

    async def expire_leases(self) -> int:
        """End every lease now (only by the holder of the data folder's lock); return how many there were."""

    async def purge(self, *, older_than: float) -> list[str]:
        """Delete finished jobs that ended before this time; return their ids."""

    async def open_job_ids(self) -> list[str]:
        """Return the ids of the jobs that have not ended, whose spools must stay."""

    async def counts(self) -> Mapping[str, int]:
        """Return the number of jobs by status, for metrics."""


class Wakeups(Protocol):
    """Hints that something was committed. They carry no truth: a lost one costs a poll interval, no more."""

    async def notify_job(self) -> None:
        """Say that a job can be claimed."""

    async def notify_event(self, job_id: str) -> None:
        """Say that a job has a new event, or a cancel request."""

    async def wait_job(self, timeout_seconds: float) -> None:
        """Return at the next `notify_job`, or after the timeout."""

    def watch(self, job_id: str) -> AbstractAsyncContextManager[Watch]:
        """Start listening for one job's events; a notification from here on is not missed."""


class Watch(Protocol):
    """One listener's view of a job's notifications."""

    async def wait(self, timeout_seconds: float) -> bool:
        """Return `True` at the next notification (or at once if one came since the last call)."""


# --- accounts -----------------------------------------------------------------------------------------------

KeyMode: TypeAlias = Literal["live", "test"]
KeyScope: TypeAlias = Literal["full_access", "read_only"]
Tier: TypeAlias = Literal["free", "premium", "platinum"]
AccountState: TypeAlias = Literal["active", "past_due", "cancelled", "disputed"]
"""What the last payment says; an account without payments is active."""
AccountBilling: TypeAlias = Literal["operator", "metered", "prepaid"]
"""Who pays for what the wallet does not: nobody (the operator's own use), Stripe's invoice, or no one may."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as its API key says."""

    account_id: str
    api_key_id: str
    mode: KeyMode
    scope: KeyScope
    tier: Tier


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account's row. Times are seconds since the epoch, UTC."""

    id: str
    name: str
    tier: Tier
    created_at: float
    email: str | None = None
    state: AccountState = "active"
    billing: AccountBilling = "metered"
    deleted_at: float | None = None


@dataclass(frozen=True, slots=True)
class NewAccountRow:
    """An account about to be made."""

    id: str
    name: str
    tier: Tier
    billing: AccountBilling
    email: str | None = None


@dataclass(frozen=True, slots=True)
class WalletEntry:
    """One change of a wallet: units added (positive) or used by a job."""

    id: str
    units: int
    reason: str
    job_id: str | None
    created_at: float


@dataclass(frozen=True, slots=True)
class WalletRecord:
    """A wallet: its balance, what running jobs have reserved of it, and its entries, newest first."""

    units: int
    reserved_units: int
    entries: tuple[WalletEntry, ...]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who changed what: `by` is a key's id, or `operator`."""

    id: str
    account_id: str | None
    action: str
    subject: str
    by: str | None
    detail: Mapping[str, Any]
    created_at: float


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One ledger row: a completed job and who paid for its minutes."""

    job_id: str
    minutes: int
    credit_units: int
    metered_minutes: int
    audio_seconds: float
    created_at: float


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Ledger rows of some time, added up. `day` is a date, UTC (`YYYY-MM-DD`)."""

    day: str
    jobs: int
    minutes: int
    credit_units: int
    metered_minutes: int
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether an account may have work done: its plan, how it pays, and the wallet's unreserved units."""

    account_id: str
    tier: Tier
    state: AccountState
    billing: AccountBilling
    available_units: int


class StandingStore(Protocol):
    """Where the standing of accounts is kept."""

    async def standing(self, account_id: str) -> Standing | None:
        """Return the account's standing as last committed; `None` when it is gone."""


class AccountStore(StandingStore, Protocol):
    """Accounts and their wallets. Every method is one transaction; changes leave an audit row.

    A deleted account is gone for all but the ledger: `get` and `standing` return `None`. `by` is who did it:
    the id of a key, or `operator`.
    """

    async def create_account(self, account: NewAccountRow, *, by: str) -> AccountRecord:
        """Store the account. Raises `InvalidRequest` when its id is taken."""

    async def get(self, account_id: str) -> AccountRecord | None:
        """Return the account."""

    async def list_accounts(self, *, after: str = "", limit: int = 100) -> Sequence[AccountRecord]:
        """Return accounts by id, from the first one after `after`."""

    async def set_plan(
        self, account_id: str, *, tier: Tier | None, billing: AccountBilling | None, by: str
    ) -> AccountRecord | None:
        """Change tier or billing or both; `None` when there is no such account."""

    async def delete_account(self, account_id: str, *, by: str) -> bool:
        """Forget name, address, answers, messages and uploads; return whether the account was there.

        Keys, ledger and wallet rows stay, and so does what Stripe needs for its last invoice.
        """

    async def job_ids(self, account_id: str, *, after: str = "", limit: int = 100) -> Sequence[str]:
        """Return the ids of the account's jobs of any origin, in order, from the first one after `after`."""

    async def deleted_with_jobs(self) -> Sequence[str]:
        """Return the deleted accounts that have jobs left, at most 100."""

    async def add_units(self, account_id: str, units: int, *, reason: str, by: str) -> WalletRecord | None:
        """Add units to the wallet (negative: take them back); `None` when there is no such account."""

    async def wallet(self, account_id: str, *, limit: int = 20) -> WalletRecord:
        """Return the wallet with its newest entries."""

    async def audit(self, account_id: str | None, *, limit: int = 100) -> Sequence[AuditEntry]:
        """Return the newest audit rows of an account (of all for `None`), newest first."""


class UsageStore(Protocol):
    """The ledger as accounts may read it. Nothing here writes: rows are made by `JobStore.finish`."""

    async def usage_by_day(self, account_id: str, *, since: float, until: float) -> Sequence[UsageSum]:
        """Return the ledger of `[since, until)` by day, UTC, oldest first; days without jobs are left out."""

    async def usage_by_job(
        self,
        account_id: str,
        *,
        since: float,
        until: float,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> Sequence[UsageRecord]:
        """Return ledger rows of `[since, until)`, newest first, older than `before`'s time and job id."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key about to be stored: the SHA-256 (hex) of what follows its prefix, never the key itself."""

    id: str
    account_id: str
    name: str
    key_hash: str
    mode: KeyMode
    scope: KeyScope
    last_four_chars: str


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A stored key as its owner may see it."""

    id: str
    account_id: str
    name: str
    mode: KeyMode
    scope: KeyScope
    last_four_chars: str
    created_at: float
    revoked_at: float | None = None

    @property
    def is_valid(self) -> bool:
        """Whether requests with this key are accepted."""
        return self.revoked_at is None


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key found by its hash; `account` is `None` when the account is gone and the key's row outlived it."""

    key: KeyRecord
    key_hash: str
    account: AccountRecord | None


class KeyStore(Protocol):
    """API keys and the accounts they stand for. Every method is one transaction; changes leave an audit row.

    `by` is who did it: the id of a key, or `operator`.
    """

    async def ensure_account(
        self, account_id: str, *, name: str, tier: Tier, billing: AccountBilling = "metered"
    ) -> AccountRecord:
        """Return the account, made now if there is none. Safe to call at the same time from two processes."""

    async def add_key(self, key: NewKey, *, by: str = "operator", max_valid: int | None = None) -> KeyRecord:
        """Store a key. Raises `InvalidRequest` when its account does not exist or has `max_valid` already."""

    async def find_key(self, key_hash: str) -> FoundKey | None:
        """Return the key with this hash, revoked or not."""

    async def list_keys(self, account_id: str | None = None) -> list[KeyRecord]:
        """Return an account's keys (all keys for `None`), revoked ones included, oldest first."""

    async def get_key(self, key_id: str) -> KeyRecord | None:
        """Return the key with this id, revoked or not."""

    async def revoke_key(
        self, key_id: str, *, account_id: str | None = None, by: str = "operator"
    ) -> KeyRecord | None:
        """Revoke the key (of this account only, where given); `None` when there is none. Idempotent."""

    async def rotate_key(self, key_id: str, new: NewKey, *, by: str = "operator") -> KeyRecord | None:
        """Store `new` and revoke the old key in one commit; `None` when that is not there or not valid."""


# --- idempotency keys ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a request with an Idempotency-Key was answered: sent again to whoever repeats it."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """The right to work on a request. What it makes has the id `resource_id`, so it is made once."""

    scope_hash: str
    resource_id: str
    token: str


class IdempotencyStore(Protocol):
    """Idempotency keys, kept 24 hours on the database's clock. Every method is one transaction."""

    async def look(self, scope_hash: str, body_hash: str) -> StoredAnswer | None:
        """Return the stored answer, if there is one, without writing.

        Raises `IdempotencyMismatch` where the body was another, `IdempotencyInProgress` while it is made.
        """

    async def claim(
        self, scope_hash: str, body_hash: str, *, account_id: str | None, resource_id: str
    ) -> IdempotencyClaim | StoredAnswer:
        """Return the right to work on the request, or the answer that was stored meanwhile.

        The claim's `resource_id` is that of the first claim, whoever made it and died. Raises as `look`.
        """

    async def answer(self, claim: IdempotencyClaim, answer: StoredAnswer) -> None:
        """Store the answer; nothing happens when another request has taken the claim over."""

    async def forget(self, claim: IdempotencyClaim) -> None:
        """Remove the claim: nothing was made, and the next request may have another body."""

    async def abandon(self, claim: IdempotencyClaim) -> None:
        """Let the next request take over at once: whether something was made is not known."""

    async def purge(self) -> int:
        """Delete what is older than 24 hours; return how many there were."""


# --- uploads ------------------------------------------------------------------------------------------------


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
