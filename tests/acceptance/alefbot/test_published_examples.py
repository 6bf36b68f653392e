"""The published Python and JavaScript examples, taken from the spec, against the real service.

They lost five things when they were published: indentation, quoting, sizes and ids that fit, the resolution
of the relative `upload_url` (with the header that goes with it), and a webhook target that exists. Those are
repaired here, and nothing else: every repair is a function of this module.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.webhooks.delivery import canonical, sign
from tests.support.free_port import free_port
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.spec]

SPEC = Path(__file__).parents[4] / "shared" / "spec" / "alefbot.md"
NODE = shutil.which("node")
PUBLISHED_URL = "https://alef-bot.top/api/v1"
PUBLISHED_UPLOAD = "upl_02f4c48f7fc74ec58cc6"
PUBLISHED_JOB = "ac69835f-0575-4429-a95f-1fbc977bb4d3"
PUBLISHED_TARGET = "https://client.example.com/webhooks/alefbot"
RUN_SECONDS = 300

BROWSER = """
globalThis.document = {
  querySelector: () => ({ files: [new File([require("node:fs").readFileSync("audio.mp3")], "audio.mp3")] }),
  createElement: () => ({ click() {} }),
};
"""
"""What a browser has and Node does not: a selected file, and a link to click."""


@dataclass(frozen=True)
class Example:
    """One published example as it stands in the spec."""

    number: int
    language: str
    text: str

    @property
    def browser(self) -> bool:
        return "document." in self.text


def published() -> list[str]:
    if not SPEC.is_file():
        pytest.skip(f"NOT TESTED AGAINST THE SPEC: {SPEC.name} is not beside the repository")
    return SPEC.read_text().splitlines()


def examples(lines: list[str]) -> list[Example]:
    found: list[Example] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if line == "import requests":
            end = next(i for i in range(at, len(lines)) if lines[i].startswith("const "))
            found.append(Example(len(found), "python", "\n".join(lines[at:end])))
        elif line.startswith(("const fs = require", "const API_KEY =")):
            closing = re.compile(r"\w+\(\)(\.catch\(console\.error\))?;")
            end = next(i for i in range(at, len(lines)) if closing.fullmatch(lines[i])) + 1
            found.append(Example(len(found), "javascript", "\n".join(lines[at:end])))
        else:
            at += 1
            continue
        at = end
    return found


# --- the five repairs ---------------------------------------------------------------------------------------


def indented(python: str) -> str:
    """Repair 1: restore the indentation of Python. The last statement of a block shows where it ends."""
    ends = {
        "with": re.compile(r"\S"),
        "if": re.compile(r"(break|exit\()"),
        "elif": re.compile(r"(break|exit\()"),
        "while": re.compile(r"time\.sleep\("),
        "def": re.compile(r"return "),
    }
    out: list[str] = []
    blocks: list[re.Pattern[str]] = []
    brackets, pending_end = 0, False
    for line in python.splitlines():
        out.append("    " * len(blocks) + line)
        whole = brackets == 0
        brackets += sum(line.count(c) for c in "([{") - sum(line.count(c) for c in ")]}")
        if brackets:
            if whole:
                # The end of a multi-line statement ends the block, if it is the last statement.
                pending_end = bool(blocks) and blocks[-1].match(line) is not None
            continue
        if whole and line.endswith(":"):
            blocks.append(ends[line.split()[0]])
            continue
        ended = bool(blocks) and (blocks[-1].match(line) is not None if whole else pending_end)
        if ended:
            blocks.pop()
    return "\n".join(out)


def resolved(code: str) -> str:
    """Repair 4: resolve `upload_url` against the service, and send the key with it."""
    return (
        code.replace(
            'requests.put(upload_res["upload_url"], data=f)',
            'requests.put(__import__("urllib.parse").parse.urljoin(BASE_URL, upload_res["upload_url"]), '
            "data=f, headers=HEADERS)",
        )
        .replace(
            "fetch(uploadRes.upload_url, { method: 'PUT', body: fileData })",
            "fetch(new URL(uploadRes.upload_url, BASE_URL), "
            "{ method: 'PUT', headers: HEADERS, body: fileData })",
        )
        .replace("fetch(upload.upload_url,", "fetch(new URL(upload.upload_url, BASE_URL),")
    )


@dataclass(frozen=True)
class Place:
    """The values for the examples: repairs 3 (sizes and ids) and 5 (the webhook target)."""

    url: str
    key: str
    size: int
    upload_id: str
    job_id: str
    target: str

    def fitted(self, code: str) -> str:
        code = code.replace(PUBLISHED_URL, f"{self.url}/api/v1")
        code = re.sub(r"alef_sk_live_(your_key_here|primary)", self.key, code)
        code = re.sub(r"(size_bytes\"?: )(1024|2048)\b", rf"\g<1>{self.size}", code)
        code = code.replace(PUBLISHED_UPLOAD, self.upload_id).replace(PUBLISHED_JOB, self.job_id)
        return code.replace(PUBLISHED_TARGET, self.target)


# Repair 2, quoting, is not needed: only the shell examples lost theirs.

# --- running them -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    published()
    folder = tmp_path_factory.mktemp("published")
    with ServerProcess(folder / "data", {"PREMIUM_REQUESTS_PER_MINUTE": "1000"}) as process:
        yield process


@pytest.fixture(scope="module")
def place(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Place:
    data = (clips / "short.mp3").read_bytes()
    with httpx.Client(base_url=f"{server.url}/api/v1", trust_env=False, timeout=180) as client:
        client.headers["Authorization"] = f"Bearer {server.create_key()}"
        key = client.post("/keys", json={"name": "examples"}).json()["key"]
        slot = {"filename": "a.mp3", "content_type": "audio/mpeg", "size_bytes": len(data)}
        upload_id = client.post("/uploads", json=slot).json()["upload_id"]
        client.put(f"/uploads/{upload_id}/binary", content=data).raise_for_status()
        test = client.post("/keys", json={"name": "examples", "mode": "test"}).json()["key"]
        # A job that is finished at once: the account's test key creates one from the same upload.
        made = client.post(
            "/transcriptions", json={"upload_id": upload_id}, headers={"Authorization": f"Bearer {test}"}
        )
    return Place(
        url=server.url,
        key=key,
        size=len(data),
        upload_id=upload_id,
        job_id=made.json()["job_id"],
        target=f"https://127.0.0.1:{free_port()}/hook",
    )


def run(example: Example, place: Place, folder: Path, clips: Path) -> subprocess.CompletedProcess[str]:
    for name in ("audio.mp3", "lecture.mp3"):
        shutil.copy(clips / "short.mp3", folder / name)
    code = place.fitted(resolved(example.text))
    if example.language == "python":
        command = [sys.executable, "example.py"]
        (folder / "example.py").write_text(indented(code))
    else:
        if NODE is None:
            pytest.skip("NOT TESTED IN JAVASCRIPT: there is no node")
        command = [NODE, "example.js"]
        (folder / "example.js").write_text((BROWSER if example.browser else "") + code)
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def test_the_spec_has_the_examples_that_are_run() -> None:
    found = examples(published())

    # Three workflows, and three examples for each of the ten endpoints.
    assert [example.language for example in found].count("python") == 11
    assert [example.language for example in found].count("javascript") == 22


@pytest.mark.parametrize("number", range(33))
def test_a_published_example_succeeds(number: int, place: Place, tmp_path: Path, clips: Path) -> None:
    example = examples(published())[number]

    done = run(example, place, tmp_path, clips)

    shown = f"\n{example.text}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
    assert done.returncode == 0, shown
    # `.catch(console.error)` still exits with 0.
    assert done.stderr == "", shown
    if "artifact?format=srt" in example.text and "while" in example.text:
        assert "-->" in done.stdout, shown
    elif "getTranscriptionStatus" in example.text:
        assert "completed" in done.stdout, shown


# --- the published verifiers --------------------------------------------------------------------------------

EVENT: dict[str, str | int | bool | None] = {
    "event_id": "evt_1",
    "event_type": "transcription.completed",
    "job_id": PUBLISHED_JOB,
    "status": "completed",
    "created_at": "2026-02-21T00:00:00Z",
    "attempt": 3,
    "final": True,
    "error": None,
}


def block(lines: list[str], first: str, before: str) -> str:
    start = next(i for i, line in enumerate(lines) if line.startswith(first))
    end = next(i for i in range(start, len(lines)) if lines[i].startswith(before))
    return "\n".join(lines[start:end])


def changed(signature: str) -> str:
    return signature[:-1] + ("0" if signature[-1] != "0" else "1")


def test_the_published_python_verifier_accepts_only_our_signature(tmp_path: Path) -> None:
    verifier = indented(block(published(), "import hashlib", "const crypto"))
    signature = sign(canonical(EVENT), timestamp=1_800_000_000, secret="whsec_dGVzdA==")
    body = json.loads(canonical(EVENT))
    calls = [(body, signature), (body, changed(signature)), (body | {"status": "failed"}, signature)]
    script = verifier + textwrap.dedent(
        f"""

        for body, signature in json.loads({json.dumps(json.dumps(calls))}):
            print(verify_alefbot_signature(body, "1800000000", signature, "whsec_dGVzdA=="))
        """
    )
    (tmp_path / "verify.py").write_text(script)

    done = subprocess.run(
        [sys.executable, "verify.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=180
    )

    assert done.stdout.split() == ["True", "False", "False"], done.stderr


@pytest.mark.skipif(NODE is None, reason="NOT TESTED IN JAVASCRIPT: there is no node")
@pytest.mark.parametrize(
    ("first", "before"),
    [
        ("const crypto = require", "async function verifyAlefbotSignature"),
        ("async function verifyAlefbotSignature", "- Interactive"),
    ],
)
def test_the_published_javascript_verifiers_accept_only_our_signature(
    tmp_path: Path, first: str, before: str
) -> None:
    assert NODE is not None
    verifier = block(published(), first, before)
    signature = sign(canonical(EVENT), timestamp=1_800_000_000, secret="whsec_dGVzdA==")
    body = json.loads(canonical(EVENT))
    calls = [[body, signature], [body, changed(signature)], [body | {"status": "failed"}, signature]]
    script = (
        verifier
        + f"""
(async () => {{
  for (const [body, signature] of {json.dumps(calls)})
    console.log(await verifyAlefbotSignature(body, "1800000000", signature, "whsec_dGVzdA=="));
}})();
"""
    )
    (tmp_path / "verify.js").write_text(script)

    done = subprocess.run(
        [NODE, "verify.js"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=180
    )

    assert done.stdout.split() == ["true", "false", "false"], done.stderr
