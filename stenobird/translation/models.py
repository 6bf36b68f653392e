"""A translation model's files: where they are (a folder, the hub's cache, a download), and their subwords.

NLLB repositories have `tokenizer.json`, mostly beside `sentencepiece.bpe.model`; those of M2M-100 have only
the latter, which models converted from fairseq call `sentencepiece.model` or something else with that suffix.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import sentencepiece
import tokenizers

from stenobird.inference.hub import ModelNeeds, ModelUnavailable, fetch, find_cached

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stenobird.inference.hub import Progress

SETTING = "STENOBIRD_TRANSLATION_MODEL"
_TOKENIZERS = ("tokenizer.json", "sentencepiece.bpe.model", "sentencepiece.model")
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


def tokenizer_file(folder: Path) -> Path | None:
    """Return the file that defines the folder's subwords; `None` where there is none."""
    for name in _TOKENIZERS:
        if (folder / name).is_file():
            return folder / name
    return next(iter(sorted(folder.glob("*.model"))), None)


def load_tokens(file: Path) -> tuple[Callable[[str], list[str]], Callable[[Sequence[str]], str]]:
    """Load what `tokenizer_file` found; return what encodes a text in subwords, and what decodes them.

    No subword of a text means something to the model, also where the text looks like a special token. Raises
    `OSError`, `RuntimeError` or a bare `Exception` if the file is broken.
    """
    if file.suffix != ".json":
        processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
        return (
            lambda text: list(processor.encode(text, out_type=str)),
            lambda tokens: str(processor.decode(list(tokens))),
        )
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    tokenizer.encode_special_tokens = True

    def decode(tokens: Sequence[str]) -> str:
        ids = (tokenizer.token_to_id(token) for token in tokens)
        return str(tokenizer.decode([i for i in ids if i is not None], skip_special_tokens=True))

    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).tokens), decode
