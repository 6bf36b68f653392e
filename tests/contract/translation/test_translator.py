"""What every `ports.Translator` promises."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from stenobird.config import Settings
from stenobird.errors import TranslationFailed
from stenobird.ports import Clock
from stenobird.testing import FakeTranslator
from stenobird.translation.translator import MAX_CHARACTERS, open_translator
from tests.support.translation_model import EMPTY, spell, spelled, write_translation_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.ports import Translator

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def fake() -> AsyncIterator[Translator]:
    yield FakeTranslator(spelled)


@pytest.fixture(scope="module", params=["nllb", "m2m", "fake"])
async def translator(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Translator]:
    if request.param == "fake":
        opening = fake()
    else:
        folder = tmp_path_factory.mktemp("models") / "model"
        write_translation_model(folder, request.param)
        settings = Settings.model_construct(translation_model=str(folder), translation_device="cpu")
        opening = open_translator(settings, clock=Clock())
    async with opening as opened:
        await opened.translate(["ready"], source="en", target="he", job_id="first")
        yield opened


async def hebrew(translator: Translator, *texts: str, source: str = "en") -> list[str]:
    said = await translator.translate(texts, source=source, target="he", job_id="job")
    assert None not in said
    return [text for text in said if text is not None]


async def test_each_text_has_its_translation_in_order(translator: Translator) -> None:
    texts = ["good morning.", "a", "who is there? nobody, 42!", "good morning."]

    assert await hebrew(translator, *texts) == [spell(text) for text in texts]


async def test_every_sentence_of_a_text_is_there(translator: Translator) -> None:
    text = "one. two three! four? five."

    assert await hebrew(translator, text) == [spell(text)]


async def test_white_space_around_a_text_is_not_translated(translator: Translator) -> None:
    assert await hebrew(translator, "  a bird \n") == [spell("a bird")]


async def test_a_text_without_a_letter_stays_as_it_is(translator: Translator) -> None:
    assert await hebrew(translator, "... 42!", "♪", "a") == ["... 42!", "♪", spell("a")]


async def test_no_texts_have_no_translations(translator: Translator) -> None:
    assert await hebrew(translator) == []


async def test_a_text_without_a_usable_translation_is_returned_as_it_was(translator: Translator) -> None:
    said = await translator.translate(
        ["before", f" {EMPTY} ", "after"], source="en", target="he", job_id="job"
    )

    assert list(said) == [spell("before"), None, spell("after")]


async def test_the_same_texts_have_the_same_translations(translator: Translator) -> None:
    texts = ["a long sentence, with commas", "b", "c d e"]

    assert await hebrew(translator, *texts) == await hebrew(translator, *texts)


async def test_supported_pairs_are_listed_and_others_refused(translator: Translator) -> None:
    assert translator.sources("he") == frozenset({"en", "fr"})
    assert translator.sources("haw") == frozenset()
    for source, target in [("la", "he"), ("en", "haw")]:
        with pytest.raises(TranslationFailed) as caught:
            await translator.translate(["a"], source=source, target=target, job_id="job")
        assert caught.value.code == "transcription_failed"
        assert source in caught.value.message
    assert await hebrew(translator, "a", source="fr") == [spell("a")]


async def test_more_text_than_a_window_can_hold_is_refused(translator: Translator) -> None:
    with pytest.raises(TranslationFailed):
        await translator.translate(["a" * (MAX_CHARACTERS + 1)], source="en", target="he", job_id="job")
    assert await hebrew(translator, "a") == [spell("a")]


async def test_a_working_translator_reports_ready(translator: Translator) -> None:
    assert await translator.ready()
    assert translator.refusal() is None
    assert json.loads(json.dumps(dict(translator.status())))["state"] == "ready"
    assert translator.status()["model"] == translator.model
