"""A key is shown once, and never again: not in the database, the log, a response or a URL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

BODY = {"audio_url": "https://media.invalid/a.mp3"}


@pytest.mark.slow
def test_no_key_is_left_in_the_data_folder_the_log_or_an_error(tmp_path: Path) -> None:
    """The service as a process of its own, with debug logging."""
    with ServerProcess(tmp_path / "data", {"LOG_LEVEL": "debug"}) as server:
        first = json.loads(server.command("keys", "create", "--json"))["key"]
        secrets = [first]
        answers: list[str] = []
        with httpx.Client(base_url=server.url, trust_env=False) as http:

            def ask(method: str, path: str, key: str, **options: object) -> httpx.Response:
                headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "k"}
                return http.request(method, path, headers=headers, **options)  # type: ignore[arg-type]

            second = ask("POST", "/v1/keys", first, json={"name": "two"}).json()
            third = ask("POST", f"/v1/keys/{second['id']}/rotate", first).json()
            secrets += [second["key"], third["key"]]
            mistyped = first[:-1] + ("a" if first[-1] != "a" else "b")
            other_mode = first.replace("_live_", "_test_")
            for key in (first, second["key"], third["key"], mistyped, other_mode):
                for method, path in (
                    ("POST", "/v1/transcripts"),
                    ("GET", "/v1/keys"),
                    ("GET", "/v1/account"),
                    ("GET", "/v1/usage"),
                    ("GET", "/v1/transcripts"),
                    ("GET", "/v1/nowhere"),
                ):
                    answer = ask(method, path, key, json=BODY if method == "POST" else None)
                    answers.append(answer.text + str(answer.headers) + str(answer.url))
            # Common mistakes: a key as the password in a URL, or in place of an id.
            answers.append(http.get("/v1/account", headers={"Authorization": f"Basic {first}"}).text)
        listed = server.command("keys", "list", "--json")
        audited = server.command("account", "audit", "--json")
        answers += [listed, audited]
        assert len(json.loads(listed)) == 3
        assert {entry["action"] for entry in json.loads(audited)} >= {"key.created", "key.rotated"}
        files = b"".join(
            path.read_bytes() for path in sorted((tmp_path / "data").rglob("*")) if path.is_file()
        )
    assert b"key_" in files
    for secret in secrets:
        body = secret.removeprefix("sb_live_")
        assert body.encode() not in files
        assert body[:30].encode() not in files
        assert all(body not in answer for answer in answers)
