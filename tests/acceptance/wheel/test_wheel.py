"""The wheel: built from a clean clone and installed away from it, it has all it needs and no test code."""

from __future__ import annotations

import ast
import os
import re
import site
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

import stenobird
from stenobird.demo import CLIP_TEXT_PATH
from tests.support.server_process import ServerProcess

ROOT = Path(__file__).parents[3]
TEST_PACKAGES = {"pytest", "hypothesis", "respx", "trustme", "schemathesis", "playwright", "moto", "tests"}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program away from the checkout, without this process's settings, and return its output."""
    environment = {
        name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ
    }
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is committed here, and nothing else."""
    folder = tmp_path_factory.mktemp("clone")
    run("git", "-c", "safe.directory=*", "clone", "--quiet", ROOT, folder, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=clone)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with the wheel, which borrows the dependencies installed here."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    program = folder / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", program]
    run(*pip, "install", "--quiet", "--no-compile", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages,) = folder.glob("lib/*/site-packages")
    # The .pth file of the editable checkout is not read again from a folder that a .pth file names.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    found = run(program, "-c", "import stenobird; print(stenobird.__file__)", cwd=folder)
    assert Path(found.strip()).is_relative_to(packages)
    return program


def test_it_holds_every_committed_file_of_the_package_and_no_test_code(wheel: Path, clone: Path) -> None:
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        sources = {name: archive.read(name) for name in names if name.endswith(".py")}
    committed = {str(path.relative_to(clone)) for path in (clone / "stenobird").rglob("*") if path.is_file()}
    skills = {
        f"stenobird/{path.relative_to(clone)}" for path in (clone / "skills").rglob("*") if path.is_file()
    }
    metadata = f"stenobird-{stenobird.__version__}.dist-info"
    assert {name for name in names if not name.startswith(f"{metadata}/")} == committed | skills
    assert "stenobird/py.typed" in names
    assert f"{metadata}/licenses/LICENSE" in names
    assert [name for name in names if re.search(r"(^|/)(tests?|test_\w+\.py|conftest\.py)(/|$)", name)] == []
    imports = {
        (name, module.partition(".")[0])
        for name, source in sources.items()
        for node in ast.walk(ast.parse(source))
        for module in imported_by(node)
    }
    assert imports
    assert {(name, module) for name, module in imports if module in TEST_PACKAGES} == set()


def imported_by(node: ast.AST) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom(module=str(module)):
            return [module]
        case _:
            return []


def test_it_runs_the_demo(python: Path, tmp_path: Path) -> None:
    shown = run(python.parent / "stenobird", "demo", "--fixture", cwd=tmp_path)
    assert shown.split() == CLIP_TEXT_PATH.read_text(encoding="utf-8").split()


def test_it_serves_the_pages_the_skill_and_the_openapi_document(python: Path, tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path / "data", python=python) as server,
        httpx.Client(base_url=server.url, trust_env=False) as http,
    ):
        for path in ("/", "/pricing", "/docs", "/docs/quickstart", "/llms.txt"):
            assert http.get(path).status_code == 200, path
        files = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', http.get("/").text))
        assert files
        for path in files:
            assert http.get(path).status_code == 200, path
        installer = http.get("/skills/stenobird-transcribe/install.sh")
        assert installer.text.startswith("#!/bin/sh\n")
        document = http.get("/openapi.json").json()
        assert document["info"]["version"] == stenobird.__version__
