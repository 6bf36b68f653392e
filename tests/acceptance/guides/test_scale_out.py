"""The guide to scaling out: its settings and commands on PostgreSQL, Redis and an S3, all on loopback."""

from __future__ import annotations

import json
import logging
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest
from moto.server import ThreadedMotoServer

from stenobird.client import StenobirdClient
from stenobird.demo import CLIP_PATH
from tests.support.free_port import free_port
from tests.support.guides import Block, Session, blocks
from tests.support.http_reader import EventReader, ReadEvent, joined
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.postgresql import postgresql_available, running_postgresql
from tests.support.redis_server import redis_available, running_redis
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not postgresql_available(), reason="PostgreSQL's server is not installed"),
    pytest.mark.skipif(not redis_available(), reason="Redis is not installed"),
]

HEARD_BYTES = 300_000
"""Some 37 s of the clip's 71."""


@dataclass
class Cluster:
    """The guide's text with the addresses of this machine, and the machines that the test has made."""

    guide: list[Block]
    values: Mapping[str, str]
    folder: Path
    machines: list[ServerProcess] = field(default_factory=list)

    def block(self, begins: str) -> Block:
        """The one block that is to be run and has a line that begins so."""
        (found,) = [
            block
            for block in self.guide
            if block.runs and any(line.startswith(begins) for line in block.text.splitlines())
        ]
        return found

    def machine(self) -> ServerProcess:
        """A new machine: its own data folder and port, and none of the settings."""
        machine = ServerProcess(self.folder / f"machine{len(self.machines)}")
        machine.data_dir.mkdir()
        self.machines.append(machine)
        return machine

    def start(self, command: str) -> ServerProcess:
        """Start what the guide says on a machine of its own, with the guide's own settings file."""
        machine = self.machine()
        with self.shell(machine) as shell:
            lines = shell.shell("set -a; . ./stenobird.env; set +a; env").splitlines()
        assert "set -a; . ./stenobird.env; set +a" in self.block(command).text.splitlines()
        told = dict(line.split("=", 1) for line in lines if line.startswith(("STENOBIRD_", "AWS_")))
        machine.settings = {
            name.removeprefix("STENOBIRD_"): told.pop(name) for name in list(told) if name.startswith("STENO")
        }
        # A worker whose source is held back uses its whole grace, and the test waits for it.
        machine.settings["GRACE_SECONDS"] = "2"
        machine.extra_environment = told
        machine.arguments = tuple(command.split()[1:])
        machine.start(wait="serve" in command)
        return machine

    def shell(self, machine: ServerProcess) -> Session:
        """A shell on a machine, in which the guide's settings file has been written."""
        session = Session(machine.data_dir, machine.environment, self.values)
        with session:
            session.run(self.block("cat > stenobird.env"))
        return Session(machine.data_dir, machine.environment, self.values)


@pytest.fixture
def s3_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 of our own on loopback, with the guide's bucket."""
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415  # slow to load, needed here only

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="AKIAEXAMPLE",
            aws_secret_access_key="example",
        )
        client.create_bucket(Bucket="stenobird-uploads")
        yield endpoint
    finally:
        server.stop()


@pytest.fixture
def cluster(
    docs: Path, tmp_path: Path, s3_endpoint: str, make_database: Callable[[str, str], str]
) -> Iterator[Cluster]:
    """The guide, with a database server, a Redis and an S3 where it says."""
    with running_postgresql() as postgresql, running_redis(tmp_path, free_port()) as redis:
        make_database(postgresql, "stenobird")
        values = {
            "postgresql+asyncpg://stenobird:secret@db.internal:5432": postgresql,
            "redis://redis.internal:6379/0": redis,
            "https://s3.internal": s3_endpoint,
        }
        cluster = Cluster(blocks(docs / "how-to" / "scale-out.md"), values, tmp_path)
        try:
            yield cluster
        finally:
            for machine in cluster.machines:
                machine.kill()


def test_the_guide_from_settings_to_a_rolling_restart(cluster: Cluster, clips: Path) -> None:
    webs = [cluster.start("stenobird serve --no-worker") for _ in range(2)]
    workers = [cluster.start("stenobird worker")]
    with cluster.shell(webs[1]) as shell:
        shell.shell("set -a; . ./stenobird.env; set +a")
        printed = shell.run(cluster.block("stenobird keys create"))
    api_key = json.loads(printed)["key"]

    # What came in at one web process is transcribed elsewhere, and read at the other web process.
    with (
        StenobirdClient(webs[0].url, api_key=api_key) as one,
        StenobirdClient(webs[1].url, api_key=api_key) as two,
    ):
        job = one.create(one.upload(clips / "short.mp3"))
        assert len(two.result(job.id).text.split()) > 20

    held = Resource(CLIP_PATH, pauses_at=HEARD_BYTES)
    media = ThreadedMediaServer({"/held.mp3": held})
    seen: list[ReadEvent] = []
    with (
        media as source,
        EventReader(webs[0].url, api_key) as first,
        EventReader(webs[1].url, api_key) as second,
    ):
        try:
            created = first.create(source.url("/held.mp3"))
            job_id = created["id"]
            assert created["events_url"] == f"https://stenobird.example.com/v1/transcripts/{job_id}/events"
            for event in first.events(job_id):
                seen.append(event)
                if event.event == "transcript" and len(workers) == 1:
                    workers.append(cluster.start("stenobird worker"))
                    assert workers[0].terminate() in {0, -signal.SIGTERM}
                    # The stream that is being read here ends cleanly: the loop ends, nothing is raised.
                    assert webs[0].terminate() in {0, -signal.SIGTERM}
        finally:
            media.release(held)
        seen += second.events(job_id, after=seen[-1].id)

        assert seen == list(second.events(job_id))
        assert seen[-1].body["status"] == "completed"
        assert joined(seen) == second.result(job_id)["text"]
        webs[0].start()
        with EventReader(webs[0].url, api_key) as again:
            assert list(again.events(job_id)) == seen

    metrics = httpx.get(f"{webs[1].url}/metrics", trust_env=False).text
    assert 'stenobird_jobs{status="completed"} 2.0' in metrics
