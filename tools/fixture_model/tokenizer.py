"""A byte-level BPE tokenizer for the closed vocabulary, with Whisper's special tokens and timestamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.fixture_model.vocabulary import WORDS

if TYPE_CHECKING:
    from pathlib import Path

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
"""In Whisper's order; faster-whisper finds each by name."""

TIMESTAMP_SECONDS = 0.02
TIMESTAMPS = 1501
"""One token for each step of `TIMESTAMP_SECONDS` from 0.00 to 30.00."""


def build_tokenizer(out: Path) -> Tokenizer:
    """Train the tokenizer on the vocabulary and write it to `out` as `tokenizer.json`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {word}" for word in WORDS for _ in range(3)], trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    tokenizer.add_tokens(
        [
            AddedToken(f"<|{step * TIMESTAMP_SECONDS:.2f}|>", special=False, normalized=False)
            for step in range(TIMESTAMPS)
        ]
    )
    tokenizer.save(str(out))
    return tokenizer
