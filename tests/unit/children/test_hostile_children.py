"""Hostile code inside every kind of child: what it can still do once it has closed a descriptor."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from stenobird.children.process import ChildProcess
from stenobird.inference.frames import pack
from stenobird.speech.protocol import WindowRequest
from tests.support.canary import open_canary

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="the confinement is Linux's"),
]

LOAD: Final = pack({"type": "load", "environment": {}})
WINDOW: Final = WindowRequest(np.zeros(16000, np.int16), 0, ((0, 16000),), "en").to_frame()
INPUTS: Final = {
    "free": b"\n",
    "decoder": b"",
    "parser": b'{"op": "page", "url": "", "content_type": "", "size": 0}\n',
    "extractor": b'{"limits": {"NOFILE": 64, "FSIZE": 0}, "proxy": "http://a:b@[::1]:9", "readable": []}\n',
    "speech_host": LOAD + pack(WINDOW[0] | {"id": 1, "urgent": False}, WINDOW[1]),
    "translation_host": LOAD + pack({"id": 1, "texts": ["a"], "source": "en", "target": "he"}),
}
SIBLING: Final = """
import ctypes, os, sys
from stenobird.children.confine import confine
if sys.argv[1] == "confined":
    confine(os.getppid())
memory = ctypes.create_string_buffer(b"a secret")
print(ctypes.addressof(memory), flush=True)
sys.stdin.read()
"""


async def attacked(kind: str, tmp_path: Path, *, device: str = "cpu") -> dict[str, str]:
    """Run a hostile child next to a healthy one, and return the result of each attempt."""
    state = "free" if kind == "free" else "confined"
    async with (
        aclosing(await ChildProcess.start([sys.executable, "-c", SIBLING, state], environment={})) as sibling,
        open_canary() as canary,
    ):
        target = {
            "pid": sibling.pid,
            "address": int(await sibling.reader.readline()),
            "port": canary.port,
            "file": str(tmp_path / "created"),
            "device": device,
        }
        command = [sys.executable, "-m", "tests.unit.children.hostile", kind, json.dumps(target)]
        async with aclosing(await ChildProcess.start(command, environment={}, stderr=None)) as child:
            child.writer.write(INPUTS[kind])
            output = await child.reader.read()
        assert await canary.settle() == (1 if kind == "free" else 0)
    _, start, report = output.rpartition(b'{"open a file')
    results: dict[str, str] = json.loads(start + report)
    return results


def succeeded(results: dict[str, str]) -> set[str]:
    """Return the attempts that the kernel has not refused."""
    return {name for name, result in results.items() if result not in {"EPERM", "EACCES"}}


@pytest.mark.parametrize("kind", [kind for kind in INPUTS if kind != "free"])
async def test_hostile_code_can_do_nothing_with_a_descriptor_that_it_closes(
    kind: str, tmp_path: Path
) -> None:
    results = await attacked(kind, tmp_path)
    assert succeeded(results) == set(), results


async def test_a_host_with_cuda_keeps_its_files_but_reaches_no_other_process(tmp_path: Path) -> None:
    results = await attacked("speech_host", tmp_path, device="cuda")
    assert succeeded(results) == {"open a file", "create a file", "make a local socket"}, results


async def test_the_same_code_can_do_all_of_it_where_nothing_confines_it(tmp_path: Path) -> None:
    results = await attacked("free", tmp_path)
    # A container, or a machine's own policy, may refuse these to everyone.
    refused_anywhere = {"set up io_uring", "trace", "read memory"}
    assert succeeded(results) | refused_anywhere == results.keys(), results
