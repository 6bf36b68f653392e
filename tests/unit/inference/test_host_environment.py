"""What a model host sees of our environment, and what it does with it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from stenobird.inference.host import host_environment

if TYPE_CHECKING:
    from pathlib import Path


def test_secrets_are_not_passed_to_children() -> None:
    ours = {"STENOBIRD_DATABASE_URL": "postgresql://…", "AWS_SECRET_ACCESS_KEY": "s", "PATH": "/bin"}
    seen = host_environment(ours)
    assert set(seen) & set(ours) == {"PATH"}


def test_the_vad_library_leaves_no_identifier_behind(tmp_path: Path) -> None:
    """Its telemetry makes one at import, in HOME or the cache folder, and a session file in TMPDIR."""
    folders = {"HOME": "home", "XDG_CACHE_HOME": "cache", "TMPDIR": "tmp"}
    for name in folders.values():
        (tmp_path / name).mkdir()
    environment = host_environment({name: str(tmp_path / folder) for name, folder in folders.items()})
    subprocess.run(
        [sys.executable, "-c", "import onnxruntime; onnxruntime.SessionOptions()"],
        env=environment,
        check=True,
        timeout=180,
    )
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(folders.values())
