"""Every error that Stenobird raises on purpose: one tree, stable codes, messages that state the remedy.

All dialects render their error bodies from this tree. Only the AlefBot dialect overrides some codes.

    StenobirdError
    ├── RequestError                     the request can't be served; detected before any work starts
    │   ├── InvalidRequest               400 invalid_request
    │   ├── ValidationFailed             422 validation_error (AlefBot dialect)
    │   │   └── RequestTooSlow           408 request_timeout
    │   ├── InvalidURL                   400 invalid_url
    │   ├── MissingAPIKey                401 missing_api_key
    │   ├── InvalidAPIKey                401 invalid_api_key
    │   │   ├── InvalidAPIKeyMode        401 invalid_api_key (AlefBot: invalid_api_key_mode)
    │   │   └── InvalidAPIKeyUser        401 invalid_api_key (AlefBot: invalid_api_key_user)
    │   ├── WebhookRequiresAPIKey        401 webhook_requires_api_key
    │   ├── BillingFailed                402 billing_failed
    │   ├── InsufficientCredits          402 insufficient_credits
    │   ├── ReadOnlyKey                  403 scope_violation_read_only
    │   ├── LiveKeyRequired              403 live_key_required
    │   ├── PlanDowngraded               403 plan_downgraded_api_revoked (AlefBot dialect)
    │   ├── TranscriptNotFound           404 transcript_not_found
    │   ├── KeyNotFound                  404 key_not_found
    │   ├── DeliveryNotFound             404 delivery_not_found
    │   ├── NotFound                     404 not_found (no such route)
    │   ├── MethodNotAllowed             405 method_not_allowed
    │   ├── MalformedHTTP                400 malformed_request (not even HTTP)
    │   ├── HeadTooLarge                 431 head_too_large
    │   ├── UploadNotFound               404 upload_not_found
    │   ├── UploadSlotExpired            410 upload_slot_expired
    │   ├── UploadNotAvailable           409 upload_not_available
    │   ├── EmptyUploadBody              400 empty_upload_body
    │   ├── UploadSizeMismatch           400 upload_size_mismatch
    │   ├── UploadTooLarge               413 upload_too_large
    │   ├── JobNotFound                  404 job_not_found
    │   ├── ArtifactNotReady             409 artifact_not_ready
    │   ├── ArtifactNotFound             404 artifact_not_found
    │   ├── UnsupportedArtifactFormat    400 unsupported_artifact_format
    │   ├── InvalidWebhookURL            400 invalid_webhook_url
    │   ├── WebhookTargetForbidden       400 webhook_url_forbidden_target
    │   ├── TranslationUnavailable       503 translation_unavailable
    │   ├── TranscriptNotReady           409 transcript_not_ready
    │   ├── TranscriptNotLive            409 transcript_not_live
    │   ├── IdempotencyMismatch          409 idempotency_mismatch
    │   ├── IdempotencyInProgress        409 idempotency_in_progress
    │   ├── TranscriptCancelled          410 transcript_cancelled
    │   ├── QueueBusy                    429 queue_busy
    │   ├── RateLimited                  429 rate_limited
    │   ├── InvalidSignature             400 invalid_signature (Stripe's webhook)
    │   ├── BillingUnavailable           503 billing_unavailable
    │   └── EngineUnavailable            503 engine_unavailable
    ├── JobError                         ends a job; its result answers 422 with the same body
    │   ├── UnsupportedURL               unsupported_url
    │   ├── AudioUnreachable             audio_unreachable
    │   ├── AudioSourceNotFound          audio_source_not_found
    │   ├── AudioSourceUnreachable       audio_source_unreachable
    │   ├── DirectoryLookupFailed        directory_lookup_failed
    │   ├── ExtractorUnavailable         extractor_unavailable (503 when refused at POST)
    │   ├── AudioContentTypeNotSupported audio_content_type_not_supported
    │   ├── AudioTooLarge                audio_too_large
    │   └── TranscriptionFailed          transcription_failed; TranslationFailed is one
    │       └── WorkerTrouble            never ends a job: its worker releases it and pauses
    ├── EgressError                      an outgoing request failed; callers translate it to a JobError
    │   ├── DestinationForbidden         the address, name, port or scheme is not public
    │   ├── ConnectFailed                no answer: DNS, TCP, TLS or a timeout
    │   ├── ResponseBroken               the answer broke off or broke HTTP
    │   └── ResponseTooLarge             the answer exceeded a stated cap
    ├── StorageUnavailable               503 storage_unavailable: the database did not answer
    ├── LeaseLost                        another worker owns the job now: stop without writing
    └── ConfigurationError               an operator must change a setting; raised at start-up
        └── DataFolderInUse              storage_unavailable: another process holds the data folder
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

TRY_LATER = "Try again later."
SEND_AUDIO = "Send mp3, m4a, mp4, ogg, webm, flac or wav."
ACCEPTED_URL_EXAMPLES = ("https://example.com/audio-url", "https://media.example.com/path/to/audio.mp3")
_LOCAL_ERRNOS = frozenset(
    {
        # Not EIO: some SSL errors have that number. What writes to the disk raises `WorkerTrouble` itself.
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
        errno.EAGAIN,  # no more processes
    }
)
UNSUPPORTED_URL_EXAMPLES = ("https://example.com/article-without-audio",)


class StenobirdError(Exception):
    """Something went wrong inside Stenobird. Try again; if it stays, send the request id to the operator.

    `code` and `http_status` are part of the public contract. A class states them after its base, and its
    docstring is the default message. `details` are extra public fields; `retry_after_seconds` is set where
    waiting helps.
    """

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    about_url: ClassVar[bool] = False
    """Whether the body carries examples of URLs that work and that don't."""

    def __init_subclass__(
        cls,
        *,
        code: str | None = None,
        status: int | None = None,
        retryable: bool | None = None,
        about_url: bool | None = None,
    ) -> None:
        super().__init_subclass__()
        stated = {"code": code, "http_status": status, "retryable": retryable, "about_url": about_url}
        for name, value in stated.items():
            if value is not None:
                setattr(cls, name, value)

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.message = message or _first_paragraph(type(self))
        self.details = dict(details or {})
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """Return the flat error body of the Stenobird dialect (`/v1`)."""
        body: dict[str, Any] = {"error": self.code, "message": self.message}
        if self.about_url:
            body["accepted_url_examples"] = list(ACCEPTED_URL_EXAMPLES)
            body["unsupported_url_examples"] = list(UNSUPPORTED_URL_EXAMPLES)
        if self.retry_after_seconds is not None:
            body["retry_after_seconds"] = self.retry_after_seconds
        body.update(self.details)
        return body


def _first_paragraph(cls: type[StenobirdError]) -> str:
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


class RequestError(StenobirdError):
    """The request can't be served as it stands."""


class InvalidRequest(RequestError, code="invalid_request", status=400):
    """The request body must be a JSON object with "audio_url", a public http or https URL."""


class CompressedRequest(InvalidRequest, status=415):
    """The request body is compressed. Send it without Content-Encoding."""


class RequestTooSlow(InvalidRequest, code="request_timeout", status=408):
    """The request body did not arrive in time. Send it again."""


class InvalidURL(RequestError, code="invalid_url", status=400, about_url=True):
    """The URL is not a public http or https address. Send one that any browser could open."""


class MissingAPIKey(RequestError, code="missing_api_key", status=401):
    """This needs an API key. Send "Authorization: Bearer <api_key>"."""


class InvalidAPIKey(RequestError, code="invalid_api_key", status=401):
    """The API key is unknown or revoked. Check it for typos, or create a new one."""


class InvalidAPIKeyMode(InvalidAPIKey):
    """The API key's prefix does not fit its mode: a live key starts with …_live_, a test key with …_test_."""


class InvalidAPIKeyUser(InvalidAPIKey):
    """The account of this API key no longer exists. Create a new account and key."""


class WebhookRequiresAPIKey(RequestError, code="webhook_requires_api_key", status=401):
    """A webhook_url needs an API key. Send "Authorization: Bearer <api_key>", or leave webhook_url out."""


class BillingFailed(RequestError, code="billing_failed", status=402):
    """The last payment for this account failed. Update the payment method, then try again."""


class InsufficientCredits(RequestError, code="insufficient_credits", status=402):
    """The account has too few credits for this audio. Add credits or a payment method, then try again."""


class ReadOnlyKey(RequestError, code="scope_violation_read_only", status=403):
    """This API key is read-only. Use a key with the scope full_access."""


class LiveKeyRequired(RequestError, code="live_key_required", status=403):
    """A test key may do this to test keys only. Use a live key of the account."""


class PlanDowngraded(RequestError, code="plan_downgraded_api_revoked", status=403):
    """The account's subscription has ended, and with it this API. Subscribe again at /pricing."""


class TranscriptNotFound(RequestError, code="transcript_not_found", status=404):
    """No transcript with this id exists for this caller. Check the id, and send the key it was made with."""


class KeyNotFound(RequestError, code="key_not_found", status=404):
    """No key with this id exists for this caller. GET /v1/keys lists them."""


class DeliveryNotFound(RequestError, code="delivery_not_found", status=404):
    """No webhook delivery with this id exists for this caller. GET /v1/webhooks/deliveries lists them."""


class NotFound(RequestError, code="not_found", status=404):
    """There is nothing at this address. Transcripts are made with POST /v1/transcripts."""


class MethodNotAllowed(RequestError, code="method_not_allowed", status=405):
    """This address does not take this method. The Allow header names those it takes."""


class MalformedHTTP(RequestError, code="malformed_request", status=400):
    """This is not a valid HTTP/1.1 request. Check its first line, its headers and the form of its body."""


class HeadTooLarge(RequestError, code="head_too_large", status=431):
    """The address and the headers of the request are too long together. Send shorter ones."""


class ValidationFailed(RequestError, code="validation_error", status=422):
    """The request has a field or parameter that is missing or not valid; "details" says which."""


class UploadNotFound(RequestError, code="upload_not_found", status=404):
    """No upload with this id exists for this account. Create one with POST …/uploads."""


class UploadSlotExpired(RequestError, code="upload_slot_expired", status=410):
    """This upload slot has expired. Create a new one, and send the bytes again."""


class UploadNotAvailable(RequestError, code="upload_not_available", status=409):
    """The bytes of this upload have not arrived. PUT them to its upload_url first."""


class EmptyUploadBody(RequestError, code="empty_upload_body", status=400):
    """The request has no body. Send the bytes of the media file as the body."""


class UploadSizeMismatch(RequestError, code="upload_size_mismatch", status=400):
    """The number of bytes sent is not the size_bytes that the slot was made for. Send the whole file."""


class UploadTooLarge(RequestError, code="upload_too_large", status=413):
    """The file is larger than this service accepts. Send a smaller one."""


class JobNotFound(RequestError, code="job_not_found", status=404):
    """No job with this id exists for this account. Check the id, and send a key of the account it is of."""


class ArtifactNotReady(RequestError, code="artifact_not_ready", status=409, retryable=True):
    """The job is not completed yet. Ask for its status until that is completed, then ask again."""


class ArtifactNotFound(RequestError, code="artifact_not_found", status=404):
    """The job ended without a transcript, so there is no artifact. Its status says why."""


class UnsupportedArtifactFormat(RequestError, code="unsupported_artifact_format", status=400):
    """There is no such artifact format. Use srt, txt or docx."""


class InvalidWebhookURL(RequestError, code="invalid_webhook_url", status=400):
    """The webhook URL must be an https address whose host name resolves. Check it for typos."""


class WebhookTargetForbidden(RequestError, code="webhook_url_forbidden_target", status=400):
    """The webhook URL leads to an address that is not public. Send one that the internet can reach."""


class TranslationUnavailable(RequestError, code="translation_unavailable", status=503, retryable=True):
    """This service has no translator, so it can't translate to Hebrew. Leave translate_to_hebrew out."""


class TranscriptNotReady(RequestError, code="transcript_not_ready", status=409, retryable=True):
    """The transcript is not finished. Wait retry_after_seconds and ask again, or read events_url."""


class TranscriptNotLive(RequestError, code="transcript_not_live", status=409):
    """The audio of this transcript is not live, so it can't be stopped early. Cancel it with DELETE."""


class IdempotencyMismatch(RequestError, code="idempotency_mismatch", status=409):
    """This Idempotency-Key was sent with another body. Repeat the same bytes, or take a new key."""


class IdempotencyInProgress(RequestError, code="idempotency_in_progress", status=409, retryable=True):
    """A request with this Idempotency-Key is under way. Wait retry_after_seconds and send it again."""


class TranscriptCancelled(RequestError, code="transcript_cancelled", status=410):
    """The transcript was cancelled. Create a new one to transcribe this audio."""


class QueueBusy(RequestError, code="queue_busy", status=429, retryable=True):
    """The queue is full. Wait retry_after_seconds and send the same request again."""


class RateLimited(RequestError, code="rate_limited", status=429, retryable=True):
    """Too many requests. Wait retry_after_seconds and send the same request again."""


class EngineUnavailable(RequestError, code="engine_unavailable", status=503, retryable=True):
    """No speech engine is ready. Try again later; the operator can run "stenobird doctor" to see why."""


class InvalidSignature(RequestError, code="invalid_signature", status=400):
    """The Stripe-Signature header does not fit the body. Check STENOBIRD_STRIPE_WEBHOOK_SECRET."""


class BillingUnavailable(RequestError, code="billing_unavailable", status=503, retryable=True):
    """Paying is not set up here. Ask the operator for an API key; operators: docs/how-to/stripe.md."""


class JobError(StenobirdError, code="transcription_failed", status=422):
    """The job failed."""


class UnsupportedURL(JobError, code="unsupported_url", about_url=True):
    """The URL did not resolve to public audio Stenobird can transcribe."""


class AudioUnreachable(JobError, code="audio_unreachable", about_url=True):
    """The audio was found but could not be downloaded. Check that it opens without login, then try again."""


class AudioSourceNotFound(JobError, code="audio_source_not_found", about_url=True):
    """No audio was found behind this URL. Send the direct audio URL."""


class AudioSourceUnreachable(JobError, code="audio_source_unreachable", about_url=True):
    """The URL could not be opened. Check that it is public and online, then try again."""


class DirectoryLookupFailed(JobError, code="directory_lookup_failed", about_url=True):
    """The podcast directory gave no usable answer. Try again later, or send the feed or the audio URL."""


class ExtractorUnavailable(JobError, code="extractor_unavailable", about_url=True):
    """The extractor for this site is missing or broken. Send the direct audio URL, or tell the operator."""


class AudioContentTypeNotSupported(JobError, code="audio_content_type_not_supported", about_url=True):
    """What the URL returned is not audio that can be decoded. Send mp3, m4a, mp4, ogg, webm, flac or wav."""


class AudioTooLarge(JobError, code="audio_too_large", about_url=True):
    """The audio is larger than this service accepts. Send a shorter or smaller file."""


class TranscriptionFailed(JobError, code="transcription_failed"):
    """Transcription failed on our side and nothing was billed. Try again."""


class TranslationFailed(TranscriptionFailed):
    """Translation failed on our side and nothing was billed. Try again, or ask for no translation."""


class WorkerTrouble(TranscriptionFailed):
    """This machine can't work on transcripts now. The job is given back, and the worker tries again later."""

    @classmethod
    def behind(cls, exc: BaseException | None) -> WorkerTrouble | None:
        """Return the trouble of this machine that caused the exception, `None` if there is none.

        That is a full or broken disk, too little memory, too few file descriptors, an engine or child that
        can't be started, or a database or store of uploads that doesn't answer. Causes and groups are
        searched.
        """
        if exc is None or isinstance(exc, WorkerTrouble):
            return exc
        if isinstance(exc, EngineUnavailable | TranslationUnavailable | StorageUnavailable):
            return cls(exc.message)
        if isinstance(exc, MemoryError):
            return cls("The process has too little memory.")
        if isinstance(exc, OSError) and exc.errno in _LOCAL_ERRNOS:
            return cls(f"The system refused a request: {exc.strerror}.")
        behind = exc.exceptions if isinstance(exc, BaseExceptionGroup) else (exc.__cause__,)
        return next((trouble for part in behind if (trouble := cls.behind(part))), None)


class EgressError(StenobirdError):
    """An outgoing request failed."""

    def __init__(self, message: str | None = None, *, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}" if remedy else message)
        self.remedy = remedy
        """What to do about it, the end of the message; empty where the message says nothing."""

    def with_remedy(self, remedy: str) -> str:
        """Return the message, with this remedy if it has none."""
        return self.message if self.remedy else f"{self.message} {remedy}"


class DestinationForbidden(EgressError):
    """The address is not public, so Stenobird does not open it."""


class ConnectFailed(EgressError):
    """The server could not be reached."""


class ResponseBroken(EgressError):
    """The server's answer broke off."""


class ResponseTooLarge(EgressError):
    """The server's answer is larger than allowed."""


class StorageUnavailable(StenobirdError, code="storage_unavailable", status=503, retryable=True):
    """The database did not answer. Send the same request again in a moment."""


class LeaseLost(StenobirdError):
    """Another worker owns this job now."""


class ConfigurationError(StenobirdError):
    """A setting must be changed before Stenobird can start."""


class DataFolderInUse(ConfigurationError, code="storage_unavailable", status=503):
    """Another process uses the data folder. Stop it, or set STENOBIRD_DATA_DIR to another folder."""
