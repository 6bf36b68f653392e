"""The reference pages, made from the code: every setting, error, event and command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.reference.commands import commands_page
from tools.reference.errors import errors_page
from tools.reference.events import events_page
from tools.reference.settings import settings_page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAGES: Mapping[str, Callable[[], str]] = {
    "settings": settings_page,
    "errors": errors_page,
    "events": events_page,
    "cli": commands_page,
}
"""The generated pages by the name of their file in docs/reference."""
