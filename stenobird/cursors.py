"""Cursors of lists, newest first: each names the last row of a page, and is opaque to clients."""

from __future__ import annotations

import base64
import binascii
import math

from stenobird.errors import InvalidRequest


def write_cursor(created_at: float, row_id: str) -> str:
    """Return the cursor of the page after the row of this time (epoch seconds) and id."""
    return base64.urlsafe_b64encode(f"{created_at!r} {row_id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[float, str]:
    """Return the time and id of a cursor. Raises `InvalidRequest` unless `write_cursor` made it."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        created_at, _, row_id = text.partition(" ")
        before = float(created_at)
        if math.isfinite(before) and "\0" not in row_id:
            return before, row_id
    except (binascii.Error, UnicodeError, ValueError):
        pass  # the error is raised below
    raise InvalidRequest('"cursor" must be the next_cursor of an earlier page.', details={"field": "cursor"})
