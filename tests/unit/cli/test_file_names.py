"""File names and addresses on the command line that are not UTF-8."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from stenobird.cli.local import serve_file
from stenobird.cli.transcribe import escaped

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "name", [b"caf\xe9.wav", b"\xff\xfe.wav", "\u05e9\u05d9\u05e8 #1?.wav".encode(), b"50%.wav"]
)
def test_a_file_is_served_whatever_its_name(name: bytes, tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(name)
    file.write_bytes(b"RIFF")
    with (
        serve_file(file, "/" + quote(os.fsencode(file.name))) as url,
        urlopen(url) as answer,
    ):  # http on loopback
        assert answer.read() == b"RIFF"


def test_bytes_of_an_address_that_are_not_utf_8_are_percent_encoded() -> None:
    assert (
        escaped(os.fsdecode(b"https://a.example/caf\xe9.mp3?q=%20")) == "https://a.example/caf%E9.mp3?q=%20"
    )
