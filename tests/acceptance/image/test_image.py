"""The built image, run as the compose files run it: read-only, no capabilities, no new privileges."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from stenobird.demo import CLIP_TEXT_PATH
from tests.support.until import until

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE = shlex.split(os.environ.get("CONTAINER_ENGINE", "docker"))
IMAGE = os.environ.get("STENOBIRD_TEST_IMAGE", "stenobird:cpu")
HARDENED = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--tmpfs", "/tmp:size=64m,mode=1777", "--network", "none"),
    # For engines that lack something here, such as cgroups.
    *shlex.split(os.environ.get("CONTAINER_RUN_ARGS", "")),
)


def engine(*arguments: str, timeout_seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ENGINE, *arguments], capture_output=True, text=True, timeout=timeout_seconds, check=False
    )


@pytest.fixture(scope="module")
def package() -> str:
    """The folder of the package inside the image."""
    done = engine(
        *("run", "--rm", *HARDENED, "--entrypoint", "python", IMAGE),
        *("-c", "import stenobird, pathlib; print(pathlib.Path(stenobird.__file__).parent)"),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextlib.contextmanager
def running(volume: str, package: str) -> Iterator[str]:
    """Run the service with the fixture model on this volume; yield the container's name once it is ready."""
    name = f"stenobird-test-{uuid.uuid4().hex[:12]}"
    settings = {"MODEL": f"{package}/demo/model", "ENGINE": "whisper", "EGRESS_ALLOW": "127.0.0.0/8"}
    environment = [word for key, value in settings.items() for word in ("--env", f"STENOBIRD_{key}={value}")]
    started = engine(
        *("run", "--detach", "--name", name, *HARDENED, *environment),
        *("--volume", f"{volume}:/var/lib/stenobird", IMAGE),
    )
    try:
        assert started.returncode == 0, started.stderr
        try:
            until(lambda: engine("exec", name, "stenobird", "health", "--ready").returncode == 0)
        except AssertionError:
            logs = engine("logs", name)
            pytest.fail(f"not ready:\n{logs.stdout}{logs.stderr}")
        yield name
    finally:
        engine("rm", "--force", name)


@pytest.fixture
def volume() -> Iterator[str]:
    name = f"stenobird-test-{uuid.uuid4().hex[:12]}"
    assert engine("volume", "create", name).returncode == 0
    try:
        yield name
    finally:
        engine("volume", "rm", "--force", name)


def test_the_demo_transcribes_every_word() -> None:
    done = engine("run", "--rm", *HARDENED, IMAGE, "demo", "--fixture")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == CLIP_TEXT_PATH.read_text().split()


def test_it_has_labels_and_runs_without_privileges() -> None:
    config = json.loads(engine("image", "inspect", IMAGE).stdout)[0]["Config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"] == ["CMD", "stenobird", "health"]
    assert config["Labels"]["org.opencontainers.image.version"]


def test_a_service_drains_and_its_volume_is_reusable(volume: str, package: str) -> None:
    with running(volume, package) as name:
        made = engine("exec", name, "stenobird", "keys", "create", "--json")
        assert made.returncode == 0, made.stderr
        heard = engine("exec", name, "stenobird", "transcribe", f"{package}/demo/clip.mp3")
        assert heard.stdout.split() == CLIP_TEXT_PATH.read_text().split(), heard.stderr
        doctor = engine("exec", name, "stenobird", "doctor", "--json")
        assert json.loads(doctor.stdout)["ok"], doctor.stdout
        assert engine("stop", "--time", "45", name).returncode == 0
        assert engine("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "0"
        assert "draining" in engine("logs", name).stderr
    with running(volume, package) as name:
        listed = engine("exec", name, "stenobird", "keys", "list", "--json")
        assert len(json.loads(listed.stdout)) >= 1, listed.stderr
