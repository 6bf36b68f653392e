"""What the settings mean to a process: whether translation is offered, and what `stenobird doctor` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.bootstrap import Overrides, open_services
from stenobird.cli.doctor import Finding, machine_findings
from stenobird.errors import TranslationUnavailable
from stenobird.testing import FakeTranslator
from tests.support.translation_model import write_translation_model
from tests.support.web_world import served_from, web_settings

if TYPE_CHECKING:
    from pathlib import Path

    from stenobird.config import Settings


def settings(model: str, data_dir: Path) -> Settings:
    return web_settings(translation_model=model, data_dir=data_dir, engine="offline")


async def refusal(settings: Settings, translator: FakeTranslator | None = None) -> str | None:
    """Return what a process without a worker, or one with this translator, says to a translation."""
    overrides = Overrides(translator=translator)
    served = served_from(settings.data_dir, settings)
    async with open_services(served, with_worker=False, overrides=overrides) as services:
        return services.translation_refusal()


@pytest.mark.anyio
async def test_without_the_setting_translation_is_refused(tmp_path: Path) -> None:
    assert await refusal(settings("", tmp_path)) == TranslationUnavailable().message


@pytest.mark.anyio
async def test_a_process_without_a_worker_goes_by_the_setting(tmp_path: Path) -> None:
    assert await refusal(settings("someone/model", tmp_path)) is None


@pytest.mark.anyio
async def test_a_process_with_a_worker_asks_its_translator(tmp_path: Path) -> None:
    translator = FakeTranslator()
    with_model = settings("someone/model", tmp_path)

    assert await refusal(with_model, translator) is None
    translator.refuses = "The model is not on disk."
    assert await refusal(with_model, translator) == "The model is not on disk."


@pytest.mark.anyio
async def test_a_service_has_a_translator_where_a_model_is_set(tmp_path: Path) -> None:
    write_translation_model(tmp_path / "model")

    async with open_services(settings(str(tmp_path / "model"), tmp_path / "data")) as services:
        assert services.translator is not None
        said = await services.translator.translate(["a"], source="en", target="he", job_id="job")
        assert said[0] == "א"
    async with open_services(settings("", tmp_path / "data")) as services:
        assert services.translator is None


def finding(settings: Settings) -> Finding:
    return next(one for one in machine_findings(settings) if one.name == "translator")


def test_doctor_describes_the_translator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    write_translation_model(tmp_path / "model")
    found = {
        model: finding(settings(model, tmp_path))
        for model in ("", str(tmp_path / "model"), "someone/model", str(tmp_path / "nothing"))
    }

    assert [one.level for one in found.values()] == ["ok", "ok", "warning", "problem"]
    assert [one.name for one in found.values()] == ["translator"] * 4
    assert "docs/how-to/translation.md" in found[""].message
    assert "downloaded" in found["someone/model"].message
