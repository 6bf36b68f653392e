"""Words to subwords and back, with what published translation models bring: tokenizer.json or SentencePiece.

NLLB repositories have `tokenizer.json`, mostly beside `sentencepiece.bpe.model`; those of M2M-100 have only
the latter, which models converted from fairseq call `sentencepiece.model` or something else with that suffix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import sentencepiece
import tokenizers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PREFERRED = ("sentencepiece.bpe.model", "sentencepiece.model")


class Tokens(Protocol):
    """A model's subwords, without any token that means something to the model."""

    def encode(self, text: str) -> list[str]:
        """Return the subwords of a text, which may look like a special token but never becomes one."""

    def decode(self, tokens: Sequence[str]) -> str:
        """Return the text of subwords."""


class _HuggingFaceTokens:
    def __init__(self, file: Path) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
        self._tokenizer.encode_special_tokens = True

    def encode(self, text: str) -> list[str]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).tokens)

    def decode(self, tokens: Sequence[str]) -> str:
        ids = (self._tokenizer.token_to_id(token) for token in tokens)
        return str(self._tokenizer.decode([i for i in ids if i is not None], skip_special_tokens=True))


class _SentencePieceTokens:
    def __init__(self, file: Path) -> None:
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(file))

    def encode(self, text: str) -> list[str]:
        return list(self._processor.encode(text, out_type=str))

    def decode(self, tokens: Sequence[str]) -> str:
        return str(self._processor.decode(list(tokens)))


def tokenizer_file(folder: Path) -> Path | None:
    """Return what the folder's subwords are made with; `None` where there is nothing."""
    for name in ("tokenizer.json", *_PREFERRED):
        if (folder / name).is_file():
            return folder / name
    return next(iter(sorted(folder.glob("*.model"))), None)


def load_tokens(file: Path) -> Tokens:
    """Load what `tokenizer_file` found. Raises `OSError`, `RuntimeError` or a bare `Exception` if broken."""
    return _HuggingFaceTokens(file) if file.suffix == ".json" else _SentencePieceTokens(file)
