"""Keeps one model host alive and shares it fairly: lanes, a watchdog, restarts.

A request is sent to hosts until one answers it, or until it fails. When a host ends, the pool works out which
request was the cause: one that ran into the watchdog is to blame; after a crash every request that had begun
is a suspect, and suspects are tried alone. A request that is to blame for the end of two hosts fails. The
others, and those of a host that was killed from outside, are only delayed.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import signal
from abc import ABC, abstractmethod
from collections import deque
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import structlog

from stenobird.children.process import ChildProcess
from stenobird.inference.frames import read_frame, write_frame
from stenobird.inference.host import download_environment, host_environment
from stenobird.inference.lanes import URGENT_IN_A_ROW, FairLanes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from stenobird.errors import StenobirdError
    from stenobird.inference.frames import Header
    from stenobird.ports import Clock

_log = structlog.get_logger(__name__)

MAX_BLAME = 2
"""A request that is to blame for the end of so many hosts fails."""
KILLS_BEFORE_SUSPECT = 3
"""A request becomes a suspect when so many hosts that had begun it were killed from outside: by an operator,
or by the kernel for lack of memory."""
FAILED_AFTER_STARTS = 3
"""After so many starts in a row without a loaded model, waiting requests fail. Retries go on."""
MAX_BACKOFF_SECONDS = 30.0
_EXIT_SECONDS = 5.0


@dataclass(slots=True, eq=False, repr=False)
class Ticket:
    """One request until it is answered. Its future is cancelled when its caller gives up.

    `light` requests go ahead of all others and don't count against the host's capacity. There is no generated
    repr: `deque.remove` formats an item that it lacks, megabytes of payload included.
    """

    id: int
    job_id: str
    urgent: bool
    live: bool
    light: bool
    header: Header
    payload: bytes
    answer: asyncio.Future[tuple[Header, bytes]]
    deadline: float = math.inf
    begun: bool = False
    suspect: bool = False
    blame: int = 0
    kills: int = 0

    @property
    def before_others(self) -> bool:
        """Whether the host begins it before ordinary requests that are ready there."""
        return self.urgent or self.live


class HostPool(ABC):
    """Sends the requests of all jobs to one model host. Nothing is answered unless `run` is running.

    The host holds as many requests as are worked on at once and a batch more, and as many urgent ones; the
    others wait here, in `FairLanes`. The caller bounds how many of a job may wait. `load` is the request that
    a new host gets first.
    """

    host: ClassVar[str]
    """What messages call the host."""
    unavailable: ClassVar[type[StenobirdError]]
    failed: ClassVar[type[StenobirdError]]

    def __init__(self, command: Sequence[str], load: Header, *, clock: Clock, timeout_seconds: float) -> None:
        self._clock = clock
        self._command = tuple(command)
        self._load = {**load, "type": "load"}
        self._timeout_seconds = timeout_seconds
        self._ids = itertools.count(1)
        self._lanes: FairLanes[Ticket] = FairLanes()
        self._suspects: deque[Ticket] = deque()
        self._light: FairLanes[Ticket] = FairLanes()
        self._urgent_answers = 0
        """Since the last ordinary light request was sent."""
        self._in_flight: dict[int, Ticket] = {}
        self._work = asyncio.Event()
        self._sent = asyncio.Event()
        self._decided = asyncio.Event()
        self._host: ChildProcess | None = None
        self._most_in_flight = self._most_beside_urgent = 0
        self._batch = 1
        """Ordinary requests that begin together, so that as many times more may go ahead of them."""
        self._urgent_jobs = 0
        self._overtaken = 0
        """Urgent requests that went ahead of an ordinary one in the host, since an ordinary one began."""
        self._errors_last = False
        self._loaded = False
        self._failure: str | None = None
        self._state = "starting"
        self._message = ""
        self._progress: float | None = None
        self._restarts = 0
        self._failed_starts = 0
        self._deaths = 0
        self._stuck = False
        """Whether the pool itself killed the host, so that the requests in it are not to blame."""

    @abstractmethod
    def _adopt(self, info: Header) -> tuple[int, int, bool]:
        """Take over what a ready host says of its model; may set `_state` and `_message`.

        Return how many requests it works on at once, how many of these begin together, and whether errors
        last: whether a host that has failed a request may fail all that follow, as on CUDA, where a failed
        kernel breaks the process's context. It is then ended, and the request tried again on a new one.
        """

    # --- for jobs ---------------------------------------------------------------------------------------

    async def ready(self) -> bool:
        """Whether a host is running with its model loaded."""
        return self._loaded

    async def wait_ready(self) -> None:
        """Return once a host has loaded its model. Raises `unavailable` when none can."""
        await self._decided.wait()
        if self._failure is not None:
            raise self.unavailable(self._failure)

    async def request(
        self,
        job_id: str,
        header: Mapping[str, Any],
        payload: bytes = b"",
        *,
        urgent: bool,
        live: bool = False,
        light: bool = False,
    ) -> tuple[Header, bytes]:
        """Return the host's answer to a request, which is given an `id`.

        Live ones take turns with ordinary ones here; in the host they are urgent.
        Cancelling gives up its place; a host that has begun it finishes it, and the answer is dropped. Raises
        `failed` when it ends two hosts or fails twice, `unavailable` when no host can be
        started.
        """
        if self._failure is not None:
            raise self.unavailable(self._failure)
        number = next(self._ids)
        header = {**header, "id": number, "urgent": urgent or live}
        answer = asyncio.get_running_loop().create_future()
        ticket = Ticket(number, job_id, urgent, live, light, header, payload, answer)
        lanes = self._light if light else self._lanes
        lanes.put(job_id, ticket, urgent=urgent, live=live)
        self._work.set()
        try:
            return await ticket.answer
        finally:
            lanes.discard(job_id, ticket)
            with suppress(ValueError):
                self._suspects.remove(ticket)

    @contextmanager
    def urgent_job(self) -> Iterator[None]:
        """Keep room in the host for the urgent requests of a job while the context lasts.

        Meanwhile ordinary requests leave the places of a replica free, of a single one one place, and none
        waits in the host.
        """
        self._urgent_jobs += 1
        try:
            yield
        finally:
            self._urgent_jobs -= 1
            self._work.set()

    def host_status(self) -> dict[str, Any]:
        """Describe the host and its queue; JSON-safe."""
        return {
            "state": self._state,
            "message": self._message,
            "progress": self._progress,
            "restarts": self._restarts,
            "windows_waiting": len(self._lanes) + len(self._suspects),
            "windows_in_flight": sum(not t.light for t in self._in_flight.values()),
            "host_pid": self._host.pid if self._host is not None else None,
        }

    # --- the host ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.TaskGroup]:
        """Keep a host running during the block, and yield a group for other tasks that use it.

        The host and every task have ended when this ends. An error of the block is raised as it is.
        """
        failure: BaseException | None = None
        async with asyncio.TaskGroup() as tasks:
            keeper = tasks.create_task(self.run())
            try:
                yield tasks
            except BaseException as exc:  # noqa: BLE001  # raised below, outside the group, which would wrap it
                failure = exc
            finally:
                keeper.cancel()
        if failure is not None:
            raise failure

    async def run(self) -> None:
        """Keep a host running until cancelled. Does not raise for anything that a host does."""
        while True:
            try:
                retry = await self._run_host()
            except OSError as exc:
                self._fail(f"The {self.host} can't be started: {exc}. Check memory and process limits.")
                retry = True
            finally:
                self._host, self._loaded = None, False
            if not retry:
                await asyncio.Event().wait()
            await self._clock.sleep(self._backoff())
            self._restarts += 1

    async def _run_host(self) -> bool:
        """Run one host to its end; return whether to start another."""
        if self._failure is None:
            self._state, self._message = "starting", f"Starting the {self.host}."
        self._stuck = False
        retry = True
        starting = ChildProcess.start(self._command, environment=host_environment(os.environ), stderr=None)
        async with aclosing(await starting) as host:
            self._host = host
            await write_frame(host.writer, {**self._load, "environment": download_environment(os.environ)})
            async with asyncio.TaskGroup() as tasks:
                feeders: list[asyncio.Task[None]] = []
                try:
                    while (frame := await read_frame(host.reader)) is not None:
                        if frame[0]["type"] == "ready":
                            self._on_ready(frame[0])
                            feeders.append(tasks.create_task(self._feed(host)))
                            feeders.append(tasks.create_task(self._watch(host)))
                        elif frame[0]["type"] == "failed":
                            self._fail(frame[0]["message"])
                            retry = frame[0]["retry"]
                        else:
                            self._on_frame(*frame)
                finally:
                    for task in feeders:
                        task.cancel()
            self._on_end(await self._exit_status(host))
        return retry

    async def _exit_status(self, host: ChildProcess) -> int:
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                return await host.wait()
        except TimeoutError:  # it closed its socket or broke the protocol, but still runs
            host.kill()
            await host.wait()
            return 1

    def _on_ready(self, header: Header) -> None:
        self._loaded, self._failure, self._progress, self._failed_starts = True, None, None, 0
        self._state, self._message = "ready", ""
        at_once, self._batch, self._errors_last = self._adopt(header["info"])
        self._most_in_flight = at_once + self._batch
        self._most_beside_urgent = max(1, at_once - (self._batch if at_once > self._batch else 1))
        self._decided.set()
        self._work.set()

    def _on_frame(self, header: Header, payload: bytes) -> None:
        if header["type"] == "state":
            self._on_state(header)
            return
        ticket = self._in_flight.get(header["id"])
        if ticket is None:
            return
        if header["type"] == "started":
            ticket.begun = True
            if not ticket.before_others:
                self._overtaken = 0
            ticket.deadline = self._clock.monotonic() + self._timeout_seconds * header.get("times", 1)
            return
        del self._in_flight[ticket.id]
        self._urgent_answers += ticket.urgent
        self._work.set()
        if ticket.answer.done():
            return
        if header["type"] != "error":
            self._deaths = 0
            ticket.answer.set_result((header, payload))
            return
        self._log(ticket).warning("model_request_error", reason=header["message"])
        ticket.blame += 1
        self._try_again(ticket, header["message"])
        if self._errors_last and self._host is not None:
            self._stuck = True
            self._host.kill()

    def _on_state(self, header: Header) -> None:
        if self._failure is not None:
            return
        self._state, self._message = header["state"], header.get("message", "")
        if header["state"] == "downloading":
            done, wanted = header["done"], header["wanted"]
            self._progress = done / wanted if wanted else 0.0
            self._message = f"Downloading the model: {done / 1e6:.0f} of {wanted / 1e6:.0f} MB."
            _log.info("model_downloading", host=self.host, done_bytes=done, wanted_bytes=wanted)

    def _fail(self, message: str) -> None:
        """Fail every waiting request, because there is no model."""
        self._failure, self._state, self._message, self._progress = message, "failed", message, None
        _log.error("model_unavailable", host=self.host, reason=message)
        self._decided.set()
        waiting = [*self._lanes.drain(), *self._light.drain(), *self._suspects, *self._in_flight.values()]
        self._suspects.clear()
        self._in_flight.clear()
        for ticket in waiting:
            _reject(ticket, self.unavailable(message))

    # --- sending ----------------------------------------------------------------------------------------

    async def _feed(self, host: ChildProcess) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while (ticket := self._next()) is not None:
                self._in_flight[ticket.id] = ticket
                self._sent.set()
                # The request before it in the host may take its full time; `started` sets the real deadline.
                ticket.begun = ticket.light
                ticket.deadline = self._clock.monotonic() + 2 * self._timeout_seconds
                await write_frame(host.writer, ticket.header, ticket.payload)

    def _next(self) -> Ticket | None:
        if (light := self._next_light()) is not None:
            return light
        heavy = [ticket for ticket in self._in_flight.values() if not ticket.light]
        if any(ticket.suspect for ticket in heavy):
            return None
        if self._suspects:
            return None if heavy else self._suspects.popleft()
        ordinary = [ticket for ticket in heavy if not ticket.before_others]
        ready = any(not ticket.begun for ticket in ordinary)
        # The host begins these before the ordinary ones that are ready there.
        room = len(heavy) - len(ordinary) < self._most_in_flight
        ticket = self._lanes.pop(
            urgent=room and not (ready and self._overtaken >= URGENT_IN_A_ROW * self._batch),
            live=room and not (ready and self._overtaken >= self._batch),
            ordinary=len(heavy) < self._most_in_flight
            and (self._urgent_jobs == 0 or len(ordinary) < self._most_beside_urgent),
        )
        if ticket is not None and ticket.before_others and ready:
            self._overtaken += 1
        return ticket

    def _next_light(self) -> Ticket | None:
        """Return a light request, an ordinary one only beside no urgent request, or after some of them."""
        urgent = any(ticket.urgent for ticket in self._in_flight.values())
        ticket = self._light.pop(ordinary=not urgent or self._urgent_answers >= URGENT_IN_A_ROW)
        if ticket is not None and not ticket.urgent:
            self._urgent_answers = 0
        return ticket

    async def _watch(self, host: ChildProcess) -> None:
        """Kill the host when a request takes too long: CTranslate2 can't be cancelled."""
        timeout = self._timeout_seconds
        while True:
            if not self._in_flight:
                self._sent.clear()
                await self._sent.wait()
            await self._clock.sleep(min(1.0, timeout / 8))
            now = self._clock.monotonic()
            late = [ticket for ticket in self._in_flight.values() if ticket.deadline <= now]
            if late:
                for ticket in late:
                    self._log(ticket).error("model_request_hangs")
                    ticket.blame, ticket.suspect = ticket.blame + 1, True
                self._stuck = True
                host.kill()
                return

    # --- after a host -----------------------------------------------------------------------------------

    def _on_end(self, status: int) -> None:
        tickets = sorted(self._in_flight.values(), key=lambda ticket: ticket.id, reverse=True)
        # Light requests are answered one by one: if no other had begun, the first of them ended the host.
        begun = [ticket for ticket in self._in_flight.values() if ticket.begun]
        if begun and all(ticket.light for ticket in begun) and not self._stuck and status != -signal.SIGKILL:
            begun[0].blame += 1
        self._in_flight.clear()
        self._deaths += 1
        if self._failure is not None:
            return
        if not self._loaded:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_AFTER_STARTS:
                self._fail(
                    f"The {self.host} ended {self._failed_starts} times while it started "
                    f"(status {status}). See its messages in the log; most often it lacks memory."
                )
            return
        _log.error("model_host_ended", host=self.host, exit_status=status, requests=len(tickets))
        self._state, self._message = "starting", f"Restarting the {self.host}."
        for ticket in tickets:
            if not self._stuck:
                self._blame(ticket, status)
            self._try_again(ticket, f"the {self.host} ended with status {status}")

    def _blame(self, ticket: Ticket, status: int) -> None:
        if not ticket.begun or ticket.light:
            return
        if status == -signal.SIGKILL and not ticket.suspect:
            ticket.kills += 1
            ticket.suspect = ticket.kills >= KILLS_BEFORE_SUSPECT
        else:
            ticket.blame, ticket.suspect = ticket.blame + 1, True

    def _try_again(self, ticket: Ticket, reason: str) -> None:
        """Put a ticket back at the head of its queue, or fail it for good at `MAX_BLAME`."""
        if ticket.answer.done():
            return
        ticket.deadline, ticket.begun = math.inf, False
        if ticket.blame >= MAX_BLAME:
            self._log(ticket).error("model_request_failed", attempts=ticket.blame, reason=reason)
            _reject(ticket, self.failed())
        elif ticket.suspect and not ticket.light:
            self._suspects.appendleft(ticket)
        else:
            lanes = self._light if ticket.light else self._lanes
            lanes.put(ticket.job_id, ticket, urgent=ticket.urgent, live=ticket.live, back=True)

    def _log(self, ticket: Ticket) -> Any:
        return _log.bind(job_id=ticket.job_id, host=self.host)

    def _backoff(self) -> float:
        """Return the seconds to wait before the next start: none the first time, then ever more."""
        tries = max(self._deaths, self._failed_starts)
        return 0.0 if tries <= 1 else min(MAX_BACKOFF_SECONDS, 0.5 * 2.0 ** (tries - 2))


def _reject(ticket: Ticket, error: StenobirdError) -> None:
    if not ticket.answer.done():
        ticket.answer.set_exception(error)
