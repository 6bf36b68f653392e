"""What clients and operators see of accounts, keys and usage, and what they may ask of a new key."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from stenobird.errors import InvalidRequest
from stenobird.ports import KeyMode, KeyScope  # noqa: TC001  # pydantic reads them when the class is made

if TYPE_CHECKING:
    from stenobird.accounts.service import AccountView, Usage
    from stenobird.ports import KeyRecord


class KeyView(BaseModel):
    """A key as its owner's lists show it: never the key itself."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    account_id: str
    mode: KeyMode
    scope: KeyScope
    last_four_chars: str
    is_valid: bool
    created_at: datetime

    @classmethod
    def of(cls, record: KeyRecord) -> KeyView:
        """Return the view of a stored key."""
        return cls(
            id=record.id,
            name=record.name,
            account_id=record.account_id,
            mode=record.mode,
            scope=record.scope,
            last_four_chars=record.last_four_chars,
            is_valid=record.is_valid,
            created_at=datetime.fromtimestamp(int(record.created_at), UTC),
        )


class CreatedKeyView(KeyView):
    """A key just made: the only time that `key` is shown."""

    key: str


class CreateKey(BaseModel):
    """The body of `POST /v1/keys`; every field may be left out. `mode` is then that of the key that asks."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    name: str = "default"
    mode: KeyMode | None = None
    scope: KeyScope = "full_access"

    @classmethod
    def parse(cls, body: object) -> CreateKey:
        """Return the request that a decoded JSON body is. Raises `InvalidRequest` that names the field."""
        try:
            return cls.model_validate(body)
        except ValidationError as exc:
            problem = exc.errors(include_url=False, include_input=False)[0]
            name = str(problem["loc"][0]) if problem["loc"] else "body"
            reason = problem["msg"][:1].lower() + problem["msg"][1:]
            raise InvalidRequest(f'"{name}" is not valid: {reason}.', details={"field": name}) from exc


def account_body(view: AccountView) -> dict[str, Any]:
    """Return the body of `GET /v1/account`."""
    account, wallet = view.account, view.wallet
    return {
        "id": account.id,
        "name": account.name,
        "email": account.email,
        "tier": account.tier,
        "state": account.state,
        "billing": account.billing,
        "credits": {
            "units": wallet.units,
            "reserved_units": wallet.reserved_units,
            "available_units": wallet.units - wallet.reserved_units,
        },
        "created_at": iso_time(account.created_at),
    }


def usage_body(usage: Usage) -> dict[str, Any]:
    """Return the body of `GET /v1/usage`. The sums are of the whole time, `jobs` is one page of it."""
    days = [
        {
            "date": day.day,
            "jobs": day.jobs,
            "billable_minutes": day.minutes,
            "units": day.units,
            "credit_units": day.credit_units,
            "metered_minutes": day.metered_minutes,
            "audio_seconds": round(day.audio_seconds, 3),
        }
        for day in usage.days
    ]
    return {
        "from": iso_time(usage.since),
        "to": iso_time(usage.until),
        "total": {
            "jobs": sum(day.jobs for day in usage.days),
            "billable_minutes": sum(day.minutes for day in usage.days),
            "units": sum(day.units for day in usage.days),
            "credit_units": sum(day.credit_units for day in usage.days),
            "metered_minutes": sum(day.metered_minutes for day in usage.days),
            "audio_seconds": round(sum(day.audio_seconds for day in usage.days), 3),
        },
        "days": days,
        "jobs": [
            {
                "id": job.job_id,
                "completed_at": iso_time(job.created_at),
                "billable_minutes": job.minutes,
                "units": job.units,
                "credit_units": job.credit_units,
                "metered_minutes": job.metered_minutes,
                "audio_seconds": round(job.audio_seconds, 3),
            }
            for job in usage.jobs
        ],
        "next_cursor": usage.next_cursor,
    }


def parse_date(value: str | None, field: str) -> date | None:
    """Return the date that a client wrote, `None` if it wrote none. Raises `InvalidRequest`."""
    if not value:
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        day = date.min
    # Outside of these years there is no usage, and the arithmetic of dates overflows.
    if not 2000 <= day.year <= 9000:
        raise InvalidRequest(
            f'"{field}" must be a date of this century, as in 2026-01-31.', details={"field": field}
        )
    return day


def midnight(day: date) -> float:
    """Return when the day begins, UTC, in epoch seconds."""
    return datetime.combine(day, time(), UTC).timestamp()


def iso_time(seconds: float) -> str:
    """Return a time as the API shows it: UTC, whole seconds, `Z`."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
