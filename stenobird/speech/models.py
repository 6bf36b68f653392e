"""Which model to load and where its files are: a folder, the Hugging Face cache, or a download.

Runs in the speech host, so that hub traffic neither blocks the service's event loop nor outlives it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import huggingface_hub
from faster_whisper.utils import _MODELS, available_models
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterable

FIXTURE_NAME = "stenobird-fixture"
"""What results made with the bundled 178-word model are labelled with."""

AUTO_MODELS = {"cpu": "base", "cuda": "large-v3-turbo"}
_FILES = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*")
_FIXTURE_FOLDER = Path(__file__).resolve().parents[1] / "demo" / "model"
_NEEDED = ("config.json", "model.bin", "tokenizer.json")

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes done and the bytes known to be needed."""


class ModelUnavailable(Exception):
    """The model can't be had; the message states the remedy.

    `offline` says that nothing is wrong but the way to the hub, `retry` that a later try may succeed.
    """

    def __init__(self, message: str, *, offline: bool = False, retry: bool = False) -> None:
        super().__init__(message)
        self.offline = offline
        self.retry = retry or offline


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk. `fixture` marks the bundled test model, which is no speech model."""

    folder: Path
    name: str
    fixture: bool = False


def resolve(model: str, *, device: str, cache_dir: str | None, progress: Progress) -> ModelFiles:
    """Return the model's files, downloading them if they are not on disk. Raises `ModelUnavailable`."""
    name, place = _locate(model, device)
    if isinstance(place, Path):
        return _from_folder(place)
    return ModelFiles(_from_hub(place, cache_dir, progress), name)


def find_on_disk(model: str, *, device: str, cache_dir: str | None = None) -> ModelFiles | None:
    """Return the model's files if nothing has to be downloaded, else `None`. Raises `ModelUnavailable`."""
    name, place = _locate(model, device)
    if isinstance(place, Path):
        return _from_folder(place)
    folder = _cached(place, cache_dir)
    return None if folder is None else ModelFiles(folder, name)


def _locate(model: str, device: str) -> tuple[str, Path | str]:
    """Return the model's name, and its folder or its repository on the hub."""
    name = AUTO_MODELS[device] if model == "auto" else model
    folder = Path(name).expanduser()
    if folder.is_dir():
        return name, folder.resolve()
    repo_id = name if name.count("/") == 1 else _MODELS.get(name)
    if repo_id is None:
        raise ModelUnavailable(
            f'There is no model "{name}": set STENOBIRD_MODEL to a folder that holds a CTranslate2 Whisper '
            f"model, to a Hugging Face repository (owner/name), or to one of {', '.join(available_models())}."
        )
    return name, repo_id


def _from_folder(folder: Path) -> ModelFiles:
    if missing := _missing(folder):
        raise ModelUnavailable(
            f"The model folder {folder} lacks {', '.join(missing)}: convert the model with "
            "ct2-transformers-converter --copy_files tokenizer.json preprocessor_config.json."
        )
    fixture = folder == _FIXTURE_FOLDER
    return ModelFiles(folder, FIXTURE_NAME if fixture else folder.name, fixture)


def _cached(repo_id: str, cache_dir: str | None) -> Path | None:
    try:
        folder = Path(_snapshot(repo_id, cache_dir, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as exc:
        raise ModelUnavailable(f'"{repo_id}" is no name of a Hugging Face repository: {exc}') from exc
    return None if _missing(folder) else folder


def _from_hub(repo_id: str, cache_dir: str | None, progress: Progress) -> Path:
    folder = _cached(repo_id, cache_dir)
    if folder is not None:
        return folder
    try:
        folder = Path(_snapshot(repo_id, cache_dir, tqdm_class=_bar(progress)))
    except HfHubHTTPError as exc:
        raise ModelUnavailable(
            f"Hugging Face refused {repo_id}: check the name in STENOBIRD_MODEL, and HF_TOKEN if the "
            f"repository is private. ({exc})"
        ) from exc
    except (LocalEntryNotFoundError, OSError) as exc:
        raise ModelUnavailable(
            f"The model {repo_id} is not on disk and Hugging Face can't be reached: connect this machine, or "
            "copy the model here and set STENOBIRD_MODEL to its folder. To use the small offline engine "
            "instead, set STENOBIRD_ENGINE=offline.",
            offline=True,
        ) from exc
    except Exception as exc:  # the hub's client lets its HTTP library's errors through
        raise ModelUnavailable(
            f"The download of {repo_id} broke off ({type(exc).__name__}: {exc}). It goes on from there in a "
            "while; if it keeps breaking off, look at the connection and at the space on the disk.",
            retry=True,
        ) from exc
    if missing := _missing(folder):  # with the hub out of reach, what is in the cache is returned as it is
        raise ModelUnavailable(
            f"The model {repo_id} lacks {', '.join(missing)}: connect this machine so that the download can "
            "be finished; if the repository has no such files, it holds no CTranslate2 model.",
            offline=True,
        )
    return folder


def _missing(folder: Path) -> list[str]:
    return [name for name in _NEEDED if not (folder / name).is_file()]


def _snapshot(repo_id: str, cache_dir: str | None, **options: Any) -> str:
    return str(
        huggingface_hub.snapshot_download(
            repo_id, cache_dir=cache_dir, allow_patterns=list(_FILES), **options
        )
    )


def _bar(progress: Progress) -> Any:
    """Return a progress bar for the terminal that also reports the bytes; without a terminal only reports.

    The hub's client shows two bars of bytes, received and written; what is further along is reported.
    """
    reported = (0, 0)

    class Bar(tqdm):  # type: ignore[misc]  # tqdm comes without types
        def __init__(self, iterable: Iterable[Any] | None = None, **options: Any) -> None:
            options["disable"] = not sys.stderr.isatty()
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
