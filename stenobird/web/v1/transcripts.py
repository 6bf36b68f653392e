"""`/v1/transcripts`: create, list, read, stream, cancel, delete and share transcripts."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stenobird import errors
from stenobird.bodies import read_cursor, write_cursor
from stenobird.formats import FORMATS
from stenobird.jobs.events import EVENTS, JobEvents
from stenobird.jobs.schemas import (
    CreateTranscript,
    ShareLink,
    ShareLinks,
    SpeakerNames,
    TranscriptList,
    TranscriptResult,
    TranscriptStatus,
)
from stenobird.jobs.service import new_job_id
from stenobird.ports import JobPage
from stenobird.transcript import Segment
from stenobird.web.openapi import (
    CREATE_ERRORS,
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    JOB_ERRORS,
    SHARE,
    Answer,
    Operation,
    header,
    json_of,
    page_of,
    path,
    query,
    stream_of,
)
from stenobird.web.representations import (
    accepted,
    document,
    field_values,
    json_response,
    no_content,
    revalidated,
)
from stenobird.web.requests import (
    base_url_of,
    json_object,
    page_size,
    path_id,
    read_json_body,
    read_json_object,
    services_of,
    streams_of,
)
from stenobird.web.routing import Endpoint
from stenobird.web.sse import EventStreamResponse, parse_event_id

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stenobird.formats import Format
    from stenobird.jobs.events import EventData
    from stenobird.ports import Caller

DEFAULT_PAGE: Final = 20
MAX_PAGE: Final = 100

_Operation = partial(Operation, "Transcripts")
_ID: Final = path("id", "Id of the transcript, tr_…")
_SHARE_PATH: Final = "/v1/transcripts/{id}/share"
_SHARE_ERRORS: Final = (errors.TranscriptNotFound, errors.ReadOnlyKey, errors.InvalidRequest)


def _event_schema(model: type[EventData]) -> dict[str, Any]:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": model}
    return {
        "type": "object",
        "required": ["id", "event", "data"],
        "properties": {
            "id": {"type": "string"},
            "event": {"const": model.event},
            "data": data,
            "retry": {"type": "integer"},
        },
    }


def _stream_example() -> str:
    made = JobEvents("tr_123", "https://stenobird.com")
    segment = Segment(0.5, 3.2, "Hello and welcome to...")
    events = {
        1: made.status("queued", "validating_url"),
        7: made.transcript(segment, 0, language="en"),
        8: made.preview_locked(),
        9: made.done("preview_complete"),
    }
    frames = [f"event: {row.event}\ndata: {row.data}\nid: {seq}\n\n" for seq, row in events.items()]
    return "".join(["retry: 2000\n", *frames])


_STREAM: Final = stream_of(
    "Server-Sent Events. Ids are integers, counted from 1. The order is: status, transcript, speakers if "
    "requested, preview_locked or error if either applies, done. Text that was streamed does not change "
    "later.",
    {"oneOf": [_event_schema(model) for model in EVENTS]},
    _stream_example(),
)


def _result_content() -> dict[str, Any]:
    content: dict[str, Any] = json_of(TranscriptResult)
    for entry in FORMATS.values():
        media_type = entry.media_type.partition(";")[0]
        binary = {"contentMediaType": media_type} if entry.name == "docx" else {}
        content.setdefault(media_type, {"schema": {"type": "string", **binary}})
    return content


# --- transcripts -------------------------------------------------------------------------------------------


@_Operation(
    "Create a transcript",
    {202: Answer("The transcript is queued.", TranscriptStatus, ("Location",))},
    (
        *CREATE_ERRORS,
        errors.WebhookRequiresAPIKey,
        errors.InvalidWebhookURL,
        errors.WebhookTargetForbidden,
        errors.MissingAPIKey,
        errors.UploadNotFound,
        errors.UploadNotAvailable,
        errors.IdempotencyMismatch,
        errors.IdempotencyInProgress,
        errors.UploadSlotExpired,
    ),
    parameters=[IDEMPOTENCY_KEY],
    body=json_of(CreateTranscript, {"audio_url": "https://example.com/audio-url"}),
)
async def create_transcript(request: Request, caller: Caller | None) -> Response:
    """Create a transcript: 202 with its status, and its address in `Location`.

    Without an API key this is a free preview of 15 seconds. Live audio is transcribed until it ends, until
    `max_minutes`, or until it is stopped; seconds that were never received are not billed. The link is opened
    after the response, so errors that need the network, such as a page without audio, are in the events and
    in the status.
    """
    services = services_of(request)
    raw = await read_json_body(request, instead="Send the URL of the audio, not the audio.")
    spec = CreateTranscript.parse(json_object(request, raw, field="audio_url")).spec()
    spec = services.jobs.check(spec, caller=caller)

    async def make(job_id: str | None) -> Response:
        job = await services.jobs.create(spec, caller=caller, base_url=base_url_of(request), job_id=job_id)
        body = TranscriptStatus.of(job)
        return json_response(body, 202, {"Location": body.status_url})

    return await services.idempotency.once(request, caller, raw, new_id=new_job_id, make=make)


@_Operation(
    "List your transcripts, newest first",
    {200: Answer("A page of transcripts.", TranscriptList)},
    (errors.InvalidRequest,),
    parameters=page_of("Transcripts per page.", MAX_PAGE),
)
async def list_transcripts(request: Request, caller: Caller) -> Response:
    """List the account's transcripts, newest first; `next_cursor` is null on the last page."""
    jobs = services_of(request).jobs
    limit = page_size(request, default=DEFAULT_PAGE, maximum=MAX_PAGE)
    cursor = request.query_params.get("cursor")
    page = JobPage(before=read_cursor(cursor) if cursor else None, limit=limit)
    listed, more = await jobs.list(caller, page)
    body = TranscriptList(
        transcripts=[TranscriptStatus.of(job) for job in listed],
        next_cursor=write_cursor(listed[-1].created_at, listed[-1].id) if more else None,
    )
    return json_response(body)


@_Operation(
    "Get the status of a transcript",
    {
        200: Answer("The status.", TranscriptStatus, ("ETag",)),
        304: Answer("Unchanged since the ETag.", headers=("ETag",)),
    },
    (errors.TranscriptNotFound, errors.MissingAPIKey),
    parameters=[_ID, SHARE, IF_NONE_MATCH],
)
async def get_transcript(request: Request, caller: Caller | None) -> Response:
    """Return the status, or 304 if the client has it already.

    While `terminal` is false, poll at the interval in `retry_after_seconds`, or stream the events instead.
    """
    jobs = services_of(request).jobs
    job = await jobs.get(path_id(request), caller)
    return revalidated(request, TranscriptStatus.of(job).encode(), "application/json")


@_Operation(
    "Cancel a running transcript, or delete a finished one",
    {202: Answer("Cancelled, or cancelled shortly.", TranscriptStatus), 204: Answer("Deleted.")},
    (errors.TranscriptNotFound, errors.MissingAPIKey, errors.ReadOnlyKey),
    parameters=[_ID],
)
async def delete_transcript(request: Request, caller: Caller | None) -> Response:
    """Cancel a running transcript (202 with its status), or delete a finished one (204).

    A cancelled transcript ends with a `done` event like any other, and can then be deleted. It is not billed,
    except for live audio that was transcribed until then.
    """
    jobs = services_of(request).jobs
    job = await jobs.cancel_or_delete(path_id(request), caller)
    if job is None:
        return no_content()
    return json_response(TranscriptStatus.of(job), 202)


@_Operation(
    "Stop a live transcript",
    {202: Answer("Stopped, or stopped shortly.", TranscriptStatus)},
    (errors.TranscriptNotFound, errors.MissingAPIKey, errors.ReadOnlyKey, errors.TranscriptNotLive),
    parameters=[_ID],
)
async def stop_transcript(request: Request, caller: Caller | None) -> Response:
    """Stop the transcript of live audio, keep what was transcribed, and bill that: 202 with its status.

    It ends `completed` within moments, or `cancelled` if nothing was transcribed yet. To stop one that has
    ended changes nothing. The transcript of a recording can only be cancelled.
    """
    job = await services_of(request).jobs.stop(path_id(request), caller)
    return json_response(TranscriptStatus.of(job), 202)


@_Operation(
    "Stream the events of a transcript",
    {
        200: Answer("The events, up to `done`.", _STREAM),
        204: Answer("The client has the last event. It should not reconnect."),
    },
    (errors.InvalidRequest, errors.TranscriptNotFound, errors.MissingAPIKey, errors.RateLimited),
    parameters=[
        _ID,
        SHARE,
        header("Last-Event-ID", "Id of the last event that the client has."),
        query("last_event_id", "Like Last-Event-ID, for clients that can't send the header."),
        query("after", "Another name of last_event_id."),
    ],
)
async def stream_transcript(request: Request, caller: Caller | None) -> Response:
    """Stream the events after the last one that the client has, as Server-Sent Events.

    A client that reconnects with `Last-Event-ID` gets every event exactly once. When it has the last event of
    all, the response is 204, which stops a browser from reconnecting. `Last-Event-ID` takes precedence over
    `?last_event_id=` and `?after=`: a browser whose first request had the query parameter adds the header
    when it reconnects. Lines that start with a colon are pings, which parsers skip.
    """
    jobs = services_of(request).jobs
    sent = request.query_params
    after = parse_event_id(
        request.headers.get("last-event-id") or sent.get("last_event_id") or sent.get("after") or ""
    )
    job = await jobs.get(path_id(request), caller)
    if after > job.last_seq:
        raise errors.InvalidRequest(
            f"Last-Event-ID {after} is beyond the last event of this transcript, {job.last_seq}. "
            "Leave it out to read from the start."
        )
    if job.terminal and after == job.last_seq:
        return no_content()
    streams = streams_of(request)
    events = jobs.stream(job.id, caller, after, take=streams.taker(request.scope))
    # A share link has its owner's key, but its readers are strangers.
    key = None if sent.get("share") else caller
    return EventStreamResponse(job.id, events, streams, caller=key)


@_Operation(
    "Get the text of a finished transcript",
    {
        200: Answer("The transcript.", _result_content(), ("ETag",)),
        304: Answer("Unchanged since the ETag.", headers=("ETag",)),
    },
    (
        errors.InvalidRequest,
        errors.TranscriptNotFound,
        errors.MissingAPIKey,
        errors.TranscriptNotReady,
        errors.TranscriptCancelled,
        *JOB_ERRORS,
    ),
    parameters=[
        _ID,
        SHARE,
        IF_NONE_MATCH,
        query(
            "format",
            "Takes precedence over the header Accept. Without either it is json.",
            {"type": "string", "enum": list(FORMATS)},
        ),
    ],
)
async def get_result(request: Request, caller: Caller | None) -> Response:
    """Return the transcript in the format of `?format=`, else of `Accept`, else as JSON.

    Until it has ended, the response is 409 `transcript_not_ready`, with `retry_after_seconds`.
    """
    jobs = services_of(request).jobs
    wanted = _wanted_format(request)
    job, transcript = await jobs.result(path_id(request), caller)
    if wanted.name != "json":
        return await document(request, job.id, transcript, wanted)
    # In a thread: encoding hours of text would block the event loop.
    body = await asyncio.to_thread(lambda: TranscriptResult.of(job, transcript).encode())
    return revalidated(request, body, wanted.media_type)


def _wanted_format(request: Request) -> Format:
    name = request.query_params.get("format")
    if name is None:
        # A response in another type helps a client more than 406 does. RFC 9110, 15.5.7 allows either.
        return accepted(field_values(request, "accept"), FORMATS.values()) or FORMATS["json"]
    try:
        return FORMATS[name.strip().lower()]
    except KeyError:
        raise errors.InvalidRequest(
            f'There is no format "{name[:40]}". Use one of: {", ".join(FORMATS)}.',
            details={"formats": list(FORMATS)},
        ) from None


@_Operation(
    "Name the speakers",
    {200: Answer("The status, with the names.", TranscriptStatus)},
    (
        errors.InvalidRequest,
        errors.TranscriptNotFound,
        errors.ReadOnlyKey,
        errors.TranscriptNotReady,
        errors.TranscriptCancelled,
        *JOB_ERRORS,
    ),
    parameters=[_ID],
    body=json_of(SpeakerNames),
    needs_key=True,
)
async def name_speakers(request: Request, caller: Caller | None) -> Response:
    """Replace the names of the speakers in a finished transcript, which documents then have for labels.

    In JSON, segments and words keep their labels, and `speaker_names` has the names. Events never change.
    """
    names = SpeakerNames.parse(await read_json_object(request, field="names")).names
    job = await services_of(request).jobs.name_speakers(path_id(request), caller, names)
    return json_response(TranscriptStatus.of(job))


# --- share links --------------------------------------------------------------------------------------------


@_Operation(
    "Count the share links",
    {200: Answer("The number of links.", ShareLinks)},
    _SHARE_ERRORS,
    parameters=[_ID],
    needs_key=True,
)
async def count_share_links(request: Request, caller: Caller | None) -> Response:
    """Return how many share links the transcript has. Their tokens can't be read again."""
    links = await services_of(request).shares.count(path_id(request), caller)
    return json_response(ShareLinks(links=links))


@_Operation(
    "Create a link that shows this transcript",
    {201: Answer("The link. Its token is not shown again.", ShareLink)},
    _SHARE_ERRORS,
    parameters=[_ID],
    needs_key=True,
)
async def create_share_link(request: Request, caller: Caller | None) -> Response:
    """Create a link: 201 with the address of the page, and the token for `?share=`.

    Everybody who has it can read this transcript, until the links are revoked.
    """
    job_id = path_id(request)
    token = await services_of(request).shares.create(job_id, caller)
    url = f"{base_url_of(request)}/t/{job_id}?share={token}"
    return json_response(ShareLink(share_url=url, token=token), 201)


@_Operation(
    "Revoke all share links",
    {204: Answer("The transcript has no share links.")},
    _SHARE_ERRORS,
    parameters=[_ID],
    needs_key=True,
)
async def revoke_share_links(request: Request, caller: Caller | None) -> Response:
    """Revoke all links of the transcript: 204, also when there are none."""
    await services_of(request).shares.revoke(path_id(request), caller)
    return no_content()


ENDPOINTS: Final = (
    Endpoint("POST", "/v1/transcripts", create_transcript, key="optional"),
    Endpoint("GET", "/v1/transcripts", list_transcripts),
    Endpoint("GET", "/v1/transcripts/{id}", get_transcript, key="share"),
    Endpoint("DELETE", "/v1/transcripts/{id}", delete_transcript, key="optional"),
    Endpoint("POST", "/v1/transcripts/{id}/stop", stop_transcript, key="optional"),
    Endpoint("GET", "/v1/transcripts/{id}/events", stream_transcript, key="share"),
    Endpoint("GET", "/v1/transcripts/{id}/result", get_result, key="share"),
    Endpoint("PUT", "/v1/transcripts/{id}/speakers", name_speakers, key="optional"),
    Endpoint("GET", _SHARE_PATH, count_share_links, key="optional"),
    Endpoint("POST", _SHARE_PATH, create_share_link, key="optional"),
    Endpoint("DELETE", _SHARE_PATH, revoke_share_links, key="optional"),
)
