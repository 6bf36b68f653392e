"""`Idempotency-Key`: a repeated request creates nothing a second time.

A key is scoped to an account (or a client's address), a mode and a route, and belongs to one body. The id of
the new resource is drawn and stored with the key before the resource is created. A repeated request therefore
finds the resource, even if the first one failed between creating it and responding:

    look ── response stored ─► replay            other body ─► 409 idempotency_mismatch
      │                                          claimed by another process ─► 409 idempotency_in_progress
      └─ claim (30 s, id drawn or found) ─► create it under that id ─┬─ 2xx: the response is stored
                                                                     ├─ refused: the claim is deleted
                                                                     └─ failed: the next request retries
                                                                                with the same id

Requests of one process with the same key wait for each other, so all but the first are replayed. Replays do
not count against the rate limit. See docs/decisions/0031-idempotency-key-fixes-the-job-id.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import structlog
from starlette.responses import Response

from stenobird.errors import IdempotencyInProgress, InvalidRequest, RequestError, StorageUnavailable
from stenobird.storage.idempotency_store import StoredAnswer
from stenobird.web.limits import client_network, limit_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    from stenobird.ports import Caller
    from stenobird.storage.idempotency_store import IdempotencyStore

REPLAYED: Final = "Idempotent-Replayed"
WAIT_SECONDS: Final = 10.0
"""How long a request waits for another one with the same key in this process."""
RETRY_SECONDS: Final = 1.0

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS: Final = ("content-type", "location", "cache-control", "retry-after")

_log = structlog.get_logger(__name__)


class Idempotency:
    """Runs requests at most once per key. One instance serves all requests of a process."""

    def __init__(self, store: IdempotencyStore) -> None:
        self._store = store
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """The locks of the requests under way, by the hash of their key's scope."""

    async def purge(self) -> None:
        """Remove what is past its time."""
        await self._store.purge()

    async def once(
        self,
        request: Request,
        caller: Caller | None,
        body: bytes,
        *,
        new_id: Callable[[], str],
        make: Callable[[str | None], Awaitable[Response]],
    ) -> Response:
        """Return the stored response, or that of `make`, which gets the id of the resource to create.

        Unless a response is stored, the request is counted first, see `limit_request`. Called again with the
        same id, `make` must return the existing resource. Without an `Idempotency-Key` it gets `None`, for
        any new id. It returns a success, and raises what refuses the request. Also raises `RateLimited`,
        `InvalidRequest` for a malformed key, `IdempotencyMismatch`, `IdempotencyInProgress`.
        """
        key = request.headers.get("idempotency-key")
        if key is None:
            await limit_request(request, caller)
            return await make(None)
        if not _KEY.fullmatch(key):
            raise InvalidRequest(
                "The Idempotency-Key must be 1 to 255 visible ASCII characters, a UUID for example."
            )
        scope_hash = _scope_hash(request, caller, key)
        body_hash = hashlib.sha256(body).hexdigest()
        async with self._turn(scope_hash):
            stored = await self._store.look(scope_hash, body_hash)
            if stored is not None:
                return _replay(stored)
            await limit_request(request, caller)
            claim = await self._store.claim(
                scope_hash,
                body_hash,
                account_id=caller.account_id if caller else None,
                resource_id=new_id(),
            )
            if isinstance(claim, StoredAnswer):
                return _replay(claim)
            try:
                response = await make(claim.resource_id)
            except RequestError:
                # Refused before anything was created.
                await self._quietly(self._store.forget(claim))
                raise
            except Exception:
                await self._quietly(self._store.abandon(claim))
                raise
            await self._quietly(self._store.answer(claim, _stored(response)))
            return response

    async def withdraw(self, request: Request, caller: Caller | None, replayed: Response) -> None:
        """Delete a response that `once` has replayed, because its resource is no longer usable.

        The next request with the key creates a new resource. Raises `StorageUnavailable`.
        """
        scope_hash = _scope_hash(request, caller, request.headers["idempotency-key"])
        await self._store.withdraw(scope_hash, _stored(replayed))

    async def _quietly(self, write: Awaitable[None]) -> None:
        """Write, or let the claim expire; the next request then finds the resource by its id."""
        with suppress(StorageUnavailable):
            await write

    @asynccontextmanager
    async def _turn(self, scope_hash: str) -> AsyncIterator[None]:
        lock = self._turns.setdefault(scope_hash, asyncio.Lock())
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await lock.acquire()
        except TimeoutError as exc:
            raise IdempotencyInProgress(retry_after_seconds=RETRY_SECONDS) from exc
        try:
            yield
        finally:
            lock.release()


def _scope_hash(request: Request, caller: Caller | None, key: str) -> str:
    who = (
        f"account:{caller.account_id}"
        if caller is not None
        else f"address:{client_network(request.client.host if request.client else None)}"
    )
    mode = caller.mode if caller is not None else "preview"
    route = getattr(request.scope.get("route"), "path_format", request.url.path)
    return hashlib.sha256(json.dumps([who, mode, request.method, route, key]).encode()).hexdigest()


def _stored(response: Response) -> StoredAnswer:
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    return StoredAnswer(response.status_code, headers, bytes(response.body).decode())


def _replay(stored: StoredAnswer) -> Response:
    return Response(
        stored.body.encode(), status_code=stored.status, headers={**stored.headers, REPLAYED: "true"}
    )
