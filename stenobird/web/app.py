"""The ASGI application: routes, the middleware around them, and the life of its streams."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from starlette.applications import Starlette
from starlette.middleware import Middleware

from stenobird.web import probes
from stenobird.web.alefbot import routes as alefbot
from stenobird.web.errors import exception_handlers
from stenobird.web.middleware import PublicAPICORS, RequestContext, UnexpectedErrors
from stenobird.web.openai import routes as openai
from stenobird.web.openapi.document import openapi_document
from stenobird.web.site import api_reference, checkout, guide_pages, pages, skill_files
from stenobird.web.sse import OpenStreams
from stenobird.web.v1.routes import account, billing, keys, shares, transcripts, usage, webhooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.routing import BaseRoute

    from stenobird.web.services import WebServices

Lifespan: TypeAlias = "Callable[[], AbstractAsyncContextManager[None]]"


def create_app(
    services: WebServices,
    *,
    lifespan: Lifespan | None = None,
    extra_routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """Return the application. Nothing runs until its lifespan starts.

    `lifespan` is entered first and left last, around the watch that ends the event streams when
    `services.shutting_down` is set. `extra_routes` come after the API's own.
    """
    streams = OpenStreams(services.metrics)

    @asynccontextmanager
    async def whole_lifespan(_: Starlette) -> AsyncIterator[None]:
        async with lifespan() if lifespan else _nothing(), asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(streams.end_all_when(services.shutting_down))
            yield
            watch.cancel()

    app = Starlette(
        routes=[
            *transcripts.routes(),
            *keys.routes(),
            *account.routes(),
            *usage.routes(),
            *webhooks.routes(),
            *openai.routes(),
            *skill_files.routes(),
            *shares.routes(),
            *billing.routes(),
            *checkout.routes(),
            *probes.routes(),
            *pages.routes(),
            *guide_pages.routes(),
            *api_reference.routes(),
            *(alefbot.routes(services.settings.api_prefix) if services.alefbot is not None else ()),
            *(webhooks.dialect_routes(services.settings.api_prefix) if services.alefbot is not None else ()),
            *extra_routes,
        ],
        middleware=[
            Middleware(RequestContext, metrics=services.metrics),
            Middleware(PublicAPICORS, prefixes=("/v1/", f"{services.settings.api_prefix}/api/v1/")),
            Middleware(UnexpectedErrors, answer=pages.unexpected_error_answer),
        ],
        exception_handlers=pages.with_error_pages(exception_handlers()),
        lifespan=whole_lifespan,
    )
    # A redirect to the address without the slash would repeat the client's Host header.
    app.router.redirect_slashes = False
    app.state.services = services
    app.state.streams = streams
    app.state.openapi = openapi_document(
        server_url=services.settings.public_url or "/", api_prefix=services.settings.api_prefix
    )
    return app


def create_probe_app(services: WebServices) -> Starlette:
    """Return the application of a worker, which only says how it is: `/healthz`, `/readyz`, `/metrics`."""
    app = Starlette(
        routes=probes.probe_routes(),
        middleware=[Middleware(RequestContext, metrics=services.metrics), Middleware(UnexpectedErrors)],
        exception_handlers=exception_handlers(),
    )
    app.state.services = services
    return app


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield
