"""Packages of Node.js that tests run: those of tests/data/node, installed once into the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE_FILE = Path(__file__).parent.parent / "data" / "node" / "package.json"
INSTALL_TIMEOUT_SECONDS = 600.0


def node_packages() -> Path:
    """Return the folder that has `node_modules`. Skips the test where they can't be had, and says why."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("NOT TESTED WITH NODE.JS: node and npm are not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stenobird-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"node-{hashlib.sha256(PACKAGE_FILE.read_bytes()).hexdigest()[:12]}"
    # Test processes wait for the one that installs.
    with (cache / "node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _install(npm, folder)
    return folder


def _install(npm: str, folder: Path) -> None:
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    shutil.copy(PACKAGE_FILE, fresh)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    try:
        done = subprocess.run(
            command, cwd=fresh, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("NOT TESTED WITH NODE.JS: npm did not finish in time")
    if done.returncode != 0:
        pytest.skip(f"NOT TESTED WITH NODE.JS: npm can't install the packages: {done.stderr[-300:]}")
    fresh.rename(folder)


def run_node(script: Path, *arguments: str, timeout_seconds: float = 120.0) -> str:
    """Run a script that may import the packages; return what it prints. Raises `CalledProcessError`."""
    return subprocess.run(
        ["node", str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=True,
    ).stdout
