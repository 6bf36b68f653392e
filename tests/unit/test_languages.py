from __future__ import annotations

import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES

from stenobird.languages import NAME_OF, language_code


def test_every_language_of_whisper_has_a_name() -> None:
    assert sorted(NAME_OF) == sorted(_LANGUAGE_CODES)
    assert len(set(NAME_OF.values())) == len(NAME_OF)


def test_every_language_is_found_by_its_code_a_locale_and_its_name() -> None:
    for code, name in NAME_OF.items():
        assert {language_code(code), language_code(f"{code.upper()}-XX"), language_code(name.title())} == {
            code
        }


@pytest.mark.parametrize("unknown", ["", "-", "klingon", "xx-US", "e n"])
def test_other_words_are_no_language(unknown: str) -> None:
    assert language_code(unknown) is None
