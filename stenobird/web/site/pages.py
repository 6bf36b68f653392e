"""The pages except those of a checkout, their static files, and error pages.

Pages work without scripts where they can: the form posts, and a preview's text is in the HTML. Anything that
needs an API key is fetched by the script, since a browser does not send the key by itself.
"""

from __future__ import annotations

import asyncio
import os
import textwrap
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from stenobird.demo import CLIP_PATH, MODEL_DIR, TALK_PATH
from stenobird.errors import InvalidRequest, MissingAPIKey, NotFound, StenobirdError
from stenobird.formats.cues import is_right_to_left
from stenobird.jobs.schemas import CreateTranscript
from stenobird.languages import NAME_OF
from stenobird.ports import RecognitionOptions
from stenobird.web import middleware
from stenobird.web.openapi.document import operation_groups
from stenobird.web.requests import base_url_of, path_id, reader_of, services_of
from stenobird.web.routing import Endpoint, dialect_of
from stenobird.web.site.templating import (
    API_REFERENCE_HEADERS,
    FOLDER_PREFIX,
    PAGE_HEADERS,
    PLAYER_HEADERS,
    STATIC_DIR,
    guides,
    hashed_folder,
    read_form,
    render,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from starlette.exceptions import HTTPException
    from starlette.types import Scope

    from stenobird.config import Settings
    from stenobird.ports import JobRecord
    from stenobird.speech.engines import SpeechEngines
    from stenobird.transcript import Segment

SAMPLE_PATH = "/sample.mp3"
UPLOADS_PATH = "/api/v1/uploads"
"""Below `STENOBIRD_API_PREFIX`. It takes files, and answers before their transcript is done."""
EXCERPT_CHARACTERS = 200
SILENT_PINGS = 3
"""After this many missing pings the page takes the event stream for dead and reconnects."""
NO_LINK = "Paste a link first."

_FOREVER = "public, max-age=31536000, immutable"
_FOR_A_DAY = {"Cache-Control": "public, max-age=86400"}


async def start_preview(request: Request) -> Response:
    """Create a preview for a browser without scripts, and redirect to its page."""
    form = await read_form(request)
    url = form.get("audio_url", "").strip()
    try:
        if not url:
            raise InvalidRequest(NO_LINK)
        chosen: dict[str, Any] = {name: form[name] for name in ("language", "task") if form.get(name)}
        if keywords := [word for part in form.get("keywords", "").split(",") if (word := part.strip())]:
            chosen["keywords"] = keywords
        chosen["speakers"] = bool(form.get("speakers"))
        spec = CreateTranscript.parse({"audio_url": url, **chosen}).spec()
        job = await services_of(request).jobs.create(spec, caller=None, base_url=base_url_of(request))
    except StenobirdError as error:
        return await home(request, error=error, audio_url=url)
    return RedirectResponse(f"/t/{job.id}", 303, {"Cache-Control": "no-store"})


async def transcript_page(request: Request) -> Response:
    """Show a transcript. Previews and shared transcripts are public; for others the script sends the key."""
    job_id = path_id(request)
    jobs = services_of(request).jobs
    job: JobRecord | None = None
    segments: list[Segment] = []
    try:
        caller = await reader_of(request)
        job = await jobs.get(job_id, caller)
        if job.result_ready:
            _, transcript = await jobs.result(job_id, caller)
            segments = list(transcript.named().segments)
    except MissingAPIKey:
        pass
    # In a thread: rendering hours of text would block the event loop.
    response = await asyncio.to_thread(
        render,
        "transcript.html",
        headers=PLAYER_HEADERS,
        job_id=job_id,
        share=request.query_params.get("share", ""),
        job=job,
        title=_title(job),
        segments=segments,
        right_to_left=2 * sum(is_right_to_left(segment.text) for segment in segments) > len(segments),
        excerpt=_excerpt(segments),
        silence_seconds=SILENT_PINGS * services_of(request).settings.sse_ping_seconds,
        **service_context(request),
    )
    response.headers["X-Robots-Tag"] = "noindex"
    return response


async def docs_page(request: Request) -> Response:
    """Show the first steps, the list of guides, and the operations of the API."""
    # The first call builds the document, which takes too long for the event loop.
    document = await asyncio.to_thread(request.app.state.openapi)
    return render(
        "docs.html",
        headers=PAGE_HEADERS,
        groups=operation_groups(document),
        guides=guides(),
        **service_context(request),
    )


async def guide_page(request: Request) -> Response:
    """Show a guide, with the address of this service in its examples."""
    name = request.path_params["name"]
    guide = next((guide for guide in guides() if guide.name == name), None)
    if guide is None:
        raise NotFound
    return render(
        "guide.html",
        headers=PAGE_HEADERS,
        guide=guide,
        body=guide.at(base_url_of(request)),
        guides=guides(),
        **service_context(request),
    )


async def api_reference(_request: Request) -> Response:
    """Show the OpenAPI document in Swagger UI, where each operation can be tried."""
    return render("api_reference.html", headers=API_REFERENCE_HEADERS)


async def usage_page(request: Request) -> Response:
    """Show the page that the script fills with the usage of the key's account."""
    return render("usage.html", headers=PAGE_HEADERS, **service_context(request))


async def robots(request: Request) -> Response:
    """Disallow transcripts, the APIs, and the page that Stripe redirects to."""
    base = base_url_of(request)
    lines = ["User-agent: *", *(f"Disallow: {path}" for path in ("/t/", "/v1/", "/api/", "/success"))]
    return PlainTextResponse("\n".join([*lines, f"# {base}/docs", ""]), headers=_FOR_A_DAY)


async def favicon(_request: Request) -> Response:
    """Redirect to the icon."""
    return RedirectResponse("/static/favicon.svg", 301, _FOR_A_DAY)


async def sample(request: Request) -> Response:
    """Return the bundled clip, on services that offer it."""
    clip = _sample_clip(services_of(request).settings)
    if clip is None:
        raise NotFound
    return FileResponse(clip, media_type="audio/mpeg", headers=_FOR_A_DAY)


class HashedFiles(StaticFiles):
    """Static files, also under a folder that contains their hash, where they may be cached forever.

    A folder with the hash of another release has the files of this release, which must not be cached.
    """

    def get_path(self, scope: Scope) -> str:
        """Return the path of the file without that folder."""
        path = super().get_path(scope)
        folder, _, rest = path.partition(os.sep)
        return rest if folder.startswith(FOLDER_PREFIX) else path

    def file_response(
        self, full_path: Any, stat_result: Any, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return the file, with `Cache-Control`."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        current = f"/{hashed_folder()}/" in scope["path"]
        response.headers["Cache-Control"] = _FOREVER if current else "public, no-cache"
        return response


def error_response(error: StenobirdError | HTTPException, scope: Scope) -> Response:
    """Return the response for an error: a page for browsers outside the APIs, else what `middleware` makes.

    The page of an unexpected error uses no service, since a service may be what is broken.
    """
    response = middleware.error_response(error, scope)
    request = Request(scope)
    if response.status_code < 400 or not _wants_page(request):
        return response
    shown = error if isinstance(error, StenobirdError) else NotFound()
    context = {} if type(shown) is StenobirdError else service_context(request)
    page = render("problem.html", response.status_code, headers=PAGE_HEADERS, error=shown, **context)
    page.headers["Cache-Control"] = "no-store"
    for name in ("allow", "retry-after"):
        if name in response.headers:
            page.headers[name] = response.headers[name]
    return page


def _wants_page(request: Request) -> bool:
    wanted = request.headers.get("accept", "")
    path = request.url.path
    api = path.startswith("/api/") or dialect_of(request.scope).covers(path)
    return "text/html" in wanted and not api


def service_context(request: Request) -> dict[str, Any]:
    """Return what every page shows of the service: its address, and facts about its engine."""
    services = services_of(request)
    engine = services.health().get("engine")
    facts = engine if isinstance(engine, dict) else {}
    return {
        "base_url": base_url_of(request),
        "path": request.url.path,
        "fixture": bool(facts.get("fixture")),
        "engine_note": facts.get("message") if facts.get("degraded") else None,
        "preview_seconds": round(services.settings.preview_seconds),
        "can_buy": services.billing.configured,
        "live": {
            "default_minutes": services.settings.live_default_minutes,
            "max_minutes": services.settings.live_max_minutes,
        },
    }


async def home(request: Request, *, error: StenobirdError | None = None, audio_url: str = "") -> Response:
    """Show the form for a link, and why the last one was refused."""
    settings = services_of(request).settings
    shared = service_context(request)
    sample = f"{shared['base_url']}{SAMPLE_PATH}" if _sample_clip(settings) else None
    demo_model = settings.model == str(MODEL_DIR)
    status = error.http_status if error is not None else 200
    return render(
        "home.html",
        status,
        headers=PLAYER_HEADERS,
        sample=sample,
        demo_model=demo_model,
        error=error,
        audio_url=audio_url,
        uploads=f"{settings.api_prefix}{UPLOADS_PATH}",
        labels=bool(settings.speaker_model),
        retention_days=settings.retention_days,
        **_choices(services_of(request).engines),
        **shared,
    )


def _choices(engines: SpeechEngines | None) -> dict[str, Any]:
    """Return what the home page offers: the languages, if there is a choice, and whether to translate."""

    def accepts(options: RecognitionOptions) -> bool:
        try:
            if engines is not None:
                engines.check(options)
        except InvalidRequest:
            return False
        return True

    languages = [code for code in sorted(NAME_OF) if accepts(RecognitionOptions(language=code))]
    return {
        "languages": languages if len(languages) > 1 else [],
        "translates": accepts(RecognitionOptions(task="translate")),
    }


def _sample_clip(settings: Settings) -> Path | None:
    """Return the clip for the model, on a service that may fetch it from itself; else `None`."""
    loopback = any(network.is_loopback for network in settings.egress_allow)
    if not loopback or settings.egress_ports is not None:
        return None
    return CLIP_PATH if settings.model == str(MODEL_DIR) else TALK_PATH


def _excerpt(segments: Sequence[Segment]) -> str:
    """Return the start of the text, as long as the preview of a link."""
    words = " ".join(segment.text.strip() for segment in segments[:40])
    return textwrap.shorten(words, EXCERPT_CHARACTERS, placeholder=" …")


def _title(job: JobRecord | None) -> str:
    if job is None:
        return "Transcript"
    title = (job.source or {}).get("title")
    return str(title or job.audio_url)


ENDPOINTS: Final = (
    Endpoint("GET", "/", home, key="none"),
    Endpoint("POST", "/", start_preview, key="none"),
    Endpoint("GET", "/t/{id}", transcript_page, key="none"),
    Endpoint("GET", "/docs", docs_page, key="none"),
    Endpoint("GET", "/docs/{name}", guide_page, key="none"),
    Endpoint("GET", "/developers/api-reference", api_reference, key="none"),
    Endpoint("GET", "/usage", usage_page, key="none"),
    Endpoint("GET", "/robots.txt", robots, key="none"),
    Endpoint("GET", "/favicon.ico", favicon, key="none"),
    Endpoint("GET", SAMPLE_PATH, sample, key="none"),
)


def static_files() -> Mount:
    """Return the route of the static files."""
    return Mount("/static", HashedFiles(directory=STATIC_DIR))
