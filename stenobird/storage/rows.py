"""Converts records to rows and back: the only module that knows the columns of a job."""

from __future__ import annotations

from dataclasses import asdict, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stenobird.ports import (
    SAMPLE_RATE,
    CarryPoint,
    JobChange,
    JobExtra,
    JobRecord,
    NewJob,
    RecognitionOptions,
    SpeechCheckpoint,
    UploadedFile,
)
from stenobird.sources import AudioSource, Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance
    from sqlalchemy.engine import RowMapping

    from stenobird.ports import Lane, Mode

T = TypeVar("T", bound="DataclassInstance")


def _names(record: type[DataclassInstance], *, but: str = "") -> list[str]:
    """Return the names of a record's fields, except for those whose columns have another form."""
    return [one.name for one in fields(record) if one.name not in but.split()]


_SOURCE_FIELDS = _names(AudioSource, but="request_headers candidates")
_JOB_COLUMNS = _names(JobRecord, but="options source extra audio_seconds")
_NEW_COLUMNS = _names(NewJob, but="options extra")
_CHANGED_COLUMNS = _names(JobChange, but="source checkpoint fingerprint error extra reserve_units voices")
_EXTRA_FIELDS = _names(JobExtra, but="tier upload carry")
_OPTIONS = _names(RecognitionOptions)
_NO_EXTRA = JobExtra()
_FIRST_STATE: Final[Mapping[str, Any]] = {
    "status": "queued",
    "stage": "validating_url",
    "cancel_requested": False,
    "last_seq": 1,
    "next_chunk_index": 0,
}


def from_row(record: type[T], row: RowMapping | Mapping[str, Any], **given: Any) -> T:
    """Return a record whose fields are columns of the same name, except for those given."""
    columns = {one.name: row[one.name] for one in fields(record) if one.name not in given}
    return record(**columns, **given)


def source_to_json(source: AudioSource) -> dict[str, Any]:
    """Return all of a source, including what only workers may see."""
    row: dict[str, Any] = {name: getattr(source, name) for name in _SOURCE_FIELDS}
    row["request_headers"] = dict(source.request_headers)
    row["candidates"] = [asdict(candidate) for candidate in source.candidates]
    return row


def source_from_json(row: Mapping[str, Any]) -> AudioSource:
    """Read what `source_to_json` wrote."""
    return AudioSource(
        **{name: row[name] for name in _SOURCE_FIELDS if name in row},
        request_headers=MappingProxyType(dict(row["request_headers"])),
        candidates=tuple(Candidate(**candidate) for candidate in row["candidates"]),
    )


def extra_to_json(extra: JobExtra) -> dict[str, Any]:
    """Return the JSON form of a job's `extra`, without fields that have their default."""
    row: dict[str, Any] = {}
    if extra.tier is not None:
        row["model_tier"] = extra.tier
    for name in _EXTRA_FIELDS:
        value = getattr(extra, name)
        if value != getattr(_NO_EXTRA, name):
            row[name] = value
    if extra.upload is not None:
        row["upload"] = asdict(extra.upload)
    if extra.carry is not None:
        row["carry"] = {"checkpoint": extra.carry.checkpoint.to_json(), "chunks": extra.carry.chunks}
    return row


def extra_from_json(row: Mapping[str, Any]) -> JobExtra:
    """Read what `extra_to_json` wrote. Rows of earlier versions may have other keys, which are ignored."""
    upload, carry = row.get("upload"), row.get("carry")
    return JobExtra(
        tier=row.get("model_tier"),
        upload=UploadedFile(**upload) if upload else None,
        carry=CarryPoint(SpeechCheckpoint.from_json(carry["checkpoint"]), carry["chunks"]) if carry else None,
        **{name: row[name] for name in _EXTRA_FIELDS if name in row},
    )


def lane_of(mode: Mode) -> Lane:
    """Return the lane of a new job. A test job needs no engine, so it never waits behind long jobs."""
    return "full" if mode == "full" else "preview"


def new_job_values(job: NewJob) -> dict[str, Any]:
    """Return the columns of a new job, without its times."""
    return {
        **{name: getattr(job, name) for name in _NEW_COLUMNS},
        **_FIRST_STATE,
        "lane": lane_of(job.mode),
        "options": {name: getattr(job.options, name) for name in _OPTIONS},
        "extra": extra_to_json(job.extra),
        "attempts": 0,
        "interruptions": 0,
    }


def change_values(change: JobChange) -> dict[str, Any]:
    """Return the columns that a change sets. A checkpoint is progress, so it resets the attempts."""
    plain = {name: getattr(change, name) for name in _CHANGED_COLUMNS}
    values = {name: value for name, value in plain.items() if value is not None}
    if change.fingerprint is not None:
        values["heard"] = dict(change.fingerprint)
    if change.error is not None:
        values["error"] = dict(change.error)
    if change.extra is not None:
        values["extra"] = extra_to_json(change.extra)
    if change.source is not None:
        values["source"] = source_to_json(change.source)
    if change.checkpoint is not None:
        values["checkpoint"] = change.checkpoint.to_json()
        values["attempts"] = 0
        values["interruptions"] = 0
    return values


def created_job(job: NewJob, created_at: float, updated_at: float) -> JobRecord:
    """Return the record of a job that was just inserted."""
    return JobRecord(
        **{name: getattr(job, name) for name in _NEW_COLUMNS if name != "api_key_id"},
        **_FIRST_STATE,
        options=job.options,
        extra=job.extra,
        lane=lane_of(job.mode),
        created_at=created_at,
        updated_at=updated_at,
        completed_at=None,
    )


def job_from_row(row: RowMapping) -> JobRecord:
    """Return a job as clients may see it: without what only workers may see of its source."""
    checkpoint = row["checkpoint"]
    return JobRecord(
        **{name: row[name] for name in _JOB_COLUMNS},
        options=RecognitionOptions.from_json(row["options"]),
        source=source_from_json(row["source"]).public() if row["source"] else None,
        extra=extra_from_json(row["extra"]),
        audio_seconds=checkpoint["next_sample"] / SAMPLE_RATE if checkpoint else 0.0,
    )


def resume_point_from_row(row: RowMapping) -> dict[str, Any]:
    """Return the fields of a `ResumePoint`."""
    return {
        "job": job_from_row(row),
        "source": source_from_json(row["source"]) if row["source"] else None,
        "checkpoint": SpeechCheckpoint.from_json(row["checkpoint"]) if row["checkpoint"] else None,
        "fingerprint": row["heard"],
    }
