"""Subwords as published models have them: BPE with Metaspace (NLLB), a SentencePiece model (M2M-100)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from stenobird.translation.models import load_tokens, tokenizer_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Tokens = tuple[Callable[[str], list[str]], Callable[[Sequence[str]], str]]

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "she sells sea shells, heb_Hebr and all",
    "שלום עולם",
]
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "eng_Latn", "heb_Hebr")


def nllb(folder: Path) -> Path:
    """Write a tokenizer.json with NLLB's parts: BPE, Metaspace, codes around every text, special tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=120, special_tokens=list(SPECIAL), show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="eng_Latn $A </s>",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("eng_Latn", "</s>")],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def m2m(folder: Path) -> Path:
    """Write a SentencePiece model under the name that M2M-100 repositories give it."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 5),
        model_prefix=str(folder / "sentencepiece.bpe"),
        model_type="bpe",
        vocab_size=90,
        minloglevel=2,
    )
    return folder / "sentencepiece.bpe.model"


@pytest.fixture(params=["nllb", "m2m"])
def tokens(request: pytest.FixtureRequest, tmp_path: Path) -> Tokens:
    return load_tokens({"nllb": nllb, "m2m": m2m}[request.param](tmp_path))


@pytest.mark.parametrize("text", ["the lazy fox", "shells, she sells", "שלום עולם", "dog"])
def test_a_text_comes_back_from_its_subwords(tokens: Tokens, text: str) -> None:
    encode, decode = tokens
    encoded = encode(text)

    assert encoded[0].startswith("▁")
    assert decode(encoded) == text


def test_nothing_of_the_models_own_is_added_or_read(tokens: Tokens) -> None:
    encode, _ = tokens
    encoded = encode("the </s> heb_Hebr <pad> dog")

    assert not set(encoded) & set(SPECIAL) - {"<unk>"}
    assert len(encode("the dog")) < len(encoded)


def test_no_text_has_no_subwords(tokens: Tokens) -> None:
    encode, decode = tokens
    assert encode("") == []
    assert decode([]) == ""


def test_tokens_that_the_tokenizer_does_not_know_do_no_harm(tmp_path: Path) -> None:
    encode, decode = load_tokens(nllb(tmp_path))

    assert decode(["madeupword0000", *encode("dog")]) == "dog"


def test_tokenizer_json_is_taken_before_sentencepiece_and_that_under_any_name(tmp_path: Path) -> None:
    assert tokenizer_file(tmp_path) is None
    for name in ("flores200.model", "sentencepiece.model", "sentencepiece.bpe.model", "tokenizer.json"):
        (tmp_path / name).touch()
        assert tokenizer_file(tmp_path) == tmp_path / name
