"""The number of open jobs, and fewer indexes that each new job is written to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("open_jobs", sa.Column("jobs", sa.Integer(), nullable=False))
    op.execute("INSERT INTO open_jobs (jobs) SELECT count(*) FROM jobs WHERE completed_at IS NULL")
    op.drop_index(op.f("ix_jobs_status"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_completed_at"), table_name="jobs")
    op.create_index(
        op.f("ix_jobs_completed_at"),
        "jobs",
        ["completed_at"],
        unique=False,
        sqlite_where=sa.text("completed_at IS NOT NULL"),
        postgresql_where=sa.text("completed_at IS NOT NULL"),
    )
