"""Where a translation model's files are: a folder, the Hugging Face cache, or a download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from stenobird.inference.hub import ModelNeeds, ModelUnavailable, fetch, find_cached
from stenobird.translation.tokens import tokenizer_file

if TYPE_CHECKING:
    from stenobird.inference.hub import Progress

SETTING = "STENOBIRD_TRANSLATION_MODEL"
_VOCABULARIES = ("shared_vocabulary.json", "shared_vocabulary.txt")


def _missing(folder: Path) -> list[str]:
    lacking = [] if (folder / "model.bin").is_file() else ["model.bin"]
    if _vocabulary_file(folder) is None:
        lacking.append("shared_vocabulary.json")
    if tokenizer_file(folder) is None:
        lacking.append("tokenizer.json or sentencepiece.bpe.model")
    return lacking


_NEEDS = ModelNeeds(
    files=("config.json", "model.bin", "shared_vocabulary.*", "tokenizer.json", "*.model"),
    missing=_missing,
    setting=SETTING,
)


def resolve(model: str, *, cache_dir: str | None, progress: Progress) -> Path:
    """Return the model's folder, downloading it if it is not on disk. Raises `ModelUnavailable`."""
    place = _locate(model)
    return place if isinstance(place, Path) else fetch(place, cache_dir, _NEEDS, progress)


def find_on_disk(model: str, *, cache_dir: str | None = None) -> Path | None:
    """Return the model's folder if nothing has to be downloaded, else `None`. Raises `ModelUnavailable`."""
    place = _locate(model)
    return place if isinstance(place, Path) else find_cached(place, cache_dir, _NEEDS)


def read_vocabulary(folder: Path) -> frozenset[str]:
    """Return the tokens that the model in a folder knows. Raises `OSError` or `ValueError`."""
    file = _vocabulary_file(folder)
    assert file is not None
    text = file.read_text(encoding="utf-8")
    return frozenset(json.loads(text) if file.suffix == ".json" else text.split("\n"))


def model_bytes(folder: Path) -> int:
    """Return how much the weights take on disk."""
    return (folder / "model.bin").stat().st_size


def _locate(model: str) -> Path | str:
    """Return the model's folder, or its repository on the hub."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        if lacking := _missing(folder):
            raise ModelUnavailable(
                f"The translation model in {folder} lacks {', '.join(lacking)}: convert an NLLB or M2M-100 "
                "model with ct2-transformers-converter --copy_files, see docs/how-to/translation.md."
            )
        return folder.resolve()
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ModelUnavailable(
            f'There is no translation model "{model}": set {SETTING} to a folder that holds a CTranslate2 '
            "NLLB or M2M-100 model, or to a Hugging Face repository (owner/name) with one."
        )
    return model


def _vocabulary_file(folder: Path) -> Path | None:
    return next((folder / name for name in _VOCABULARIES if (folder / name).is_file()), None)
