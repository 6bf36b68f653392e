"""The `openai` package, unchanged, against the service: files, links, every format, streams, refusals."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from typing import TYPE_CHECKING, Any, Literal

import openai
import pytest
from starlette.applications import Starlette
from starlette.datastructures import FormData

from stenobird.errors import AudioContentTypeNotSupported, StenobirdError
from stenobird.jobs.schemas import CreateTranscript
from stenobird.ports import JobRecord, RecognitionOptions
from stenobird.transcript import Segment, Transcript, Word
from stenobird.web.app import dialects
from stenobird.web.middleware import error_response
from stenobird.web.openai.requests import AudioRequest, _form_of, _granularities
from stenobird.web.openai.schemas import document
from tests.support.web_world import web_settings, web_world

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    import httpx

    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio

FILE = ("talk.mp3", b"ID3" + bytes(5000), "audio/mpeg")


async def _during(world: WebWorld, request: Awaitable[Any], *texts: str) -> Any:
    """Send a request, drive the worker for it, and return the response."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.worker.carry_out(*texts))
        return await request


async def test_sdk_sends_a_file_and_gets_its_text(world: WebWorld, sdk: openai.AsyncOpenAI) -> None:
    answer = await _during(
        world, sdk.audio.transcriptions.create(model="whisper-1", file=FILE), "Hello", " there."
    )
    assert answer.text == "Hello there."
    assert answer.usage.type == "duration"
    assert answer.usage.seconds == 2


async def test_a_job_is_metered_and_keeps_its_origin_and_bytes(
    world: WebWorld, sdk: openai.AsyncOpenAI, api_key: str
) -> None:
    raw = await _during(
        world, sdk.audio.transcriptions.with_raw_response.create(model="gpt-4o-transcribe", file=FILE), "Hi."
    )
    job = await world.store.get(raw.headers["X-Transcript-ID"])
    assert job is not None
    assert (job.origin, job.mode, job.billable_minutes) == ("openai", "full", 1)
    assert job.upload_id is not None
    assert world.services.uploads is not None
    caller = await world.keys.authenticate(f"Bearer {api_key}")
    assert caller is not None
    slot = await world.services.uploads.take(job.upload_id, caller.account_id)
    assert (slot.filename, slot.content_type, slot.size_bytes) == ("talk.mp3", "audio/mpeg", len(FILE[1]))


async def test_link_instead_of_a_file(world: WebWorld, http: httpx.AsyncClient) -> None:
    request = http.post(
        "/v1/audio/transcriptions", data={"url": "https://example.com/a", "model": "whisper-1"}
    )
    answer = await _during(world, request, "Hello.")
    assert answer.json()["text"] == "Hello."


async def test_link_in_json(world: WebWorld, http: httpx.AsyncClient) -> None:
    body = {"url": "https://example.com/a", "response_format": "text", "temperature": 0.2}
    answer = await _during(world, http.post("/v1/audio/transcriptions", json=body), "Hello.")
    assert answer.text == "Hello.\n"


async def test_verbose_json_has_segments(world: WebWorld, sdk: openai.AsyncOpenAI) -> None:
    answer = await _during(
        world,
        sdk.audio.transcriptions.create(model="whisper-1", file=FILE, response_format="verbose_json"),
        "Hello",
        " there.",
    )
    assert (answer.text, answer.language, answer.duration) == ("Hello there.", "english", 2.0)
    assert [(s.id, s.start, s.end, s.text) for s in answer.segments] == [
        (0, 0.0, 1.0, "Hello"),
        (1, 1.0, 2.0, " there."),
    ]
    assert answer.words is None


async def test_diarized_json_has_a_speaker_for_each_segment(world: WebWorld, sdk: openai.AsyncOpenAI) -> None:
    answer: Any = await _during(
        world,
        sdk.audio.transcriptions.create(model="whisper-1", file=FILE, response_format="diarized_json"),
        "Hello?",
        " Yes.",
        " Good.",
    )
    assert (answer.task, answer.text, answer.duration) == ("transcribe", "Hello? Yes. Good.", 3.0)
    assert [(s.id, s.start, s.end, s.text, s.speaker) for s in answer.segments] == [
        ("seg_0", 0.0, 1.0, "Hello?", "A"),
        ("seg_1", 1.0, 2.0, " Yes.", "B"),
        ("seg_2", 2.0, 3.0, " Good.", "A"),
    ]


async def test_a_diarized_stream_ends_with_its_segments(world: WebWorld, sdk: openai.AsyncOpenAI) -> None:
    stream = await _during(
        world,
        sdk.audio.transcriptions.create(
            model="whisper-1", file=FILE, response_format="diarized_json", stream=True
        ),
        "Hello?",
        " Yes.",
    )
    events: Any = [event async for event in stream]
    assert [event.type for event in events] == [
        *["transcript.text.delta"] * 2,
        *["transcript.text.segment"] * 2,
        "transcript.text.done",
    ]
    assert [(event.text, event.speaker) for event in events[2:4]] == [("Hello?", "A"), (" Yes.", "B")]


async def test_verbose_json_has_words_when_requested(world: WebWorld, api_key: str) -> None:
    key, _ = await world.keys.create(mode="test")
    request = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
    async with openai.AsyncOpenAI(api_key=key, base_url=f"{world.url}/v1", max_retries=0) as sdk:
        async with asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(
                sdk.audio.transcriptions.create(
                    model="whisper-1",
                    file=FILE,
                    response_format="verbose_json",
                    timestamp_granularities=["word", "segment"],
                )
            )
            job_id = await world.worker.start_next()
            job = await world.store.get(job_id)
            assert job is not None
            assert job.options.word_timestamps, request
            await world.worker.say(job_id, "Hello")
            await world.worker.complete(job_id)
        answer = sent.result()
    assert answer.segments is not None
    assert answer.words == []


@pytest.mark.parametrize(
    ("response_format", "start"),
    [
        ("srt", "1\n00:00:00,000 --> 00:00:01,000\nHello.\n"),
        ("vtt", "WEBVTT\n\n1\n00:00:00.000 --> 00:00:01.000\nHello.\n"),
        ("text", "Hello.\n"),
    ],
)
async def test_subtitles_and_text_come_as_strings(
    world: WebWorld, sdk: openai.AsyncOpenAI, response_format: Any, start: str
) -> None:
    answer = await _during(
        world,
        sdk.audio.transcriptions.create(model="whisper-1", file=FILE, response_format=response_format),
        "Hello.",
    )
    assert answer.startswith(start)


async def test_stream_sends_each_chunk_before_the_next_is_transcribed(
    world: WebWorld, sdk: openai.AsyncOpenAI
) -> None:
    async with asyncio.TaskGroup() as tasks:
        starting = tasks.create_task(world.worker.start_next())
        stream = await sdk.audio.transcriptions.create(model="whisper-1", file=FILE, stream=True)
        job_id = await starting
        events: Any = aiter(stream)
        for text in ("Hello", " there."):
            await world.worker.say(job_id, text)
            event = await anext(events)
            assert (event.type, event.delta) == ("transcript.text.delta", text)
        await world.worker.complete(job_id)
        last = await anext(events)
        assert (last.type, last.text) == ("transcript.text.done", "Hello there.")
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_stream_of_a_job_that_fails_raises(world: WebWorld, sdk: openai.AsyncOpenAI) -> None:
    async with asyncio.TaskGroup() as tasks:
        starting = tasks.create_task(world.worker.start_next())
        stream = await sdk.audio.transcriptions.create(model="whisper-1", file=FILE, stream=True)
        await world.worker.fail(await starting, AudioContentTypeNotSupported())
        with pytest.raises(openai.APIError, match="not audio that can be decoded"):
            await anext(aiter(stream))


async def test_a_file_without_audio_is_an_unprocessable_entity(
    world: WebWorld, sdk: openai.AsyncOpenAI
) -> None:
    async def fail() -> None:
        await world.worker.fail(await world.worker.start_next(), AudioContentTypeNotSupported())

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail())
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            await sdk.audio.transcriptions.create(model="whisper-1", file=FILE)
    assert caught.value.code == "audio_content_type_not_supported"


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # newer SDKs discourage the method
async def test_translation_is_english_by_name(world: WebWorld, sdk: openai.AsyncOpenAI) -> None:
    answer = await _during(
        world,
        sdk.audio.translations.create(model="whisper-1", file=FILE, response_format="verbose_json"),
        "Hello.",
    )
    assert (answer.language, answer.text) == ("english", "Hello.")


def test_words_have_no_surrounding_spaces() -> None:
    words = (Word(0.0, 0.5, "Hello", 1.0), Word(0.5, 1.0, " there.", 0.5))
    transcript = Transcript((Segment(0.0, 1.0, "Hello there.", words),), "de", 1.0)
    body, media_type = document(_audio_request(with_segments=True), _job("transcribe"), transcript)
    answer = json.loads(body)
    assert media_type == "application/json"
    assert answer["words"] == [
        {"word": "Hello", "start": 0.0, "end": 0.5},
        {"word": "there.", "start": 0.5, "end": 1.0},
    ]
    assert answer["segments"][0]["avg_logprob"] == pytest.approx(math.log(0.5) / 2, abs=1e-4)
    assert answer["language"] == "german"


def test_words_alone_bring_no_segments() -> None:
    nothing = Transcript((), None, 0.0)
    answer = json.loads(document(_audio_request(with_segments=False), _job("transcribe"), nothing)[0])
    assert "segments" not in answer
    assert (answer["words"], answer["language"], answer["text"]) == ([], "unknown", "")


def _audio_request(*, with_segments: bool) -> AudioRequest:
    create = CreateTranscript(audio_url="https://example.com/a")
    return AudioRequest(
        create, None, "verbose_json", stream=False, with_words=True, with_segments=with_segments
    )


def _job(task: Literal["transcribe", "translate"]) -> JobRecord:
    return JobRecord(
        id="tr_1",
        mode="full",
        origin="openai",
        audio_url="https://example.com/a",
        base_url="http://test",
        options=RecognitionOptions(task=task),
        account_id="a",
        status="completed",
        stage="transcribing",
        created_at=0.0,
        updated_at=0.0,
        completed_at=1.0,
        last_seq=1,
        next_chunk_index=0,
        cancel_requested=False,
    )


async def test_file_past_the_bound_is_refused(tmp_path: Path) -> None:
    async with web_world(tmp_path, web_settings(max_audio_bytes=1000)) as world:
        key, _ = await world.keys.create()
        async with openai.AsyncOpenAI(api_key=key, base_url=f"{world.url}/v1", max_retries=0) as sdk:
            for size in (1001, 6_000_000):
                with pytest.raises(openai.APIStatusError) as caught:
                    await sdk.audio.transcriptions.create(model="whisper-1", file=("a.mp3", bytes(size)))
                assert (caught.value.status_code, caught.value.code) == (413, "upload_too_large")
                assert caught.value.param == "file"


async def test_language_may_be_a_name_or_a_region(world: WebWorld, http: httpx.AsyncClient) -> None:
    for language in ("German", "de-AT"):
        data = {"url": "https://example.com/a", "language": language, "prompt": "x" * 3000}
        answer = await _during(world, http.post("/v1/audio/transcriptions", data=data), "Hallo.")
        job = await world.store.get(answer.headers["X-Transcript-ID"])
        assert job is not None
        assert job.options.language == "de"
        assert len(job.options.prompt or "") == 1000


async def test_a_client_that_disconnects_is_not_billed(world: WebWorld, sdk: openai.AsyncOpenAI) -> None:
    async with asyncio.TaskGroup() as tasks:
        sent = tasks.create_task(sdk.audio.transcriptions.create(model="whisper-1", file=FILE))
        job_id = await world.worker.start_next()
        async with world.worker.wakeups.watch(job_id) as watch:
            sent.cancel()
            while True:
                job = await world.store.get(job_id)
                assert job is not None
                if job.cancel_requested:
                    break
                await watch.wait(5.0)


async def test_a_stream_reader_that_disconnects_is_not_billed(
    world: WebWorld, sdk: openai.AsyncOpenAI
) -> None:
    async with asyncio.TaskGroup() as tasks:
        starting = tasks.create_task(world.worker.start_next())
        stream = await sdk.audio.transcriptions.create(model="whisper-1", file=FILE, stream=True)
        job_id = await starting
        async with world.worker.wakeups.watch(job_id) as watch:
            await stream.close()
            while True:
                job = await world.store.get(job_id)
                assert job is not None
                if job.cancel_requested:
                    break
                await watch.wait(5.0)


async def test_a_stopping_service_says_so_and_bills_nothing(world: WebWorld, sdk: openai.AsyncOpenAI) -> None:
    async with asyncio.TaskGroup() as tasks:
        sent = tasks.create_task(_refused(sdk))
        job_id = await world.worker.start_next()
        world.services.shutting_down.set()
        error = await sent
    assert (error.status_code, error.response.headers["Retry-After"]) == (503, "5")
    job = await world.store.get(job_id)
    assert job is not None
    assert job.cancel_requested


async def _refused(sdk: openai.AsyncOpenAI) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.audio.transcriptions.create(model="whisper-1", file=FILE)
    return caught.value


async def test_share_tokens_are_needed_without_a_key(world: WebWorld) -> None:
    async with openai.AsyncOpenAI(api_key="sb_live_nope", base_url=f"{world.url}/v1", max_retries=0) as sdk:
        with pytest.raises(openai.AuthenticationError) as caught:
            await sdk.audio.transcriptions.create(model="whisper-1", file=FILE)
    assert caught.value.code == "invalid_api_key"


async def test_read_only_key_is_refused(world: WebWorld) -> None:
    key, _ = await world.keys.create(scope="read_only")
    async with openai.AsyncOpenAI(api_key=key, base_url=f"{world.url}/v1", max_retries=0) as sdk:
        with pytest.raises(openai.PermissionDeniedError):
            await sdk.audio.transcriptions.create(model="whisper-1", file=FILE)


@pytest.mark.parametrize(
    ("data", "files", "param"),
    [
        ({"model": "whisper-1"}, None, "file"),
        ({"model": "whisper-1"}, {"file": ("a.mp3", b"")}, "file"),
        ({"url": "https://example.com/a"}, {"file": FILE}, "url"),
        ({"url": "https://example.com/a", "response_format": "ssml"}, None, "response_format"),
        (
            {"url": "https://example.com/a", "timestamp_granularities[]": "letter"},
            None,
            "timestamp_granularities",
        ),
        ({"url": "https://example.com/a", "temperature": "hot"}, None, "temperature"),
        ({"url": "https://example.com/a", "stream": "perhaps"}, None, "stream"),
        ({"url": "https://example.com/a", "language": "klingon"}, None, "language"),
        ({"url": "http://127.0.0.1/a"}, None, None),
    ],
)
async def test_an_invalid_field_is_named(
    http: httpx.AsyncClient, data: dict[str, Any], files: Any, param: str | None
) -> None:
    answer = await http.post("/v1/audio/transcriptions", data=data, files=files)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"]


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"not multipart at all"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n"),
        ("text/plain", b"hello"),
        ("application/json", b"[1"),
        ("application/x-www-form-urlencoded", b"\xff=%ff&&&"),
    ],
)
async def test_a_body_that_is_not_a_form_is_refused(
    http: httpx.AsyncClient, content_type: str, content: bytes
) -> None:
    answer = await http.post(
        "/v1/audio/transcriptions", content=content, headers={"Content-Type": content_type}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/audio/transcriptions", 405),
        ("POST", "/v1/audio/speech", 404),
        ("POST", "/v1/audio/transcriptions/", 404),
        ("DELETE", "/v1/models/whisper-1", 405),
    ],
)
async def test_unknown_paths_and_methods_have_the_error_shape_of_the_sdks(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await http.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert ("Allow" in answer.headers) == (status == 405)


async def test_unexpected_errors_have_the_error_shape_of_the_sdks() -> None:
    app = Starlette()
    app.state.dialects = dialects()
    for path in ("/v1/audio/transcriptions", "/v1/models"):
        answer = error_response(StenobirdError(), {"type": "http", "path": path, "app": app})
        error = json.loads(bytes(answer.body))["error"]
        assert (answer.status_code, error["type"], error["code"]) == (500, "server_error", "internal_error")
        assert "request id" in error["message"]


async def test_a_file_without_a_filename_gets_a_remedy(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/audio/transcriptions", files={"file": (None, bytes(100_000))})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "file")
    assert "-F file=@talk.mp3" in error["message"]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", 'a "b" שלום.mp3', "x" * 3000 + ".mp3", " .mp3", "%00.mp3"]
)
async def test_unusual_file_names_are_accepted(world: WebWorld, sdk: openai.AsyncOpenAI, name: str) -> None:
    request = sdk.audio.transcriptions.create(model="whisper-1", file=(name, b"ID3" + bytes(100)))
    assert (await _during(world, request, "Hello.")).text == "Hello."


async def test_link_through_the_sdk_needs_no_file(world: WebWorld, sdk: openai.AsyncOpenAI) -> None:
    link = {"url": "https://example.com/a"}
    files: list[Any] = [b"", openai.omit]
    for file in files:
        request = sdk.audio.transcriptions.create(model="whisper-1", file=file, extra_body=link)
        assert (await _during(world, request, "Hello.")).text == "Hello."


async def test_unknown_parameters_are_ignored(world: WebWorld, sdk: openai.AsyncOpenAI) -> None:
    request = sdk.audio.transcriptions.create(
        model="gpt-4o-transcribe",
        file=FILE,
        include=["logprobs"],
        chunking_strategy={"type": "server_vad", "threshold": 0.5},
        timestamp_granularities=["word"],
    )
    answer = await _during(world, request, "Hello.")
    assert (answer.text, answer.logprobs) == ("Hello.", None)


async def test_the_list_of_models_refuses_an_invalid_key(world: WebWorld) -> None:
    async with openai.AsyncOpenAI(api_key="sk-wrong", base_url=f"{world.url}/v1", max_retries=0) as sdk:
        with pytest.raises(openai.AuthenticationError):
            await sdk.models.list()


async def test_models_are_listed(sdk: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == ["whisper-1"]
    assert (await sdk.models.retrieve("gpt-4o-transcribe")).owned_by == "stenobird"


async def test_a_model_name_may_have_slashes(sdk: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    name = "Systran/faster-whisper-large-v3"
    assert (await sdk.models.retrieve(name)).id == name
    assert (await http.get(f"/v1/models/{name}")).json()["id"] == name
    known = (await http.get("/openapi.json")).json()["paths"]["/v1/models/{model}"]["get"]["responses"]
    for other in ("", "%0Awhisper"):
        answer = await http.get(f"/v1/models/{other}")
        assert answer.json()["error"]["code"] == "not_found"
        assert str(answer.status_code) in known


@pytest.mark.parametrize(
    "fields",
    [
        {"timestamp_granularities[]": ["word", "segment"]},
        {"timestamp_granularities": ["word", "segment"]},
        {"timestamp_granularities[0]": "word", "timestamp_granularities[1]": "segment"},
        {"timestamp_granularities": "word, segment"},
        {"timestamp_granularities[]": '["word","segment"]'},
        {"timestamp_granularities": "['word', 'segment']"},
    ],
)
async def test_timestamp_granularities_are_read_in_every_spelling(fields: dict[str, Any]) -> None:
    form = FormData(
        [
            (name, value)
            for name, values in fields.items()
            for value in (values if isinstance(values, list) else [values])
        ]
    )
    assert _granularities(form) == {"word", "segment"}
    assert _granularities(_form_of(fields)) == {"word", "segment"}


@pytest.mark.parametrize("prefix", ["", "data:audio/mpeg;base64,"])
async def test_audio_may_be_inside_a_json_body(
    world: WebWorld, http: httpx.AsyncClient, api_key: str, prefix: str
) -> None:
    # More than other JSON bodies may have.
    audio = b"ID3" + bytes(100_000)
    sent = {"data": prefix + base64.b64encode(audio).decode(), "format": "mp3"}
    body = {"model": "whisper-1", "input_audio": sent}
    answer = await _during(world, http.post("/v1/audio/transcriptions", json=body), "Hello.")
    assert answer.json()["text"] == "Hello."
    job = await world.store.get(answer.headers["X-Transcript-ID"])
    assert job is not None
    assert job.upload_id is not None
    caller = await world.keys.authenticate(f"Bearer {api_key}")
    assert caller is not None
    slot = await world.services.uploads.take(job.upload_id, caller.account_id)
    assert (slot.filename, slot.size_bytes) == ("audio.mp3", len(audio))


@pytest.mark.parametrize(
    "sent", ["AAAA", {"data": "%%%", "format": "mp3"}, {"format": "mp3"}, {"data": 3}, [], {"data": ""}]
)
async def test_invalid_audio_in_json_is_refused(http: httpx.AsyncClient, sent: Any) -> None:
    answer = await http.post("/v1/audio/transcriptions", json={"input_audio": sent})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in {"input_audio", "file"}


async def test_too_much_audio_in_json_is_refused(http: httpx.AsyncClient) -> None:
    body, kind = bytes(40 * 1024 * 1024), {"Content-Type": "application/json"}
    answer = await http.post("/v1/audio/transcriptions", content=body, headers=kind)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (413, "input_audio")
    assert "multipart/form-data" in error["message"]


async def test_sdks_get_errors_in_their_shape_everywhere_below_v1(
    sdk: openai.AsyncOpenAI, http: httpx.AsyncClient
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.chat.completions.create(model="gpt-5", messages=[])
    assert caught.value.code == "not_found"
    assert caught.value.type == "invalid_request_error"
    flat = await http.get("/v1/chat/completions")
    assert flat.json()["error"] == "not_found"


@pytest.mark.parametrize("path", ["/audio/transcriptions", "/v1/v1/audio/transcriptions", "/models"])
async def test_a_wrong_base_url_gets_the_right_one(
    world: WebWorld, http: httpx.AsyncClient, path: str
) -> None:
    answer = await http.get(path)
    assert answer.status_code == 404
    assert answer.json()["message"].endswith(f" Set the base URL of an OpenAI client to {world.url}/v1")


async def test_a_client_that_retries_joins_its_job(tmp_path: Path) -> None:
    async with web_world(tmp_path, web_settings(openai_retry_seconds=60)) as world:
        key, _ = await world.keys.create()
        async with openai.AsyncOpenAI(api_key=key, base_url=f"{world.url}/v1", max_retries=0) as sdk:
            for end_first in (False, True):

                async def create() -> Any:
                    return await sdk.audio.transcriptions.create(model="whisper-1", file=FILE)

                sent = asyncio.create_task(create())
                job_id = await world.worker.start_next()
                sent.cancel()
                if end_first:
                    await world.worker.say(job_id, "Hello.")
                    await world.worker.complete(job_id)
                    assert (await create()).text == "Hello."
                else:
                    again = asyncio.create_task(create())
                    await world.worker.say(job_id, "Hello.")
                    await world.worker.complete(job_id)
                    assert (await again).text == "Hello."
        assert await world.store.counts() == {"completed": 2}
