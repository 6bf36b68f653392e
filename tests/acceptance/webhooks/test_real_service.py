"""Webhooks of the real service, in processes of their own, to a receiver that they reach by https."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from standardwebhooks.webhooks import Webhook

from tests.support.https_receiver import HTTPSReceiver, Received
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.postgresql import postgresql_available, running_postgresql
from tests.support.server_process import ServerProcess
from tests.support.until import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOG = "/v1/webhooks/deliveries"


@dataclass
class Service:
    """A running service, a client with a live key, and one with a test key of the same account."""

    process: ServerProcess
    live: httpx.Client
    sandbox: httpx.Client

    def secret(self, client: httpx.Client) -> str:
        secret: str = client.get("/v1/webhooks/secret").json()["secret"]
        return secret

    def upload(self, client: httpx.Client, data: bytes) -> str:
        slot = {"filename": "a.mp3", "content_type": "audio/mpeg", "size_bytes": len(data)}
        upload_id: str = client.post("/api/v1/uploads", json=slot).json()["upload_id"]
        client.put(f"/api/v1/uploads/{upload_id}/binary", content=data).raise_for_status()
        return upload_id

    def finish(self, target: str, upload_id: str | None = None) -> str:
        """Make a job that has ended when this returns, as the sandbox's jobs do; return its id."""
        body = {"upload_id": upload_id or self.upload(self.sandbox, b"x"), "webhook_url": target}
        answer = self.sandbox.post("/api/v1/transcriptions", json=body)
        assert answer.status_code == 200, answer.text
        job_id: str = answer.json()["job_id"]
        return job_id

    def delivery(self, job_id: str, *, state: str, attempts: int = 0) -> dict[str, Any]:
        """Return the delivery of a job once it is in this state, after so many attempts at least."""
        row: dict[str, Any] = {}

        def there() -> bool:
            nonlocal row
            [row] = self.live.get(LOG, params={"job_id": job_id}).json()["deliveries"]
            return bool(row["state"] == state and row["attempts"] >= attempts)

        until(there)
        return row


def clients(process: ServerProcess) -> Iterator[Service]:
    with (
        httpx.Client(base_url=process.url, trust_env=False, timeout=180) as live,
        httpx.Client(base_url=process.url, trust_env=False, timeout=180) as sandbox,
    ):
        live.headers["Authorization"] = f"Bearer {process.create_key()}"
        test = live.post("/v1/keys", json={"mode": "test"}).json()
        sandbox.headers["Authorization"] = f"Bearer {test['key']}"
        yield Service(process, live, sandbox)


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HTTPSReceiver]:
    with HTTPSReceiver(tmp_path_factory.mktemp("authority")) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, hooks: HTTPSReceiver) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    settings = {"PREMIUM_REQUESTS_PER_MINUTE": "1000"}
    with ServerProcess(folder / "data", settings, extra_environment=hooks.environment) as process:
        yield from clients(process)


@pytest.fixture
def receiver(hooks: HTTPSReceiver) -> HTTPSReceiver:
    """The receiver as it is at first, nothing received."""
    hooks.go_on.set()
    hooks.received.clear()
    hooks.asked.clear()
    hooks.status, hooks.headers, hooks.most_at_once = 204, {}, 0
    return hooks


def verified(request: Received, secret: str) -> dict[str, Any]:
    """Return the event if the `standardwebhooks` package takes it."""
    event: dict[str, Any] = Webhook(secret).verify(request.body, dict(request.headers))
    assert event["event_id"] == request.event_id
    return event


def alefbot_accepts(request: Received, secret: str) -> bool:
    """Whether a receiver accepts it that follows AlefBot: body parsed, sorted, signed."""
    payload = json.dumps(json.loads(request.body), separators=(",", ":"), sort_keys=True)
    message = f"{request.headers['x-alefbot-timestamp']}.{payload}".encode()
    expected = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, request.headers["x-alefbot-signature"])


# --- what arrives -------------------------------------------------------------------------------------------


def test_a_completed_v1_job_is_delivered(service: Service, receiver: HTTPSReceiver, clips: Path) -> None:
    with ThreadedMediaServer({"/short.mp3": Resource(clips / "short.mp3")}) as media:
        body = {"audio_url": media.url("/short.mp3"), "webhook_url": receiver.url("/v1")}
        made = service.live.post("/v1/transcripts", json=body).json()
        [request] = receiver.wait(path="/v1")

    event = verified(request, service.secret(service.live))
    assert {**event, "event_id": "", "created_at": ""} == {
        "event_id": "",
        "event_type": "transcription.completed",
        "job_id": made["id"],
        "status": "completed",
        "created_at": "",
    }
    assert not any(name.startswith("x-alefbot") for name in request.headers)
    assert service.live.get(made["result_url"]).json()["status"] == "completed"
    row = service.delivery(made["id"], state="delivered")
    assert (row["event_id"], row["status_code"], row["attempts"], row["mode"]) == (
        request.event_id,
        204,
        1,
        "live",
    )


def test_a_completed_alefbot_job_is_delivered_with_both_signatures(
    service: Service, receiver: HTTPSReceiver, clips: Path
) -> None:
    upload_id = service.upload(service.live, (clips / "short.mp3").read_bytes())
    body = {"upload_id": upload_id, "webhook_url": receiver.url("/api")}
    job_id = service.live.post("/api/v1/transcriptions", json=body).json()["job_id"]
    [request] = receiver.wait(path="/api")

    secret = service.secret(service.live)
    event = verified(request, secret)
    assert (event["event_type"], event["job_id"]) == ("transcription.completed", job_id)
    assert alefbot_accepts(request, secret)
    forged = request.body.replace(b"completed", b"cancelled")
    assert not alefbot_accepts(Received("", request.headers, forged, 0), secret)
    assert service.live.get(f"/api/v1/transcriptions/{job_id}").json()["status"] == "completed"


def test_a_failed_job_is_delivered(service: Service, receiver: HTTPSReceiver) -> None:
    with ThreadedMediaServer({}) as media:
        body = {"audio_url": media.url("/missing.mp3"), "webhook_url": receiver.url("/failed")}
        made = service.live.post("/v1/transcripts", json=body).json()
        [request] = receiver.wait(path="/failed")

    event = verified(request, service.secret(service.live))
    assert (event["event_type"], event["status"], event["job_id"]) == (
        "transcription.failed",
        "failed",
        made["id"],
    )


def test_a_sandbox_job_is_signed_with_the_sandbox_secret(service: Service, receiver: HTTPSReceiver) -> None:
    service.finish(receiver.url("/sandbox"))
    [request] = receiver.wait(path="/sandbox")

    live, sandbox = service.secret(service.live), service.secret(service.sandbox)
    assert live != sandbox
    verified(request, sandbox)
    assert alefbot_accepts(request, sandbox)
    assert not alefbot_accepts(request, live)


def test_a_test_event_has_both_signatures(service: Service, receiver: HTTPSReceiver) -> None:
    for client in (service.live, service.sandbox):
        body = {"webhook_url": receiver.url("/tested"), "event_type": "transcription.failed"}
        told = client.post("/api/v1/webhooks/test", json=body).json()

        request = receiver.wait(path="/tested")[-1]
        assert told["delivered"]
        event = verified(request, service.secret(client))
        assert (event["event_id"], event["event_type"]) == (told["event_id"], "transcription.failed")
        assert alefbot_accepts(request, service.secret(client))


# --- receivers that don't take it ---------------------------------------------------------------------------


def test_a_receiver_that_was_down_gets_it_when_it_is_up(service: Service, receiver: HTTPSReceiver) -> None:
    receiver.down()
    try:
        job_id = service.finish(receiver.url("/down"))
        refused = service.delivery(job_id, state="pending", attempts=1)
    finally:
        receiver.up()
    [request] = receiver.wait(path="/down")

    row = service.delivery(job_id, state="delivered")
    assert refused["status_code"] is None
    assert row["attempts"] >= 2
    assert request.event_id == row["event_id"] == refused["event_id"]


def test_410_disables_the_url_until_a_replay(service: Service, receiver: HTTPSReceiver) -> None:
    receiver.status = 410
    gone = service.finish(receiver.url("/gone"))
    dead = service.delivery(gone, state="dead")
    receiver.status = 200
    unsent = service.delivery(service.finish(receiver.url("/gone")), state="dead")
    assert [one.answered for one in receiver.wait(path="/gone")] == [410]
    assert (dead["attempts"], unsent["attempts"]) == (1, 0)

    listed = service.live.get(LOG, params={"state": "dead"}).json()["deliveries"]
    assert {row["id"] for row in listed} == {dead["id"], unsent["id"]}
    for row in listed:
        assert service.live.post(f"{LOG}/{row['id']}/replay").status_code == 202
    again = receiver.wait(3, path="/gone")[1:]
    assert sorted(one.event_id for one in again) == sorted((dead["event_id"], unsent["event_id"]))


def test_a_redirect_is_a_failure(service: Service, receiver: HTTPSReceiver) -> None:
    receiver.status, receiver.headers = 308, {"Location": receiver.url("/elsewhere")}
    job_id = service.finish(receiver.url("/moved"))
    receiver.wait(path="/moved")

    row = service.delivery(job_id, state="pending", attempts=1)
    assert row["status_code"] == 308
    assert "redirect" in row["error"]
    assert [one.path for one in receiver.received] == ["/moved"]


# --- processes that end, and processes beside each other ----------------------------------------------------


def test_a_server_killed_in_mid_delivery_delivers_after_its_restart(
    service: Service, receiver: HTTPSReceiver
) -> None:
    receiver.go_on.clear()
    job_id = service.finish(receiver.url("/killed"))
    [first] = receiver.wait_asked()
    service.process.kill()
    receiver.go_on.set()
    service.process.start()

    row = service.delivery(job_id, state="delivered")
    attempts = receiver.wait(2, path="/killed")
    assert {one.event_id for one in attempts} == {first} == {row["event_id"]}
    assert attempts[0].body == attempts[1].body


def test_a_server_killed_before_any_attempt_delivers_after_its_restart(
    service: Service, receiver: HTTPSReceiver
) -> None:
    job_id = service.finish(receiver.url("/unsent"))
    service.process.kill()
    service.process.start()

    row = service.delivery(job_id, state="delivered")
    assert {one.event_id for one in receiver.wait(path="/unsent")} == {row["event_id"]}


def test_what_was_public_at_the_post_and_is_not_at_the_delivery_is_not_reached(
    tmp_path: Path, receiver: HTTPSReceiver
) -> None:
    receiver.down()
    try:
        with ServerProcess(tmp_path / "data", extra_environment=receiver.environment) as process:
            for service in clients(process):
                job_id = service.finish(receiver.url("/private"))
                service.delivery(job_id, state="pending", attempts=1)
                process.kill()
                process.settings["EGRESS_ALLOW"] = ""
                receiver.up()
                process.start()
                [row] = service.live.get(LOG).json()["deliveries"]
                service.live.post(f"{LOG}/{row['id']}/replay").raise_for_status()

                def refused(service: Service = service) -> dict[str, Any] | None:
                    [row] = service.live.get(LOG).json()["deliveries"]
                    return row if "not public" in str(row["error"]) else None

                row = until(refused)
                assert row["status_code"] is None
    finally:
        receiver.down()
        receiver.up()
    assert row["event_id"] not in receiver.asked


@pytest.mark.skipif(not postgresql_available(), reason="PostgreSQL's server is not installed")
def test_two_processes_send_each_event_once(tmp_path: Path, receiver: HTTPSReceiver) -> None:
    async def create_database(url: str) -> None:
        engine = create_async_engine(f"{url}/postgres", isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text("CREATE DATABASE stenobird"))
        await engine.dispose()

    receiver.go_on.clear()
    with running_postgresql() as postgresql:
        asyncio.run(create_database(postgresql))
        settings = {
            "DATABASE_URL": f"{postgresql}/stenobird",
            "PREMIUM_REQUESTS_PER_MINUTE": "1000",
        }
        processes = [
            ServerProcess(
                tmp_path / f"web{number}",
                settings,
                ("serve", "--no-worker"),
                extra_environment=receiver.environment,
            )
            for number in range(2)
        ]
        try:
            for process in processes:
                process.start()
            for service in clients(processes[0]):
                # Uploads first: between the first job and the last answer there are ten seconds.
                uploads = [service.upload(service.sandbox, b"x") for _ in range(12)]
                made = {service.finish(receiver.url("/once"), upload_id) for upload_id in uploads[:8]}
                # Each process sends four of an account at once: both are at it before anything is answered.
                receiver.wait_asked(8)
                receiver.go_on.set()
                made |= {service.finish(receiver.url("/once"), upload_id) for upload_id in uploads[8:]}
                receiver.wait(12, path="/once")
                for job_id in made:
                    service.delivery(job_id, state="delivered")
        finally:
            for process in processes:
                process.kill()

    # A busy machine may take longer than the ten seconds of an attempt; then the next one has the same id.
    # A POST that the test repeats because its answer is late makes a job more.
    events = {
        (event["job_id"], event["event_id"]) for event in (json.loads(one.body) for one in receiver.received)
    }
    assert made <= {job_id for job_id, _ in events}
    assert len(events) == len({job_id for job_id, _ in events})
    assert receiver.most_at_once == 1
