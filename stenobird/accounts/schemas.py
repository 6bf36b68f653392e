"""The bodies about accounts, keys and usage, and the dates of a usage request."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field

from stenobird.bodies import Body, Number, RequestBody, Timestamp, example
from stenobird.errors import InvalidRequest
from stenobird.ports import AccountRecord, KeyMode, KeyScope, UsageRecord, UsageSum, WalletRecord

if TYPE_CHECKING:
    from collections.abc import Sequence


_KEY: Final = {
    "id": "key_a01bde22ff2ef11e017d",
    "name": "laptop",
    "account_id": "acct_4f9a",
    "mode": "live",
    "scope": "full_access",
    "last_four_chars": "IPZH",
    "is_valid": True,
    "created_at": "2026-11-22T09:30:00.000Z",
}
_SECRET_KEY: Final = "sb_live_0jJ6TzKI4vqFZNCFANExwcsU46rzBV20IPZH"  # noqa: S105  # an example's, of no account
_SUMS: Final = {
    "billable_minutes": 1,
    "units": 1,
    "credit_units": 0,
    "metered_minutes": 1,
    "audio_seconds": 71.2,
}


class CreateKey(RequestBody):
    """A key to create. All fields are optional; `mode` is by default that of the key in the request."""

    model_config = example({"name": "laptop"})

    name: str = "default"
    mode: KeyMode | None = None
    scope: KeyScope = "full_access"


class KeyView(Body):
    """A key without its secret."""

    id: str
    name: str
    account_id: str
    mode: KeyMode
    scope: KeyScope
    last_four_chars: str
    is_valid: bool
    created_at: Timestamp


class CreatedKeyView(KeyView):
    """A new key. Its secret, `key`, is not shown again."""

    model_config = example({**_KEY, "key": _SECRET_KEY})

    key: str


class RotatedKey(KeyView):
    """A new key that replaces another one."""

    model_config = example({**_KEY, "key": _SECRET_KEY, "replaces": "key_9f60997e95099cc9b01a"})

    key: str
    replaces: str


class KeyList(Body):
    """The account's keys, oldest first."""

    model_config = example({"keys": [_KEY]})

    keys: list[KeyView]


class Credits(Body):
    """The prepaid credits; a unit is a billable minute."""

    units: Number
    reserved_units: Number
    available_units: Number


class AccountBody(Body):
    """The account of a key."""

    model_config = example(
        {
            "id": "acct_4f9a",
            "name": "you@example.com",
            "email": "you@example.com",
            "tier": "premium",
            "state": "active",
            "billing": "stripe",
            "credits": {"units": 120, "reserved_units": 60, "available_units": 60},
            "created_at": "2026-11-22T09:30:00.000Z",
        }
    )

    id: str
    name: str | None
    email: str | None
    tier: str
    state: str
    billing: str
    credits: Credits
    created_at: Timestamp

    @classmethod
    def of(cls, account: AccountRecord, wallet: WalletRecord) -> Self:
        """Return the body of an account with its wallet."""
        return cls.model_validate({**asdict(account), "credits": wallet})


class AccountDeleted(Body):
    """A deleted account."""

    model_config = example({"id": "acct_4f9a", "deleted": True, "transcripts_ending": 0})

    id: str
    deleted: Literal[True]
    transcripts_ending: int


_Minutes: TypeAlias = Annotated[int, Field(validation_alias="minutes")]
_Units: TypeAlias = Annotated[int, Field(description="One per minute, two for premium_quality.")]
_Metered: TypeAlias = Annotated[Number, Field(description="The units that were not paid with credits.")]
_Seconds: TypeAlias = Annotated[float, AfterValidator(lambda seconds: round(seconds, 3))]


class UsageSums(Body):
    """What was used."""

    jobs: int
    billable_minutes: _Minutes
    units: _Units
    credit_units: Number
    metered_minutes: _Metered
    audio_seconds: _Seconds


class UsageDay(Body):
    """The usage of one day, UTC."""

    date: Annotated[str, Field(validation_alias="day")]
    jobs: int
    billable_minutes: _Minutes
    units: _Units
    credit_units: Number
    metered_minutes: _Metered
    audio_seconds: _Seconds


class UsageJob(Body):
    """What a transcript cost."""

    id: Annotated[str, Field(validation_alias="job_id")]
    completed_at: Annotated[Timestamp, Field(validation_alias="created_at")]
    billable_minutes: _Minutes
    units: _Units
    credit_units: Number
    metered_minutes: _Metered
    audio_seconds: _Seconds


class UsageBody(Body):
    """The usage of some days. The sums cover all of them; `jobs` is one page."""

    model_config = example(
        {
            "from": "2026-10-24T00:00:00.000Z",
            "to": "2026-11-23T00:00:00.000Z",
            "total": {"jobs": 1, **_SUMS},
            "days": [{"date": "2026-11-22", "jobs": 1, **_SUMS}],
            "jobs": [{"id": "tr_123", "completed_at": "2026-11-22T09:31:12.000Z", **_SUMS}],
            "next_cursor": None,
        }
    )

    since: Annotated[Timestamp, Field(serialization_alias="from")]
    to: Timestamp
    total: UsageSums
    days: list[UsageDay]
    jobs: list[UsageJob]
    next_cursor: str | None

    @classmethod
    def of(
        cls,
        period: tuple[float, float],
        days: Sequence[UsageSum],
        jobs: Sequence[UsageRecord],
        next_cursor: str | None,
    ) -> Self:
        """Return the body of `GET /v1/usage`, its sums those of all days."""
        summed = ("jobs", "minutes", "units", "credit_units", "metered_minutes", "audio_seconds")
        total = UsageSums.model_validate({name: sum(getattr(day, name) for day in days) for name in summed})
        since, to = period
        return cls(since=since, to=to, total=total, days=days, jobs=jobs, next_cursor=next_cursor)


def parse_date(value: str | None, field: str) -> date | None:
    """Return the date in a query parameter, `None` if it is empty. Raises `InvalidRequest`."""
    if not value:
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        day = date.min
    # There is no usage outside these years, and date arithmetic could overflow.
    if not 2000 <= day.year <= 9000:
        raise InvalidRequest(
            f'"{field}" must be a date of this century, as in 2026-01-31.', details={"field": field}
        )
    return day


def midnight(day: date) -> float:
    """Return the start of the day, UTC, in epoch seconds."""
    return datetime.combine(day, time(), UTC).timestamp()
