"""Alembic's revisions, run by `storage.engine.migrate` on the connection it passes."""
