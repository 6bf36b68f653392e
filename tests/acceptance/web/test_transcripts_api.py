"""`/v1/transcripts` over HTTP: bodies, error codes and headers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from docx import Document

from stenobird.bootstrap import Overrides
from stenobird.errors import AudioSourceNotFound, AudioTooLarge
from stenobird.speech.engines import SpeechEngines
from stenobird.testing import FakeRecognizer, a_source
from tests.support.web_world import web_settings, web_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio

AUDIO = {"audio_url": "https://example.com/audio-url"}
BODY_KEYS = {"error", "message"}


async def post(
    http: httpx.AsyncClient, headers: dict[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    answer = await http.post("/v1/transcripts", json=AUDIO | fields, headers=headers)
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_create_answers_with_the_published_body(world: WebWorld, http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/transcripts", json=AUDIO)
    body = answer.json()
    link = f"{world.url}/v1/transcripts/{body['id']}"
    expected = {
        "id": body["id"],
        "status": "queued",
        "mode": "preview",
        "status_url": link,
        "poll_url": link,
        "events_url": f"{link}/events",
        "result_url": f"{link}/result",
        "terminal": False,
        "result_ready": False,
        "retry_after_seconds": 2,
    }
    assert answer.status_code == 202
    assert answer.headers["location"] == link
    assert {name: body[name] for name in expected} == expected
    assert (await http.get(link)).json() == body


async def test_a_key_makes_a_full_transcript(http: httpx.AsyncClient, bearer: dict[str, str]) -> None:
    assert (await post(http, bearer))["mode"] == "full"


async def test_a_prompt_in_any_script_is_kept(world: WebWorld, http: httpx.AsyncClient) -> None:
    prompt = "\\u0000 שלום 😀"
    job = await world.store.get((await post(http, prompt=prompt))["id"])
    assert job is not None
    assert job.options.prompt == prompt


async def test_json_is_read_whatever_its_content_type(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/v1/transcripts",
        content=b'{"audio_url": "https://example.com/a"}',
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert answer.status_code == 202


BAD_REQUESTS: list[tuple[bytes, str]] = [
    (b"", "invalid_request"),
    (b"not json", "invalid_request"),
    (b'{"audio_url": NaN}', "invalid_request"),
    (b"\xff\xfe", "invalid_request"),
    (b"[" * 10_000, "invalid_request"),
    (b'{"audio_url": "https://example.com", "prompt": "nul \\u0000"}', "invalid_request"),
    (b'{"audio_url": "https://example.com", "extra": [{"half": "\\ud83d"}]}', "invalid_request"),
    (b'["https://example.com"]', "invalid_request"),
    (b"{}", "invalid_request"),
    (b'{"audio_url": 7}', "invalid_request"),
    (b'{"audio_url": null}', "invalid_request"),
    (b'{"audio_url": "https://example.com", "language": "xx"}', "invalid_request"),
    (b'{"audio_url": "https://example.com", "word_timestamps": "yes"}', "invalid_request"),
    (b'{"audio_url": "' + b"a" * 70_000 + b'"}', "invalid_request"),
    (b'{"audio_url": "ftp://example.com/a.mp3"}', "invalid_url"),
    (b'{"audio_url": "no url at all"}', "invalid_url"),
    (b'{"audio_url": "http://127.0.0.1/a.mp3"}', "invalid_url"),
    (b'{"audio_url": "http://[::1]/a.mp3"}', "invalid_url"),
]


async def test_a_bad_request_is_refused_with_a_remedy(
    http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    for content, code in BAD_REQUESTS:
        with subtests.test(content=content[:60]):
            answer = await http.post("/v1/transcripts", content=content)
            body = answer.json()
            assert (answer.status_code, body["error"]) == (400, code)
            assert len(body["message"]) > 30
            assert ("accepted_url_examples" in body) == (code == "invalid_url")
            assert ("unsupported_url_examples" in body) == (code == "invalid_url")


async def test_webhook_needs_a_key(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/transcripts", json=AUDIO | {"webhook_url": "https://example.com/hook"})
    assert (answer.status_code, answer.json()["error"]) == (401, "webhook_requires_api_key")


async def test_a_wrong_key_is_refused_everywhere(http: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    link = f"/v1/transcripts/{(await post(http))['id']}"
    requests = [("POST", "/v1/transcripts"), ("GET", "/v1/transcripts"), ("GET", link), ("DELETE", link)]
    requests += [("GET", f"{link}/events"), ("GET", f"{link}/result")]
    for method, path in requests:
        for header in ("Bearer sb_live_nonsense", "Basic YTpi", "Bearer", ""):
            with subtests.test(method=method, path=path, header=header):
                body = AUDIO if method == "POST" else None
                answer = await http.request(method, path, json=body, headers={"Authorization": header})
                assert (answer.status_code, answer.json()["error"]) == (401, "invalid_api_key")
                assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_revoked_key_is_refused(world: WebWorld, http: httpx.AsyncClient) -> None:
    secret, record = await world.keys.create()
    assert await world.keys.revoke(record.id)
    answer = await http.post("/v1/transcripts", json=AUDIO, headers={"Authorization": f"Bearer {secret}"})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("end", ["", "/events", "/result"])
async def test_a_job_of_another_account_is_not_found(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str], end: str
) -> None:
    job = await post(http, bearer)
    await world.stores.accounts.ensure_account("acct_other", name="other", tier="premium")
    secret, _ = await world.keys.create(account_id="acct_other")
    stranger = {"Authorization": f"Bearer {secret}"}
    for path, headers in (
        (f"/v1/transcripts/{job['id']}{end}", stranger),
        (f"/v1/transcripts/tr_0000000000000000000000{end}", bearer),
        (f"/v1/transcripts/%00{end}", bearer),
        (f"/v1/transcripts/{'x' * 5000}{end}", bearer),
    ):
        answer = await http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (404, "transcript_not_found")
    answer = await http.get(f"/v1/transcripts/{job['id']}{end}")
    assert (answer.status_code, answer.json()["error"]) == (401, "missing_api_key")


async def test_a_full_queue_says_when_to_retry(tmp_path: Path) -> None:
    async with (
        web_world(tmp_path, web_settings(max_queued=1)) as world,
        httpx.AsyncClient(base_url=world.url) as http,
    ):
        await post(http)
        answer = await http.post("/v1/transcripts", json=AUDIO)
    body = answer.json()
    assert (answer.status_code, body["error"]) == (429, "queue_busy")
    assert body["retry_after_seconds"] > 0
    assert int(answer.headers["retry-after"]) >= body["retry_after_seconds"]


async def test_without_an_engine_a_job_is_refused_at_once(tmp_path: Path) -> None:
    async with (
        web_world(
            tmp_path,
            overrides=Overrides(engines=SpeechEngines(FakeRecognizer(failure="The model is missing."))),
        ) as world,
        httpx.AsyncClient(base_url=world.url) as http,
    ):
        answer = await http.post("/v1/transcripts", json=AUDIO)
    assert (answer.status_code, answer.json()["error"]) == (503, "engine_unavailable")
    assert "retry-after" in answer.headers


async def test_result_is_not_ready_until_the_job_ends(world: WebWorld, http: httpx.AsyncClient) -> None:
    job = await post(http)
    early = await http.get(job["result_url"])
    assert (early.status_code, early.json()["error"]) == (409, "transcript_not_ready")
    assert early.headers["retry-after"] == "2"
    assert early.json()["retry_after_seconds"] == 2
    await world.worker.start()
    await world.worker.say(job["id"], "Hello and welcome.", " Today: birds.")
    await world.worker.complete(job["id"])
    answer = await http.get(job["result_url"])
    body = answer.json()
    assert answer.status_code == 200
    assert body["text"] == "Hello and welcome. Today: birds."
    assert [segment["text"] for segment in body["segments"]] == ["Hello and welcome.", "Today: birds."]
    assert (body["status"], body["mode"], body["language"]) == ("preview_complete", "preview", "en")
    status = (await http.get(job["status_url"])).json()
    assert (status["terminal"], status["result_ready"]) == (True, True)


@pytest.fixture
async def finished(world: WebWorld, http: httpx.AsyncClient) -> str:
    job_id: str = (await post(http))["id"]
    await world.worker.start()
    await world.worker.say(job_id, "Hello & welcome.")
    await world.worker.complete(job_id)
    return job_id


@pytest.mark.parametrize(
    ("name", "media_type", "document"),
    [
        ("txt", "text/plain; charset=utf-8", "Hello & welcome.\n"),
        (
            "srt",
            "application/x-subrip; charset=utf-8",
            "1\n00:00:00,000 --> 00:00:01,000\nHello & welcome.\n\n",
        ),
        (
            "vtt",
            "text/vtt; charset=utf-8",
            "WEBVTT\n\n1\n00:00:00.000 --> 00:00:01.000\nHello &amp; welcome.\n\n",
        ),
    ],
)
async def test_result_in_a_text_format(
    http: httpx.AsyncClient, finished: str, name: str, media_type: str, document: str
) -> None:
    asked = await http.get(f"/v1/transcripts/{finished}/result", params={"format": name})
    accepted = await http.get(
        f"/v1/transcripts/{finished}/result",
        headers={"Accept": media_type.replace("; charset=utf-8", ", */*;q=0.1")},
    )
    for answer in (asked, accepted):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == media_type
        assert answer.text == document
        assert answer.headers["content-disposition"] == f'attachment; filename="{finished}.{name}"'


async def test_result_as_a_word_document(http: httpx.AsyncClient, finished: str) -> None:
    answer = await http.get(f"/v1/transcripts/{finished}/result?format=docx")
    assert answer.headers["content-type"].endswith("wordprocessingml.document")
    assert Document(io.BytesIO(answer.content)).paragraphs[-1].text == "0:00  Hello & welcome."


async def test_result_is_json_by_default(
    http: httpx.AsyncClient, finished: str, subtests: pytest.Subtests
) -> None:
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    for accept in ("", "*/*", "application/json", browser, "image/png", "text/vtt;q=0"):
        with subtests.test(accept=accept):
            answer = await http.get(f"/v1/transcripts/{finished}/result", headers={"Accept": accept})
            assert answer.headers["content-type"] == "application/json"
            assert answer.json()["text"] == "Hello & welcome."


async def test_an_unknown_format_is_refused_with_the_known_ones(
    http: httpx.AsyncClient, finished: str
) -> None:
    answer = await http.get(f"/v1/transcripts/{finished}/result?format=pdf")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert answer.json()["formats"] == ["json", "txt", "srt", "vtt", "docx"]


@pytest.mark.parametrize("end", ["", "/result"])
async def test_unchanged_documents_are_not_sent_again(
    http: httpx.AsyncClient, finished: str, end: str
) -> None:
    first = await http.get(f"/v1/transcripts/{finished}{end}")
    again = await http.get(
        f"/v1/transcripts/{finished}{end}", headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'}
    )
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize(
    "error", [AudioSourceNotFound(), AudioTooLarge("It is 9 hours long; 6 are allowed.")]
)
async def test_a_failed_job_has_the_same_error_everywhere(
    world: WebWorld, http: httpx.AsyncClient, error: AudioSourceNotFound | AudioTooLarge
) -> None:
    job = await post(http)
    await world.worker.start()
    await world.worker.fail(job["id"], error)
    result = await http.get(job["result_url"])
    status = (await http.get(job["status_url"])).json()
    assert (result.status_code, result.json()) == (422, error.body())
    assert status["status"] == "failed"
    assert {name: status[name] for name in error.body()} == error.body()


async def test_delete_cancels_a_running_job_and_then_removes_it(
    world: WebWorld, http: httpx.AsyncClient
) -> None:
    job = await post(http)
    await world.worker.start()
    cancelling = await http.delete(job["status_url"])
    assert (cancelling.status_code, cancelling.json()["terminal"]) == (202, False)
    await world.worker.end_cancelled(job["id"])
    result = await http.get(job["result_url"])
    assert (result.status_code, result.json()["error"]) == (410, "transcript_cancelled")
    removed = await http.delete(job["status_url"])
    assert (removed.status_code, removed.content) == (204, b"")
    assert (await http.get(job["status_url"])).status_code == 404
    assert (await http.delete(job["status_url"])).json()["error"] == "transcript_not_found"


async def test_delete_ends_a_queued_job_at_once(http: httpx.AsyncClient) -> None:
    job = await post(http)
    answer = await http.delete(job["status_url"])
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")


async def test_stop_completes_a_live_transcript(world: WebWorld, http: httpx.AsyncClient) -> None:
    job = await post(http)
    stop = job["status_url"] + "/stop"
    await world.worker.start()
    await world.worker.go_live(job["id"])
    stopping = await http.post(stop)
    assert (stopping.status_code, stopping.json()["stop_requested"]) == (202, True)
    source = stopping.json()["source"]
    assert (source["live"], source["at"]) == (True, "2026-12-31T23:30:00.000Z")
    await world.worker.complete(job["id"])
    again = await http.post(stop)
    assert (again.status_code, again.json()["terminal"]) == (202, True)
    assert (await http.get(job["result_url"])).json()["source"] == source


async def test_stop_refuses_a_recording(world: WebWorld, http: httpx.AsyncClient) -> None:
    job = await post(http)
    await world.worker.start()
    await world.worker.find(job["id"], a_source())
    refused = await http.post(job["status_url"] + "/stop")
    assert (refused.status_code, refused.json()["error"]) == (409, "transcript_not_live")
    assert (await http.get(job["status_url"] + "/stop")).status_code == 405


async def test_list_pages_through_the_jobs_of_an_account(
    http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    made = [(await post(http, bearer))["id"] for _ in range(5)]
    await post(http)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (
            await http.get("/v1/transcripts", params={"limit": 2, "cursor": cursor}, headers=bearer)
        ).json()
        assert len(page["transcripts"]) <= 2
        seen += [row["id"] for row in page["transcripts"]]
        cursor = page["next_cursor"]
    assert seen == made[::-1]


async def test_list_needs_a_key(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/transcripts")
    assert (answer.status_code, answer.json()["error"]) == (401, "missing_api_key")


async def test_list_refuses_a_bad_page(
    http: httpx.AsyncClient, bearer: dict[str, str], subtests: pytest.Subtests
) -> None:
    for query in ("limit=0", "limit=x", "limit=-1", "cursor=%00", "limit=1&cursor=abc"):
        with subtests.test(query=query):
            answer = await http.get(f"/v1/transcripts?{query}", headers=bearer)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_links_start_with_the_public_url(tmp_path: Path) -> None:
    settings = web_settings(public_url="https://stenobird.example/base")
    async with (
        web_world(tmp_path, settings) as world,
        httpx.AsyncClient(base_url=world.url) as http,
    ):
        body = await post(http)
    assert body["events_url"] == f"https://stenobird.example/base/v1/transcripts/{body['id']}/events"


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"Host": "api.example:8443"}, "http://api.example:8443"),
        ({"Host": "api.example", "X-Forwarded-Proto": "https"}, "https://api.example"),
        ({"Host": 'evil/"><script>'}, None),
        ({"Host": "a b"}, None),
    ],
)
async def test_links_start_with_the_address_of_the_request(
    world: WebWorld, http: httpx.AsyncClient, headers: dict[str, str], base: str | None
) -> None:
    body = await post(http, headers)
    assert body["status_url"] == f"{base or world.url}/v1/transcripts/{body['id']}"
