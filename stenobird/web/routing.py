"""How addresses are registered: a table of endpoints in each module, and one dialect for each public API.

`app.py` registers the dialects. Every other general module looks up the dialect of a path with `dialect_of`.
"""

from __future__ import annotations

import random
import re
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from starlette.requests import Request
from starlette.routing import Route

from stenobird.errors import MissingAPIKey, ReadOnlyKey
from stenobird.web.limits import add_limit_headers, limit_request
from stenobird.web.requests import caller_of, reader_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from stenobird.bodies import Body
    from stenobird.errors import StenobirdError
    from stenobird.ports import Caller
    from stenobird.web.openapi import Operation

Render: TypeAlias = "Callable[[StenobirdError, str | None], tuple[int, Body]]"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._\-]{1,128}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path, and what a request must pass before its handler runs.

    With `key="none"` the handler is called as `handler(request)`, else as `handler(request, caller)`; the
    caller is `None` where the key is optional and the request has none. `"share"` means an optional key, or
    the token of a share link. `write` refuses read-only keys with `read_only_error`, and `limited` counts the
    request against the rate limit, both before the body is read. The response to a request that was counted,
    here or by the handler, has the `X-RateLimit-*` headers. HEAD runs the handler of GET.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Callable[..., Awaitable[Response]]
    _: KW_ONLY
    key: Literal["needed", "optional", "share", "none"] = "needed"
    write: bool = False
    read_only_error: type[ReadOnlyKey] = ReadOnlyKey
    limited: bool = False

    @property
    def operation(self) -> Operation | None:
        """The description for the OpenAPI document, `None` if the endpoint is not in it."""
        operation: Operation | None = vars(self.handler).get("operation")
        return operation

    async def answer(
        self, request: Request, authenticate: Callable[[Request], Awaitable[Caller | None]]
    ) -> Response:
        """Check the request and run the handler. Raises `StenobirdError`."""
        caller = None
        if self.key != "none":
            caller = await (reader_of(request) if self.key == "share" else authenticate(request))
            if caller is None and self.key == "needed":
                raise MissingAPIKey
        if self.write and caller is not None:
            caller.require_write(self.read_only_error)
        if self.limited:
            await limit_request(request, caller)
        response = await (self.handler(request) if self.key == "none" else self.handler(request, caller))
        add_limit_headers(request, response)
        return response


def client_request_id(sent: str) -> str:
    """Return the client's `X-Request-ID` if it is safe to repeat in headers and logs, else a new id."""
    if sent and _REQUEST_ID.fullmatch(sent):
        return sent
    return f"{random.getrandbits(128):032x}"  # it need not be hard to guess


@dataclass(frozen=True, slots=True)
class Dialect:
    """A public API: its endpoints, and what it does differently from the others.

    Every path at or below one of `roots`, each with a slash at its end, belongs to it, also a path without an
    endpoint. `render` returns the status and the body of an error, given the request's id. `request_id`
    returns the id of a request, given the client's `X-Request-ID` header, which may be empty. `authenticate`
    returns the caller, `None` where the request has no key. `render_for_sdk` is for clients with the headers
    of an OpenAI SDK, which reads errors only in the shape of OpenAI.

    The rest is for the OpenAPI document: the model of the error bodies, the errors that every endpoint can
    raise, in the order in which a request is checked, and a prefix for the names of the schemas.
    """

    roots: tuple[str, ...]
    endpoints: Sequence[Endpoint]
    render: Render
    request_id: Callable[[str], str] = client_request_id
    authenticate: Callable[[Request], Awaitable[Caller | None]] = caller_of
    _: KW_ONLY
    render_for_sdk: Render | None = None
    error_body: type[Body]
    errors: tuple[type[StenobirdError], ...] = ()
    schema_prefix: str = ""

    def covers(self, path: str) -> bool:
        """Return whether the path is at or below one of the roots."""
        return f"{path}/".startswith(self.roots)


def dialect_at(dialects: Sequence[Dialect], path: str) -> Dialect:
    """Return the first dialect that covers the path, else the last one, which also serves the pages."""
    return next((dialect for dialect in dialects if dialect.covers(path)), dialects[-1])


def dialect_of(scope: Scope) -> Dialect:
    """Return the dialect of the path that was requested."""
    return dialect_at(scope["app"].state.dialects, scope["path"])


def routes_of(
    endpoints: Iterable[Endpoint],
    authenticate: Callable[[Request], Awaitable[Caller | None]] = caller_of,
) -> list[Route]:
    """Return one route for each path. Other methods than its endpoints' are refused with 405 and `Allow`."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    return [
        Route(path, _Path(methods, authenticate), methods=list(methods)) for path, methods in paths.items()
    ]


@dataclass(frozen=True, slots=True)
class _Path:
    """One path, as an ASGI application: Starlette would handle errors of a function before our middleware."""

    methods: Mapping[str, Endpoint]
    authenticate: Callable[[Request], Awaitable[Caller | None]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the endpoint of the request's method."""
        request = Request(scope, receive, send)
        method = "GET" if request.method == "HEAD" else request.method
        response = await self.methods[method].answer(request, self.authenticate)
        await response(scope, receive, send)
