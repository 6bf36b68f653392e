"""`/healthz`, `/readyz` and `/metrics` for operators, and `/openapi.json`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog
from pydantic import ConfigDict
from starlette.responses import JSONResponse, Response

from stenobird import __version__
from stenobird.bodies import Body, example
from stenobird.errors import StorageUnavailable
from stenobird.web.metrics import CONTENT_TYPE
from stenobird.web.openapi.operation import SERVICE, TEXT, Answer, Operation, json_of
from stenobird.web.representations import json_response
from stenobird.web.requests import services_of
from stenobird.web.routing import Endpoint

if TYPE_CHECKING:
    from starlette.requests import Request

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


@Operation(
    SERVICE,
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


@Operation(
    SERVICE,
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


@Operation(SERVICE, "Get metrics for Prometheus", {200: Answer("The metrics.", TEXT)})
async def metrics(request: Request) -> Response:
    """Return the metrics of this process. Without the database, the job gauges are left out."""
    services = services_of(request)
    job_counts = None
    try:
        async with asyncio.timeout(services.check_timeout_seconds):
            job_counts = await services.job_counts()
    except (StorageUnavailable, TimeoutError):
        pass
    except Exception:  # noqa: BLE001  # the other metrics are returned, whatever the store raises
        _log.exception("job_counts_failed")
    return Response(services.metrics.render(job_counts), headers={**_NO_STORE, "Content-Type": CONTENT_TYPE})


@Operation(SERVICE, "Get this document", {200: Answer("The document.", json_of({"type": "object"}))})
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
