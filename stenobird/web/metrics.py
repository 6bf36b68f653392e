"""The Prometheus metrics of `/metrics`, in a registry of their own."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from typing_extensions import override

from stenobird.ports import JobObserver

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_FIRST_TRANSCRIPT_SECONDS = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics(JobObserver):
    """Metrics of one process. Labels have few values by design: route templates, never paths or ids."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "stenobird_http_requests",
            "HTTP requests answered, by route template and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "stenobird_http_request_seconds",
            "Time to answer a request, except event streams.",
            ("route",),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self.sse_readers = Gauge("stenobird_sse_readers", "Event streams open now.", registry=self.registry)
        self.sse_events = Counter(
            "stenobird_sse_events", "Events sent to readers, except pings.", registry=self.registry
        )
        self._audio_seconds = Counter(
            "stenobird_audio_seconds", "Seconds of audio transcribed.", registry=self.registry
        )
        self._first_transcript = Histogram(
            "stenobird_first_transcript_seconds",
            "Time from the creation of a job to its first transcript event.",
            buckets=_FIRST_TRANSCRIPT_SECONDS,
            registry=self.registry,
        )
        self._worker_troubles = Counter(
            "stenobird_worker_troubles",
            "Jobs given back because of trouble of this machine.",
            registry=self.registry,
        )
        self._worker_troubled = Gauge(
            "stenobird_worker_troubled",
            "1 while the worker pauses because of trouble of this machine.",
            registry=self.registry,
        )
        self._jobs = Gauge("stenobird_jobs", "Jobs by status.", ("status",), registry=self.registry)
        # `labels` takes longer than counting.
        self._counter = functools.cache(self._requests.labels)
        self._histogram = functools.cache(self._request_seconds.labels)

    def request_answered(self, *, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a response. `seconds` is `None` for a stream, whose duration depends on its job."""
        self._counter(method if method in _METHODS else "other", route, str(status)).inc()
        if seconds is not None:
            self._histogram(route).observe(seconds)

    @override
    def audio_transcribed(self, seconds: float) -> None:
        self._audio_seconds.inc(seconds)

    @override
    def first_transcript(self, seconds: float) -> None:
        self._first_transcript.observe(seconds)

    @override
    def worker_troubled(self, *, troubled: bool) -> None:
        self._worker_troubled.set(troubled)
        if troubled:
            self._worker_troubles.inc()

    def render(self, job_counts: Mapping[str, int] | None) -> bytes:
        """Return the text exposition. The job gauges are left out while the counts are unknown (`None`)."""
        self._jobs.clear()
        for status, count in (job_counts or {}).items():
            self._jobs.labels(status).set(count)
        return generate_latest(self.registry)
