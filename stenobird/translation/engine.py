"""A loaded NLLB or M2M-100 model: texts in, texts out, on CTranslate2."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import ctranslate2

from stenobird.ports import Translation
from stenobird.translation.guards import is_usable, says_something
from stenobird.translation.languages import WRITTEN_WITHOUT_SPACES, language_tokens
from stenobird.translation.models import read_vocabulary
from stenobird.translation.sentences import pieces
from stenobird.translation.tokens import load_tokens, tokenizer_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from stenobird.translation.protocol import TranslationRequest
    from stenobird.translation.tokens import Tokens

MAX_SOURCE_TOKENS: Final = 200
"""Longer sentences are cut; both models were trained on shorter ones."""
TARGET_TOKENS_AT_LEAST: Final = 32
TARGET_TOKENS_A_SOURCE_TOKEN: Final = 2
"""What decoding may take: a translation that has not ended by then never would."""
BEAM_SIZE: Final = 4
BATCH_TOKENS: Final = {"cpu": 512, "cuda": 4096}
"""Source tokens translated at once, padding included: bounds the memory, whatever is sent."""

_EOS: Final = "</s>"
_SPECIAL: Final = frozenset({"<s>", "<pad>", "<mask>", _EOS})


@dataclass(frozen=True, slots=True)
class _Attempt:
    text: str
    usable: bool


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
        self._tokens: Tokens = load_tokens(file)
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
        """What CTranslate2 made of the wish for this device."""
        return str(self._model.compute_type)

    def translate(self, request: TranslationRequest) -> list[Translation]:
        """Translate each text, sentence by sentence. Raises `RuntimeError` from CTranslate2.

        A text of which one sentence has no usable translation, even after a second try without repetitions,
        is returned as it is: half a segment in another language would mislead more than all of it.
        """
        cut = [list(self._pieces(text)) if says_something(text) else [] for text in request.texts]
        attempts = iter(self._attempts([piece for parts in cut for piece in parts], request))
        joint = "" if request.target in WRITTEN_WITHOUT_SPACES else " "
        translations = []
        for text, parts in zip(request.texts, cut, strict=True):
            done = [next(attempts) for _ in parts]
            if not parts:
                translations.append(Translation(text.strip()))
            elif all(attempt.usable for attempt in done):
                translations.append(Translation(joint.join(attempt.text for attempt in done)))
            else:
                translations.append(Translation(text.strip(), translated=False))
        return translations

    def _pieces(self, text: str) -> Iterator[str]:
        return iter(pieces(text, lambda part: len(self._encode(part)), MAX_SOURCE_TOKENS))

    def _encode(self, text: str) -> list[str]:
        return [token for token in self._tokens.encode(text) if token not in self._never_from_text]

    def _attempts(self, parts: Sequence[str], request: TranslationRequest) -> list[_Attempt]:
        attempts = self._attempt(parts, request)
        doubtful = [index for index, attempt in enumerate(attempts) if not attempt.usable]
        if doubtful:
            again = self._attempt(
                [parts[index] for index in doubtful],
                request,
                no_repeat_ngram_size=3,
                repetition_penalty=1.2,
            )
            for index, attempt in zip(doubtful, again, strict=True):
                attempts[index] = attempt
        return attempts

    def _attempt(
        self, parts: Sequence[str], request: TranslationRequest, **constraints: float
    ) -> list[_Attempt]:
        if not parts:
            return []
        encoded = [self._encode(part) for part in parts]
        source, target = self._languages[request.source], self._languages[request.target]
        ending = [_EOS] if self._ends_source else []
        longest = max(map(len, encoded))
        results = self._model.translate_batch(
            [[source, *tokens, *ending] for tokens in encoded],
            target_prefix=[[target]] * len(encoded),
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
            written = [token for token in result.hypotheses[0] if token != target]
            ended = bool(written) and written[-1] == _EOS
            said = [token for token in written if token not in _SPECIAL]
            text = self._tokens.decode(said).strip()
            usable = not says_something(part) or is_usable(text, said, tokens, ended=ended)
            attempts.append(_Attempt(text if says_something(part) else part, usable))
        return attempts


def _config(folder: Path) -> Mapping[str, object]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:  # models converted by early versions have none
        return {}
    return config if isinstance(config, dict) else {}
