from __future__ import annotations

import pytest

from stenobird.speech.keywords import spell


def never(keywords: list[str]) -> str:
    pytest.fail(f"decoded again for {keywords}")


def spelled(text: str, *keywords: str, biased: str = "") -> str:
    (result,) = spell([text], keywords, lambda _: biased)
    return result


@pytest.mark.parametrize(
    ("text", "keyword", "expected"),
    [
        (" we asked open ai.", "OpenAI", " we asked OpenAI."),
        (' the "nasa" launch', "NASA", ' the "NASA" launch'),
        (" Siobhan’s song", "Siobhán", " Siobhan’s song"),  # noqa: RUF001  # other letters: see below
        (" Garden hour. The garden", "garden", " Garden hour. The garden"),
        (" already OpenAI's own", "OpenAI", " already OpenAI's own"),
    ],
)
def test_equal_letters_need_no_second_decoding(text: str, keyword: str, expected: str) -> None:
    assert spell([text], [keyword], lambda _: text) == [expected]


@pytest.mark.parametrize(
    ("text", "biased", "keyword", "expected"),
    [
        (
            " her name is Shavon's mother",
            " her name is Siobhan's mother",
            "Siobhan",
            " her name is Siobhan's mother",
        ),
        (" ask Jane good hall, please", " ask Jane Goodall, please", "Goodall", " ask Jane Goodall, please"),
        (" bei Herrn Schmitt.", " bei Herrn Schmidt.", "Schmidt", " bei Herrn Schmidt."),
    ],
)
def test_words_that_sound_alike_are_replaced_where_the_model_agrees(
    text: str, biased: str, keyword: str, expected: str
) -> None:
    assert spelled(text, keyword, biased=biased) == expected
    assert spelled(text, keyword, biased=text) == text


@pytest.mark.parametrize("biased", ["", " Goodall", " Goodall Goodall Goodall", " walk to the Goodall"])
def test_a_keyword_does_not_appear_where_nothing_similar_was_said(biased: str) -> None:
    text = " we walk to the river"

    assert spell([text], ["Goodall", "Zelenskyy"], never) == [text]
    assert spell([], ["Goodall"], never) == []
    assert spelled(" a good tall river", "Goodall", biased=biased).count("Goodall") <= biased.count("Goodall")


def test_only_keywords_that_something_resembles_are_in_the_prompt() -> None:
    asked: list[list[str]] = []

    def decode(keywords: list[str]) -> str:
        asked.append(keywords)
        return " ask Goodall and Schmidt"

    result = spell([" ask good hall", " and Schmitt"], ["Zelenskyy", "Goodall", "Schmidt", "OpenAI"], decode)

    assert asked == [["Goodall", "Schmidt"]]
    assert result == [" ask Goodall", " and Schmidt"]


def test_a_name_across_two_segments_stays() -> None:
    assert spell([" open", " ai"], ["OpenAI"], never) == [" open", " ai"]


def test_short_keywords_only_get_their_spelling() -> None:
    assert spell([" the ana and anna"], ["Ana"], never) == [" the Ana and anna"]
