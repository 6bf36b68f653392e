"""The guides under `/docs`: HTML that the reference writer makes from the Markdown in docs/."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
ADDRESS: Final = "http://127.0.0.1:8000"
"""The address of the service in the rendered guides; `Guide.at` replaces it."""


@dataclass(frozen=True, slots=True)
class Guide:
    """A guide. `body` is trusted HTML without the title."""

    name: str
    title: str
    summary: str
    body: str

    def at(self, base_url: str) -> str:
        """Return the HTML for a service at this address."""
        return self.body.replace(ADDRESS, html.escape(base_url))


@cache
def guides() -> tuple[Guide, ...]:
    """Return the guides in the order in which they are listed. They are read at the first call."""
    return tuple(
        Guide(**row, body=(FOLDER / f"{row['name']}.html").read_text(encoding="utf-8"))
        for row in json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
    )
