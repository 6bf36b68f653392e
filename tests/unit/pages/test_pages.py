"""Templates and forms."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from stenobird.errors import InvalidRequest, TranscriptNotFound
from stenobird.web.site.templating import (
    MAX_FORM_BYTES,
    PAGE_HEADERS,
    STATIC_DIR,
    asset,
    hashed_folder,
    read_form,
    render,
)

pytestmark = pytest.mark.anyio


def _posted(body: bytes) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    app = SimpleNamespace(state=SimpleNamespace(services=SimpleNamespace(body_timeout_seconds=60.0)))
    return Request({"type": "http", "method": "POST", "path": "/", "headers": [], "app": app}, receive)


def test_static_urls_contain_a_hash_and_pages_have_nothing_inline() -> None:
    page = render("problem.html", 404, headers=PAGE_HEADERS, error=TranscriptNotFound())
    text = bytes(page.body).decode()

    assert page.status_code == 404
    assert f'href="{asset("app.css")}"' in text
    assert f'src="{asset("app.js")}"' in text
    assert "<style" not in text
    assert " style=" not in text
    assert "onclick" not in text
    assert page.headers["content-security-policy"] == PAGE_HEADERS["Content-Security-Policy"]


def test_a_page_cannot_refer_to_a_missing_file() -> None:
    with pytest.raises(FileNotFoundError):
        asset("app/no-such-module.js")


def test_imports_of_modules_are_relative() -> None:
    modules = [STATIC_DIR / "app.js", *(STATIC_DIR / "app").glob("*.js")]

    imported = {
        (module.parent / name).resolve()
        for module in modules
        for name in re.findall(r'from "(.*?)"', module.read_text("utf-8"))
    }

    assert len(imported) > 5
    assert {path for path in imported if not path.is_file()} == set()
    assert asset("app.js").startswith(f"/static/{hashed_folder()}/")


async def test_a_form_is_read_as_browsers_send_it() -> None:
    form = await read_form(_posted(b"audio_url=https%3A%2F%2Fexample.com%2Fa+b.mp3&x="))

    assert form == {"audio_url": "https://example.com/a b.mp3"}


@pytest.mark.parametrize(
    "body", [b"a=%ff", b"\xff\xfe=1", b"a=" + b"x" * MAX_FORM_BYTES, b"&".join([b"a=1"] * 51)]
)
async def test_a_form_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await read_form(_posted(body))
