"""What clients send to and see of billing."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from stenobird.errors import InvalidRequest
from stenobird.ports import AccountState  # noqa: TC001  # pydantic reads it when the class is made

MAX_EMAIL_CHARS: Final = 254
MAX_CAP_MINUTES: Final = 10_000_000

_EMAIL: Final = re.compile(r"[^\s@<>\",;:\\()\[\]]{1,64}@[^\s@<>\",;:\\()\[\]]+\.[^\s@<>\",;:\\()\[\]]{2,}")


class EmailWish(BaseModel):
    """The body of `POST /v1/billing/checkout` and `POST /v1/billing/recover`."""

    model_config = ConfigDict(frozen=True)

    email: str

    @field_validator("email")
    @classmethod
    def _plausible(cls, value: str) -> str:
        value = value.strip()
        # Only mail can tell whether an address works; this catches what is none.
        if len(value) > MAX_EMAIL_CHARS or not _EMAIL.fullmatch(value):
            raise ValueError("not an e-mail address")
        return value

    @classmethod
    def parse(cls, body: dict[str, Any]) -> EmailWish:
        """Return the wish. Raises `InvalidRequest`."""
        try:
            return cls.model_validate(body)
        except ValidationError as exc:
            raise InvalidRequest(
                'The request body must be a JSON object with "email", an e-mail address.',
                details={"field": "email"},
            ) from exc


class CapWish(BaseModel):
    """The body of `PUT /v1/billing/spending-cap`: whole minutes a billing week, or null for no cap."""

    model_config = ConfigDict(frozen=True, strict=True)

    minutes_per_week: int | None = Field(ge=0, le=MAX_CAP_MINUTES)

    @classmethod
    def parse(cls, body: dict[str, Any]) -> CapWish:
        """Return the wish. Raises `InvalidRequest`."""
        try:
            return cls.model_validate(body)
        except ValidationError as exc:
            raise InvalidRequest(
                f'"minutes_per_week" must be a whole number from 0 to {MAX_CAP_MINUTES}, or null for no cap.',
                details={"field": "minutes_per_week"},
            ) from exc


class BillingView(BaseModel):
    """An account's billing as its owner sees it."""

    model_config = ConfigDict(frozen=True)

    account_id: str
    email: str | None
    plan: str
    state: AccountState
    subscribed: bool
    price: str
    spending_cap_minutes: int | None
    week_started_at: str
    week_minutes: int
    jobs_under_way: int
    latest_receipt_url: str | None
