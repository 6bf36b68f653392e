"""What the second dialect needs of the rest of the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from stenobird.errors import TranslationUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from stenobird.accounts.keys import KeyFamily
    from stenobird.jobs.spec import JobSpec
    from stenobird.ports import (
        Caller,
        JobPage,
        JobRecord,
        KeyMode,
        KeyRecord,
        KeyScope,
        Origin,
        StandingStore,
        UploadRecord,
    )
    from stenobird.transcript import Transcript
    from stenobird.uploads.schemas import CreateUpload


class UploadedJobs(Protocol):
    """The jobs of this dialect; the other one's are `TranscriptNotFound` here."""

    async def create(
        self, spec: JobSpec, *, caller: Caller, base_url: str, job_id: str | None = None
    ) -> JobRecord:
        """Commit a job of an upload, or return the one that has this id already."""

    async def get(self, job_id: str, caller: Caller, origin: Origin) -> JobRecord:
        """Return the job. Raises `TranscriptNotFound`."""

    async def cancel_or_delete(self, job_id: str, caller: Caller, origin: Origin) -> JobRecord | None:
        """Cancel a job under way and return it, or delete a finished one. Raises `TranscriptNotFound`."""

    async def list(self, caller: Caller, page: JobPage) -> tuple[Sequence[JobRecord], bool]:
        """Return a page of jobs, newest first, and whether there are more after it."""

    async def count(self, caller: Caller, page: JobPage) -> int:
        """Return how many jobs there are on all pages."""

    async def transcript_of(self, job: JobRecord) -> Transcript:
        """Return what a completed job heard."""


class UploadSlots(Protocol):
    """The upload slots, see `uploads.service.UploadService`."""

    def new_id(self) -> str:
        """Return an unguessable id for a slot."""

    async def create(self, wish: CreateUpload, caller: Caller, *, upload_id: str) -> UploadRecord:
        """Make a slot, or return the one that has this id already."""

    async def write(
        self, upload_id: str, caller: Caller, chunks: AsyncIterator[bytes], *, content_length: int | None
    ) -> int:
        """Take its bytes."""


class OwnKeys(Protocol):
    """The keys of an account."""

    async def own_create(
        self, caller: Caller, *, name: str, mode: KeyMode | None, scope: KeyScope, family: KeyFamily
    ) -> tuple[str, KeyRecord]:
        """Make a key of the caller's account; its secret leaves only here."""

    async def own_list(self, caller: Caller) -> Sequence[KeyRecord]:
        """Return the account's keys, revoked ones included."""


class Delivery(Protocol):
    """What a receiver made of a message; `error` says why it was not delivered."""

    @property
    def event_id(self) -> str:
        """The id that the receiver saw."""

    @property
    def delivered(self) -> bool:
        """Whether the receiver answered 2xx."""

    @property
    def status_code(self) -> int | None:
        """The status of the answer, if there was one."""

    @property
    def error(self) -> str | None:
        """What went wrong."""


class WebhookSender(Protocol):
    """Sends signed messages to addresses that clients chose."""

    async def send_test(
        self, account_id: str, url: str, event_type: str, *, mode: KeyMode = "live"
    ) -> Delivery:
        """Send a dummy event now, once, signed as those of this mode are.

        Raises `InvalidWebhookURL` and
        `WebhookTargetForbidden`.
        """


def no_translator() -> str | None:
    """Refuse every translation."""
    return TranslationUnavailable().message


@dataclass(frozen=True, slots=True)
class DialectServices:
    """Everything that only this dialect touches.

    `premium_units` is what a minute of the tier premium_quality costs: 2 where it has a model of its own.
    `translation_refusal` says, in words for the client, why nothing is translated now, or returns `None`.
    """

    jobs: UploadedJobs
    uploads: UploadSlots
    keys: OwnKeys
    standings: StandingStore
    webhooks: WebhookSender
    premium_units: int = 1
    translation_refusal: Callable[[], str | None] = no_translator
