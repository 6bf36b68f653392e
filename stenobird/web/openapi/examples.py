"""One example for every schema that a request or an answer consists of, by the schema's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_URL: Final = "https://stenobird.com/v1/transcripts/tr_123"
_CREATED_AT: Final = "2026-11-22T09:30:00Z"
_COMPLETED_AT: Final = "2026-11-22T09:31:12Z"

_LINKS: Final = {
    "status_url": _URL,
    "poll_url": _URL,
    "events_url": f"{_URL}/events",
    "result_url": f"{_URL}/result",
}
_KEY: Final = {
    "id": "key_a01bde22ff2ef11e017d",
    "name": "laptop",
    "account_id": "acct_4f9a",
    "mode": "live",
    "scope": "full_access",
    "last_four_chars": "IPZH",
    "is_valid": True,
    "created_at": _CREATED_AT,
}
_SECRET_KEY: Final = "sb_live_0jJ6TzKI4vqFZNCFANExwcsU46rzBV20IPZH"  # noqa: S105  # an example's, of no account
_STATUS: Final = {
    "id": "tr_123",
    "status": "completed",
    "mode": "full",
    **_LINKS,
    "terminal": True,
    "result_ready": True,
    "retry_after_seconds": 0,
    "stage": "transcribing",
    "audio_url": "https://example.com/audio-url",
    "created_at": _CREATED_AT,
    "completed_at": _COMPLETED_AT,
    "progress": {"audio_seconds": 71.2, "audio_seconds_total": 71.2},
    "language": "en",
    "billable_minutes": 1,
}
_SOURCE: Final = {
    "submitted_url": "https://example.com/audio-url",
    "final_url": "https://cdn.example.com/show/episode.mp3",
    "kind": "file",
    "technique": "feed.enclosure",
    "media_url": "https://cdn.example.com/show/episode.mp3",
    "reason": "The feed's newest episode.",
    "title": "Episode title",
}
_SUMS: Final = {
    "jobs": 1,
    "billable_minutes": 1,
    "units": 1,
    "credit_units": 0,
    "metered_minutes": 1,
    "audio_seconds": 71.2,
}
_BILLING: Final = {
    "account_id": "acct_4f9a",
    "email": "you@example.com",
    "plan": "premium",
    "state": "active",
    "subscribed": True,
    "price": "$0.01 per completed audio minute, charged weekly",
    "spending_cap_minutes": 600,
    "week_started_at": "2026-11-16T00:00:00Z",
    "week_minutes": 42,
    "jobs_under_way": 1,
    "latest_receipt_url": None,
}
_DELIVERY: Final = {
    "id": "whd_1f3c",
    "event_id": "evt_9b2d",
    "event_type": "transcription.completed",
    "job_id": "tr_123",
    "mode": "live",
    "url": "https://example.com/hook",
    "state": "delivered",
    "attempts": 1,
    "status_code": 200,
    "error": None,
    "created_at": _COMPLETED_AT,
    "attempted_at": "2026-11-22T09:31:13Z",
    "next_attempt_at": None,
    "settled_at": "2026-11-22T09:31:13Z",
}
_SECRET: Final = {
    "secret": "whsec_LS15BRxdz1p1lK+9P9F+tVgXQF/8d9DpXFB3qvI/A10=",
    "mode": "live",
    "created_at": _CREATED_AT,
    "previous_expires_at": None,
}

_FLAT: Final[dict[str, Any]] = {
    "CreateTranscript": {"audio_url": "https://example.com/audio-url", "language": "en"},
    "TranscriptStatus": _STATUS,
    "TranscriptList": {"transcripts": [_STATUS], "next_cursor": None},
    "TranscriptResult": {
        "id": "tr_123",
        "status": "completed",
        "mode": "full",
        "text": "Hello and welcome to the show.",
        "segments": [
            {
                "id": 0,
                "start": 0.5,
                "end": 2.8,
                "text": "Hello and welcome to the show.",
                "words": [{"start": 0.5, "end": 0.9, "text": "Hello", "probability": 0.98}],
            }
        ],
        "language": "en",
        "duration_seconds": 71.2,
        "source": _SOURCE,
        "engine": "whisper",
        "model": "large-v3-turbo",
        "billable_minutes": 1,
        "created_at": _CREATED_AT,
        "completed_at": _COMPLETED_AT,
    },
    "ShareLinks": {"links": 1},
    "ShareLink": {
        "share_url": "https://stenobird.com/t/tr_123?share=sh_P0kmXIfOOs6PNZBNEzQZzUm6taNcDrZ9",
        "token": "sh_P0kmXIfOOs6PNZBNEzQZzUm6taNcDrZ9",
    },
    "CreateKey": {"name": "laptop"},
    "KeyList": {"keys": [_KEY]},
    "CreatedKeyView": {**_KEY, "key": _SECRET_KEY},
    "RotatedKey": {**_KEY, "key": _SECRET_KEY, "replaces": "key_9f60997e95099cc9b01a"},
    "AccountBody": {
        "id": "acct_4f9a",
        "name": "you@example.com",
        "email": "you@example.com",
        "tier": "premium",
        "state": "active",
        "billing": "stripe",
        "credits": {"units": 120, "reserved_units": 60, "available_units": 60},
        "created_at": _CREATED_AT,
    },
    "AccountDeleted": {"id": "acct_4f9a", "deleted": True, "transcripts_ending": 0},
    "UsageBody": {
        "from": "2026-10-24T00:00:00Z",
        "to": "2026-11-23T00:00:00Z",
        "total": _SUMS,
        "days": [{**_SUMS, "date": "2026-11-22"}],
        "jobs": [
            {
                "id": "tr_123",
                "completed_at": _COMPLETED_AT,
                **{name: value for name, value in _SUMS.items() if name != "jobs"},
            }
        ],
        "next_cursor": None,
    },
    "BillingView": _BILLING,
    "CapWish": {"minutes_per_week": 600},
    "EmailWish": {"email": "you@example.com"},
    "CheckoutStarted": {
        "checkout_url": "https://checkout.stripe.com/c/pay/cs_live_a1",
        "checkout_session_id": "cs_live_a1",
    },
    "PortalLink": {"portal_url": "https://billing.stripe.com/p/session/live_a1"},
    "Message": {"message": "If the address has an account, a link to a new key is on its way."},
    "EventReceived": {"received": True, "new": True},
    "DeliveryPage": {"deliveries": [_DELIVERY], "next_cursor": None},
    "DeliveryView": _DELIVERY,
    "SecretView": _SECRET,
    "HealthBody": {"status": "ok", "version": "0.1.0", "running": 1},
    "ReadyBody": {"ready": True, "reasons": [], "checks": {}},
}

_OPENAI_MODEL: Final = {"id": "whisper-1", "object": "model", "created": 0, "owned_by": "stenobird"}
_OPENAI: Final[dict[str, Any]] = {
    "AudioForm": {
        "url": "https://example.com/audio-url",
        "model": "whisper-1",
        "response_format": "verbose_json",
        "timestamp_granularities[]": ["word"],
    },
    "LinkedAudio": {"url": "https://example.com/audio-url", "response_format": "srt"},
    "OpenAITranscription": {
        "task": "transcribe",
        "language": "english",
        "duration": 71.2,
        "text": "Hello and welcome to the show.",
        "words": [{"word": "Hello", "start": 0.5, "end": 0.9}],
        "usage": {"type": "duration", "seconds": 72},
    },
    "OpenAIModel": _OPENAI_MODEL,
    "OpenAIModels": {"object": "list", "data": [_OPENAI_MODEL]},
}

_JOB_ID: Final = "65336736-4ce2-415a-9d4a-11fe4c1d5d08"
_JOB_PATH: Final = f"/api/v1/transcriptions/{_JOB_ID}"
_JOB: Final = {
    "job_id": _JOB_ID,
    "status": "completed",
    "created_at": _CREATED_AT,
    "updated_at": _COMPLETED_AT,
    "media_duration_seconds": 71.2,
    "credits_used": 1,
    "analysis": {"language": "en", "dialect": None},
    "links": {"self": _JOB_PATH, "artifact": f"{_JOB_PATH}/artifact"},
}
_ALEFBOT_KEY: Final = {
    "id": "key_27eea71c812f204e5c8c",
    "name": "ci",
    "scope": "read_only",
    "mode": "test",
    "last_four_chars": "RtjD",
    "is_valid": True,
    "created_at": _CREATED_AT,
}
_ALEFBOT: Final[dict[str, Any]] = {
    "CreateKey": {"name": "ci", "scope": "read_only", "mode": "test"},
    "CreatedKey": {"key": "alef_sk_test_qv7Qx5R3tgUyxhB2IDWD88gjX3RERu0wRtjD", "item": _ALEFBOT_KEY},
    "KeyItem": _ALEFBOT_KEY,
    "Account": {
        "account_id": "acct_4f9a",
        "effective_tier": "premium",
        "api_access": True,
        "wallet_balance": 120,
        "status": "active",
    },
    "CreateUpload": {"filename": "lecture.mp3", "content_type": "audio/mpeg", "size_bytes": 2048},
    "UploadSlot": {
        "upload_id": "upl_91b4a892518d11127121",
        "upload_url": "/api/v1/uploads/upl_91b4a892518d11127121/binary",
        "upload_method": "PUT",
        "expires_at": "2026-11-22T10:00:00Z",
    },
    "UploadReceived": {"ok": True, "bytes_received": 2048},
    "CreateTranscription": {"upload_id": "upl_91b4a892518d11127121", "output_format": "srt"},
    "CreatedJob": {"job_id": _JOB_ID, "status": "queued", "links": {"self": _JOB_PATH}},
    "Job": _JOB,
    "JobList": {
        "items": [_JOB],
        "total": 1,
        "links": {"self": "/api/v1/transcriptions?limit=20&cursor=0", "next": None, "prev": None},
    },
    "TestWebhook": {"webhook_url": "https://example.com/hook", "event_type": "transcription.completed"},
    "WebhookTested": {
        "ok": True,
        "event_id": "evt_9b2d",
        "delivered": True,
        "status_code": 200,
        "error": None,
    },
    "SecretView": _SECRET,
}


def examples(alefbot_prefix: str) -> Mapping[str, Any]:
    """Return every example by the name of its schema in the document."""
    return {**_FLAT, **_OPENAI, **{f"{alefbot_prefix}{name}": value for name, value in _ALEFBOT.items()}}
