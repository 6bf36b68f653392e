"""The import contracts of pyproject.toml: each rejects what it forbids, together they cover every package."""

from __future__ import annotations

import graphlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import grimp
import pytest

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS: list[dict[str, Any]] = PROJECT["tool"]["importlinter"]["contracts"]
PACKAGES = sorted(path.parent.name for path in (ROOT / "stenobird").glob("*/__init__.py"))

SHARED_VENDORS = {
    "anyio",
    "markdown_it",
    "numpy",
    "pydantic",
    "pydantic_core",
    "structlog",
    "typing_extensions",
}
"""The vendor packages that any part of Stenobird may import."""


def forbidden_imports(contract: dict[str, Any]) -> dict[str, list[str]]:
    """Imports that break the contract, by the module they go into. A new contract type needs its own."""
    match contract["type"]:
        case "layers":
            return {"webhooks.planted": ["import stenobird.web.app"], "unlisted": []}
        case "runtime_acyclic_siblings":
            return {
                "jobs.planted": ["import stenobird.jobs.planted_too"],
                "jobs.planted_too": ["import stenobird.jobs.planted"],
            }
        case "protected":
            return {
                f"{package}.planted": [f"import {module}" for module in contract["protected_modules"]]
                for package in PACKAGES
                if f"stenobird.{package}" not in contract["allowed_importers"]
            }
        case other:
            raise NotImplementedError(f"say which import a contract of type {other!r} forbids")


def expected_complaints(contract: dict[str, Any]) -> set[str]:
    """What import-linter has to say of the forbidden imports of `contract`, besides that it is broken."""
    match contract["type"]:
        case "layers":
            return {"stenobird.webhooks is not allowed to import stenobird.web:", "- stenobird.unlisted"}
        case "runtime_acyclic_siblings":
            return {"No cycles are allowed in stenobird.jobs."}
        case _:
            return {
                f"- stenobird.{importer} -> {line.removeprefix('import ')} (l."
                for importer, lines in forbidden_imports(contract).items()
                for line in lines
                if not importer.startswith(
                    line.removeprefix("import stenobird.")
                )  # a package may import itself
            }


def lint(tree: Path) -> tuple[int, str]:
    """Check a copy of the package; the current folder comes before the installed one."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()"],
        cwd=tree,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package's code and of its contracts."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", copy)
    shutil.copytree(ROOT / "tools", copy / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for source in (ROOT / "stenobird").rglob("*.py"):
        target = copy / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    return copy


@pytest.fixture(scope="module")
def rejection(tree: Path) -> str:
    """What import-linter says when each contract is broken by an import of its own."""
    status, output = lint(tree)
    assert status == 0, f"the copy has to keep the contracts before anything is planted:\n{output}"
    planted: dict[str, list[str]] = {}
    for contract in CONTRACTS:
        for module, lines in forbidden_imports(contract).items():
            planted.setdefault(module, []).extend(lines)
    for module, lines in planted.items():
        path = tree / "stenobird" / f"{module.replace('.', '/')}.py"
        path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    status, output = lint(tree)
    assert status == 1, output
    return output


@pytest.mark.parametrize("contract", CONTRACTS, ids=[contract["name"] for contract in CONTRACTS])
def test_a_forbidden_import_is_rejected(contract: dict[str, Any], rejection: str) -> None:
    assert f"{contract['name']} BROKEN" in rejection
    complaints = expected_complaints(contract)
    assert complaints
    assert {complaint for complaint in complaints if complaint not in rejection} == set()


def test_each_vendor_package_has_an_owner() -> None:
    """What no contract protects may be imported anywhere, so the list of that is short and written down."""
    graph = grimp.build_graph("stenobird", include_external_packages=True, cache_dir=None)
    own_and_standard = {"stenobird", "_typeshed", *sys.stdlib_module_names}
    vendors = {name for name in graph.modules if name.split(".")[0] not in own_and_standard}
    owned = {module for contract in CONTRACTS for module in contract.get("protected_modules", [])}
    assert vendors - owned - SHARED_VENDORS == set()


def test_no_module_is_in_an_import_cycle() -> None:
    """The contract compares siblings; this also sees a package's `__init__` in a cycle with its modules."""
    graph = grimp.build_graph("stenobird", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()
