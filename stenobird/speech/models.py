"""Which model to load and where its files are: a folder, the Hugging Face cache, or a download."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from faster_whisper.utils import _MODELS, available_models

from stenobird.inference.hub import ModelNeeds, ModelUnavailable, fetch, find_cached

if TYPE_CHECKING:
    from stenobird.inference.hub import Progress

FIXTURE_NAME = "stenobird-fixture"
"""The model name in results of the bundled 178-word test model."""

AUTO_MODELS = {"cpu": "base", "cuda": "large-v3-turbo"}
_FIXTURE_FOLDER = Path(__file__).resolve().parents[1] / "demo" / "model"


def _missing(folder: Path) -> list[str]:
    return [name for name in ("config.json", "model.bin", "tokenizer.json") if not (folder / name).is_file()]


_NEEDS = ModelNeeds(
    files=("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*"),
    missing=_missing,
    setting="STENOBIRD_MODEL",
    instead=" To use the small offline engine instead, set STENOBIRD_ENGINE=offline.",
)


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
    return ModelFiles(fetch(place, cache_dir, _NEEDS, progress), name)


def find_on_disk(model: str, *, device: str, cache_dir: str | None = None) -> ModelFiles | None:
    """Return the model's files if nothing has to be downloaded, else `None`. Raises `ModelUnavailable`."""
    name, place = _locate(model, device)
    if isinstance(place, Path):
        return _from_folder(place)
    folder = find_cached(place, cache_dir, _NEEDS)
    return None if folder is None else ModelFiles(folder, name)


def translates(name: str) -> bool:
    """Whether a model of this name was trained to translate: large-v3-turbo and distilled models were not.

    Asked to translate, they transcribe.
    """
    return re.search(r"turbo|distil", name, re.IGNORECASE) is None


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
