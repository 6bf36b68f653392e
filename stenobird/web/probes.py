"""For operators and programs: `/healthz`, `/readyz`, `/metrics`, `/openapi.json`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stenobird import __version__
from stenobird.web.metrics import CONTENT_TYPE
from stenobird.web.requests import services_of
from stenobird.web.services import Readiness

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

_NO_STORE = {"Cache-Control": "no-store"}
_log = structlog.get_logger("stenobird.web.operations")


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [*probe_routes(), Route("/openapi.json", OpenAPI)]


def probe_routes() -> list[BaseRoute]:
    """Return those of them that say how a process is."""
    return [Route("/healthz", Health), Route("/readyz", Ready), Route("/metrics", Numbers)]


class Health(HTTPEndpoint):
    """Whether the process is alive, what engine it has, and whether that is the one it should have."""

    async def get(self, request: Request) -> Response:
        """Answer from memory, at once: no database, no engine."""
        services = services_of(request)
        body = {"status": "ok", "version": __version__, **services.health()}
        if services.shutting_down.is_set():
            body["status"] = "shutting_down"
        return JSONResponse(body, headers=_NO_STORE)


class Ready(HTTPEndpoint):
    """Whether requests should be sent to this process."""

    async def get(self, request: Request) -> Response:
        """Answer 200, or 503 with the reasons."""
        services = services_of(request)
        if services.shutting_down.is_set():
            readiness = Readiness(ready=False, reasons=("The server is shutting down.",))
        else:
            try:
                async with asyncio.timeout(services.check_timeout_seconds):
                    readiness = await services.readiness()
            except TimeoutError:
                readiness = Readiness(ready=False, reasons=("The checks did not finish in time.",))
        body = {
            "ready": readiness.ready,
            "reasons": list(readiness.reasons),
            "checks": dict(readiness.checks),
        }
        return JSONResponse(body, 200 if readiness.ready else 503, _NO_STORE)


class Numbers(HTTPEndpoint):
    """The metrics in Prometheus' text format."""

    async def get(self, request: Request) -> Response:
        """Answer with what is known, also while the database can't be asked."""
        services = services_of(request)
        job_counts = None
        try:
            async with asyncio.timeout(services.check_timeout_seconds):
                job_counts = await services.job_counts()
        except Exception:  # noqa: BLE001  # the other numbers count, whatever the store raises
            _log.exception("the jobs could not be counted")
        return Response(
            services.metrics.render(job_counts), headers={**_NO_STORE, "Content-Type": CONTENT_TYPE}
        )


class OpenAPI(HTTPEndpoint):
    """The description of the API for programs."""

    async def get(self, request: Request) -> Response:
        """Answer with the document."""
        headers = {"Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*"}
        return JSONResponse(request.app.state.openapi, headers=headers)
