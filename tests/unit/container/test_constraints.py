"""`constraints.txt`: what it pins can be installed wherever pyproject.toml says that the package can."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[3]


def test_every_pin_supports_the_oldest_supported_python() -> None:
    """Debian 12 has Python 3.11.2; a pin that wants a later patch version stops an installation there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    floor = re.fullmatch(r">=(\d+\.\d+)", project["requires-python"])
    assert floor is not None
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    wants: dict[str, str] = {}
    for name in pins:
        try:
            metadata = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        # Typeshed's protocol of the metadata has no `get`.
        wants[name] = metadata["Requires-Python"] if "Requires-Python" in metadata else ""  # noqa: SIM401
    assert len(wants) > len(pins) // 2
    too_young = {name: want for name, want in wants.items() if f"{floor[1]}.0" not in SpecifierSet(want)}
    assert too_young == {}
