"""docs/how-to/webhooks.md as its reader would work through it: commands, receivers, outputs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.demo import CLIP_PATH
from stenobird.webhooks.delivery import MAX_RETRY_AFTER_SECONDS, RETRY_SECONDS
from tests.support.free_port import accepts_connections, free_port
from tests.support.guides import Session, blocks, file_block, untagged
from tests.support.https_receiver import HTTPSReceiver
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.server_process import ServerProcess
from tests.support.until import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.https_receiver import Received

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "webhooks.md"
NODE = shutil.which("node")
ADDRESS = "https://hooks.example.com"


@contextlib.contextmanager
def running(command: list[str], secret: str, folder: Path, port: int) -> Iterator[Path]:
    """Run a receiver of the guide and yield the file that it prints to."""
    printed = folder / "printed.txt"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], "WEBHOOK_SECRET": secret, "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            until(lambda: accepts_connections(port))
            yield printed
        finally:
            process.kill()
            process.wait()


def python_receiver(folder: Path, port: int) -> list[str]:
    [source] = [block.text for block in blocks(GUIDE) if block.language == "python" and block.manual]
    assert "9000" in source
    (folder / "receiver.py").write_text(source.replace("9000", str(port)))
    return [sys.executable, str(folder / "receiver.py")]


def javascript_receiver(folder: Path, port: int) -> list[str]:
    assert NODE is not None
    source = file_block(GUIDE, "receiver.mjs")
    assert "9000" in source
    (folder / "receiver.mjs").write_text(source.replace("9000", str(port)))
    return [NODE, str(folder / "receiver.mjs")]


def answers(port: int, sent: Received) -> list[int]:
    """Return what a receiver answers to a request as it was, twice, and to forgeries of it."""
    stale = str(int(sent.headers["webhook-timestamp"]) - 3600)
    forged = [
        (sent.headers, sent.body.replace(b"completed", b"cancelled")),
        ({**sent.headers, "webhook-id": "evt_other"}, sent.body),
        ({**sent.headers, "webhook-timestamp": stale}, sent.body),
        ({**sent.headers, "webhook-signature": "v1,"}, sent.body),
        ({name: value for name, value in sent.headers.items() if name != "webhook-signature"}, sent.body),
    ]
    with httpx.Client(trust_env=False) as client:
        return [
            client.post(f"http://127.0.0.1:{port}/", content=body, headers=dict(headers)).status_code
            for headers, body in [(sent.headers, sent.body)] * 2 + forged
        ]


def test_the_guide(tmp_path: Path) -> None:
    port = free_port()
    with (
        HTTPSReceiver(tmp_path, status=410) as receiver,
        ServerProcess(tmp_path / "data", extra_environment=receiver.environment) as server,
        ThreadedMediaServer({"/episode": Resource(CLIP_PATH)}) as media,
        httpx.Client(base_url=server.url, trust_env=False, timeout=180) as api,
    ):
        api_key = server.create_key()
        api.headers["Authorization"] = f"Bearer {api_key}"
        secret = api.get("/v1/webhooks/secret").json()["secret"]
        values = {
            "http://127.0.0.1:8000": server.url,
            "https://example.com/episode": media.url("/episode"),
            ADDRESS: receiver.url(""),
        }
        # The reader had a receiver that was gone for a while, so that there is a dead letter.
        missed = api.post(
            "/v1/transcripts",
            json={"audio_url": media.url("/episode"), "webhook_url": receiver.url("/old")},
        ).json()["id"]
        until(lambda: api.get("/v1/webhooks/deliveries", params={"state": "dead"}).json()["deliveries"])
        receiver.forward_to = f"http://127.0.0.1:{port}/"
        (tmp_path / "reader").mkdir()
        with (
            running(python_receiver(tmp_path, port), secret, tmp_path, port) as printed,
            Session(tmp_path / "reader", server.environment, values) as session,
        ):
            session.shell(f"export STENOBIRD_API_KEY={api_key}")
            session.run_all(GUIDE)
            # The dead letter, the test event, and the transcript.
            [job_id] = {row["id"] for row in api.get("/v1/transcripts").json()["transcripts"]} - {missed}
            told = [f"transcription.completed {one}" for one in ("None", missed, job_id)]
            until(lambda: set(told) <= set(lines(printed)))
            sent = next(one for one in receiver.received if one.answered == 204)
            assert answers(port, sent) == [204, 204, 400, 400, 400, 400, 400]
            # Each was said once, however often it came.
            assert sorted(lines(printed)) == sorted(told)

    if NODE is None:
        pytest.skip("NOT TESTED IN JAVASCRIPT: there is no node")
    with running(javascript_receiver(tmp_path, port), secret, tmp_path, port) as printed:
        assert answers(port, sent) == [204, 204, 400, 400, 400, 400, 400]
        assert len(lines(printed)) == 1


def lines(printed: Path) -> list[str]:
    return [line for line in printed.read_text().splitlines() if line.startswith("transcription.")]


def test_nothing_in_the_guide_is_left_untried() -> None:
    assert untagged(GUIDE) == []


def test_the_guide_gives_the_waits_that_there_are() -> None:
    text = " ".join(GUIDE.read_text().split())
    seconds, minutes, hours = (
        [f"{wait / unit:g}" for wait in RETRY_SECONDS if low <= wait < high]
        for unit, low, high in ((1, 0, 60), (60, 60, 3600), (3600, 3600, float("inf")))
    )
    assert f"{' s, '.join(seconds)} s, {', '.join(minutes[:-1])} and {minutes[-1]} min" in text
    assert f"{', '.join(hours[:-1])} and {hours[-1]} h," in text
    assert f"{len(RETRY_SECONDS) + 1} attempts within three days" in text
    assert MAX_RETRY_AFTER_SECONDS == 3600
