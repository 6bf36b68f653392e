"""Runs an opened service: HTTP, jobs and background work, until a signal; then everything drains."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import structlog

from stenobird.bootstrap import open_services
from stenobird.errors import ConfigurationError, StorageUnavailable
from stenobird.web.app import create_app, create_probe_app
from stenobird.web.server import WebServer, loop_factory, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

    from stenobird.config import Settings
    from stenobird.web.services import Services

_log = structlog.get_logger("stenobird")

RETENTION_SECONDS = 3600.0
"""How often a service removes what is past its retention."""

DATABASE_WAIT_SECONDS = 60.0
"""How long a process that starts waits for a PostgreSQL that does not answer."""

SERVER_FILE = "server.json"
"""In the data folder: where the service that holds its lock listens, for the command line."""


@asynccontextmanager
async def serving(services: Services, *, stops_at_signals: bool = True) -> AsyncIterator[str]:
    """Serve HTTP and run jobs while the context lasts, and yield the URL; leaving it drains both.

    HTTP ends at a signal already, unless the caller handles it and needs HTTP until then. Raises
    `ConfigurationError` when the address can't be listened on.
    """
    settings = services.settings
    with contextlib.closing(_listen(settings.host, settings.port)) as listener:
        server = WebServer(
            create_app(services), settings, services.shutting_down, stops_at_signals=stops_at_signals
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]), name="web server")
            with _working(services, tasks):
                upkeep = [
                    tasks.create_task(_keep_retention(services), name="retention"),
                    tasks.create_task(
                        services.accounts.remove_deleted(services.clock), name="deleted accounts"
                    ),
                ]
                await server.listening.wait()
                try:
                    yield server.url
                finally:
                    server.should_exit = True
                    for task in upkeep:
                        task.cancel()


@contextmanager
def _working(services: Services, tasks: asyncio.TaskGroup) -> Iterator[None]:
    """Run jobs, webhooks and billing while the context lasts; then the jobs drain."""
    if services.worker is not None:
        tasks.create_task(services.worker.run(), name="worker")
    background = [tasks.create_task(services.webhook_deliverer.run(), name="webhooks")]
    if services.billing_worker is not None:
        background.append(tasks.create_task(services.billing_worker.run(), name="billing"))
    try:
        yield
    finally:
        if services.worker is not None:
            services.worker.stop()
        for task in background:
            task.cancel()


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run a service's coroutine on the fastest loop there is."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main)


async def run_server(settings: Settings, *, with_worker: bool = True) -> None:
    """Serve until SIGTERM or SIGINT; then streams end, commits finish, leases go back, children end."""
    async with (
        _opened(settings, with_worker=with_worker) as services,
        until_signal() as stopped,
        serving(services) as url,
    ):
        (settings.data_dir / SERVER_FILE).write_text(json.dumps({"pid": os.getpid(), "url": url}))
        _log.info("listening", url=url)
        await stopped.wait()
        _log.info("draining", grace_seconds=settings.grace_seconds)


async def run_worker(settings: Settings, *, probes: bool = False) -> None:
    """Run jobs until SIGTERM or SIGINT; with `probes`, answer `/healthz`, `/readyz` and `/metrics`, too.

    Raises `ConfigurationError` when the database is SQLite, or the address can't be listened on.
    """
    if settings.database_url is None:
        raise ConfigurationError(
            'A separate worker needs PostgreSQL: set STENOBIRD_DATABASE_URL. "stenobird serve" has a worker.'
        )
    async with (
        _opened(settings) as services,
        until_signal() as stopped,
        _answering_probes(services) if probes else nullcontext(),
        asyncio.TaskGroup() as tasks,
    ):
        with _working(services, tasks):
            await stopped.wait()
            services.shutting_down.set()


@asynccontextmanager
async def _opened(settings: Settings, *, with_worker: bool = True) -> AsyncIterator[Services]:
    """Open the services, once the database answers. Raises `StorageUnavailable` if it never does.

    Servers start in any order, and PostgreSQL restarts: a process that ended at once would need a supervisor.
    """
    deadline = time.monotonic() + DATABASE_WAIT_SECONDS
    async with AsyncExitStack() as stack:
        while True:
            try:
                services = await stack.enter_async_context(open_services(settings, with_worker=with_worker))
                break
            except StorageUnavailable as exc:
                if settings.database_url is None or time.monotonic() > deadline:
                    raise
                _log.warning("waiting_for_database", reason=str(exc))
                await asyncio.sleep(1.0)
        yield services


@asynccontextmanager
async def _answering_probes(services: Services) -> AsyncIterator[None]:
    settings = services.settings
    with contextlib.closing(_listen(settings.host, settings.port)) as listener:
        server = WebServer(create_probe_app(services), settings, services.shutting_down)
        async with running(server, [listener]) as url:
            _log.info("probes_listening", url=url)
            yield


async def _keep_retention(services: Services) -> None:
    while True:
        await remove_expired(services, now=services.clock.time())
        await services.clock.sleep(RETENTION_SECONDS)


async def remove_expired(services: Services, *, now: float) -> None:
    """Remove what is past its retention. A kind that can't be removed now does not delay the others."""
    before = now - services.settings.retention_days * 86_400

    async def purge_transcripts() -> None:
        if purged := await services.jobs.purge(older_than=before):
            _log.info("transcripts_purged", jobs=len(purged))

    removals: dict[str, Callable[[], Awaitable[object]]] = {
        "transcripts": purge_transcripts,
        "uploads": services.uploads.sweep,
        "deleted accounts": services.accounts.sweep_deleted,
        "idempotency keys": services.idempotency.purge,
        "webhook deliveries": lambda: services.webhooks.purge(settled_before=before),
    }
    for kind, remove in removals.items():
        try:
            await remove()
        except StorageUnavailable:
            pass  # the next round removes it
        except Exception as exc:  # noqa: BLE001  # a folder that can't be read must not end the service
            _log.error("retention_failed", kind=kind, exc_info=exc)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named. With it on, every small response
    # on a kept connection waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise ConfigurationError(
            f"Can't listen on {host}:{port} ({exc.strerror}). Stop what uses it, or set STENOBIRD_PORT."
        ) from exc
    listener.setblocking(False)  # noqa: FBT003  # the standard library's signature
    return listener


@asynccontextmanager
async def until_signal() -> AsyncIterator[asyncio.Event]:
    """Yield an event that SIGTERM or SIGINT sets; meanwhile they don't end the process."""
    # uvicorn takes the signals over while it serves and raises them again afterwards. A handler of the event
    # loop sees both, so the second one does not end the process in the middle of a drain.
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        yield stopped
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
