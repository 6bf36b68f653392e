"""Fixtures that every test area shares."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of spoken clips with their texts (`short`, 21 s; `long`, 3 min)."""
    return DATA / "clips"


@pytest.fixture(scope="session")
def fixture_model() -> Path:
    """The folder of the small Whisper-format model that knows 178 words."""
    import stenobird.demo  # noqa: PLC0415  # the package is looked up only when a test needs it

    return Path(stenobird.demo.__file__).parent / "model"
