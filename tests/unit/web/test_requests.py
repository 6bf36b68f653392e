"""JSON bodies that no schema has seen yet."""

from __future__ import annotations

import sys

import pytest
from starlette.requests import Request

from stenobird.errors import InvalidRequest
from stenobird.web.requests import _texts, json_object

REQUEST = Request({"type": "http", "headers": []})


def test_nesting_is_no_limit_to_looking_for_what_no_text_has() -> None:
    value: object = "deep"
    for _ in range(10 * sys.getrecursionlimit()):
        value = [{"a": value}]
    assert list(_texts(value))[-1] == "deep"


@pytest.mark.parametrize("depth", [10, 500, 5_000, 30_000])
def test_a_deeply_nested_body_is_read_or_refused(depth: int) -> None:
    body = b'{"audio_url": "https://example.com/a.mp3", "x": ' + b"[" * depth + b"]" * depth + b"}"
    try:
        assert json_object(REQUEST, body)["audio_url"] == "https://example.com/a.mp3"
    except InvalidRequest:
        assert depth > 100


@pytest.mark.parametrize("text", [r'"\u0000"', r'"\ud800"', r'{"\udfff": 1}', r'[[{"a": ["\u0000"]}]]'])
def test_what_no_text_has_is_refused_wherever_it_stands(text: str) -> None:
    with pytest.raises(InvalidRequest, match="NUL"):
        json_object(REQUEST, b'{"x": ' + text.encode() + b"}")
