"""The ASGI application: routes, the middleware around them, and the life of its streams."""

from __future__ import annotations

import asyncio
import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette

from stenobird.web import probes, v1
from stenobird.web.alefbot import routes as alefbot
from stenobird.web.middleware import answer_errors, error_response, public_api_cors, request_context
from stenobird.web.openai import routes as openai
from stenobird.web.openai.schemas import render as render_openai_error
from stenobird.web.openapi.document import PUBLIC_ADDRESS, openapi_document
from stenobird.web.routing import routes_of
from stenobird.web.site import checkout, pages, skill_files
from stenobird.web.sse import OpenStreams
from stenobird.web.v1.webhooks import SENT_WEBHOOKS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.web.routing import Dialect
    from stenobird.web.services import Services


def dialects(api_prefix: str = "") -> tuple[Dialect, ...]:
    """Return the public APIs. `api_prefix` goes before `/api/v1`. The last one also serves other paths."""
    return alefbot.dialect(api_prefix), openai.dialect(), v1.dialect(render_openai_error)


_SERVICE: Final = (*probes.ENDPOINTS, probes.OPENAPI, *skill_files.ENDPOINTS)


@functools.lru_cache(maxsize=8)
def api_document(server_url: str = PUBLIC_ADDRESS, api_prefix: str = "") -> dict[str, Any]:
    """Return the OpenAPI document of all endpoints of the app, see `openapi_document`.

    Calls with equal arguments share one document. Do not change it.
    """
    main, *others = reversed(dialects(api_prefix))
    apis = [(main, [*main.endpoints, *_SERVICE]), *((dialect, dialect.endpoints) for dialect in others)]
    return openapi_document(apis, SENT_WEBHOOKS, server_url=server_url)


def create_app(services: Services) -> Starlette:
    """Return the application. Nothing runs until its lifespan starts.

    Setting `services.shutting_down` ends the event streams.
    """
    streams = OpenStreams(
        services.metrics,
        per_key=services.settings.streams_per_key,
        per_address=services.settings.streams_per_address,
    )
    apis = dialects(services.settings.api_prefix)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(streams.end_all_when(services.shutting_down))
            yield
            watch.cancel()

    app = Starlette(
        routes=[
            # The requests of the main API are the most, and are compared with one route after the other.
            *(route for api in reversed(apis) for route in routes_of(api.endpoints, api.authenticate)),
            *routes_of([*_SERVICE, *pages.ENDPOINTS, *checkout.ENDPOINTS]),
            pages.static_files(),
        ],
        lifespan=lifespan,
    )
    # Instead of Starlette's own, which would handle errors twice more.
    app.middleware_stack = request_context(
        public_api_cors(answer_errors(app.router, pages.error_response)), services.metrics
    )
    # A redirect to the address without the slash would repeat the client's Host header.
    app.router.redirect_slashes = False
    app.state.services = services
    app.state.dialects = apis
    app.state.streams = streams
    app.state.openapi = functools.partial(
        api_document, services.settings.public_url or "/", services.settings.api_prefix
    )
    return app


def create_probe_app(services: Services) -> Starlette:
    """Return the application of a worker, which has only `/healthz`, `/readyz` and `/metrics`."""
    app = Starlette(routes=routes_of(probes.ENDPOINTS))
    app.middleware_stack = request_context(answer_errors(app.router, error_response), services.metrics)
    app.state.services = services
    app.state.dialects = dialects(services.settings.api_prefix)
    return app
