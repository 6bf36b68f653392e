"""File names and addresses on the command line that are not UTF-8."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from stenobird.cli.local import local_client
from stenobird.cli.transcribe import escaped
from tests.support.web_world import web_world

if TYPE_CHECKING:
    from pathlib import Path

NAMES = (b"caf\xe9.wav", b"\xff\xfe.wav", "\u05e9\u05d9\u05e8 #1?.wav".encode(), b"50%.wav")


@pytest.mark.anyio
async def test_a_file_is_sent_whatever_its_name(tmp_path: Path) -> None:
    async with web_world(tmp_path / "world") as world:
        secret, _ = await world.keys.create()
        async with local_client(world.url, api_key=secret) as client:
            for name in NAMES:
                file = tmp_path / os.fsdecode(name)
                file.write_bytes(b"RIFF" + name)
                job = await client.create(await client.upload(file))
                made = await world.store.get(job.id)
                assert made is not None
                assert made.upload_id is not None
                slot = await world.services.uploads.take(made.upload_id, made.account_id or "")
                assert await world.services.uploads.ends(slot) == b"RIFF" + name


def test_bytes_of_an_address_that_are_not_utf_8_are_percent_encoded() -> None:
    assert (
        escaped(os.fsdecode(b"https://a.example/caf\xe9.mp3?q=%20")) == "https://a.example/caf%E9.mp3?q=%20"
    )
