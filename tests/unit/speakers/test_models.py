"""What `doctor` says about the speaker models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stenobird.cli.doctor import machine_findings
from stenobird.config import Settings
from tests.support.speaker_models import write_speaker_models

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from stenobird.cli.doctor import Finding


def finding(model: str, data_dir: Path) -> Finding:
    found = machine_findings(Settings(speaker_model=model, data_dir=data_dir))
    return next(one for one in found if one.name == "speaker models")


def test_doctor_describes_the_speaker_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))
    models = tmp_path / "models"
    models.mkdir()
    write_speaker_models(models)
    found = [finding(model, tmp_path) for model in ("", str(models), "auto", str(tmp_path / "nothing"))]
    assert [one.level for one in found] == ["ok", "ok", "warning", "problem"]
    assert "docs/how-to/speakers.md" in found[0].message
    assert "downloaded" in found[2].message
