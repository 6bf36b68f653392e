"""A new job: its description, the same for all APIs, and the checks that it has to pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stenobird.errors import EngineUnavailable, InvalidRequest
from stenobird.ports import Caller, JobExtra, JobRecord, Mode, Origin, RecognitionOptions, VoiceFinder
from stenobird.sources import AudioSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stenobird.speech.engines import SpeechEngines
    from stenobird.webhooks.service import WebhookTargets


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job to create, of a URL with audio behind it or of a file that the caller has uploaded.

    `preview_id` names a finished preview of the same URL to continue from. `extra` is what else the client
    asks for; `JobService.check` sets `checked`.
    """

    audio_url: str = ""
    preview_id: str | None = None
    upload_id: str | None = None
    options: RecognitionOptions = field(default_factory=RecognitionOptions)
    extra: JobExtra = field(default_factory=JobExtra)
    webhook_url: str | None = None
    origin: Origin = "stenobird"
    checked: bool = False


def upload_url(upload_id: str) -> str:
    """Return the URL of an upload inside the service; `uploads` opens it."""
    return f"upload:{upload_id}"


def uploaded_source(job: JobRecord) -> AudioSource:
    """Return the source of a job whose audio was uploaded; there is nothing to find."""
    assert job.upload_id is not None
    file, url = job.extra.upload, upload_url(job.upload_id)
    return AudioSource(
        submitted_url=url,
        media_url=url,
        final_url=url,
        technique="upload",
        reason="The file was uploaded.",
        title=job.extra.title or (_title(file.filename) if file else None),
        content_type=file.content_type if file else None,
        size_bytes=file.size_bytes if file else None,
    )


def _title(filename: str) -> str | None:
    name = filename.replace("\\", "/").rpartition("/")[2]
    return (name.rpartition(".")[0] or name).strip() or None


ENGINE_RETRY_SECONDS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestChecks:
    """The checks of one service.

    `url` returns the URL as it will be fetched or raises `InvalidURL`. `engines` and `speakers` are `None` in
    a process that runs no jobs: it accepts every mode and option, but speaker labels only if its settings,
    like those of the workers, name the models (`labels_speakers`). `account` raises what keeps an account
    from new jobs (a failed payment, a reached cap), and returns how many jobs it may have open.
    `webhook_targets` checks webhook URLs.
    """

    url: Callable[[str], str]
    webhook_targets: WebhookTargets
    engines: SpeechEngines | None = None
    labels_speakers: bool = False
    speakers: VoiceFinder | None = None
    account: Callable[[Caller, Mode], Awaitable[int | None]] | None = None

    async def admit(
        self, caller: Caller | None, mode: Mode, options: RecognitionOptions, tier: str | None = None
    ) -> int | None:
        """Return how many jobs the account may have under way, `None` for no bound.

        Raises, in this order: what `account` raises, what `SpeechEngines.check` raises, `InvalidRequest` for
        speaker labels where there are none, `EngineUnavailable`. A test job needs no engine.
        """
        max_open_jobs = None
        if caller is not None and self.account is not None:
            max_open_jobs = await self.account(caller, mode)
        if mode == "test":
            return max_open_jobs
        if self.engines is not None:
            self.engines.check(options)
        if options.speakers and not self.labels_speakers:
            raise InvalidRequest(
                "This service labels no speakers. Leave speakers out; the operator can set "
                "STENOBIRD_SPEAKER_MODEL.",
                details={"field": "speakers"},
            )
        refusal = self.engines.refusal(mode, tier) if self.engines is not None else None
        if refusal is None and options.speakers and self.speakers is not None:
            refusal = self.speakers.refusal()
        if refusal is not None:
            raise EngineUnavailable(refusal, retry_after_seconds=ENGINE_RETRY_SECONDS)
        return max_open_jobs
