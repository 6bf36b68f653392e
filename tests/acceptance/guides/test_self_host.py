"""The guides for operators of one machine: the unit, the settings files and the commands."""

from __future__ import annotations

import configparser
import re
import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.config import Settings
from tests.support.guides import Session, file_block

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.server_process import ServerProcess

UNITS = {
    "self-host.md": ("stenobird.service",),
    "backup.md": ("stenobird-backup.service", "stenobird-backup.timer"),
}
SETTINGS_FILES = ("self-host.md", "gpu.md")


@pytest.fixture
def settings_file(docs: Path, server: ServerProcess, tmp_path: Path) -> Path:
    """The guide's settings, with the data folder of the service that runs."""
    file = tmp_path / "stenobird.env"
    text = file_block(docs / "how-to" / "self-host.md", "stenobird.env")
    file.write_text(text.replace("/var/lib/stenobird", str(server.data_dir)))
    return file


def test_self_host(
    docs: Path, reader: Callable[..., Session], settings_file: Path, server: ServerProcess
) -> None:
    reader(**{"/etc/stenobird.env": str(settings_file)}).run_all(docs / "how-to" / "self-host.md")

    guide = (docs / "how-to" / "self-host.md").read_text()
    metrics = httpx.get(f"{server.url}/metrics", trust_env=False).text
    named = set(re.findall(r"`(stenobird_[a-z_]+)`", guide))
    shown = {
        name.removesuffix("_total")
        for name in re.findall(r"^# HELP (\w+) ", metrics, re.MULTILINE)
        if not name.endswith("_created")
    }
    assert named == shown


def test_gpu(docs: Path, reader: Callable[..., Session]) -> None:
    reader().run_all(docs / "how-to" / "gpu.md")


@pytest.mark.parametrize("guide", SETTINGS_FILES)
def test_settings_files_hold_settings(docs: Path, tmp_path: Path, guide: str) -> None:
    file = tmp_path / ".env"
    file.write_text(file_block(docs / "how-to" / guide, "stenobird.env"))
    names = {line.partition("=")[0] for line in file.read_text().splitlines()}

    settings = Settings(_env_file=file)

    ours = {name for name in names if name.startswith("STENOBIRD_")}
    assert ours <= {f"STENOBIRD_{name.upper()}" for name in Settings.model_fields}
    assert names - ours <= {"HF_HOME", "LD_LIBRARY_PATH"}
    assert settings.grace_seconds < 45, "the unit's TimeoutStopSec"


@pytest.mark.parametrize(
    ("guide", "name"), [(guide, name) for guide, names in UNITS.items() for name in names]
)
def test_units_are_units(docs: Path, tmp_path: Path, guide: str, name: str) -> None:
    text = file_block(docs / "how-to" / guide, name)
    # A key may come more than once in a unit; ours don't, so that this parser can look for slips.
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",))
    parser.read_string(text)
    assert "Unit" in parser
    for option in ("ExecStart", "EnvironmentFile"):
        assert parser.get("Service", option, fallback="/").startswith("/")

    if shutil.which("systemd-analyze") is None:
        return
    stand_in = tmp_path / "program"
    stand_in.write_text(f"#!{sys.executable}\n")
    stand_in.chmod(stat.S_IRWXU)
    for unit in UNITS[guide]:
        content = file_block(docs / "how-to" / guide, unit)
        content = content.replace("/opt/stenobird/venv/bin/stenobird", str(stand_in))
        (tmp_path / unit).write_text(content)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or name in line]
    assert (done.returncode, complaints) == (0, [])


def test_a_mistake_in_a_unit_file_is_noticed(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("UNITS NOT VERIFIED: install the package systemd")
    unit = tmp_path / "slip.service"
    unit.write_text("[Service]\nExecStart=/bin/true\nKilMode=mixed\n")

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert "KilMode" in done.stderr
