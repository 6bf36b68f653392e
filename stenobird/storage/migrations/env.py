"""Alembic's entry point: runs the revisions on the connection of the caller, inside its transaction."""

from __future__ import annotations

from alembic import context

from stenobird.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
