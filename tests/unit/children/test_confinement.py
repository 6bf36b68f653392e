"""Every kind of child, as the kernel sees it: its privileges, limits, environment and end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from stenobird.children.process import STDERR_TAIL_BYTES, ChildProcess
from stenobird.discovery.extractor.rung import ExtractorLimits
from stenobird.discovery.parsing.child import MEMORY_BYTES as PARSER_MEMORY_BYTES
from stenobird.inference.child import MEMORY_BYTES, WEIGHT_COPIES
from stenobird.media.decode import DecoderLimits
from stenobird.speakers.models import SPEAKERS
from tests.support.speaker_models import write_speaker_models
from tests.support.translation_model import write_translation_model
from tests.unit.children.every_kind import FIXTURE_MODEL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

SECRETS: Final = dict.fromkeys(
    (
        "STENOBIRD_STRIPE_SECRET_KEY",
        "STENOBIRD_STRIPE_WEBHOOK_SECRET",
        "STENOBIRD_DATABASE_URL",
        "STENOBIRD_PODCASTINDEX_SECRET",
        "AWS_SECRET_ACCESS_KEY",
        "PGPASSWORD",
        "HF_TOKEN",
        "PIP_INDEX_URL",
        "HTTPS_PROXY",
    ),
    "a-secret-value",
)

EXTRACTOR: Final = ExtractorLimits()
LIMITS: Final = {
    "speech host": {"Max file size": 0, "Max open files": 0},
    "translation host": {"Max file size": 0, "Max open files": 0},
    "speaker host": {"Max file size": 0, "Max open files": 0},
    "decoder": {
        "Max file size": 0,
        "Max open files": 0,
        "Max processes": 0,
        "Max cpu time": DecoderLimits().cpu_seconds,
    },
    "parser": {
        "Max file size": 0,
        "Max open files": 0,
        "Max address space": PARSER_MEMORY_BYTES,
    },
    "extractor": {
        "Max file size": 0,
        "Max open files": EXTRACTOR.open_files,
        "Max address space": EXTRACTOR.address_space_bytes,
        "Max cpu time": EXTRACTOR.cpu_seconds,
    },
}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has secrets in its environment and one child of every kind; it prints their pids."""
    write_translation_model(tmp_path)
    write_speaker_models(tmp_path)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.unit.children.every_kind", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | SECRETS,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_every_child_is_confined_and_dies_with_its_parent(
    service: asyncio.subprocess.Process, tmp_path: Path
) -> None:
    assert service.stdout is not None
    pids: dict[str, int] = json.loads(await service.stdout.readline())
    assert pids.keys() == LIMITS.keys()
    for kind, pid in pids.items():
        proc = Path("/proc", str(pid))
        status = (proc / "status").read_text()
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE), kind
        assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE), kind
        rows = re.findall(r"^(Max .+?)  +(\S+) +(\S+)", (proc / "limits").read_text(), re.MULTILINE)
        limits = {name: (soft, hard) for name, soft, hard in rows}
        expected = {"Max core file size": 0, **LIMITS[kind]}
        assert {name: limits[name] for name in expected} == {
            name: (str(value), str(value)) for name, value in expected.items()
        }, kind
        environment = environment_of(kind, proc)
        assert b"a-secret-value" not in environment, kind
        assert not [row for row in environment.split(b"\0") if row.startswith(b"STENOBIRD_")], kind
        if kind.endswith(" host"):
            folder = FIXTURE_MODEL if kind == "speech host" else tmp_path
            names = SPEAKERS.files if kind == "speaker host" else ("model.bin",)
            weights = sum((folder / name).stat().st_size for name in names)
            # One replica, and one more for urgent windows.
            workers = 2 if kind == "speech host" else 1
            data_bytes = MEMORY_BYTES * workers + WEIGHT_COPIES * weights
            assert limits["Max data size"] == (str(data_bytes), str(data_bytes)), kind
        if kind == "decoder":
            assert int(limits["Max address space"][0]) < 600 * 1024**2
    ends = [os.pidfd_open(pid) for pid in pids.values()]
    try:
        service.kill()
        for end in ends:
            await anyio.wait_readable(end)
    finally:
        for end in ends:
            os.close(end)


def environment_of(kind: str, proc: Path) -> bytes:
    """Return a child's environment, which is hidden from anyone but root."""
    try:
        return (proc / "environ").read_bytes()
    except PermissionError:
        assert os.geteuid() != 0, kind
        return b""


async def test_a_child_whose_owner_is_cancelled_is_reaped_all_the_same() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = await ChildProcess.start(command, environment={})
    closing = asyncio.create_task(child.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing})
    assert closing.cancelled()
    assert child.returncode == -signal.SIGKILL


async def test_the_end_of_what_a_child_wrote_to_stderr_can_be_read() -> None:
    code = "import sys; sys.stderr.write('x' * 9000); raise ValueError('the cause')"
    child = await ChildProcess.start(
        [sys.executable, "-I", "-c", code], environment={}, stderr=asyncio.subprocess.PIPE
    )
    status = await child.wait()
    await child.aclose()
    tail = await child.stderr_tail()
    assert status == 1
    assert tail.endswith("ValueError: the cause")
    assert len(tail) <= STDERR_TAIL_BYTES


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-I", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_child_whose_parent_has_ended_already_ends_before_it_does_anything() -> None:
    code = "from stenobird.children.confine import confine; confine(1); print('it goes on')"
    assert run(code) == ""


def test_a_lower_limit_of_the_parent_stays_and_an_unknown_one_is_skipped() -> None:
    code = """
import resource
from stenobird.children.confine import limit
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
limit(NOFILE=64, FSIZE=7, NO_SUCH_LIMIT=1)
print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_FSIZE))
"""
    assert run(code) == "(20, 20) (7, 7)\n"


def test_a_child_goes_on_where_no_filter_can_be_installed() -> None:
    """The first filter is like the policy of a container that does not let a process install one."""
    code = """
import ctypes
from stenobird.children.confine import allow_only, seccomp_available
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
print(seccomp_available(), allow_only("parser"), seccomp_available(), allow_only("decoder"))
"""
    assert run(code) == "True True False False\n"


def test_the_confinement_imports_nothing_heavy() -> None:
    code = """
import sys
import stenobird.children.confine
print(*sorted(name for name in sys.modules if name.startswith("stenobird")))
print("asyncio" in sys.modules, "subprocess" in sys.modules, "typing" in sys.modules)
"""
    assert run(code).splitlines() == [
        "stenobird stenobird.children stenobird.children.confine",
        "False False False",
    ]
