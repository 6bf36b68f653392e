"""The guide to backups: a copy is made in mid-job and restored elsewhere, where the job goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.client import StenobirdClient
from stenobird.demo import CLIP_PATH
from tests.support.free_port import free_port
from tests.support.guides import Block, Session, blocks
from tests.support.http_reader import EventReader, ReadEvent, joined
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.postgresql import postgresql_available, running_postgresql
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEARD_BYTES = 300_000
"""Some 37 s of the clip's 71."""


@pytest.fixture
def guide(docs: Path) -> list[Block]:
    return blocks(docs / "how-to" / "backup.md")


def section(guide: list[Block], first: str, last: str) -> list[Block]:
    """The blocks from the one that begins with `first` to before the one that begins with `last`."""
    starts = [block.text.startswith(first) for block in guide]
    ends = [block.text.startswith(last) for block in guide]
    return guide[starts.index(True) : ends.index(True)]


def test_a_backup_of_a_running_job_is_restored_elsewhere_and_the_job_continues(
    guide: list[Block], tmp_path: Path, clips: Path
) -> None:
    old = ServerProcess(tmp_path / "old")
    new = ServerProcess(tmp_path / "new", port=old.port)
    values = {
        "/var/lib/stenobird-restored": str(new.data_dir),
        "/var/lib/stenobird": str(old.data_dir),
        "/var/backups": str(tmp_path / "backups"),
    }
    held = Resource(CLIP_PATH, pauses_at=HEARD_BYTES)
    media = ThreadedMediaServer({"/held.mp3": held})
    with media as source, old:
        api_key = old.create_key()
        try:
            with (
                EventReader(old.url, api_key) as reader,
                StenobirdClient(old.url, api_key=api_key) as client,
                Session(tmp_path, old.environment, values) as shell,
            ):
                upload = client.upload(clips / "short.mp3")
                job_id = reader.create(source.url("/held.mp3"))["id"]
                seen: list[ReadEvent] = []
                for event in reader.events(job_id):
                    seen.append(event)
                    if event.event == "transcript":
                        break

                # All blocks up to the command that starts the restored service, in one shell.
                for line, printed in shell.steps(section(guide, "DATA=", "STENOBIRD_DATA_DIR=$NEW")):
                    assert printed is not None, line
        finally:
            media.release(held)
        old.kill()
        (start,) = [block for block in guide if block.text.startswith("STENOBIRD_DATA_DIR=$NEW")]
        assert start.text == "STENOBIRD_DATA_DIR=$NEW stenobird serve\n"

        with (
            new,
            EventReader(new.url, api_key) as reader,
            StenobirdClient(new.url, api_key=api_key) as client,
        ):
            events = list(reader.events(job_id))
            result = reader.result(job_id)
            uploaded = client.transcribe(upload)

    assert events[: len(seen)] == seen
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert events[-1].body["status"] == "completed"
    assert joined(events) == result["text"]
    assert result["text"].startswith("hello and welcome back")
    assert result["text"].endswith("see you next week")
    assert len(uploaded.text.split()) > 20


@pytest.mark.skipif(not postgresql_available(), reason="PostgreSQL's server is not installed")
def test_a_dump_is_restored_into_a_new_database(
    guide: list[Block], tmp_path: Path, make_database: Callable[[str, str], str]
) -> None:
    with running_postgresql() as postgresql, ThreadedMediaServer({"/a.mp3": Resource(CLIP_PATH)}) as source:
        before = make_database(postgresql, "stenobird")
        plain = postgresql.replace("+asyncpg", "")
        values = {"postgresql://stenobird:secret@db.internal:5432": plain}
        old = ServerProcess(tmp_path / "old", {"DATABASE_URL": before})
        with old:
            api_key = old.create_key()
            with (
                EventReader(old.url, api_key) as reader,
                Session(old.data_dir, old.environment, values) as shell,
            ):
                job_id = reader.create(source.url("/a.mp3"))["id"]
                events = list(reader.events(job_id))
                list(shell.steps(section(guide, "pg_dump", "[Unit]")))

        new = ServerProcess(tmp_path / "new", {"DATABASE_URL": f"{postgresql}/restored"}, port=free_port())
        with new, EventReader(new.url, api_key) as reader:
            assert list(reader.events(job_id)) == events
            assert reader.result(job_id)["text"] == joined(events)
