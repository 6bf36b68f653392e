"""A server on a loopback address and a free port, for as long as a block runs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio.abc import SocketAttribute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import SocketStream


@asynccontextmanager
async def loopback_server(
    handle: Callable[[SocketStream], Awaitable[None]], *, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """Yield the port; each connection is handed to `handle`, which closes it. All end with the block.

    An error of the block comes out as it is, one of `handle` in the group of its task.
    """
    # Without a family: with one, a machine that has no address but loopback's is said to have no such host.
    listener = await anyio.create_tcp_listener(local_host=host, local_port=0)
    failure: Exception | None = None
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        try:
            yield listener.extra(SocketAttribute.local_port)  # noqa: S610  # anyio's, not Django's
        except Exception as exc:  # noqa: BLE001  # raised again below, outside the group, which would wrap it
            failure = exc
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
