"""The cursors of lists."""

from __future__ import annotations

import pytest

from stenobird.bodies import read_cursor, write_cursor
from stenobird.errors import InvalidRequest


def test_a_cursor_is_read_back() -> None:
    assert read_cursor(write_cursor(1_800_000_000.25, "tr_1")) == (1_800_000_000.25, "tr_1")


# The last one is "1.0 " and a NUL, which PostgreSQL has no text for.
@pytest.mark.parametrize("cursor", ["", "x", "%%%", "bm9uc2Vuc2U", "bmFuIHg", "MS4wIAA"])
def test_what_no_page_returned_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        read_cursor(cursor)
