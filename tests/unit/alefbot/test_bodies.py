"""Job records as bodies of the AlefBot dialect."""

from __future__ import annotations

import json
from typing import Any

from stenobird.ports import JobExtra, JobRecord, RecognitionOptions
from stenobird.web.alefbot.schemas import Job


def record(**columns: object) -> JobRecord:
    values: dict[str, object] = {
        "id": "job_1",
        "mode": "full",
        "origin": "alefbot",
        "audio_url": "upload:upl_1",
        "base_url": "http://test",
        "options": RecognitionOptions(),
        "account_id": "acct_1",
        "status": "completed",
        "stage": "transcribing",
        "created_at": 0.0,
        "updated_at": 1.5,
        "completed_at": 1.5,
        "last_seq": 9,
        "next_chunk_index": 2,
        "cancel_requested": False,
    }
    return JobRecord(**{**values, **columns})  # type: ignore[arg-type]  # as a row of the database is read


def job_body(job: JobRecord, root: str) -> Any:
    return json.loads(Job.of(job, root).encode())


def test_the_language_is_the_spoken_one_also_for_a_translation() -> None:
    assert job_body(record(language="en"), "/api/v1")["analysis"] == {"language": "en", "dialect": None}
    translated = record(language="he", extra=JobExtra(translate_to="he", spoken_language="en"))
    assert job_body(translated, "/api/v1")["analysis"]["language"] == "en"


def test_credits_are_units_not_minutes() -> None:
    dear = record(billable_minutes=3, extra=JobExtra(unit_factor=2))

    body = job_body(dear, "/backend/api/v1")

    assert body["credits_used"] == 6
    assert (body["created_at"], body["updated_at"]) == (
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T00:00:01.500Z",
    )
    assert body["links"] == {
        "self": "/backend/api/v1/transcriptions/job_1",
        "artifact": "/backend/api/v1/transcriptions/job_1/artifact",
    }
