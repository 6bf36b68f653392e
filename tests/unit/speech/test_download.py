"""The download of a model, from a hub on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.config import Settings
from stenobird.errors import EngineUnavailable
from stenobird.ports import Clock
from stenobird.speech.recognizer import WhisperRecognizer, open_recognizer
from tests.support.hub import FakeHub, hub_environment, serve_hub
from tests.support.until import async_until

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

pytestmark = pytest.mark.anyio


def open_from_hub(
    monkeypatch: pytest.MonkeyPatch, url: str, cache: Path, *, model: str = "someone/model"
) -> AbstractAsyncContextManager[WhisperRecognizer]:
    for name, value in hub_environment(url).items():
        monkeypatch.setenv(name, value)
    settings = Settings.model_construct(engine="whisper", model=model, device="cpu")
    return open_recognizer(settings, clock=Clock(), cache_dir=str(cache))


async def test_a_model_is_downloaded_once_and_its_progress_shows(
    fixture_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub(fixture_model)
    with serve_hub(hub) as url:
        async with open_from_hub(monkeypatch, url, tmp_path) as recognizer:
            await async_until(lambda: recognizer.status()["state"] == "downloading")
            assert 0 < recognizer.status()["progress"] <= 1
            assert not await recognizer.ready()
            hub.go_on.set()
            await recognizer.loaded()
            assert recognizer.model == "someone/model"
            assert recognizer.status()["fixture"] is False
        downloads = len(hub.served)
        async with open_from_hub(monkeypatch, url, tmp_path) as recognizer:
            await recognizer.loaded()

    assert len(hub.served) == downloads


async def test_a_name_unknown_to_the_hub_is_reported(
    fixture_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_hub(FakeHub(fixture_model)) as url:
        async with open_from_hub(monkeypatch, url, tmp_path, model="someone/else") as recognizer:
            with pytest.raises(EngineUnavailable, match="check the name in STENOBIRD_MODEL"):
                await recognizer.loaded()


async def test_a_hub_out_of_reach_is_reported(
    fixture_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_hub(FakeHub(fixture_model)) as url:
        pass
    async with open_from_hub(monkeypatch, url, tmp_path) as recognizer:
        with pytest.raises(EngineUnavailable, match="Hugging Face can't be reached"):
            await recognizer.loaded()


async def test_a_request_that_fails_at_the_hub_is_repeated(
    fixture_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub(fixture_model)
    hub.refusals = [503] * len(hub.files)
    hub.go_on.set()
    with serve_hub(hub) as url:
        async with open_from_hub(monkeypatch, url, tmp_path) as recognizer:
            with pytest.raises(EngineUnavailable, match=r"at the moment \(status 503\)"):
                await recognizer.loaded()
            await async_until(recognizer.ready)

    assert recognizer.model == "someone/model"


async def test_a_cache_that_cannot_be_written_is_not_taken_for_a_hub_out_of_reach(
    fixture_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with serve_hub(FakeHub(fixture_model)) as url:
        async with open_from_hub(monkeypatch, url, tmp_path / "file" / "cache") as recognizer:
            with pytest.raises(EngineUnavailable, match=r"can't be stored .*Not a directory"):
                await recognizer.loaded()
