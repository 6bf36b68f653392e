"""Parses requests of the OpenAI dialect, from a form or from JSON, within bounds, and recognizes retries.

A retry without an `Idempotency-Key` joins the job of the first try: an SDK that times out closes its
connection and sends the same request again. Its job therefore goes on for a while without a reader, and is
cancelled if nobody joins it. A process knows only its own requests: a retry that reaches another process
starts over. See docs/decisions/0050-openai-requests-end-with-the-connection.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from base64 import b64decode
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Literal
from weakref import WeakValueDictionary

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from stenobird.errors import CompressedRequest, InvalidRequest, UploadTooLarge
from stenobird.jobs.schemas import MAX_PROMPT_CHARS, CreateTranscript
from stenobird.web.openai.schemas import AudioForm
from stenobird.web.requests import body_chunks, json_object

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    from stenobird.ports import JobRecord
    from stenobird.web.openai.schemas import ResponseFormat

MAX_INPUT_AUDIO_BYTES: Final = 25 * 1024 * 1024
"""The largest audio in a JSON body, which is in memory as a whole: as much as OpenAI takes."""
MAX_FIELDS: Final = 64
MAX_FIELD_BYTES: Final = 64 * 1024
SLACK_BYTES: Final = MAX_FIELDS * MAX_FIELD_BYTES
"""The bound for everything in a body except the file."""
SILENCE_SECONDS: Final = 60.0
"""How long a client may send nothing before its request is refused."""

_PENDING_UPLOAD: Final = "upl_pending"
_GRANULARITIES: Final = re.compile(r"timestamp_granularities(?:\[\d*\])?")
_WORD: Final = re.compile(r"[^\s,\[\]\"']+")


@dataclass(frozen=True, slots=True)
class AudioRequest:
    """A parsed request. `create` has the upload's id only after `file` is stored."""

    create: CreateTranscript
    file: UploadFile | None
    response_format: ResponseFormat
    stream: bool
    with_words: bool
    with_segments: bool

    async def fingerprint(self) -> bytes:
        """Return bytes that are equal for two requests if and only if they have the same options and audio.

        The bodies themselves differ, since each form has a new boundary. Leaves the file at its start.
        """
        audio = ""
        if self.file is not None:
            digest = await asyncio.to_thread(hashlib.file_digest, self.file.file, "sha256")  # type: ignore[arg-type]
            audio = digest.hexdigest()
            await self.file.seek(0)
        shape = [self.response_format, self.stream, self.with_words, self.with_segments]
        return json.dumps([self.create.model_dump(mode="json"), shape, audio]).encode()


@asynccontextmanager
async def read_audio_request(
    request: Request, task: Literal["transcribe", "translate"], *, max_file_bytes: int
) -> AsyncGenerator[AudioRequest]:
    """Yield the parsed request. Its file is in memory or a temporary file until the context ends.

    Raises `InvalidRequest` with the invalid field in its details, and `UploadTooLarge`.
    """
    form = await _read_form(request, max_file_bytes)
    try:
        yield _parse_form(form, task, max_file_bytes)
    finally:
        await form.close()


def _parse_form(
    form: FormData, task: Literal["transcribe", "translate"], max_file_bytes: int
) -> AudioRequest:
    sent = form.get("file")
    if isinstance(sent, str) and sent:
        raise _wrong("file", "must be a file, sent as multipart/form-data with a filename")
    file = sent if isinstance(sent, UploadFile) and sent.size else None
    url = _text(form, "url")
    if file is None and not url:
        reason = "is empty" if isinstance(sent, UploadFile) else "is missing"
        raise _wrong("file", f'{reason}; send the audio as "file", or a link to it as "url"')
    if file is not None and url:
        raise _wrong("url", 'can\'t be sent together with "file"; send one of them')
    if file is not None and (file.size or 0) > max_file_bytes:
        raise too_large(max_file_bytes)
    given = {name: _text(form, name) for name in ("response_format", "stream", "temperature")}
    # Two are known, so of three one is not; more would only make pydantic list more errors.
    wanted = {"timestamp_granularities[]": list(_granularities(form))[:3]}
    asked = AudioForm.parse(wanted | {name: text for name, text in given.items() if text})
    granularities = asked.timestamp_granularities or ["segment"]
    verbose = asked.response_format == "verbose_json"
    with_words = verbose and "word" in granularities
    prompt = _text(form, "prompt")
    body: dict[str, Any] = {
        "language": _text(form, "language") if task == "transcribe" else None,
        # Like Whisper, use the end of a long prompt.
        "prompt": prompt[-MAX_PROMPT_CHARS:] if prompt else None,
        "word_timestamps": with_words,
        "task": task,
        "speakers": asked.response_format == "diarized_json",
    }
    body |= {"audio_url": url} if url else {"upload_id": _PENDING_UPLOAD}
    return AudioRequest(
        create=CreateTranscript.parse(body),
        file=file,
        response_format=asked.response_format,
        stream=asked.stream,
        with_words=with_words,
        with_segments=verbose and "segment" in granularities,
    )


def too_large(max_bytes: int) -> UploadTooLarge:
    """Return the error for a file that is larger than this."""
    return UploadTooLarge(
        f"The file is larger than the {max_bytes} bytes that this service accepts. Send a smaller one, or "
        'its "url".',
        details={"max_bytes": max_bytes, "field": "file"},
    )


def _wrong(field: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f'"{field}" {reason}.', details={"field": field})


async def _read_form(request: Request, max_file_bytes: int) -> FormData:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        if request.headers.get("content-encoding", "").strip().lower() not in {"", "identity"}:
            raise CompressedRequest
        raw = await _read_json(request)
        # In a thread: base64 of megabytes would block the event loop.
        return await asyncio.to_thread(lambda: _form_of(json_object(request, raw, field="url")))
    parser: MultiPartParser | FormParser
    bounds = {"max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES}
    if kind == "multipart/form-data":
        body = _bounded(request, max_file_bytes)
        parser = MultiPartParser(request.headers, body, max_files=1, **bounds)
    elif kind == "application/x-www-form-urlencoded":
        parser = FormParser(request.headers, _bounded(request, 0), **bounds)
    else:
        raise InvalidRequest(
            'Send multipart/form-data with the audio as "file", or with a link to it as "url".',
            details={"field": "file"},
        )
    try:
        return await parser.parse()
    except MultiPartException as exc:
        if exc.message.startswith("Part exceeded"):
            raise InvalidRequest(
                f"A field of the form is larger than {MAX_FIELD_BYTES // 1024} KB. Send the audio as a file "
                "with a filename (curl: -F file=@talk.mp3); speaker references are not used here.",
                details={"field": "file"},
            ) from exc
        raise InvalidRequest(f"The form can't be read: {exc.message.rstrip('.')}. Send it again.") from exc


async def _read_json(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in _bounded(request, MAX_INPUT_AUDIO_BYTES * 4 // 3):
            body += chunk
    except UploadTooLarge:
        raise UploadTooLarge(
            f"The JSON body holds more than {MAX_INPUT_AUDIO_BYTES} bytes of audio. Send the audio as "
            'multipart/form-data, or its "url".',
            details={"max_bytes": MAX_INPUT_AUDIO_BYTES, "field": "input_audio"},
        ) from None
    return bytes(body)


async def _bounded(request: Request, max_file_bytes: int) -> AsyncGenerator[bytes]:
    """Yield the body. Raises `UploadTooLarge` past the bound, `InvalidRequest` when it stalls."""
    stated = request.headers.get("content-length", "")
    left = max_file_bytes + SLACK_BYTES
    if stated.isdigit() and int(stated) > left:
        raise too_large(max_file_bytes)
    try:
        async for chunk in body_chunks(request, silence_seconds=SILENCE_SECONDS):
            left -= len(chunk)
            if left < 0:
                raise too_large(max_file_bytes)
            yield chunk
    except TimeoutError as exc:
        raise InvalidRequest("The request body stopped arriving. Send it again.") from exc


def _form_of(body: dict[str, Any]) -> FormData:
    items: list[tuple[str, str | UploadFile]] = []
    if body.get("input_audio") is not None:
        if body.get("file") is not None:
            raise _wrong("input_audio", 'can\'t be sent together with "file"; send one of them')
        items.append(("file", _input_audio(body.pop("input_audio"))))
    for name, value in body.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, bool):
                items.append((name, "true" if item else "false"))
            elif isinstance(item, str | int | float):
                items.append((name, str(item)))
            elif item is not None and name in {"url", "file", "language", "prompt", "stream"}:
                raise _wrong(name, "must be a string")
    return FormData(items)


def _text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    if isinstance(value, UploadFile):
        raise _wrong(name, "must be a text field, without a filename")
    if value is not None and "\0" in value:
        raise _wrong(name, "contains a NUL character")
    return value.strip() if value else None


def _input_audio(sent: object) -> UploadFile:
    """Return the file in `{"data": base64 or a data URL, "format": "mp3"}`."""
    if isinstance(sent, dict) and isinstance(sent.get("data"), str):
        data = sent["data"]
        prefix, comma, encoded = data.partition(",")
        try:
            audio = b64decode(encoded if comma and prefix.startswith("data:") else data, validate=True)
        except ValueError as exc:
            raise _wrong("input_audio", 'must have base64 in "data"') from exc
        kind = sent.get("format")
        suffix = kind if isinstance(kind, str) and re.fullmatch(r"[A-Za-z0-9]{1,8}", kind) else "bin"
        headers = Headers(
            {"content-type": f"audio/{suffix}" if suffix != "bin" else "application/octet-stream"}
        )
        return UploadFile(BytesIO(audio), size=len(audio), filename=f"audio.{suffix}", headers=headers)
    raise _wrong("input_audio", 'must be an object with base64 in "data" and the "format", such as "mp3"')


def _granularities(form: FormData) -> set[str]:
    """Return the values of `timestamp_granularities`, also as `…[]`, `…[0]`, `word,segment` or `["word"]`."""
    found: set[str] = set()
    for key, value in form.multi_items():
        if _GRANULARITIES.fullmatch(key) and isinstance(value, str):
            found.update(_WORD.findall(value) or ([value] if value.strip() else []))
    return found


@dataclass(slots=True, eq=False)
class SharedJob:
    """A job and the requests that read it. `ended` is set by the first one that has read `done`."""

    job: JobRecord
    readers: int = 0
    joins: int = 0
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False


class Retries:
    """The jobs of the requests of one process, by what identifies a request."""

    def __init__(self) -> None:
        self._jobs: dict[bytes, SharedJob] = {}
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def joined(
        self,
        request: bytes,
        *,
        usable: Callable[[JobRecord], Awaitable[bool]],
        create: Callable[[], Awaitable[JobRecord]],
        cancel: Callable[[JobRecord], Awaitable[None]],
        stopping: asyncio.Event,
        grace_seconds: float,
    ) -> AsyncIterator[SharedJob]:
        """Yield the job of this request: the one of an equal request if it is `usable`, else a new one.

        If the context is left before the job has `ended`, and nobody joins it within `grace_seconds` or until
        the service is `stopping`, the job is cancelled.
        """
        turn = self._turns.setdefault(request, asyncio.Lock())
        async with turn:
            shared = self._jobs.get(request)
            if shared is None or not await usable(shared.job):
                shared = self._jobs[request] = SharedJob(await create())
            shared.readers += 1
            shared.joins += 1
            shared.joined.set()
        try:
            yield shared
        finally:
            shared.readers -= 1
            joins = shared.joins
            try:
                if not shared.ended and not shared.readers:
                    shared.joined.clear()
                    await _first(shared.joined, stopping, timeout_seconds=grace_seconds)
            finally:
                # A request that has joined meanwhile answers for the job, also if it has left again.
                if shared.joins == joins and not shared.readers:
                    if self._jobs.get(request) is shared:
                        del self._jobs[request]
                    if not shared.ended:
                        await cancel(shared.job)


async def _first(*events: asyncio.Event, timeout_seconds: float) -> None:
    """Return when one of the events is set, or after the timeout."""
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(event.wait()) for event in events]
        await asyncio.wait(waiting, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
