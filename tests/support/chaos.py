"""Chaos: web processes and workers on PostgreSQL and Redis, under kills, freezes, full disks and deletions.

`python -m tests.support.chaos [--short] [--seed N]` runs it, on loopback only, for ten minutes or two. Jobs
are posted all the time while one thing after another breaks, in random order. Each stays broken until the
service has noticed it or has gone on without it, however long that takes. Then everything is repaired, and
each job, bill, webhook, spool and process is checked.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import redis
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import create_async_engine

from stenobird.accounts.keys import KeyService
from stenobird.demo import CLIP_PATH, CLIP_TEXT_PATH, word_error_rate
from stenobird.storage.account_store import AccountStore
from stenobird.storage.engine import open_database
from stenobird.storage.schema import (
    ended_jobs,
    events,
    jobs,
    open_jobs,
    outbox,
    reservations,
    usage,
    usage_days,
)
from tests.support.databases import postgresql_database, run_apart
from tests.support.free_port import free_port
from tests.support.http_reader import EventReader, ReadEvent, joined
from tests.support.https_receiver import HTTPSReceiver
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.postgresql import postgresql_server
from tests.support.processes import frozen, start_time
from tests.support.redis_server import running_redis
from tests.support.server_process import ServerProcess
from tests.support.until import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import ColumnElement

    from tests.support.media_server import MediaServer
    from tests.support.postgresql import PostgreSQLServer

SPOOL_BYTES: Final = 64 * 1024
"""What a full disk still holds; the recordings are larger."""
RESOURCES: Final = {"/whole.mp3": None, "/paced.mp3": 200_000, "/slow.mp3": 100_000}
"""The same recording at several bytes a second."""
IS_OPEN: Final = jobs.c.completed_at.is_(None)
JOBS_AT_ONCE: Final = 5
"""One more than the workers run, so that whoever has room has something to claim."""


@dataclass(frozen=True)
class Plan:
    """How much chaos. All things break once in each round, in another order."""

    rounds: int
    real_lease: bool
    """Whether a frozen worker outsleeps its lease, or the lease is made to end."""


SHORT: Final = Plan(rounds=1, real_lease=False)
LONG: Final = Plan(rounds=5, real_lease=True)


@dataclass
class World:
    """Every part of the service, and what was posted to it."""

    folder: Path
    media: MediaServer
    hooks: HTTPSReceiver
    postgresql: PostgreSQLServer
    database_url: str
    redis: redis.Redis
    settings: dict[str, str]
    plan: Plan
    dice: random.Random
    web: list[ServerProcess] = field(default_factory=list)
    workers: list[ServerProcess] = field(default_factory=list)
    key: str = ""
    posted: list[str] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    children: set[tuple[int, str | None]] = field(default_factory=set)
    """The ids and start times of processes that must end with their parents."""

    # --- clients ----------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request to any web process, again and again until one answers it."""
        headers = {"Authorization": f"Bearer {self.key}", **request.pop("headers", {})}

        def answer() -> httpx.Response | None:
            url = self.dice.choice(self.web).url + path
            with contextlib.suppress(httpx.TransportError):
                response = httpx.request(
                    method, url, headers=headers, timeout=10.0, trust_env=False, **request
                )
                if response.status_code not in {409, 429, 500, 503}:
                    return response
            return None

        return until(answer, deadline_seconds=360.0)

    def post(self) -> str:
        """Post a job, once however often the request is repeated; return its id."""
        body = {
            "audio_url": self.media.url(self.dice.choice(list(RESOURCES))),
            "webhook_url": self.hooks.url("/hook"),
        }
        key = {"Idempotency-Key": secrets.token_hex(8)}
        answer = self.ask("POST", "/v1/transcripts", json=body, headers=key)
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["id"]
        self.posted.append(job_id)
        return job_id

    def count_jobs(self, *conditions: ColumnElement[bool]) -> int:
        """Return how many jobs meet the conditions."""
        return int(self.query(select(func.count()).select_from(jobs).where(*conditions))[0][0])

    def keep_busy(self) -> None:
        """Post jobs until enough are under way."""
        while self.count_jobs(IS_OPEN) < JOBS_AT_ONCE:
            self.post()

    def busy_until(self, condition: Callable[[], bool], *, deadline_seconds: float = 360.0) -> None:
        """Wait, and post jobs whenever too few are under way."""

        def answer() -> bool:
            self.keep_busy()
            return condition()

        until(answer, deadline_seconds=deadline_seconds)

    def troubled(self, process: ServerProcess, reason: str = "") -> bool:
        """Return whether a process says that it isn't ready, for this reason."""
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{process.url}/readyz", timeout=30.0, trust_env=False)
            return answer.status_code == 503 and reason in answer.text
        return False

    def query(self, *statements: Any) -> list[Any]:
        """Return the rows of the last statement, all in one transaction."""

        async def run() -> list[Any]:
            engine = create_async_engine(self.database_url, connect_args={"timeout": 5})
            try:
                async with engine.begin() as connection:
                    for statement in statements:
                        result = await connection.execute(statement)
                    return list(result.all()) if result.returns_rows else []
            finally:
                await engine.dispose()

        return run_apart(run())

    # --- what breaks ------------------------------------------------------------------------------------

    def kill_a_worker(self) -> None:
        """`kill -9` of a worker and, as its children die with it, of all of them."""
        worker = self.dice.choice(self.workers)
        self.note_children(worker)
        worker.kill()
        self.keep_busy()
        self.end_leases(leased_by(worker))
        worker.start(wait=False)

    def note_children(self, worker: ServerProcess) -> None:
        """Remember the children of a worker that is about to end."""
        self.children |= {(pid, start_time(pid)) for pid, _ in worker.children()}

    def kill_a_web_process(self) -> None:
        """`kill -9` of a web process."""
        process = self.dice.choice(self.web)
        process.kill()
        process.start()

    def freeze_a_worker_past_its_lease(self) -> None:
        """SIGSTOP, until its leases have ended and others have its jobs; then SIGCONT."""
        worker = self.dice.choice(self.workers)
        assert worker.process is not None
        with frozen(worker.process.pid):
            self.end_leases(leased_by(worker))
            self.busy_until(lambda: not self.count_jobs(leased_by(worker)), deadline_seconds=900.0)

    def end_leases(self, *of_worker: ColumnElement[bool]) -> None:
        """Let the time of these leases pass, by default of all, unless real ones are waited for."""
        if not self.plan.real_lease:
            held = jobs.c.lease_token.is_not(None)
            self.query(update(jobs).where(held, *of_worker).values(lease_expires_at=1.0))

    def fill_a_disk(self) -> None:
        """Leave one worker no room for audio, until it has noticed; then make room."""
        worker = self.dice.choice(self.workers)
        with full_disk(worker.data_dir / "spool"):
            self.busy_until(lambda: self.troubled(worker, "pauses"))
            metrics = httpx.get(f"{worker.url}/metrics", timeout=30.0, trust_env=False).text
            assert "stenobird_worker_troubled 1.0" in metrics

    def freeze_postgresql(self) -> None:
        """SIGSTOP of the server and all its backends, until a web process has noticed."""
        assert self.postgresql.process is not None
        process = self.dice.choice(self.web)
        with frozen(self.postgresql.process.pid):
            until(lambda: self.troubled(process))

    def restart_postgresql(self) -> None:
        """End every connection, and come back when a web process has noticed."""
        process = self.dice.choice(self.web)
        self.postgresql.stop()
        until(lambda: self.troubled(process))
        self.postgresql.start()

    def freeze_redis(self) -> None:
        """SIGSTOP, until two more jobs have ended without it."""
        with frozen(self.redis.info()["process_id"]):
            enough = self.count_jobs(~IS_OPEN) + 2
            self.busy_until(lambda: self.count_jobs(~IS_OPEN) >= enough)

    def flush_redis(self) -> None:
        """Forget every counter, and every connection."""
        self.redis.flushall()
        self.redis.client_kill_filter(_type="pubsub")

    def delete_jobs(self) -> None:
        """Cancel or delete some jobs, whatever state they are in."""
        for job_id in self.dice.sample(self.posted, min(2, len(self.posted))):
            self.deleted.add(job_id)
            answer = self.ask("DELETE", f"/v1/transcripts/{job_id}")
            assert answer.status_code in {200, 202, 204, 404}, answer.text

    def delete_an_account(self) -> None:
        """Make an account with jobs under way, and delete it."""
        account_id = f"acct_{secrets.token_hex(6)}"

        async def make() -> str:
            async with open_database(self.database_url) as database:
                await AccountStore(database).create_account(
                    account_id, "Gone", "premium", "operator", by="operator"
                )
                secret, _ = await KeyService(AccountStore(database)).create(account_id=account_id)
                return secret

        own = {"Authorization": f"Bearer {run_apart(make())}"}
        for _ in range(3):
            body = {"audio_url": self.media.url("/paced.mp3")}
            self.ask("POST", "/v1/transcripts", json=body, headers=own)
        gone = self.ask("DELETE", "/v1/account", headers=own)
        # 401: an earlier try succeeded, and its answer was lost.
        assert gone.status_code in {202, 401}, gone.text
        assert self.ask("GET", "/v1/account", headers=own).status_code == 401

    def in_random_order(self) -> Iterator[Callable[[], None]]:
        """Yield everything that breaks, each once a round."""
        actions = [
            self.kill_a_worker,
            self.kill_a_web_process,
            self.freeze_a_worker_past_its_lease,
            self.fill_a_disk,
            self.freeze_postgresql,
            self.restart_postgresql,
            self.freeze_redis,
            self.flush_redis,
            self.delete_jobs,
            self.delete_an_account,
        ]
        for _ in range(self.plan.rounds):
            self.dice.shuffle(actions)
            yield from actions


def leased_by(worker: ServerProcess) -> ColumnElement[bool]:
    """Return the condition on a job that a worker's process holds it."""
    assert worker.process is not None
    return jobs.c.lease_worker.like(f"%:{worker.process.pid}") & jobs.c.lease_token.is_not(None)


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Make a folder one without room: a tiny file system over it, or a file in its place."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SPOOL_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    away = folder.with_name("spool.away")
    folder.rename(away)
    folder.write_text("no room")
    try:
        yield
    finally:
        folder.unlink()
        away.rename(folder)


@contextlib.contextmanager
def world(folder: Path, plan: Plan, seed: int) -> Iterator[World]:
    """Open everything, and kill everything at the end."""
    with contextlib.ExitStack() as stack:
        media = stack.enter_context(ThreadedMediaServer({}))
        for path, speed in RESOURCES.items():
            media.resources[path] = Resource(CLIP_PATH, bytes_per_second=speed)
        hooks = stack.enter_context(HTTPSReceiver(folder))
        server = stack.enter_context(postgresql_server())
        database = stack.enter_context(postgresql_database(server.url, migrated=True))
        redis_url = stack.enter_context(running_redis(folder, free_port()))
        settings = {
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "PREMIUM_REQUESTS_PER_MINUTE": "100000",
            "MAX_RUNNING": "3",
            "REPLICAS": "1",
        }
        made = World(
            folder=folder,
            media=media,
            hooks=hooks,
            postgresql=server,
            database_url=database,
            redis=stack.enter_context(redis.Redis.from_url(redis_url)),
            settings=settings,
            plan=plan,
            dice=random.Random(seed),
        )
        trust = hooks.environment
        made.web = [
            ServerProcess(folder / f"web{n}", settings, ("serve", "--no-worker"), extra_environment=trust)
            for n in range(2)
        ]
        made.workers = [
            ServerProcess(folder / f"worker{n}", settings, ("worker", "--probes"), extra_environment=trust)
            for n in range(2)
        ]
        try:
            for process in (*made.web, *made.workers):
                process.start(wait=False)
            for process in (*made.web, *made.workers):
                process.wait_ready()
            made.key = made.web[0].create_key()
            yield made
        except BaseException:
            for process in (*made.web, *made.workers):
                ended = process.process and process.process.poll()
                say(f"{process.data_dir.name}, exit status {ended}:\n{process.log()[-3000:]}")
            raise
        finally:
            for process in (*made.web, *made.workers):
                process.kill()


def undisturbed(world: World) -> str:
    """Return the text of the recording, transcribed while nothing breaks, read through both web processes.

    Workers answer probes, and nothing else.
    """
    with EventReader(world.web[0].url, world.key) as first, EventReader(world.web[1].url, world.key) as other:
        job_id = first.create(world.media.url("/whole.mp3"))["id"]
        read = list(other.events(job_id))
        assert list(first.events(job_id)) == read
        assert read[-1].body["status"] == "completed"
        assert first.result(job_id)["text"] == joined(read)
    worker = world.workers[0]
    assert '"ready": true' in worker.command("health", "--ready")
    assert httpx.get(f"{worker.url}/metrics", trust_env=False).is_success
    assert httpx.get(f"{worker.url}/v1/transcripts", trust_env=False).status_code == 404
    assert word_error_rate(CLIP_TEXT_PATH.read_text(), joined(read)) <= 0.05
    return joined(read)


def run(folder: Path, plan: Plan, seed: int) -> Counter[str]:
    """Run the chaos, check what is left, and return how many jobs ended how."""
    with world(folder, plan, seed) as chaos:
        words = undisturbed(chaos)
        for action in chaos.in_random_order():
            say(action.__name__.replace("_", " "))
            chaos.keep_busy()
            action()
        chaos.end_leases()
        say("waiting for the rest")
        until(lambda: not chaos.count_jobs(IS_OPEN), deadline_seconds=900.0)
        say("checking")
        ends = check_jobs(chaos, words)
        check_bills(chaos)
        check_webhooks(chaos, ends)
        say("waiting until nothing is left over")
        check_leftovers(chaos)
        return Counter(ends.values())


def check_jobs(chaos: World, words: str) -> dict[str, str]:
    """Each job has ended once, and its events are whole; return how, by id."""
    ends: dict[str, str] = {}
    rows = chaos.query(select(jobs.c.id, jobs.c.status, jobs.c.error, jobs.c.last_seq))
    found = {row.id: row for row in rows}
    assert set(chaos.posted) - set(found) <= chaos.deleted
    for job_id in set(chaos.posted) & set(found):
        log = [
            ReadEvent(row.seq, row.event, row.data)
            for row in chaos.query(select(events).where(events.c.job_id == job_id).order_by(events.c.seq))
        ]
        row = found[job_id]
        assert [event.id for event in log] == list(range(1, row.last_seq + 1)), job_id
        assert [event.event for event in log].count("done") == 1, job_id
        assert log[-1].body["status"] == row.status
        heard = joined(log)
        if row.status == "completed":
            assert heard == words, job_id
        else:
            assert (row.status, job_id in chaos.deleted) == ("cancelled", True), (job_id, row.error)
            assert words.startswith(heard), job_id
        ends[job_id] = row.status
    return ends


def check_bills(chaos: World) -> None:
    """Each completed job was billed once, nothing else was, and the maintained sums are those of the rows."""
    billed = [row.job_id for row in chaos.query(select(usage.c.job_id))]
    completed = {row.id for row in chaos.query(select(jobs.c.id).where(jobs.c.status == "completed"))}
    assert len(billed) == len(set(billed))
    assert completed <= set(billed)
    assert set(billed) & set(chaos.posted) - completed <= chaos.deleted
    sums = chaos.query(
        select(usage.c.account_id, func.count(), func.sum(usage.c.minutes)).group_by(usage.c.account_id)
    )
    days = chaos.query(
        select(usage_days.c.account_id, func.sum(usage_days.c.jobs), func.sum(usage_days.c.units)).group_by(
            usage_days.c.account_id
        )
    )
    assert sorted(map(tuple, sums)) == sorted(map(tuple, days))
    counted = chaos.query(select(jobs.c.status, func.count()).group_by(jobs.c.status))
    kept = chaos.query(select(ended_jobs.c.status, ended_jobs.c.jobs).where(ended_jobs.c.jobs != 0))
    assert sorted(map(tuple, counted)) == sorted(map(tuple, kept))
    assert [tuple(row) for row in chaos.query(select(open_jobs.c.jobs))] == [(0,)]


def check_webhooks(chaos: World, ends: dict[str, str]) -> None:
    """Each ended job has one event, which arrived, however often it was sent."""
    unsettled = select(func.count()).where(outbox.c.settled_at.is_(None))
    until(lambda: chaos.query(unsettled)[0][0] == 0, deadline_seconds=900.0)
    told: dict[str, set[tuple[str, str]]] = {}
    for request in chaos.hooks.received:
        body = httpx.Response(200, content=request.body).json()
        told.setdefault(body["job_id"], set()).add((body["event_id"], body["event_type"]))
    for job_id, status in ends.items():
        assert len(told[job_id]) == 1, job_id
        assert {kind for _, kind in told[job_id]} == {f"transcription.{status}"}, job_id
    assert all(len(events_) == 1 for events_ in told.values())


def check_leftovers(chaos: World) -> None:
    """No spool, reservation, process or descriptor is left over."""
    spools = [worker.data_dir / "spool" for worker in chaos.workers]

    def left() -> list[Path]:
        pids = [worker.process.pid for worker in chaos.workers if worker.process is not None]
        files = [path for spool in spools if spool.is_dir() for path in spool.iterdir()]
        opened = [link.resolve() for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()]
        return files + [path for path in opened if any(path.is_relative_to(spool) for spool in spools)]

    # A worker removes a file before it closes it.
    until(lambda: not left(), deadline_seconds=360.0)
    assert chaos.query(select(func.count()).select_from(reservations))[0][0] == 0
    for worker in chaos.workers:
        chaos.note_children(worker)
        assert worker.terminate() == 0
    for process in chaos.web:
        assert process.terminate() in {0, -signal.SIGTERM}
    until(lambda: not [pid for pid, start in chaos.children if start and start_time(pid) == start])


def say(line: str) -> None:
    """Print what happens, so that a failure can be placed."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description="Break everything, and check that nothing is lost.")
    parser.add_argument("--short", action="store_true", help="Two minutes instead of ten.")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--rounds", type=int, default=LONG.rounds, help="How often each thing breaks.")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stenobird-chaos-"))
    say(f"seed {asked.seed}, in {folder}")
    plan = SHORT if asked.short else replace(LONG, rounds=asked.rounds)
    ends = run(folder, plan, asked.seed)
    say(f"all is well: {dict(ends)}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
