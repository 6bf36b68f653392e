"""`/healthz`, `/readyz` and `/metrics` for operators, and `/openapi.json`."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import ConfigDict
from starlette.responses import JSONResponse, Response
from typing_extensions import override

from stenobird import __version__
from stenobird.bodies import Body, example
from stenobird.errors import StorageUnavailable
from stenobird.ports import JobObserver
from stenobird.web.openapi import SERVICE, TEXT, Answer, Operation, json_of
from stenobird.web.representations import json_response
from stenobird.web.requests import services_of
from stenobird.web.routing import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_FIRST_TRANSCRIPT_SECONDS = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_Operation = functools.partial(Operation, SERVICE)
_NO_STORE = {"Cache-Control": "no-store"}
_log = structlog.get_logger("stenobird.web.probes")


class HealthBody(Body):
    """Whether the process is alive, and what engine it has."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"status": "ok", "version": "0.1.0", "running": 1}]}
    )

    status: Literal["ok", "degraded", "shutting_down"]
    version: str


class ReadyBody(Body):
    """Whether requests should be sent here."""

    model_config = example({"ready": True, "reasons": [], "checks": {}})

    ready: bool
    reasons: list[str]
    checks: dict[str, Any]  # published, and always empty


@_Operation(
    "Check that the process is alive",
    {200: Answer("It is alive.", HealthBody)},
    id="health",
)
async def healthz(request: Request) -> Response:
    """Return the health from memory, without using the database or an engine."""
    services = services_of(request)
    body = {"status": "ok", "version": __version__, **services.health()}
    if services.shutting_down.is_set():
        body["status"] = "shutting_down"
    return json_response(HealthBody.model_validate(body))


@_Operation(
    "Check that the process can serve requests",
    {200: Answer("It can.", ReadyBody), 503: Answer("It can't, for these reasons.", ReadyBody)},
    id="ready",
)
async def readyz(request: Request) -> Response:
    """Return 200, or 503 with the reasons."""
    services = services_of(request)
    if services.shutting_down.is_set():
        reasons: tuple[str, ...] = ("The server is shutting down.",)
    else:
        try:
            async with asyncio.timeout(services.check_timeout_seconds):
                reasons = await services.readiness()
        except TimeoutError:
            reasons = ("The checks did not finish in time.",)
    body = ReadyBody(ready=not reasons, reasons=list(reasons), checks={})
    return json_response(body, 503 if reasons else 200)


@_Operation("Get metrics for Prometheus", {200: Answer("The metrics.", TEXT)})
async def metrics(request: Request) -> Response:
    """Return the metrics of this process. Without the database, the job gauges are left out."""
    services = services_of(request)
    job_counts = None
    try:
        async with asyncio.timeout(services.check_timeout_seconds):
            job_counts = await services.job_store.counts()
    except (StorageUnavailable, TimeoutError):
        pass
    except Exception:  # noqa: BLE001  # the other metrics are returned, whatever the store raises
        _log.exception("job_counts_failed")
    return Response(services.metrics.render(job_counts), headers={**_NO_STORE, "Content-Type": CONTENT_TYPE})


@_Operation("Get this document", {200: Answer("The document.", json_of({"type": "object"}))})
async def openapi(request: Request) -> Response:
    """Return the OpenAPI document of this version, with this service as its server."""
    headers = {"Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*"}
    # The first call builds the document, which takes too long for the event loop.
    document = await asyncio.to_thread(request.app.state.openapi)
    return JSONResponse(document, headers=headers)


ENDPOINTS: Final = (
    Endpoint("GET", "/healthz", healthz, key="none"),
    Endpoint("GET", "/readyz", readyz, key="none"),
    Endpoint("GET", "/metrics", metrics, key="none"),
)
"""The endpoints of every process."""
OPENAPI: Final = Endpoint("GET", "/openapi.json", openapi, key="none")


class Metrics(JobObserver):
    """Metrics of one process. Labels have few values by design: route templates, never paths or ids."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "stenobird_http_requests",
            "HTTP requests answered, by route template and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "stenobird_http_request_seconds",
            "Time to answer a request, except event streams.",
            ("route",),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self.sse_readers = Gauge("stenobird_sse_readers", "Event streams open now.", registry=self.registry)
        self.sse_events = Counter(
            "stenobird_sse_events", "Events sent to readers, except pings.", registry=self.registry
        )
        self._audio_seconds = Counter(
            "stenobird_audio_seconds", "Seconds of audio transcribed.", registry=self.registry
        )
        self._first_transcript = Histogram(
            "stenobird_first_transcript_seconds",
            "Time from the creation of a job to its first transcript event.",
            buckets=_FIRST_TRANSCRIPT_SECONDS,
            registry=self.registry,
        )
        self._worker_troubles = Counter(
            "stenobird_worker_troubles",
            "Jobs given back because of trouble of this machine.",
            registry=self.registry,
        )
        self._worker_troubled = Gauge(
            "stenobird_worker_troubled",
            "1 while the worker pauses because of trouble of this machine.",
            registry=self.registry,
        )
        self._jobs = Gauge("stenobird_jobs", "Jobs by status.", ("status",), registry=self.registry)
        # `labels` takes longer than counting.
        self._counter = functools.cache(self._requests.labels)
        self._histogram = functools.cache(self._request_seconds.labels)

    def request_answered(self, *, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a response. `seconds` is `None` for a stream, whose duration depends on its job."""
        self._counter(method if method in _METHODS else "other", route, str(status)).inc()
        if seconds is not None:
            self._histogram(route).observe(seconds)

    @override
    def audio_transcribed(self, seconds: float) -> None:
        self._audio_seconds.inc(seconds)

    @override
    def first_transcript(self, seconds: float) -> None:
        self._first_transcript.observe(seconds)

    @override
    def worker_troubled(self, *, troubled: bool) -> None:
        self._worker_troubled.set(troubled)
        if troubled:
            self._worker_troubles.inc()

    def render(self, job_counts: Mapping[str, int] | None) -> bytes:
        """Return the text exposition. The job gauges are left out while the counts are unknown (`None`)."""
        self._jobs.clear()
        for status, count in (job_counts or {}).items():
            self._jobs.labels(status).set(count)
        return generate_latest(self.registry)
