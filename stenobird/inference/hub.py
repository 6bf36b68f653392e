"""Models on the Hugging Face hub: found in its cache, or downloaded into it with progress.

Runs in model hosts, so that hub traffic neither blocks the service's event loop nor outlives it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes done and the bytes known to be needed."""

_TEMPORARY = frozenset({408, 425, 429})
"""Statuses that another try may not get; so are those from 500 on."""
_DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO}
)
"""Errors of the file system; connections raise `OSError`s too."""


class ModelUnavailable(Exception):
    """The model can't be loaded or downloaded; the message states the remedy.

    `offline` says that it could not be had from any source, `retry` that a later try may succeed.
    """

    def __init__(self, message: str, *, offline: bool = False, retry: bool = False) -> None:
        super().__init__(message)
        self.offline = offline
        self.retry = retry or offline


@dataclass(frozen=True, slots=True)
class ModelNeeds:
    """What a kind of model consists of.

    `files` are the patterns to download, `missing` returns what a folder lacks, `setting` names the variable
    that chose the model, and `instead` says what else an operator without the hub can do.
    """

    files: Sequence[str]
    missing: Callable[[Path], Sequence[str]]
    setting: str
    instead: str = ""


def models_folder(cache_dir: str | None) -> Path:
    """Return the folder of models from elsewhere than the hub, in the folder that holds the hub's cache."""
    # At its import it reads the environment, which a host gets only when it is running.
    from huggingface_hub import constants  # noqa: PLC0415

    return Path(cache_dir or constants.HF_HOME) / "stenobird"


def find_cached(repo_id: str, cache_dir: str | None, needs: ModelNeeds) -> Path | None:
    """Return the folder of a whole model in the hub's cache. Raises `ModelUnavailable` for a bad name."""
    try:
        folder = Path(_snapshot(repo_id, cache_dir, needs, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as exc:
        raise ModelUnavailable(f'"{repo_id}" is no name of a Hugging Face repository: {exc}') from exc
    return None if needs.missing(folder) else folder


def fetch(repo_id: str, cache_dir: str | None, needs: ModelNeeds, progress: Progress) -> Path:
    """Return the folder of the model, downloading what is not in the cache. Raises `ModelUnavailable`."""
    folder = find_cached(repo_id, cache_dir, needs)
    if folder is not None:
        return folder
    try:
        folder = Path(_snapshot(repo_id, cache_dir, needs, tqdm_class=progress_bar(progress)))
    except LocalEntryNotFoundError as exc:  # in early versions one of the next kind
        raise _out_of_reach(repo_id, needs) from exc
    except HfHubHTTPError as exc:
        status = exc.response.status_code
        if status in _TEMPORARY or status >= 500:
            raise ModelUnavailable(
                f"Hugging Face can't serve {repo_id} at the moment (status {status}). It is tried again in a "
                "while; until then, copy the model here and set "
                f"{needs.setting} to its folder.{needs.instead}",
                retry=True,
            ) from exc
        raise ModelUnavailable(
            f"Hugging Face refused {repo_id}: check the name in {needs.setting}, and HF_TOKEN if the "
            f"repository is private. ({exc})"
        ) from exc
    except OSError as exc:
        if exc.errno in _DISK_ERRORS:
            raise ModelUnavailable(
                f"The model {repo_id} can't be stored ({exc}): make room, or let HF_HOME name a folder that "
                "can be written. It is tried again in a while.",
                retry=True,
            ) from exc
        raise _out_of_reach(repo_id, needs) from exc
    except Exception as exc:  # the hub's client lets its HTTP library's errors through
        raise ModelUnavailable(
            f"The download of {repo_id} broke off ({type(exc).__name__}: {exc}). It goes on from there in a "
            "while; if it keeps breaking off, look at the connection and at the space on the disk.",
            retry=True,
        ) from exc
    if missing := needs.missing(folder):  # with the hub out of reach, the cache is returned as it is
        raise ModelUnavailable(
            f"The model {repo_id} lacks {', '.join(missing)}: connect this machine so that the download can "
            "be finished; if the repository has no such files, it holds no CTranslate2 model.",
            offline=True,
        )
    return folder


def _out_of_reach(repo_id: str, needs: ModelNeeds) -> ModelUnavailable:
    return ModelUnavailable(
        f"The model {repo_id} is not on disk and Hugging Face can't be reached: connect this machine, or "
        f"copy the model here and set {needs.setting} to its folder.{needs.instead}",
        offline=True,
    )


def _snapshot(repo_id: str, cache_dir: str | None, needs: ModelNeeds, **options: Any) -> str:
    return str(
        huggingface_hub.snapshot_download(
            repo_id, cache_dir=cache_dir, allow_patterns=list(needs.files), **options
        )
    )


def progress_bar(progress: Progress) -> Any:
    """Return a progress bar that shows nothing and reports the bytes.

    The hub's client has two bars of bytes, received and written; what is further along is reported.
    """
    reported = (0, 0)

    class Bar(tqdm):  # type: ignore[misc]  # tqdm comes without types
        def __init__(self, iterable: Iterable[Any] | None = None, **options: Any) -> None:
            options["disable"] = True
            self._counts_bytes = options.get("unit") == "B"
            self._done = int(options.get("initial", 0))
            super().__init__(iterable, **options)

        def update(self, n: float | None = 1) -> Any:
            self._done += int(n or 0)
            nonlocal reported
            if self._counts_bytes:
                # The client raises a bar's total as it learns of files.
                state = (self._done, max(int(self.total or 0), self._done))
                if state > reported:
                    reported = state
                    progress(*state)
            return super().update(n)

    return Bar
