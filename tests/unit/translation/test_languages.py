from __future__ import annotations

import re

from faster_whisper.tokenizer import _LANGUAGE_CODES

from stenobird.translation.text import FLORES, WHISPER_LANGUAGES, language_tokens


def test_every_language_of_whisper_has_a_code_or_is_known_to_have_none() -> None:
    assert sorted(WHISPER_LANGUAGES) == sorted(_LANGUAGE_CODES)


def test_flores_codes_are_a_language_and_a_script_each_of_its_own() -> None:
    assert all(re.fullmatch(r"[a-z]{3}_[A-Z][a-z]{3}", code) for code in FLORES.values())
    assert len(set(FLORES.values())) == len(FLORES)


def test_nllb_is_known_by_its_codes() -> None:
    vocabulary = {"</s>", "▁a", "heb_Hebr", "eng_Latn", "jav_Latn", "yue_Hant", "ace_Arab"}

    assert language_tokens(vocabulary) == {
        "he": "heb_Hebr",
        "en": "eng_Latn",
        "jw": "jav_Latn",
        "yue": "yue_Hant",
    }


def test_m2m_spells_some_codes_otherwise() -> None:
    vocabulary = {"</s>", "__he__", "__en__", "__jv__", "__no__", "__br__", "__zu__"}

    assert language_tokens(vocabulary) == {
        "he": "__he__",
        "en": "__en__",
        "jw": "__jv__",
        "no": "__no__",
        "nn": "__no__",
        "br": "__br__",
    }


def test_another_model_has_none() -> None:
    assert language_tokens({"</s>", "▁a", ">>heb<<"}) == {}
