"""How each figure of the service under load is measured: readers, POSTs, a full database, busy workers."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import httpx

from stenobird.client import StenobirdClient
from stenobird.demo import CLIP_PATH
from stenobird.inference.host import usable_cpus
from tests.bench.fanout import fan_out
from tests.bench.figures import Bar, Figure, Measurement, Question
from tests.bench.posts import BODY, PATH, post, served
from tests.bench.processes import cpu_seconds
from tests.bench.service import Service, transcribe
from tests.bench.service import served as media_served
from tests.support.databases import postgresql_database, postgresql_server_at_hand
from tests.support.free_port import free_port
from tests.support.redis_server import redis_available, running_redis
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.audio import Studio
    from tests.bench.figures import Scale
    from tests.bench.posts import Posts, Side

DELIVERY = Question("f", "CPU of a delivery over a raw ASGI app's", Bar("<=", 1.5))
AGAINST_PACKAGE = Question("f", "CPU of a delivery, sse-starlette's over ours", Bar(">=", 3.0))
LAG = Question("f", "p99 of the lag behind the first reader", Bar("<=", 1.0), " s")
MANY_DELIVERED = Question("g", "events that reached healthy readers", Bar(">=", 100.0), " %")
POSTS = Question("h", "POSTs a second of one client over bare Starlette + aiosqlite's", Bar(">=", 1.0))
POSTS_AT_ONCE = Question(
    "h", "POSTs a second of 16 clients over bare Starlette + aiosqlite's", Bar(">=", 1.0)
)
SLOW_POSTS = Question("h", "the same of one client, when a flush takes 4 ms", Bar(">=", 1.0))
SLOW_POSTS_AT_ONCE = Question("h", "the same of 16 clients, when a flush takes 4 ms", Bar(">=", 1.0))
PREVIEW = Question("i", "first words of a preview while long jobs run, over idle", Bar("<=", 2.0))
FULL_SUMS = Question("j", "usage, readiness and metrics: full database over empty", Bar("<=", 2.0))
FULL_JOBS = Question("j", "POST, status and replay: full database over empty", Bar("<=", 2.0))
SCALED = Question("k", "throughput of two workers over one's, one thread each", Bar(">=", 1.6))

IDLE = Question("l", "CPU of an idle service", Bar("<=", 0.1), " % of a core")

MANY_CLIENTS = 16
POST_ROUNDS = 5
SLOW_FLUSH_SECONDS = 0.004
SETTLED_SECONDS = 5.0
SPREAD_SECONDS = 10.0
"""Between two of the jobs that fill a database: 200,000 are three weeks of them."""
LATENCIES = 20
WORKER_JOBS = 8


def readers(_studio: Studio, scale: Scale) -> list[Figure]:
    """Compare the cost of a delivery with a raw ASGI app's and sse-starlette's, a tenth of readers frozen."""
    count = scale.readers
    runs = {
        side: fan_out(side, readers=count, events=scale.reader_events, rate=4.0)
        for side in ("raw", "ours", "sse-starlette")
    }
    cost = {side: run.microseconds for side, run in runs.items()}
    lag = {side: run.p99_lag_seconds for side, run in runs.items()}
    what = f"{count} readers, a tenth of them frozen, {scale.reader_events} events at 4 a second, 1 kB each"
    costs = ", ".join(f"{side} {value:.0f} µs" for side, value in cost.items())
    lags = ", ".join(f"{side} {value:.2f} s" for side, value in lag.items())
    return [
        Figure(DELIVERY, cost["ours"] / cost["raw"], f"{what}; server CPU: {costs}", details=cost),
        Figure(AGAINST_PACKAGE, cost["sse-starlette"] / cost["ours"], "the same run", details=cost),
        Figure(LAG, lag["ours"], f"the same run: {lags}", details=lag),
    ]


def many_readers(_studio: Studio, scale: Scale) -> list[Figure]:
    """Count what reaches many readers of one job."""
    count = scale.many_readers
    run = fan_out("ours", readers=count, events=scale.reader_events, rate=2.0)
    return [
        Figure(
            MANY_DELIVERED,
            100 * run.delivered / run.expected,
            f"{count} readers, a tenth of them frozen, {scale.reader_events} events at 2 a second: "
            f"{run.microseconds:.0f} µs of CPU a delivery, p99 of the lag {run.p99_lag_seconds:.2f} s",
        )
    ]


def posts(_studio: Studio, scale: Scale) -> list[Figure]:
    """Compare POSTs a second of one client and of many, on this disk and on a slow one."""
    return [
        _posts(question, scale.posts, clients=clients, flush_seconds=flush_seconds)
        for question, clients, flush_seconds in (
            (POSTS, 1, None),
            (POSTS_AT_ONCE, MANY_CLIENTS, None),
            (SLOW_POSTS, 1, SLOW_FLUSH_SECONDS),
            (SLOW_POSTS_AT_ONCE, MANY_CLIENTS, SLOW_FLUSH_SECONDS),
        )
    ]


def _posts(question: Question, requests: int, *, clients: int, flush_seconds: float | None) -> Figure:
    runs: dict[Side, list[Posts]] = {"bare": [], "ours": []}
    with ExitStack() as stack:
        servers = {side: stack.enter_context(served(side, flush_seconds=flush_seconds)) for side in runs}
        for _ in range(POST_ROUNDS):
            for side, server in servers.items():
                runs[side].append(post(server, clients=clients, requests=requests))
    ratios = [ours.a_second / bare.a_second for ours, bare in zip(runs["ours"], runs["bare"], strict=True)]
    notes = (
        f"{side} {median(run.a_second for run in of_side):.0f} a second, "
        f"{median(run.median_seconds for run in of_side) * 1000:.1f} ms, "
        f"{median(run.cpu_seconds for run in of_side) * 1000:.2f} ms of CPU"
        for side, of_side in runs.items()
    )
    note = f"{clients} at once, queued only; both in turn, medians of {POST_ROUNDS}: {', '.join(notes)}"
    return Figure(question, median(ratios), note, rounds=tuple(ratios))


def previews_under_load(studio: Studio, scale: Scale) -> list[Figure]:
    """Compare the time to a preview's first words while long jobs run and while none does."""
    clip = studio.clip(scale.medium_minutes)
    with Service(CLIP_PATH, settings={"PREVIEWS_PER_MINUTE": "1000"}) as service, ExitStack() as stack:
        _, [long, short] = stack.enter_context(media_served([clip.path, CLIP_PATH]))
        idle = [service.preview_seconds(short) for _ in range(scale.previews)]
        with service.busy(long, scale.long_jobs):
            busy = [service.preview_seconds(short) for _ in range(scale.previews)]
    return [
        Figure(
            PREVIEW,
            median(busy) / median(idle),
            f"{scale.long_jobs} jobs of {scale.medium_minutes:g} min; medians of {scale.previews}: "
            f"{median(busy):.2f} s and {median(idle):.2f} s",
            details={"idle": idle, "busy": busy},
        )
    ]


def full_database(_studio: Studio, scale: Scale) -> list[Figure]:
    """Compare latencies with no and with many jobs in the database."""
    with served("ours") as server:
        base = f"http://{server.host}:{server.port}"
        with httpx.Client(base_url=base, headers=server.headers, trust_env=False) as http:
            job_id = http.post(PATH, content=BODY).json()["id"]
            empty = _latencies(http, job_id)
            _fill(server.folder / "stenobird.db", job_id, scale.filled_jobs)
            full = _latencies(http, job_id)
    ratios = {name: full[name] / empty[name] for name in empty}
    note = ", ".join(f"{name} {1000 * empty[name]:.1f} → {1000 * full[name]:.1f} ms" for name in empty)
    sums = max(ratios[name] for name in ("usage", "readyz", "metrics"))
    rest = max(ratios[name] for name in ("post", "status", "replay"))
    note = f"{scale.filled_jobs} jobs, medians of {LATENCIES}: {note}"
    return [Figure(FULL_SUMS, sums, note, details=ratios), Figure(FULL_JOBS, rest, "the same run")]


def _latencies(http: httpx.Client, job_id: str) -> dict[str, float]:
    def replay() -> None:
        with http.stream("GET", f"{PATH}/{job_id}/events") as response:
            next(response.iter_raw())

    requests: dict[str, Callable[[], object]] = {
        "post": lambda: http.post(PATH, content=BODY).raise_for_status(),
        "status": lambda: http.get(f"{PATH}/{job_id}").raise_for_status(),
        "replay": replay,
        "usage": lambda: http.get("/v1/usage").raise_for_status(),
        "readyz": lambda: http.get("/readyz"),
        "metrics": lambda: http.get("/metrics").raise_for_status(),
    }
    found = {}
    for name, request in requests.items():
        seconds = []
        for _ in range(LATENCIES):
            began = time.monotonic()
            request()
            seconds.append(time.monotonic() - began)
        found[name] = median(seconds)
    return found


def _fill(database: Path, job_id: str, count: int) -> None:
    """Copy a job so many times, as completed ones with their events and ledger rows."""
    changed = {
        "id": "'tr_' || n",
        "job_id": "'tr_' || n",
        "status": "'completed'",
        "created_at": f"created_at - n * {SPREAD_SECONDS}",
        "completed_at": f"created_at - n * {SPREAD_SECONDS}",
    }
    with sqlite3.connect(database, timeout=60) as connection:
        for table, key in (("jobs", "id"), ("events", "job_id")):
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join(changed.get(name, name) for name in names)
            connection.execute(
                f"WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM counted WHERE n<{count}) "
                f"INSERT INTO {table} SELECT {columns} FROM {table}, counted WHERE {key} = ?",
                (job_id,),
            )
        connection.execute(
            "INSERT INTO usage (id, job_id, account_id, minutes, audio_seconds, created_at) "
            "SELECT 'u_' || id, id, account_id, 1, 60, created_at FROM jobs WHERE status = 'completed'"
        )
        connection.execute(
            "INSERT INTO usage_days (account_id, day, jobs, minutes, units, credit_units, metered_minutes, "
            "audio_seconds) SELECT account_id, CAST(created_at / 86400 AS INTEGER), count(*), sum(minutes), "
            "sum(minutes), 0, 0, sum(audio_seconds) FROM usage GROUP BY 1, 2"
        )
    connection.close()


def workers(studio: Studio, scale: Scale) -> list[Figure]:
    """Compare the throughput of one, two and four worker processes of one thread each on PostgreSQL."""
    clip = studio.clip(scale.worker_minutes)
    speeds: dict[int, float] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stenobird-bench-")))
        server = stack.enter_context(postgresql_server_at_hand())
        if server is None or not redis_available():
            raise RuntimeError("PostgreSQL or Redis is not installed")
        settings = {
            "DATABASE_URL": stack.enter_context(postgresql_database(server, migrated=True)),
            "REDIS_URL": stack.enter_context(running_redis(folder, free_port())),
            "REPLICAS": "1",
        }
        web = stack.enter_context(ServerProcess(folder / "web", settings, ("serve", "--no-worker")))
        client = stack.enter_context(StenobirdClient(web.url, api_key=web.create_key()))
        _, urls = stack.enter_context(media_served([clip.path] * WORKER_JOBS))
        started: list[ServerProcess] = []
        for count in (1, 2, 4):
            while len(started) < count:
                worker = ServerProcess(folder / f"worker{len(started)}", settings, ("worker", "--probes"))
                started.append(stack.enter_context(worker))
            transcribe(client, urls[:count])
            began = time.monotonic()
            transcribe(client, urls)
            speeds[count] = WORKER_JOBS * clip.duration_seconds / (time.monotonic() - began)
    note = ", ".join(f"{count}: {speed:.0f} ×" for count, speed in speeds.items())  # noqa: RUF001  # times
    return [
        Figure(
            SCALED,
            speeds[2] / speeds[1],
            f"{WORKER_JOBS} jobs of {scale.worker_minutes:g} min on {usable_cpus()} cores, two workers over "
            f"one; speed by number of workers, {note} real time",
            details={str(count): speed for count, speed in speeds.items()},
        )
    ]


def idle(_studio: Studio, scale: Scale) -> list[Figure]:
    """Count what a service with a loaded model uses while nobody uses it."""
    with Service(CLIP_PATH) as service:
        time.sleep(SETTLED_SECONDS)
        began = cpu_seconds(service.pid)
        time.sleep(scale.idle_seconds)
        used = cpu_seconds(service.pid) - began
    share = 100 * used / scale.idle_seconds
    note = f"all processes, {scale.idle_seconds:g} s after a job; the clock ticks in steps of 0.01 s"
    return [Figure(IDLE, share, note)]


MEASUREMENTS = {
    "f": Measurement((DELIVERY, AGAINST_PACKAGE, LAG), readers),
    "g": Measurement((MANY_DELIVERED,), many_readers),
    "h": Measurement((POSTS, POSTS_AT_ONCE, SLOW_POSTS, SLOW_POSTS_AT_ONCE), posts),
    "i": Measurement((PREVIEW,), previews_under_load),
    "j": Measurement((FULL_SUMS, FULL_JOBS), full_database),
    "k": Measurement((SCALED,), workers),
    "l": Measurement((IDLE,), idle),
}
