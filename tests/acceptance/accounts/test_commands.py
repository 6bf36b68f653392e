"""The operator's commands during a running service: accounts, credits, usage, audit, deletion."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.demo import CLIP_PATH
from tests.support.http_reader import EventReader
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_an_account_from_its_first_credit_to_its_deletion(tmp_path: Path) -> None:
    with (
        ThreadedMediaServer({"/clip.mp3": Resource(CLIP_PATH)}) as media,
        ServerProcess(tmp_path / "data") as server,
    ):
        account_id = server.command(
            "account", "create", "--name", "Ann", "--email", "ann@example.com", "--billing", "prepaid"
        ).strip()
        key = json.loads(server.command("keys", "create", "--json", "--account", account_id))["key"]
        link = media.url("/clip.mp3")
        with EventReader(server.url, key) as reader:
            refused = reader.http.post("/v1/transcripts", json={"audio_url": link})
            assert (refused.status_code, refused.json()["error"]) == (402, "insufficient_credits")
            server.command("credits", "add", account_id, "2", "--reason", "welcome")
            job = reader.create(link)
            done = list(reader.events(job["id"]))[-1].body
            assert (done["status"], done["billable_minutes"]) == ("completed", 1)
            usage = reader.http.get("/v1/usage").json()
        assert (usage["total"]["jobs"], usage["total"]["credit_units"]) == (1, 1)

        rows = list(csv.DictReader(io.StringIO(server.command("account", "usage", account_id, "--csv"))))
        assert [(row["job_id"], row["billable_minutes"], row["credit_units"]) for row in rows] == [
            (job["id"], "1", "1")
        ]
        wallet = json.loads(server.command("credits", "show", account_id, "--json"))
        assert wallet["units"] == 1
        assert [entry["units"] for entry in wallet["entries"]] == [-1, 2]

        assert "platinum" in server.command("account", "tier", account_id, "platinum")
        shown = json.loads(server.command("account", "show", account_id, "--json"))
        assert (shown["tier"], shown["units"], shown["state"]) == ("platinum", 1, "active")

        server.command("account", "delete", account_id, "--yes")
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}) as http:
            assert http.get("/v1/account").status_code == 401
        with pytest.raises(RuntimeError, match="There is no account"):
            server.command("account", "show", account_id)
        actions = [entry["action"] for entry in json.loads(server.command("account", "audit", "--json"))]
        assert actions == [
            "account.deleted",
            "account.plan",
            "credits.added",
            "key.created",
            "account.created",
        ]
