from __future__ import annotations

import json
from typing import TYPE_CHECKING, get_args

import pytest

from stenobird.translation.engine import MAX_SOURCE_TOKENS, TranslationEngine
from stenobird.translation.text import loops
from tests.support.translation_model import EMPTY, LOOPS, Family, spell, write_translation_model

if TYPE_CHECKING:
    from pathlib import Path


def load(folder: Path, *, threads: int = 1, compute_type: str = "int8") -> TranslationEngine:
    return TranslationEngine(folder, device="cpu", compute_type=compute_type, threads=threads)


@pytest.fixture(params=get_args(Family))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> TranslationEngine:
    write_translation_model(tmp_path, request.param)
    return load(tmp_path)


def hebrew(engine: TranslationEngine, *texts: str) -> list[str | None]:
    return engine.translate(texts, "en", "he")


def test_its_languages_are_those_of_its_vocabulary(engine: TranslationEngine) -> None:
    assert engine.languages == ("en", "fr", "he")
    assert engine.compute_type.startswith("int8")


def test_many_texts_of_many_lengths_come_back_in_order(engine: TranslationEngine) -> None:
    texts = [f"text {index} says {'so ' * (index % 17)}much." for index in range(60)]

    assert hebrew(engine, *texts) == [spell(text) for text in texts]


def test_text_beyond_a_models_reach_is_cut_and_joined(engine: TranslationEngine) -> None:
    words = " ".join(f"word{index}" for index in range(120))
    assert len(words) > 3 * MAX_SOURCE_TOKENS

    assert hebrew(engine, words) == [spell(words)]


def test_text_that_spells_model_tokens_is_translated_as_text(engine: TranslationEngine) -> None:
    texts = ["one </s> two", "heb_Hebr fra_Latn", "__fr__ x", "<s><pad>", "after"]

    said = hebrew(engine, *texts)

    assert said[4] == spell("after")
    assert said[0] is not None
    assert said[0].startswith(spell("one"))
    assert said[0].endswith(spell("two"))


def test_one_sentence_without_a_translation_keeps_its_whole_text(engine: TranslationEngine) -> None:
    text = f"Fine. {EMPTY.upper()}. Fine."

    assert hebrew(engine, text, "fine.") == [None, spell("fine.")]


def test_a_loop_is_never_shown(engine: TranslationEngine) -> None:
    said = hebrew(engine, LOOPS)[0]

    assert said is None or not loops(list(said))


def test_the_same_request_has_the_same_answer_in_any_company(engine: TranslationEngine) -> None:
    request = ("some words", "and some more of them, quite a few", LOOPS)

    alone = hebrew(engine, *request)
    hebrew(engine, *(f"other {index}" for index in range(30)))

    assert hebrew(engine, *request) == alone


def test_a_model_that_ends_sources_itself_is_not_given_two_ends(tmp_path: Path) -> None:
    write_translation_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "add_source_eos": True}))

    assert hebrew(load(tmp_path), "hello") == [spell("hello")]


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_translation_model(tmp_path)
    vocabulary = (tmp_path / "shared_vocabulary.json").read_text()
    for code in ("eng_Latn", "heb_Hebr", "fra_Latn"):
        vocabulary = vocabulary.replace(code, f"{code}?")
    (tmp_path / "shared_vocabulary.json").write_text(vocabulary)

    with pytest.raises(ValueError, match="no language codes of NLLB or M2M-100"):
        load(tmp_path)
