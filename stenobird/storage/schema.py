"""The tables, for SQLite and PostgreSQL.

Times are epoch seconds, UTC, from the database's clock (`db_now`), so that leases mean the same on every
machine. A change here needs a migration; a test compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_JSON = JSON(none_as_null=True)
_TIME = Double


def _only(condition: str) -> dict[str, Any]:
    """Return the arguments of an index of the rows that fit a condition."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class db_now(FunctionElement[float]):  # noqa: N801  # reads as the SQL function it stands for
    """Epoch seconds on the database's clock at the moment of the statement, not of the transaction."""

    type = Double()
    inherit_cache = True


@compiles(db_now, "sqlite")
def _sqlite_now(_element: db_now, _compiler: SQLCompiler, **_: Any) -> str:
    # unixepoch('now', 'subsec') needs SQLite 3.42; julianday is precise to a millisecond.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now, "postgresql")
def _postgresql_now(_element: db_now, _compiler: SQLCompiler, **_: Any) -> str:
    return "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"


accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("email", Text),
    Column("tier", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
    # Set when its owner deleted it. The row stays, without name and address, for outstanding charges.
    Column("deleted_at", _TIME),
    # Who pays for minutes that the wallet does not cover: operator, metered, prepaid (ports.AccountBilling).
    Column("billing", Text, nullable=False, server_default="metered"),
    # State of the subscription at Stripe; "active" for accounts without one.
    Column("state", Text, nullable=False, server_default="active"),
    Column("stripe_customer_id", Text, unique=True),
    Column("stripe_subscription_id", Text),
    # The start of one billing week; the other weeks start whole weeks before or after it.
    Column("billing_anchor_at", _TIME),
    # The account's own limit of metered minutes per billing week; NULL: no cap.
    Column("spending_cap_minutes", Integer),
    # Open or lost disputes. Empty or NULL: none.
    Column("stripe_disputes", _JSON),
    # Counts updates from Stripe, so that an older answer never replaces a newer one.
    Column("billing_version", Integer, nullable=False, server_default="0"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    # No foreign key: a key's row outlives its account, so that its use is distinguished from a typo.
    Column("account_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("key_hash", Text, nullable=False, unique=True),
    Column("mode", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("last_four_chars", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("revoked_at", _TIME),
    Index(None, "account_id"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("audio_url", Text, nullable=False),
    Column("base_url", Text, nullable=False),
    Column("options", _JSON, nullable=False),
    Column("account_id", Text),
    Column("api_key_id", Text),
    Column("preview_id", Text),
    Column("upload_id", Text),
    Column("webhook_url", Text),
    Column("extra", _JSON, nullable=False),
    Column("status", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Column("completed_at", _TIME),
    Column("cancel_requested", Boolean, nullable=False),
    # When a client asked to end live audio here, with the text so far.
    Column("stop_requested_at", _TIME),
    Column("last_seq", Integer, nullable=False),
    Column("next_chunk_index", Integer, nullable=False),
    Column("source", _JSON),
    Column("checkpoint", _JSON),
    Column("heard", _JSON),
    Column("duration_seconds", Double),
    Column("language", Text),
    Column("engine", Text),
    Column("model", Text),
    Column("warning", Text),
    Column("error", _JSON),
    Column("billable_minutes", Integer),
    Column("lease_token", Text),
    Column("lease_worker", Text),
    Column("lease_expires_at", _TIME),
    Column("attempts", Integer, nullable=False),
    # Deaths of the worker since the last progress; the first few don't count as attempts.
    Column("interruptions", Integer, nullable=False),
    # Not before this time, after repeated deaths or trouble of a worker.
    Column("claimable_at", _TIME, nullable=False, server_default="0"),
    # When the worker that holds the lease claimed the job.
    Column("claimed_at", _TIME),
    # Id of the last write under a lease; after an unanswered COMMIT, reading it settles the outcome.
    Column("commit_id", Text),
    Index("ix_jobs_open", "lane", "created_at", "id", **_only("completed_at IS NULL")),
    # Counted at each POST while nobody else may write, however many jobs the account has had. Its second
    # column is always NULL: SQLite takes an index that fits two conditions before one that fits one.
    Index("ix_jobs_account_open", "account_id", "completed_at", **_only("completed_at IS NULL")),
    Index(None, "account_id", "created_at", "id"),
    Index(None, "completed_at", **_only("completed_at IS NOT NULL")),
)

open_jobs = Table(
    "open_jobs",
    metadata,
    # One row with the number of jobs that have not ended, so that a POST doesn't count them.
    Column("jobs", Integer, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    # Past attempts that did not end the job.
    Column("lease_token", Text, primary_key=True),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("worker", Text, nullable=False),
    Column("started_at", _TIME),
    Column("ended_at", _TIME, nullable=False),
    # drained, trouble, died.
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
    Index(None, "job_id"),
)

queue_switches = Table(
    "queue_switches",
    metadata,
    # "paused": nothing is claimed; "draining": no new job is accepted.
    Column("name", Text, primary_key=True),
    Column("set_at", _TIME, nullable=False),
)

ended_jobs = Table(
    "ended_jobs",
    metadata,
    # The number of ended jobs by status, so that metrics don't count rows.
    Column("status", Text, primary_key=True),
    Column("jobs", Integer, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("event", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("chunk_index", Integer),
    Column("created_at", _TIME, nullable=False),
    UniqueConstraint("job_id", "chunk_index"),
)

usage = Table(
    "usage",
    metadata,
    Column("id", Text, primary_key=True),
    # No foreign key: the ledger outlives the job.
    Column("job_id", Text, nullable=False, unique=True),
    Column("account_id", Text, nullable=False),
    Column("minutes", Integer, nullable=False),
    Column("audio_seconds", Double, nullable=False),
    Column("created_at", _TIME, nullable=False),
    # Units paid by the wallet; the rest is metered_minutes, or free if the operator pays.
    Column("credit_units", Integer, nullable=False, server_default="0"),
    # The minutes reported to Stripe; NULL: all of them.
    Column("metered_minutes", Integer),
    # The row is its own outbox entry, so that it can't be without one: pending, unknown, sent, free,
    # rejected (see stenobird.ports.billing).
    Column("meter_state", Text, nullable=False, server_default="pending"),
    Column("meter_identifier", Text),
    # Fixed, like the identifier, at the first attempt that may have been counted.
    Column("meter_timestamp", Integer),
    Column("meter_attempts", Integer, nullable=False, server_default="0"),
    Column("meter_attempted_at", _TIME),
    Column("meter_due_at", _TIME, nullable=False, server_default="0"),
    Column("meter_error", Text),
    Index(None, "account_id", "created_at"),
    Index("ix_usage_meter_due", "meter_due_at", **_only("meter_state IN ('pending', 'unknown')")),
)

usage_days = Table(
    "usage_days",
    metadata,
    # The sums of the ledger by day, written in the same commit, so that reports don't add up rows.
    Column("account_id", Text, primary_key=True),
    # Whole days since the epoch, UTC.
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("jobs", Integer, nullable=False),
    Column("minutes", Integer, nullable=False),
    Column("units", Integer, nullable=False),
    Column("credit_units", Integer, nullable=False),
    Column("metered_minutes", Integer, nullable=False),
    Column("audio_seconds", Double, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("account_id", Text),
    Column("payload", _JSON, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("attempts", Integer, nullable=False),
    # The time of the next attempt; while a worker holds it, the end of its lease.
    Column("next_attempt_at", _TIME, nullable=False),
    Column("settled_at", _TIME),
    # pending, sending, delivered, dead (see stenobird.ports.webhooks).
    Column("state", Text, nullable=False, server_default="pending"),
    # Attempts since it was created or last replayed; `attempts` only grows.
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("attempted_at", _TIME),
    Column("status_code", Integer),
    Column("error", Text),
    Index("ix_outbox_due", "next_attempt_at", **_only("settled_at IS NULL")),
    Index(None, "job_id"),
    Index(None, "account_id", "created_at", "id"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", _JSON, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Index(None, "account_id", "created_at"),
)

wallets = Table(
    "wallets",
    metadata,
    # No foreign key: it is part of the ledger, which outlives the account.
    Column("account_id", Text, primary_key=True),
    # The sum of the account's wallet entries. Negative if a prepaid job was longer than announced.
    Column("units", Integer, nullable=False),
)

wallet_entries = Table(
    "wallet_entries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    # Units added (positive) or used (negative).
    Column("units", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    # The job that used them; at most one entry per job.
    Column("job_id", Text, unique=True),
    Column("created_at", _TIME, nullable=False),
    Index(None, "account_id", "created_at"),
)

reservations = Table(
    "reservations",
    metadata,
    # Units that a running job will probably use; the row is removed when the job ends.
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("units", Integer, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Index(None, "account_id"),
)

idempotency = Table(
    "idempotency",
    metadata,
    # SHA-256 of account or client address, mode, route and Idempotency-Key.
    Column("scope_hash", Text, primary_key=True),
    Column("account_id", Text),
    # SHA-256 of the raw body.
    Column("body_hash", Text, nullable=False),
    # The id of the job or upload, the same for every repetition of the request.
    Column("resource_id", Text, nullable=False),
    # The request that is handling it, and the end of its lease.
    Column("claim_token", Text, nullable=False),
    Column("claim_expires_at", _TIME, nullable=False),
    # The answer; NULL until there is one.
    Column("status", Integer),
    Column("headers", _JSON),
    Column("body", Text),
    Column("created_at", _TIME, nullable=False),
    Index(None, "account_id"),
    Index(None, "created_at"),
)

checkouts = Table(
    "checkouts",
    metadata,
    # Stripe's id of the Checkout Session.
    Column("id", Text, primary_key=True),
    # Set from the start if an account subscribes again, otherwise once Stripe reports the payment.
    Column("account_id", Text),
    Column("email", Text),
    Column("renewal", Boolean, nullable=False),
    # SHA-256 of the cookie of the browser that started it; NULL: it was started without a browser.
    Column("browser_hash", Text),
    Column("created_at", _TIME, nullable=False),
    Column("completed_at", _TIME),
    # SHA-256 of the one-time cookie that may fetch the key, and its expiry.
    Column("claim_hash", Text),
    Column("claim_expires_at", _TIME),
    Column("key_id", Text),
)

stripe_events = Table(
    "stripe_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    # The ids to fetch from Stripe; nothing else of the event is stored or trusted.
    Column("object_id", Text),
    Column("customer_id", Text),
    Column("received_at", _TIME, nullable=False),
    Column("processed_at", _TIME),
    Column("attempts", Integer, nullable=False),
    Column("due_at", _TIME, nullable=False),
    Column("error", Text),
    Index("ix_stripe_events_due", "due_at", **_only("processed_at IS NULL")),
)

recoveries = Table(
    "recoveries",
    metadata,
    # SHA-256 of the token in the mailed link.
    Column("token_hash", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("expires_at", _TIME, nullable=False),
    Column("used_at", _TIME),
    Index(None, "account_id", "created_at"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("api_key_id", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    # The blob's key, once it is complete. Each PUT writes its own key, so the last complete PUT wins.
    Column("blob_key", Text),
    Column("created_at", _TIME, nullable=False),
    Column("expires_at", _TIME, nullable=False),
    # When its first job was created; from then on the bytes don't change.
    Column("used_at", _TIME),
    # Until then the slot's size counts against the quotas, though its bytes have not arrived.
    Column("reserved_until", _TIME, nullable=False, server_default="0"),
    Index(None, "expires_at"),
    Index(None, "account_id"),
)

shares = Table(
    "shares",
    metadata,
    # SHA-256 of the token in the link. The row is deleted with its job.
    Column("token_hash", Text, primary_key=True),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", _TIME, nullable=False),
    Index(None, "job_id"),
)

voices = Table(
    "voices",
    metadata,
    # What a running job knows of the voices in its audio. Voices identify people: removed when the job ends.
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("account_id", Text, primary_key=True),
    # live or test: a leaked test key must not reveal the secret that signs events of paid jobs.
    Column("mode", Text, primary_key=True),
    # In plain text, because every message is signed with it.
    Column("secret", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
    # The previous secret, which also signs until the time in the next column.
    Column("previous_secret", Text),
    Column("previous_until", _TIME),
)

disabled_webhooks = Table(
    "disabled_webhooks",
    metadata,
    Column("account_id", Text, primary_key=True),
    # SHA-256 of the URL that answered 410.
    Column("target_hash", Text, primary_key=True),
    Column("disabled_at", _TIME, nullable=False),
)
