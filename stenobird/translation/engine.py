"""A loaded NLLB or M2M-100 model: texts in, texts out, on CTranslate2."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, TypeAlias

import ctranslate2

from stenobird.translation.models import load_tokens, read_vocabulary, tokenizer_file
from stenobird.translation.text import WRITTEN_WITHOUT_SPACES, has_letters, is_usable, language_tokens, pieces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MAX_SOURCE_TOKENS: Final = 200
"""Longer sentences are cut; both models were trained on shorter ones."""
TARGET_TOKENS_AT_LEAST: Final = 32
TARGET_TOKENS_A_SOURCE_TOKEN: Final = 2
"""A translation that has not ended after so many tokens never would."""
BEAM_SIZE: Final = 4
BATCH_TOKENS: Final = {"cpu": 512, "cuda": 4096}
"""Source tokens translated at once, padding included; bounds the memory."""

_EOS: Final = "</s>"
_SPECIAL: Final = frozenset({"<s>", "<pad>", "<mask>", _EOS})


_Attempt: TypeAlias = tuple[str, bool]
"""A translated sentence, and whether it may be shown."""


class TranslationEngine:
    """A model with its subwords. Not for use by several threads.

    On CPU the same request gives the same answer.
    """

    def __init__(self, folder: Path, *, device: str, compute_type: str, threads: int) -> None:
        """Load the model. Raises `RuntimeError`, `ValueError` or `OSError` for one that can't be used."""
        self._languages = language_tokens(read_vocabulary(folder))
        if not self._languages:
            raise ValueError("its vocabulary has no language codes of NLLB or M2M-100")
        self._never_from_text = _SPECIAL | set(self._languages.values())
        file = tokenizer_file(folder)
        assert file is not None
        self._subwords, self._joined = load_tokens(file)
        self._ends_source = not _config(folder).get("add_source_eos", False)
        self._batch_tokens = BATCH_TOKENS[device]
        self._model = ctranslate2.Translator(
            str(folder), device=device, compute_type=compute_type, inter_threads=1, intra_threads=threads
        )

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that the model knows, by Whisper's codes."""
        return tuple(sorted(self._languages))

    @property
    def compute_type(self) -> str:
        """The type that CTranslate2 computes in, given what was asked for and what this device has."""
        return str(self._model.compute_type)

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Translate each text, sentence by sentence. Raises `RuntimeError` from CTranslate2.

        Languages are Whisper's codes.

        A text of which one sentence has no usable translation, even after a second try without repetitions,
        has none: half a segment in another language would mislead more than all of it.
        """
        cut = [pieces(text, self._size, MAX_SOURCE_TOKENS) if has_letters(text) else [] for text in texts]
        attempts = iter(self._attempts([piece for parts in cut for piece in parts], source, target))
        joint = "" if target in WRITTEN_WITHOUT_SPACES else " "
        translations: list[str | None] = []
        for text, parts in zip(texts, cut, strict=True):
            done = [next(attempts) for _ in parts]
            if not parts:
                translations.append(text.strip())
            elif all(usable for _, usable in done):
                translations.append(joint.join(sentence for sentence, _ in done))
            else:
                translations.append(None)
        return translations

    def _size(self, text: str) -> int:
        return len(self._encode(text))

    def _encode(self, text: str) -> list[str]:
        return [token for token in self._subwords(text) if token not in self._never_from_text]

    def _attempts(self, parts: Sequence[str], source: str, target: str) -> list[_Attempt]:
        attempts = self._attempt(parts, source, target)
        doubtful = [index for index, (_, usable) in enumerate(attempts) if not usable]
        if doubtful:
            again = self._attempt(
                [parts[index] for index in doubtful],
                source,
                target,
                no_repeat_ngram_size=3,
                repetition_penalty=1.2,
            )
            for index, attempt in zip(doubtful, again, strict=True):
                attempts[index] = attempt
        return attempts

    def _attempt(
        self, parts: Sequence[str], source: str, target: str, **constraints: float
    ) -> list[_Attempt]:
        if not parts:
            return []
        encoded = [self._encode(part) for part in parts]
        ending = [_EOS] if self._ends_source else []
        longest = max(map(len, encoded))
        results = self._model.translate_batch(
            [[self._languages[source], *tokens, *ending] for tokens in encoded],
            target_prefix=[[self._languages[target]]] * len(encoded),
            beam_size=BEAM_SIZE,
            max_batch_size=self._batch_tokens,
            batch_type="tokens",
            max_decoding_length=TARGET_TOKENS_AT_LEAST + TARGET_TOKENS_A_SOURCE_TOKEN * longest,
            disable_unk=True,
            return_end_token=True,
            **constraints,
        )
        attempts = []
        for part, tokens, result in zip(parts, encoded, results, strict=True):
            written = [token for token in result.hypotheses[0] if token != self._languages[target]]
            ended = bool(written) and written[-1] == _EOS
            kept = [token for token in written if token not in _SPECIAL]
            text = self._joined(kept).strip()
            usable = not has_letters(part) or is_usable(text, kept, tokens, ended=ended)
            attempts.append((text if has_letters(part) else part, usable))
        return attempts


def _config(folder: Path) -> Mapping[str, object]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:  # early versions of the converter wrote none
        return {}
    return config if isinstance(config, dict) else {}
