"""Our side of each ratio: the real server as a process of its own, used through its HTTP API."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from stenobird.client import DoneEvent, ErrorEvent, StenobirdClient, TranscriptEvent
from tests.bench.processes import Stopwatch, cpu_share
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from stenobird.client import TranscriptOptions
    from tests.support.media_server import MediaServer


@dataclass(frozen=True, slots=True)
class ServiceRun:
    """One job, from its POST to its `done`; or several at once, from the first POST to the last `done`.

    `first_words_seconds` are from the POST to the first `transcript` of each job; without one, to the end.
    """

    wall_seconds: float
    cpu_seconds: float
    texts: tuple[str, ...]
    first_words_seconds: tuple[float, ...] = ()

    @property
    def cpu_share(self) -> float:
        """The part of all cores that the whole process tree got."""
        return cpu_share(self.cpu_seconds, self.wall_seconds)


class Service:
    """`stenobird serve` with an empty data folder, a key, and a warm model, the fixture by default."""

    def __init__(self, warm_up: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._warm_up = warm_up
        self._settings = dict(settings or {})
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="stenobird-bench-"))
            self._server = stack.enter_context(ServerProcess(Path(folder), settings=self._settings))
            key = self._server.create_key()
            self._client = stack.enter_context(StenobirdClient(self._server.url, api_key=key))
            self._anonymous = stack.enter_context(StenobirdClient(self._server.url))
            with served([self._warm_up]) as (_, [url]):
                self.transcribe(url)
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    @property
    def pid(self) -> int:
        """The server's process; the speech host and the decoders are below it."""
        assert self._server.process is not None
        return self._server.process.pid

    def transcribe(self, *urls: str, options: TranscriptOptions | None = None) -> ServiceRun:
        """Transcribe all URLs at once. Raises the job's error, or `RuntimeError`, when one fails."""
        watch = Stopwatch.start(self.pid)
        texts, first = zip(*transcribe(self._client, urls, options), strict=True)
        return ServiceRun(watch.wall_seconds(), watch.cpu_seconds(), texts, first)

    def preview_seconds(self, url: str) -> float:
        """Return the time from the POST of a preview to its first words."""
        begun = time.monotonic()
        seconds = None
        for event in self._anonymous.stream(url):
            if seconds is None and isinstance(event, TranscriptEvent):
                seconds = time.monotonic() - begun
        if seconds is None:
            raise RuntimeError(f"the preview ended without a word:\n{self._server.log()[-4000:]}")
        return seconds

    @contextmanager
    def busy(self, url: str, jobs: int) -> Iterator[None]:
        """Keep so many jobs under way while the context lasts, with words from the first at least."""
        made = [self._client.create(url) for _ in range(jobs)]
        next(event for event in self._client.resume(made[0].id) if isinstance(event, TranscriptEvent))
        try:
            yield
        finally:
            for job in made:
                self._client.cancel(job.id)

    def first_transcript(self, url: str) -> tuple[TranscriptEvent, ServiceRun]:
        """Return the first transcript event of a job and what it took from the POST; cancel the job."""
        watch = Stopwatch.start(self.pid)
        with closing(self._client.stream(url)) as events:  # type: ignore[type-var]  # a generator
            for event in events:
                if isinstance(event, TranscriptEvent):
                    run = ServiceRun(watch.wall_seconds(), watch.cpu_seconds(), (event.text,))
                    self._client.cancel(event.job_id)
                    return event, run
        raise RuntimeError(f"the job ended without a word:\n{self._server.log()[-4000:]}")


def transcribe(
    client: StenobirdClient, urls: Sequence[str], options: TranscriptOptions | None = None
) -> list[tuple[str, float]]:
    """Transcribe all URLs at once; return their texts and when each first had words, in seconds."""

    def one(url: str) -> tuple[str, float]:
        begun = time.monotonic()
        texts = []
        first = 0.0
        for event in client.stream(url, options):
            match event:
                case TranscriptEvent():
                    first = first or time.monotonic() - begun
                    texts.append(event.text)
                case ErrorEvent():
                    raise event.error
                case DoneEvent() if event.status != "completed":
                    raise RuntimeError(f"the job ended as {event.status}")
        return "".join(texts), first or time.monotonic() - begun

    with ThreadPoolExecutor(len(urls)) as executor:
        return list(executor.map(one, urls))


@contextmanager
def served(
    files: Sequence[Path], *, bytes_per_second: float | None = None
) -> Iterator[tuple[MediaServer, list[str]]]:
    """Serve files on loopback, each under a path of its own, and yield the server and the URLs."""
    paths = [f"/{number}-{file.name}" for number, file in enumerate(files)]
    resources = {
        path: Resource(file, bytes_per_second=bytes_per_second)
        for path, file in zip(paths, files, strict=True)
    }
    with ThreadedMediaServer(resources) as server:
        yield server, [server.url(path) for path in paths]
