"""From a posted link to the words, over HTTP, with nothing faked but the internet."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import httpx

from stenobird.demo import CLIP_PATH, CLIP_TEXT_PATH, word_error_rate, words
from tests.support.http_reader import EventReader, ReadEvent, joined
from tests.support.media_server import Resource
from tests.support.until import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.media_server import MediaServer
    from tests.support.server_process import ServerProcess


def test_full_transcript_has_the_published_sequence_and_agrees_everywhere(
    reader: EventReader, media: MediaServer
) -> None:
    media.resources["/clip.mp3"] = Resource(CLIP_PATH)
    job = reader.create(media.url("/clip.mp3"))
    assert job["status"] == "queued"
    assert job["mode"] == "full"

    events = list(reader.events(job["id"]))

    assert [event.id for event in events] == list(range(1, len(events) + 1))
    stages = [(e.body["status"], e.body["stage"]) for e in events if e.event == "status"]
    assert stages[0] == ("queued", "validating_url")
    assert ("queued", "source_resolved") in stages
    assert ("transcribing", "submitted") in stages
    assert ("transcribing", "transcribing") in stages
    assert [event.event for event in events].count("done") == 1
    done = events[-1].body
    assert (done["status"], done["terminal"], done["result_ready"]) == ("completed", True, True)
    assert done["billable_minutes"] == 1

    result = reader.result(job["id"])
    assert result["text"] == joined(events)
    assert result["billable_minutes"] == 1
    assert word_error_rate(CLIP_TEXT_PATH.read_text(), result["text"]) <= 0.05
    status = reader.http.get(f"/v1/transcripts/{job['id']}").json()
    assert (status["status"], status["terminal"], status["result_ready"]) == ("completed", True, True)
    srt = reader.http.get(f"/v1/transcripts/{job['id']}/result", params={"format": "srt"})
    assert srt.text.startswith("1\n00:00:0")
    # A direct link costs one request.
    assert len(media.ranges("/clip.mp3")) == 1
    assert (
        reader.http.get(
            f"/v1/transcripts/{job['id']}/events", headers={"Last-Event-ID": str(events[-1].id)}
        ).status_code
        == 204
    )


def test_the_log_has_the_story_of_the_job(
    server: ServerProcess, reader: EventReader, media: MediaServer
) -> None:
    media.resources["/logged.mp3"] = Resource(CLIP_PATH)
    job_id = reader.create(media.url("/logged.mp3"))["id"]
    list(reader.events(job_id))

    def lines() -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
        return [row for row in rows if row.get("job_id") == job_id]

    # The last line follows the commit of `done`, so the client may be faster.
    until(lambda: any(row["event"] == "job_completed" for row in lines()))
    assert [row["event"] for row in lines()] == [
        "job_created",
        "job_claimed",
        "discovery_verdict",
        "audio_opened",
        "first_words",
        "job_completed",
    ]
    assert {row["level"] for row in lines()} == {"info"}


def test_words_arrive_within_the_first_tenth_of_a_download(
    reader: EventReader, media: MediaServer, ten_minutes: tuple[Path, str]
) -> None:
    path, text = ten_minutes
    media.resources["/slow.mp3"] = Resource(path, stalls_at=path.stat().st_size // 10)
    job = reader.create(media.url("/slow.mp3"))

    heard: list[str] = []
    for event in reader.events(job["id"]):
        if event.event == "transcript":
            heard += words(event.body["text"])
            if len(heard) >= 3:
                break

    assert media.sent_bytes["/slow.mp3"] <= path.stat().st_size * 0.1
    assert heard[:3] == words(text)[:3]
    assert reader.http.delete(f"/v1/transcripts/{job['id']}").status_code == 202


def test_a_reader_that_reconnects_at_every_event_sees_what_the_other_sees(
    reader: EventReader, media: MediaServer
) -> None:
    media.resources["/clip.mp3"] = Resource(CLIP_PATH, bytes_per_second=200_000)
    job = reader.create(media.url("/clip.mp3"))

    pieces: list[ReadEvent] = []
    while not pieces or pieces[-1].event != "done":
        pieces.append(next(reader.events(job["id"], after=pieces[-1].id if pieces else None)))

    assert pieces == list(reader.events(job["id"]))


def test_preview_of_an_hour_hears_15_seconds_and_fetches_little_more(
    server: ServerProcess, media: MediaServer, hour: bytes
) -> None:
    media.resources["/hour.mp3"] = Resource(hour)
    with EventReader(server.url) as anyone:
        job = anyone.create(media.url("/hour.mp3"))
        events = list(anyone.events(job["id"]))
        result = anyone.result(job["id"])

    assert [event.event for event in events][-2:] == ["preview_locked", "done"]
    assert events[-1].body["status"] == "preview_complete"
    assert result["duration_seconds"] == 15.0
    assert result["text"] == joined(events)
    assert result["text"]
    assert media.sent_bytes["/hour.mp3"] < 2 * 15 * 64_000 / 8


def test_a_full_job_carries_on_from_its_preview(
    server: ServerProcess, reader: EventReader, media: MediaServer
) -> None:
    media.resources["/clip.mp3"] = Resource(CLIP_PATH)
    with EventReader(server.url) as anyone:
        preview = anyone.create(media.url("/clip.mp3"))
        first = next(e for e in list(anyone.events(preview["id"])) if e.event == "transcript")
    job = reader.create(media.url("/clip.mp3"), preview_id=preview["id"])

    events = list(reader.events(job["id"]))

    assert next(e for e in events if e.event == "transcript").body["text"] == first.body["text"]
    assert word_error_rate(CLIP_TEXT_PATH.read_text(), joined(events)) <= 0.05


def test_healthz_answers_while_windows_decode(
    server: ServerProcess, reader: EventReader, media: MediaServer, hour: bytes
) -> None:
    # However fast the machine is, it isn't done before it was asked often enough.
    media.resources["/hour.mp3"] = Resource(hour)
    jobs = [reader.create(media.url("/hour.mp3")) for _ in range(2)]
    for job in jobs:
        # The first window's texts come before the second block is known, later ones when windows are being
        # decoded.
        texts = (event for event in reader.events(job["id"]) if event.event == "transcript")
        assert len(list(itertools.islice(texts, 20))) == 20

    answered = 0
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        # Were windows decoded on the event loop, no answer could come while one is being decoded.
        def answered_meanwhile() -> bool:
            nonlocal answered
            in_flight: int = http.get("/healthz").json()["engine"]["windows_in_flight"]
            answered += in_flight > 0
            return answered > 50

        until(answered_meanwhile)
    for job in jobs:
        reader.http.delete(f"/v1/transcripts/{job['id']}")


def test_cancel_ends_the_job_and_its_stream(reader: EventReader, media: MediaServer, hour: bytes) -> None:
    media.resources["/hour.mp3"] = Resource(hour, bytes_per_second=100_000)
    job = reader.create(media.url("/hour.mp3"))
    stream = reader.events(job["id"])
    next(event for event in stream if event.event == "transcript")

    assert reader.http.delete(f"/v1/transcripts/{job['id']}").status_code == 202

    assert list(stream)[-1].body["status"] == "cancelled"
    answer = reader.http.get(f"/v1/transcripts/{job['id']}/result")
    assert (answer.status_code, answer.json()["error"]) == (410, "transcript_cancelled")
