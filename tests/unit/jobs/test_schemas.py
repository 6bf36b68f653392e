"""The fields of a POST body, and the refusals of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from stenobird.errors import InvalidRequest
from stenobird.jobs.schemas import CreateTranscript
from stenobird.ports import RecognitionOptions

URL = "https://example.com/a.mp3"


def test_a_url_is_enough_and_unknown_fields_are_ignored() -> None:
    request = CreateTranscript.parse({"audio_url": URL, "colour": "blue"})
    assert (request.audio_url, request.spec().options) == (URL, RecognitionOptions())


def test_all_fields_reach_the_spec() -> None:
    request = CreateTranscript.parse(
        {
            "audio_url": URL,
            "language": "HE",
            "prompt": "Shira",
            "keywords": [" Tel Aviv ", "Shira"],
            "word_timestamps": True,
            "task": "translate",
            "webhook_url": "https://example.com/hook",
            "preview_id": "tr_1",
            "max_minutes": 90,
        }
    )
    assert request.spec().extra.max_minutes == 90
    assert request.spec().options == RecognitionOptions(
        "he", "Shira", keywords=("Tel Aviv", "Shira"), word_timestamps=True, task="translate"
    )
    assert (request.webhook_url, request.preview_id) == ("https://example.com/hook", "tr_1")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("en", "en"),
        (" Yue ", "yue"),
        ("auto", None),
        ("", None),
        (None, None),
        ("jv", "jw"),
        ("iw", "he"),
        ("en-US", "en"),
        ("he_IL", "he"),
        ("zh-Hans-CN", "zh"),
        ("English", "en"),
        ("haitian creole", "ht"),
        ("Mandarin", "zh"),
    ],
)
def test_languages_are_accepted_by_any_usual_name(sent: str | None, kept: str | None) -> None:
    assert CreateTranscript.parse({"audio_url": URL, "language": sent}).language == kept


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "audio_url"),
        ({"audio_url": None}, "audio_url"),
        ({"audio_url": 7}, "audio_url"),
        ({"audio_url": [URL]}, "audio_url"),
        ({"audio_url": "https://e.com/" + "a" * 9000}, "audio_url"),
        ({"audio_url": URL, "language": "klingon"}, "language"),
        ({"audio_url": URL, "language": 3}, "language"),
        ({"audio_url": URL, "prompt": "x" * 1001}, "prompt"),
        ({"audio_url": URL, "prompt": {}}, "prompt"),
        ({"audio_url": URL, "keywords": "Shira"}, "keywords"),
        ({"audio_url": URL, "keywords": ["x" * 61]}, "keywords"),
        ({"audio_url": URL, "keywords": [" "]}, "keywords"),
        ({"audio_url": URL, "keywords": ["Shira"] * 101}, "keywords"),
        ({"audio_url": URL, "word_timestamps": "yes"}, "word_timestamps"),
        ({"audio_url": URL, "word_timestamps": 1}, "word_timestamps"),
        ({"audio_url": URL, "task": "sing"}, "task"),
        ({"audio_url": URL, "webhook_url": 1}, "webhook_url"),
        ({"audio_url": URL, "max_minutes": 0}, "max_minutes"),
        ({"audio_url": URL, "max_minutes": 1.5}, "max_minutes"),
        ({"audio_url": URL, "preview_id": "x" * 65}, "preview_id"),
    ],
)
def test_a_wrong_field_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        CreateTranscript.parse(body)
    assert refused.value.details == {"field": field}
    assert f'"{field}"' in refused.value.message
    assert "pydantic" not in refused.value.message


@pytest.mark.parametrize("body", [None, [], "x", 3, True])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(InvalidRequest, match="JSON object"):
        CreateTranscript.parse(body)


def test_no_keywords_differ_from_keywords_left_out() -> None:
    assert CreateTranscript.parse({"audio_url": URL, "keywords": []}).spec().options.keywords == ()
    assert CreateTranscript.parse({"audio_url": URL}).spec().options.keywords is None
