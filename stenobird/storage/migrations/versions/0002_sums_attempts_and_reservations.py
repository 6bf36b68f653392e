"""Sums of usage and of ended jobs; attempts, backoff and switches of the queue; reserved bytes of uploads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("claimable_at", sa.Double(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("claimed_at", sa.Double(), nullable=True))
    op.add_column("uploads", sa.Column("reserved_until", sa.Double(), nullable=False, server_default="0"))
    op.execute("UPDATE uploads SET reserved_until = expires_at")
    op.create_index(op.f("ix_uploads_account_id"), "uploads", ["account_id"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("lease_token", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("lease_token", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_job_id"), "attempts", ["job_id"], unique=False)
    op.create_table(
        "queue_switches",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("set_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_queue_switches")),
    )
    op.create_table(
        "ended_jobs",
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("status", name=op.f("pk_ended_jobs")),
    )
    op.execute(
        "INSERT INTO ended_jobs (status, jobs) "
        "SELECT status, count(*) FROM jobs WHERE completed_at IS NOT NULL GROUP BY status"
    )
    op.create_table(
        "usage_days",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.Column("credit_units", sa.Integer(), nullable=False),
        sa.Column("metered_minutes", sa.Integer(), nullable=False),
        sa.Column("audio_seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "day", name=op.f("pk_usage_days")),
    )
    # SQLite truncates where PostgreSQL rounds.
    whole = "CAST({} AS INTEGER)" if op.get_bind().dialect.name == "sqlite" else "CAST(floor({}) AS integer)"
    day, minutes = whole.format("created_at / 86400.0"), whole.format("audio_seconds / 60.0")
    op.execute(
        "INSERT INTO usage_days "  # noqa: S608  # constants only
        f"SELECT account_id, {day}, count(*), sum(CASE WHEN {minutes} < 1 THEN 1 ELSE {minutes} END), "
        "sum(minutes), sum(credit_units), sum(coalesce(metered_minutes, minutes - credit_units)), "
        f"sum(audio_seconds) FROM usage GROUP BY account_id, {day}"
    )
