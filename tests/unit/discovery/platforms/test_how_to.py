"""The example of docs/how-to/add-a-platform.md, executed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from stenobird.discovery.platforms import Platform, PlatformRung

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[4] / "docs" / "how-to" / "add-a-platform.md"


async def test_the_example_of_the_guide_works_as_it_says(world: Any, search: Any) -> None:
    source = re.search(r"```python[^\n]*\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert source is not None
    names: dict[str, Any] = {}
    exec(source[1], names)
    entry = names["EXAMPLECAST"]
    assert isinstance(entry, Platform)
    rung = PlatformRung(entry, world.directory)
    episode = await rung.try_(search({}), "https://examplecast.com/e/123")
    show = await rung.try_(search({}), "https://the-show.examplecast.com/")
    assert [lead.url for lead in episode.media] == ["https://media.examplecast.com/123.mp3"]
    assert [(lead.url, lead.newest) for lead in show.feeds] == [
        ("https://feeds.examplecast.com/the-show.xml", True)
    ]
