"""The bodies about billing: what clients send, and what they get."""

from __future__ import annotations

import re
from typing import Final, Literal

from pydantic import Field, field_validator

from stenobird.bodies import Body, RequestBody, Timestamp, example
from stenobird.ports import AccountState

MAX_EMAIL_CHARS: Final = 254
MAX_CAP_MINUTES: Final = 10_000_000

_EMAIL: Final = re.compile(r"[^\s@<>\",;:\\()\[\]]{1,64}@[^\s@<>\",;:\\()\[\]]+\.[^\s@<>\",;:\\()\[\]]{2,}")


class EmailRequest(RequestBody):
    """The e-mail address of the buyer or of the account."""

    model_config = example({"email": "you@example.com"})

    email: str

    @field_validator("email")
    @classmethod
    def _plausible(cls, value: str) -> str:
        value = value.strip()
        # Only a mail can show whether an address works; this catches what can't be one.
        if len(value) > MAX_EMAIL_CHARS or not _EMAIL.fullmatch(value):
            raise ValueError("it must be an e-mail address")
        return value


class SpendingCap(RequestBody):
    """The cap in whole minutes per billing week, or null for no cap."""

    model_config = example({"minutes_per_week": 600})

    minutes_per_week: int | None = Field(ge=0, le=MAX_CAP_MINUTES)


class BillingView(Body):
    """The plan of an account, and its minutes of this billing week."""

    model_config = example(
        {
            "account_id": "acct_4f9a",
            "email": "you@example.com",
            "plan": "premium",
            "state": "active",
            "subscribed": True,
            "price": "$0.01 per completed audio minute, charged weekly",
            "spending_cap_minutes": 600,
            "week_started_at": "2026-11-16T00:00:00.000Z",
            "week_minutes": 42,
            "jobs_under_way": 1,
            "latest_receipt_url": None,
        }
    )

    account_id: str
    email: str | None
    plan: str
    state: AccountState
    subscribed: bool
    price: str
    spending_cap_minutes: int | None
    week_started_at: Timestamp
    week_minutes: int
    jobs_under_way: int
    latest_receipt_url: str | None


class CheckoutStarted(Body):
    """The address that the buyer opens in a browser."""

    model_config = example(
        {"checkout_url": "https://checkout.stripe.com/c/pay/cs_live_a1", "checkout_session_id": "cs_live_a1"}
    )

    checkout_url: str
    checkout_session_id: str


class PortalLink(Body):
    """A short-lived link to Stripe's page for the account."""

    model_config = example({"portal_url": "https://billing.stripe.com/p/session/live_a1"})

    portal_url: str


class Message(Body):
    """A confirmation for people."""

    model_config = example({"message": "If the address has an account, a link to a new key is on its way."})

    message: str


class EventReceived(Body):
    """A webhook event, stored."""

    model_config = example({"received": True, "new": True})

    received: Literal[True]
    new: bool
