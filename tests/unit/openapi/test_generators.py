"""The OpenAPI document in the hands of linters and of a generator of TypeScript, all from npm."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from stenobird.web.app import api_document
from stenobird.web.openapi.document import as_text
from tests.support.node import node_packages

if TYPE_CHECKING:
    from pathlib import Path

QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "CI": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openapi")
    (folder / "openapi.json").write_text(as_text(api_document()))
    return folder


def _run(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = node_packages() / "node_modules" / ".bin" / program
    return subprocess.run(
        [str(path), *arguments],
        cwd=folder,
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_redocly_finds_nothing(folder: Path) -> None:
    # Endpoints for operators have no error that is theirs.
    (folder / "redocly.yaml").write_text("extends: [recommended]\nrules: {operation-4xx-response: off}\n")
    done = _run(folder, "redocly", "lint", "openapi.json", "--format=json")
    assert (done.returncode, json.loads(done.stdout)["problems"]) == (0, [])


def test_spectral_finds_nothing(folder: Path) -> None:
    (folder / "rules.yaml").write_text('extends: ["spectral:oas"]\n')
    done = _run(folder, "spectral", "lint", "openapi.json", "-r", "rules.yaml", "-F", "hint", "-f", "json")
    assert (done.returncode, done.stdout[:2]) == (0, "[]"), done.stdout


def test_openapi_typescript_makes_types_whose_defaults_may_be_left_out(folder: Path) -> None:
    done = _run(folder, "openapi-typescript", "openapi.json", "-o", "types.ts")
    assert done.returncode == 0, done.stderr
    types = (folder / "types.ts").read_text()
    assert "word_timestamps?: boolean;" in types
    assert '"text/event-stream": string;' in types
