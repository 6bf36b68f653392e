"""A plain reader of the API for tests: raw requests and events, without the client's retries and checks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class ReadEvent:
    """One event as it came over the wire."""

    id: int
    event: str
    data: str

    @property
    def body(self) -> dict[str, Any]:
        """The parsed data."""
        parsed: dict[str, Any] = json.loads(self.data)
        return parsed


class EventReader:
    """Posts and reads; raises `httpx` errors as they are. Use as a context manager."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=180, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def create(self, audio_url: str, **fields: Any) -> dict[str, Any]:
        """Post a transcript and return the body of the 202."""
        response = self.http.post("/v1/transcripts", json={"audio_url": audio_url, **fields})
        assert response.status_code == 202, response.text
        body: dict[str, Any] = response.json()
        return body

    def events(self, job_id: str, after: int | None = None) -> Iterator[ReadEvent]:
        """Yield events until the stream ends; nothing on 204."""
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        with self.http.stream("GET", f"/v1/transcripts/{job_id}/events", headers=headers) as response:
            response.raise_for_status()
            fields: dict[str, str] = {}
            for line in response.iter_lines():
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                elif "data" in fields:
                    yield ReadEvent(int(fields["id"]), fields["event"], fields["data"])
                    fields = {}

    def result(self, job_id: str) -> dict[str, Any]:
        """Return the JSON result of a finished job."""
        response = self.http.get(f"/v1/transcripts/{job_id}/result")
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body


def joined(events: list[ReadEvent]) -> str:
    """Return the text of the transcript events; asserts that their chunks are contiguous."""
    chunks = [event.body for event in events if event.event == "transcript"]
    assert [chunk["chunk_index"] for chunk in chunks] == list(range(len(chunks)))
    return "".join(chunk["text"] for chunk in chunks)
