"""The screenshots in `docs/screenshots`, which `tests/acceptance/pages/screenshots.py` takes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

PICTURES = Path(__file__).parents[3] / "docs" / "screenshots"
PAGES = (
    "docs",
    "doubtful-words",
    "error",
    "home",
    "live",
    "options",
    "preview",
    "pricing",
    "right-to-left",
    "running",
    "search",
    "shortcuts",
    "success",
    "transcript",
    "usage",
)
MAX_BYTES = 64 * 1024


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_each_page_has_a_small_screenshot_of_its_width(page: str, scheme: str, width: int) -> None:
    picture = (PICTURES / f"{page}-{width}-{scheme}.png").read_bytes()

    assert picture.startswith(b"\x89PNG\r\n")
    assert struct.unpack(">I", picture[16:20]) == (width,)
    assert len(picture) <= MAX_BYTES


def test_there_is_no_screenshot_of_a_removed_page() -> None:
    assert {path.name.rsplit("-", 2)[0] for path in PICTURES.glob("*.png")} == set(PAGES)
