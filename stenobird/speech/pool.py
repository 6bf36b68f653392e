"""Keeps one speech host alive and shares it fairly: lanes, a watchdog, restarts.

A request is sent to hosts until one answers it. What ends a host is found out as well as can be: a window
that ran into the watchdog is to blame, after a crash every window that had begun is suspect, and suspects are
tried alone. A window that ends two hosts so fails with `TranscriptionFailed`; windows that were only
near by, and hosts that somebody else killed, cost time and nothing more.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import signal
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stenobird.errors import EngineUnavailable, StenobirdError, TranscriptionFailed
from stenobird.speech.cpus import MAX_REPLICAS, usable_cpus
from stenobird.speech.host import HOST_COMMAND, HostProcess, start_host
from stenobird.speech.lanes import FairLanes
from stenobird.speech.protocol import VAD_STATE_BYTES, DecodedWindow, EngineInfo, Header

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stenobird.ports import PCM, Clock
    from stenobird.speech.protocol import SpeechSettings, WindowRequest

log = logging.getLogger(__name__)

MAX_BLAME = 2
"""Hosts that one window may end."""
KILLS_BEFORE_SUSPECT = 3
"""Kills from outside (an operator, the kernel short of memory) that a window may meet beside others."""
FAILED_AFTER_STARTS = 3
"""Starts in a row without a loaded engine after which waiting jobs are told so. Retries go on."""
MAX_BACKOFF_SECONDS = 30.0
_EXIT_SECONDS = 5.0


@dataclass(slots=True, eq=False, repr=False)
class _Ticket:
    """One request on its way to an answer. Its future is cancelled when nobody waits any more.

    It has no repr of its own: a queue that lacks a ticket would format it, megabytes of PCM included.
    """

    id: int
    job_id: str
    urgent: bool
    is_window: bool
    header: Header
    payload: bytes
    answer: asyncio.Future[tuple[Header, bytes]]
    deadline: float = math.inf
    begun: bool = False
    suspect: bool = False
    blame: int = 0
    kills: int = 0


class SpeechPool:
    """The speech host as seen by the jobs. `run` must be running for anything to be answered.

    At most `EngineInfo.parallel` windows are being decoded and one more a replica is ready in the host; the
    others wait here, in `FairLanes`. How many a job may have waiting is the caller's bound.
    """

    def __init__(
        self, settings: SpeechSettings, *, clock: Clock, host_command: Sequence[str] = HOST_COMMAND
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._command = tuple(host_command)
        self._replicas = settings.replicas or min(usable_cpus(), MAX_REPLICAS)
        self._ids = itertools.count(1)
        self._lanes: FairLanes[_Ticket] = FairLanes()
        self._suspects: deque[_Ticket] = deque()
        self._activity: deque[_Ticket] = deque()
        self._in_flight: dict[int, _Ticket] = {}
        self._work = asyncio.Event()
        self._decided = asyncio.Event()
        self._host: HostProcess | None = None
        self._loaded = False
        self._failure: str | None = None
        self._state = "starting"
        self._message = ""
        self._progress: float | None = None
        self._restarts = 0
        self._failed_starts = 0
        self._deaths = 0
        self._stuck = False
        self.info: EngineInfo | None = None
        """What the last host had loaded; `None` until the first has."""
        self.on_loaded: Callable[[EngineInfo], None] = lambda _: None

    # --- for jobs ---------------------------------------------------------------------------------------

    @property
    def loaded(self) -> bool:
        """Whether a host is up with its engine loaded."""
        return self._loaded

    async def wait_loaded(self) -> EngineInfo:
        """Return what is loaded, once it is. Raises `EngineUnavailable` when it can't be."""
        await self._decided.wait()
        if self._failure is not None:
            raise EngineUnavailable(self._failure)
        assert self.info is not None
        return self.info

    async def decode(self, job_id: str, request: WindowRequest, *, urgent: bool) -> DecodedWindow:
        """Decode one window. Cancelling gives up its place; a host that has begun it finishes it unheard.

        Raises `TranscriptionFailed` when it ends two hosts or fails twice, `EngineUnavailable` when no host
        can be started.
        """
        header, payload = request.to_frame(next(self._ids))
        ticket = self._ticket(job_id, header, payload, urgent=urgent)
        self._lanes.put(job_id, ticket, urgent=urgent)
        answer, _ = await self._answer(ticket)
        return DecodedWindow.from_header(answer)

    async def find_speech(self, job_id: str, pcm: PCM, state: bytes) -> tuple[npt.NDArray[np.float32], bytes]:
        """Return the probability of speech in each 512 samples and the state after them.

        `state` is what the last call for this window returned, empty at its start. Raises as `decode` does.
        """
        header: Header = {"type": "vad", "id": next(self._ids), "state_bytes": len(state)}
        ticket = self._ticket(job_id, header, state + pcm.tobytes(), urgent=True)
        self._activity.append(ticket)
        _, payload = await self._answer(ticket)
        return np.frombuffer(payload[VAD_STATE_BYTES:], np.float32), payload[:VAD_STATE_BYTES]

    def status(self) -> dict[str, Any]:
        """Describe engine, host and queue; JSON-safe."""
        info = self.info
        return {
            "state": self._state,
            "message": self._message,
            "progress": self._progress,
            "engine": info.engine if info else self._settings.engine,
            "model": info.model if info else self._settings.model,
            "device": info.device if info else self._settings.device,
            "compute_type": info.compute_type if info else self._settings.compute_type,
            "replicas": info.replicas if info else self._replicas,
            "languages": len(info.languages) if info else None,
            "degraded": info is not None and info.degraded is not None,
            "fixture": info is not None and info.fixture,
            "restarts": self._restarts,
            "windows_waiting": len(self._lanes) + len(self._suspects),
            "windows_in_flight": sum(ticket.is_window for ticket in self._in_flight.values()),
            "host_pid": self._host.pid if self._host is not None else None,
        }

    def _ticket(self, job_id: str, header: Header, payload: bytes, *, urgent: bool) -> _Ticket:
        if self._failure is not None:
            raise EngineUnavailable(self._failure)
        return _Ticket(
            header["id"],
            job_id,
            urgent,
            header["type"] == "decode",
            header,
            payload,
            asyncio.get_running_loop().create_future(),
        )

    async def _answer(self, ticket: _Ticket) -> tuple[Header, bytes]:
        self._work.set()
        try:
            return await ticket.answer
        finally:
            self._lanes.discard(ticket.job_id, ticket)
            for queue in (self._suspects, self._activity):
                with suppress(ValueError):
                    queue.remove(ticket)

    # --- the host ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a host running until cancelled. Does not raise for anything that a host does."""
        while True:
            try:
                retry = await self._run_host()
            except OSError as exc:
                self._fail(f"The speech host can't be started: {exc}. Check memory and process limits.")
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
            self._state, self._message = "starting", "Starting the speech host."
        self._stuck = False
        retry = True
        async with start_host(self._command) as host:
            self._host = host
            await host.send(self._settings.to_load(self._replicas))
            async with asyncio.TaskGroup() as tasks:
                feeders: list[asyncio.Task[None]] = []
                try:
                    while (frame := await host.receive()) is not None:
                        if frame[0]["type"] == "ready":
                            self._on_ready(EngineInfo.from_header(frame[0]))
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

    async def _exit_status(self, host: HostProcess) -> int:
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                return await host.wait()
        except TimeoutError:  # it closed its socket or spoke nonsense, and lives on
            host.kill()
            await host.wait()
            return 1

    def _on_ready(self, info: EngineInfo) -> None:
        self.info = info
        self._loaded, self._failure, self._progress, self._failed_starts = True, None, None, 0
        self._state = "ready" if info.degraded is None else "degraded"
        self._message = info.degraded or ""
        if info.fixture:
            self._message = "This is the bundled test model: it knows 178 words and is no speech model."
        level = logging.INFO if info.degraded is None else logging.ERROR
        log.log(
            level,
            "speech engine %s: %s, %s on %s, %s, %d replica(s)%s",
            self._state,
            info.engine,
            info.model,
            info.device,
            info.compute_type,
            info.replicas,
            f". {self._message}" if self._message else "",
        )
        self.on_loaded(info)
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
            ticket.deadline = self._clock.monotonic() + self._settings.window_timeout_seconds
            return
        del self._in_flight[ticket.id]
        self._work.set()
        if ticket.answer.done():
            return
        if header["type"] != "error":
            self._deaths = 0
            ticket.answer.set_result((header, payload))
            return
        log.warning("speech host: a window of job %s failed: %s", ticket.job_id, header["message"])
        ticket.blame += 1
        self._try_again(ticket, header["message"])

    def _on_state(self, header: Header) -> None:
        if self._failure is not None:
            return
        self._state, self._message = header["state"], header.get("message", "")
        if header["state"] == "downloading":
            done, wanted = header["done"], header["wanted"]
            self._progress = done / wanted if wanted else 0.0
            self._message = f"Downloading the model: {done / 1e6:.0f} of {wanted / 1e6:.0f} MB."
            log.info("%s", self._message)

    def _fail(self, message: str) -> None:
        """Tell everyone who waits that there is no engine."""
        self._failure, self._state, self._message, self._progress = message, "failed", message, None
        log.error("no speech engine: %s", message)
        self._decided.set()
        waiting = [*self._lanes.drain(), *self._suspects, *self._activity, *self._in_flight.values()]
        self._suspects.clear()
        self._activity.clear()
        self._in_flight.clear()
        for ticket in waiting:
            _reject(ticket, EngineUnavailable(message))

    # --- sending ----------------------------------------------------------------------------------------

    async def _feed(self, host: HostProcess) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while (ticket := self._next()) is not None:
                self._in_flight[ticket.id] = ticket
                # The window before it in the host may take its full time; `started` sets the real deadline.
                ticket.begun = not ticket.is_window
                ticket.deadline = self._clock.monotonic() + 2 * self._settings.window_timeout_seconds
                await host.send(ticket.header, ticket.payload)

    def _next(self) -> _Ticket | None:
        if self._activity:
            return self._activity.popleft()
        windows = [ticket for ticket in self._in_flight.values() if ticket.is_window]
        if any(ticket.suspect for ticket in windows):
            return None
        if self._suspects:
            return None if windows else self._suspects.popleft()
        assert self.info is not None
        limit = self.info.parallel + self.info.parallel // self.info.replicas
        return self._lanes.pop() if len(windows) < limit else None

    async def _watch(self, host: HostProcess) -> None:
        """Kill the host when a request takes too long: CTranslate2 cannot be cancelled."""
        timeout = self._settings.window_timeout_seconds
        while True:
            await self._clock.sleep(min(1.0, timeout / 8))
            now = self._clock.monotonic()
            late = [ticket for ticket in self._in_flight.values() if ticket.deadline <= now]
            if late:
                for ticket in late:
                    log.error("speech host: a window of job %s hangs; ending the host", ticket.job_id)
                    ticket.blame, ticket.suspect = ticket.blame + 1, True
                self._stuck = True
                host.kill()
                return

    # --- after a host -----------------------------------------------------------------------------------

    def _on_end(self, status: int) -> None:
        tickets = sorted(self._in_flight.values(), key=lambda ticket: ticket.id, reverse=True)
        self._in_flight.clear()
        self._deaths += 1
        if self._failure is not None:
            return
        if not self._loaded:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_AFTER_STARTS:
                self._fail(
                    f"The speech host ended {self._failed_starts} times while it started (status {status}). "
                    "See its messages in the log; most often memory is short for this model."
                )
            return
        log.error("speech host ended with status %d; restarting it for %d requests", status, len(tickets))
        self._state, self._message = "starting", "Restarting the speech host."
        for ticket in tickets:
            if not self._stuck:
                self._judge(ticket, status)
            self._try_again(ticket, f"the speech host ended with status {status}")

    def _judge(self, ticket: _Ticket, status: int) -> None:
        if not ticket.begun or not ticket.is_window:
            return
        if status == -signal.SIGKILL and not ticket.suspect:
            ticket.kills += 1
            ticket.suspect = ticket.kills >= KILLS_BEFORE_SUSPECT
        else:
            ticket.blame, ticket.suspect = ticket.blame + 1, True

    def _try_again(self, ticket: _Ticket, reason: str) -> None:
        """Put a ticket back at the head of its queue, unless its chances are used up."""
        if ticket.answer.done():
            return
        ticket.deadline, ticket.begun = math.inf, False
        if ticket.blame >= MAX_BLAME:
            log.error("a window of job %s failed %d times: %s", ticket.job_id, ticket.blame, reason)
            _reject(ticket, TranscriptionFailed())
        elif not ticket.is_window:
            self._activity.appendleft(ticket)
        elif ticket.suspect:
            self._suspects.appendleft(ticket)
        else:
            self._lanes.put_back(ticket.job_id, ticket, urgent=ticket.urgent)

    def _backoff(self) -> float:
        """Return how long to wait before the next start: not at all the first time, then ever longer."""
        tries = max(self._deaths, self._failed_starts)
        return 0.0 if tries <= 1 else min(MAX_BACKOFF_SECONDS, 0.5 * 2.0 ** (tries - 2))


def _reject(ticket: _Ticket, error: StenobirdError) -> None:
    if not ticket.answer.done():
        ticket.answer.set_exception(error)
