"""Inputs mutated from the corpora, through the served product, compared with reference parsers and decoders.

    python -m tests.support.mutations 1000 [--seed 1] [--first 0]

prints each difference: what the service says, and what PyAV, feedparser or Python's own HTTP client says.
Each input has its own random numbers, so that a number means the same input in every run with the same seed.
"""

from __future__ import annotations

import argparse
import asyncio
import calendar
import contextlib
import http.client
import io
import json
import random
import re
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urljoin

import av
import feedparser  # type: ignore[import-untyped]
import httpx

from tests.support.audio import FORMATS, encode
from tests.support.proxied_web import ProxiedWeb, file, whole
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.proxied_web import Answer

CORPUS: Final = Path(__file__).parents[1] / "data" / "discovery"
SECONDS: Final = 3.0
HANG_SECONDS: Final = 120.0
AT_ONCE: Final = 4
TOLERANCE_SECONDS: Final = 0.5
SETTINGS: Final = {
    "PREMIUM_REQUESTS_PER_MINUTE": "100000",
    "JOBS_PER_ACCOUNT": "100000",
    "MAX_QUEUED": "100000",
}


@dataclass
class Outcome:
    """What a client got: an error code, or a result with its duration, its warning and its source."""

    code: str | None = None
    message: str = ""
    duration_seconds: float = 0.0
    warning: str | None = None
    media_url: str = ""


@dataclass
class Input:
    """One mutated input: where it is served, and what a reference says that the outcome must be."""

    number: int
    kind: str
    name: str
    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    judge: Callable[[Outcome], str | None] = lambda _outcome: None


# --- bytes --------------------------------------------------------------------------------------------------


def mutated_bytes(data: bytes, dice: random.Random, *, head: int) -> bytes:
    """Change a file in one to three places, mostly among its first `head` bytes."""
    made = bytearray(data)
    for _ in range(dice.randint(1, 3)):
        end = min(len(made), head if dice.random() < 0.8 else len(made))
        at = dice.randrange(max(1, end))
        size = dice.choice((1, 1, 2, 4, 16, 64, 700))
        match dice.randrange(9):
            case 0:
                made[at] ^= 1 << dice.randrange(8)
            case 1:
                made[at : at + size] = bytes(len(made[at : at + size]))
            case 2:
                made[at : at + size] = b"\xff" * len(made[at : at + size])
            case 3:
                made[at : at + size] = dice.randbytes(len(made[at : at + size]))
            case 4:
                del made[at : at + size]
            case 5:
                made[at:at] = dice.randbytes(size)
            case 6:
                made[at:at] = made[at : at + size]
            case 7:
                del made[max(64, dice.randrange(len(made))) :]
            case _:
                made[at : at + 4] = dice.choice(
                    (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x08", b"\x7f" * 4)
                )
    return bytes(made)


@cache
def media_file(name: str) -> bytes:
    """Return a short file of a format."""
    return encode(FORMATS[name], SECONDS)


def decoded_seconds(data: bytes) -> tuple[float, float] | None:
    """Return the seconds that PyAV decodes and those up to its last timestamp; `None` if it reads nothing."""
    samples = last = 0.0
    try:
        with av.open(io.BytesIO(data), "r", metadata_errors="ignore") as container:
            stream = container.streams.best("audio") or next(iter(container.streams.audio), None)
            if stream is None:
                return None
            for packet in container.demux(stream):
                with contextlib.suppress(av.FFmpegError):
                    frames: list[Any] = list(packet.decode())
                    for frame in frames:
                        length = frame.samples / (frame.sample_rate or 1)
                        samples += length
                        last = max(last, (frame.time or 0.0) + length)
                if samples > 100 * SECONDS:
                    break
    except (av.FFmpegError, ValueError, OSError, OverflowError):
        pass
    return (samples, last) if samples else None


def media_input(number: int, dice: random.Random) -> Input:
    """Return a mutated media file; the reference is PyAV with FFmpeg's own probing.

    A file whose signature is damaged may be refused.
    """
    name = dice.choice(list(FORMATS))
    data = mutated_bytes(media_file(name), dice, head=600)
    url = f"http://n{number}.media.example/a"

    def judge(outcome: Outcome) -> str | None:
        reference = decoded_seconds(data)
        if outcome.code is not None:
            signed = data[:16] == media_file(name)[:16]
            lost = signed and reference is not None and reference[0] > 0.5
            return f"{outcome.code} ({outcome.message}), PyAV: {reference}" if lost else None
        if outcome.warning is not None:
            return None
        heard = outcome.duration_seconds
        # FFmpeg's probing may miss a file that the service reads whole.
        expected = reference or (SECONDS,)
        if any(abs(heard - one) <= TOLERANCE_SECONDS for one in expected):
            return None
        return f"{heard:.2f} s without a warning, PyAV: {reference}"

    return Input(number, "media", name, url, {url: file(data, "application/octet-stream")}, judge)


# --- HTTP heads ---------------------------------------------------------------------------------------------

_LINES: Final = (
    '"X-Frame-Options: DENY"', "X-Broken", ": none", "X Spaced: 1", "X-Thing : 1", "  folded", "\t",
    "Transfer-Encoding: chunked", "Content-Length: 7", "Content-Encoding: identity",
    "Content-Range: bytes */*", "Content-Type: text/html", "Connection: keep-alive, close",
    "X-Long: " + "x" * 20_000, "Set-Cookie: a=b; ;;=",
    "Refresh: 0; url=/a.mp3", "Location: /a.mp3", "X-Bin: \x01\x02", 'ETag: "a"b"', "Date: yesterday",
    "HTTP/1.1 200 OK", "Content-Length: 0", "Retry-After: -1", "Vary: *", "X-Umlaut: \xe4\xf6",
)  # fmt: skip


def mutated_head(head: str, dice: random.Random) -> bytes:
    """Change one to three things about a response's head, given without its last empty line."""
    lines = head.split("\r\n")
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(1, len(lines) + 1)
        match dice.randrange(9):
            case 0 | 1 | 2:
                lines.insert(at, dice.choice(_LINES))
            case 3:
                lines.insert(at, dice.choice(lines[1:]))
            case 4 if len(lines) > 2:
                del lines[at - 1 if at > 1 else 1]
            case 5:
                lines[at - 1] = lines[at - 1].swapcase() if at > 1 else "HTTP/1.1 200"
            case 6:
                lines[at - 1] = lines[at - 1].replace(": ", dice.choice((":", " : ", ":\t", ":   ")), 1)
            case 7:
                lines[0] = dice.choice(
                    (
                        "HTTP/1.0 200 OK",
                        "HTTP/1.1 203 OK",
                        "HTTP/1.1  200 OK",
                        "HTTP/1.1 200 \xdcber",
                        "http/1.1 200 OK",
                    )
                )
            case _:
                text = lines[at - 1]
                spot = dice.randrange(len(text) + 1)
                lines[at - 1] = (
                    text[:spot] + dice.choice(("\x00", "\x0b", "\xff", " ", ":", ";", "\n")) + text[spot:]
                )
    end = dice.choice(("\r\n",) * 5 + ("\n",))
    return (end.join(lines) + end * 2).encode("latin-1", "replace")


def http_body(response: bytes) -> bytes | None:
    """Return the body that Python's own HTTP client reads, `None` if it refuses the response."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        with contextlib.suppress(OSError):
            theirs.sendall(response)
        theirs.close()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        reader = http.client.HTTPResponse(ours)
        reader.begin()
        return reader.read() if reader.status < 300 else None
    except (http.client.HTTPException, OSError, ValueError):
        return None
    finally:
        ours.close()
        sender.join()


def http_input(number: int, dice: random.Random) -> Input:
    """Return audio behind a mutated head; the reference is Python's own HTTP client."""
    audio = media_file("mp3")
    head = (
        f"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: audio/mpeg\r\nContent-Length: {len(audio)}\r\n"
        'Accept-Ranges: none\r\nETag: "1"\r\nCache-Control: max-age=60'
    )
    data = mutated_head(head, dice) + audio
    url = f"http://n{number}.heads.example/a.mp3"

    def judge(outcome: Outcome) -> str | None:
        body = http_body(data)
        shown = data[: -len(audio)][:300]
        if outcome.code is not None:
            # Lengths that contradict each other or are no numbers are read in different ways.
            length = rb"(?i)content-length *:[ \t]*((?:[^\n]|\n[ \t])*)"
            lengths = {found.strip() for found in re.findall(length, data[: -len(audio)])}
            clear = len(lengths) <= 1 and all(map(bytes.isdigit, lengths))
            return f"{outcome.code} ({outcome.message}) for {shown!r}" if body == audio and clear else None
        reference = decoded_seconds(body) if body else None
        heard = outcome.duration_seconds
        whole_file = decoded_seconds(audio)
        expected = [one for one in (reference, whole_file) if one]
        if outcome.warning or any(abs(heard - one[0]) <= TOLERANCE_SECONDS for one in expected):
            return None
        return f"{heard:.2f} s without a warning, http.client: {reference} for {shown!r}"

    return Input(number, "http", "head", url, {url: lambda _headers: data}, judge)


# --- documents ----------------------------------------------------------------------------------------------

_SNIPPETS: Final = (
    "&", "&nbsp;", "&times", "<", ">", "</item>", "<![CDATA[", "]]>", "\ufeff", "\x0b", "\u00a0", "<br>",
    '"', "'", "<!-- ", " -->", "\u2028", "\U0001f3a7", "\\", "\x00", "<b>", "</channel>", "%20", "\r\n",
    "?x=1&amp;copy=2",
)  # fmt: skip


def mutated_text(text: str, dice: random.Random) -> str:  # noqa: C901  # one kind of change a branch
    """Change a document in one to three places, at its tags or anywhere."""
    for _ in range(dice.randint(1, 3)):
        tags = [found.span() for found in re.finditer(r"<[^<>]{1,300}>", text)]
        first, last = dice.choice(tags) if tags else (0, min(len(text), 10))
        spot = dice.randrange(len(text) + 1)
        match dice.randrange(10):
            case 0:
                text = text[:first] + text[last:]
            case 1:
                text = text[:last] + text[first:last] + text[last:]
            case 2:
                text = text[:first] + text[first:last].replace('"', dice.choice(("", "'"))) + text[last:]
            case 3:
                text = text[:spot] + dice.choice(_SNIPPETS) + text[spot:]
            case 4:
                text = text[:first] + text[first:last].swapcase() + text[last:]
            case 5:
                text = dice.choice((" \n", "\ufeff", "Warning: foo() on line 3\n", "<!-- x -->")) + text
            case 6:
                text = text[: max(200, dice.randrange(len(text) + 1))]
            case 7:
                text = text[:last] + dice.choice(_SNIPPETS) + text[last:]
            case 8:
                text = re.sub(
                    r'encoding="[^"]+"', f'encoding="{dice.choice(("utf-16", "latin-1", "nope"))}"', text
                )
            case _:
                other, end = dice.choice(tags) if tags else (0, 0)
                text = text[:first] + text[other:end] + text[last:]
    return text


def renamed(text: str, number: int) -> str:
    """Give every host in a document a label of its own, and http for https; namespaces stay."""
    address = r"(xmlns(?::\w+)?=[\"'])?https?(:\\?/\\?/)(?=[\w-]+(?:\.[\w-]+)+)"
    return re.sub(address, lambda found: found[0] if found[1] else f"http{found[2]}n{number}.", text)


def corpus(*kinds: str) -> list[dict[str, Any]]:
    """Return the cases of the corpus whose submitted document is of one of these kinds."""
    cases = json.loads((CORPUS / "manifest.json").read_text())
    return [
        case
        for case in cases
        if case["id"] != "feed_utf16"  # hosts can't be renamed in it
        and case["url"].partition("#")[0] in case["documents"]
        and case["documents"][case["url"].partition("#")[0]]["file"].rpartition(".")[2] in kinds
    ]


def documents_of(
    case: dict[str, Any], number: int, dice: random.Random
) -> tuple[str, str, dict[str, Answer]]:
    """Return the URL to submit, the mutated text of its document, and the answers of all of its documents."""
    answers: dict[str, Answer] = {}
    submitted = ""
    for url, document in case["documents"].items():
        raw = (CORPUS / document["file"]).read_bytes()
        text = renamed(raw.decode("utf-8", "surrogateescape"), number)
        if url == case["url"].partition("#")[0]:
            text = submitted = mutated_text(text, dice)
        body = text.encode("utf-8", "surrogateescape")
        answers[renamed(url, number).partition("#")[0]] = whole(body, document["type"])
    for url in case.get("media", ()):
        answers[renamed(url, number)] = file(media_file("mp3"))
    for url, target in case.get("redirects", {}).items():
        location = renamed(target, number)
        reply = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        answers[renamed(url, number)] = lambda _headers, reply=reply: reply  # type: ignore[misc]
    return renamed(case["url"], number), submitted, answers


def feed_enclosures(text: str, url: str) -> list[tuple[float, list[str]]]:
    """Return, by feedparser, each item's time (0 if it has none) and the addresses of its audio, in order."""
    parsed = feedparser.parse(text.encode("utf-8", "surrogateescape"), sanitize_html=False)
    rows = []
    for entry in parsed.entries:
        found = [one.get("href") or one.get("url") or "" for one in entry.get("enclosures", [])]
        found += [one.get("url") or "" for one in entry.get("media_content", [])]
        found += [
            link["href"]
            for link in entry.get("links", [])
            if link.get("rel") == "enclosure" and link.get("href")
        ]
        moment = entry.get("published_parsed") or entry.get("updated_parsed")
        seconds = float(calendar.timegm(moment)) if moment else 0.0
        playable = [_plain(_joined(url, one)) for one in found if _may_be_audio(one)]
        rows.append((seconds, playable))
    return [row for row in rows if row[1]]


def _may_be_audio(address: str) -> bool:
    """Return whether an address of a feed may be a file of sound, and can be requested at all."""
    return bool(address) and not re.search(r"\.(?:jpe?g|png|gif)$|^\w+://[^/]*[][<>%\\\s!]", address)


def _joined(base: str, reference: str) -> str:
    try:
        return urljoin(base, reference)
    except ValueError:
        return reference


def _plain(url: str) -> str:
    """Return a URL for comparison: decoded, without spaces."""
    return re.sub(r"\s", "", unquote(unquote(url))).partition("#")[0]


def feed_input(number: int, dice: random.Random) -> Input:
    """Return a mutated feed; the reference is feedparser."""
    case = dice.choice(corpus("xml", "json"))
    url, text, answers = documents_of(case, number, dice)
    named = "#" in url or "?" in url

    def judge(outcome: Outcome) -> str | None:
        rows = feed_enclosures(text, url)
        listed = {address for _, addresses in rows for address in addresses}
        if outcome.code is not None:
            return (
                f"{outcome.code} ({outcome.message}), feedparser: {sorted(listed)[:3]}"
                if listed and not named
                else None
            )
        chosen = _plain(outcome.media_url)
        if not listed or named:
            return None if _mentions(text, outcome.media_url) else f"{chosen} is not in the feed"
        if "origEnclosureLink" in text and _mentions(text, outcome.media_url):
            return None  # instead of a proxy that no longer exists
        newest = max(moment for moment, _ in rows if moment < time.time() + 86_400) if rows else 0
        best = [addresses for moment, addresses in rows if moment == newest] or [rows[0][1]]
        if chosen in best[0]:
            return None
        where = next((index for index, (_, addresses) in enumerate(rows) if chosen in addresses), None)
        return f"{chosen} (feedparser's item {where}), feedparser's newest: {best[0]}"

    return Input(number, "feed", case["id"], url, answers, judge)


def _mentions(text: str, url: str) -> bool:
    """Return whether a document names an address: its last path segment, however it is escaped."""
    name = unquote(url.partition("?")[0].rstrip("/").rpartition("/")[2])
    plain = unquote(unescape(unescape(text.replace("\\", ""))))
    return re.sub(r"\s", "", name) in re.sub(r"\s", "", plain)


def page_input(number: int, dice: random.Random) -> Input:
    """Return a mutated page: what is chosen must stand in one of its documents."""
    case = dice.choice(corpus("html"))
    url, text, answers = documents_of(case, number, dice)
    everything = text + "".join(
        (CORPUS / document["file"]).read_text("utf-8", "replace") for document in case["documents"].values()
    )

    def judge(outcome: Outcome) -> str | None:
        if outcome.code is not None or _mentions(everything, outcome.media_url):
            return None
        return f"{outcome.media_url} is on none of the pages"

    return Input(number, "page", case["id"], url, answers, judge)


_PLAYLISTS: Final[dict[str, str]] = {
    "m3u": "#EXTM3U\n#EXTINF:3,A talk\nhttp://n{n}.lists.example/talk.mp3\n",
    "m3u-relative": "#EXTM3U\r\ntalk.mp3\r\n",
    "pls": "[playlist]\nNumberOfEntries=1\nFile1=http://n{n}.lists.example/talk.mp3\nTitle1=A talk\n",
    "xspf": '<?xml version="1.0" encoding="UTF-8"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList>'
    "<track><location>http://n{n}.lists.example/talk.mp3</location></track></trackList></playlist>",
    "asx": '<asx version="3.0"><entry><ref href="http://n{n}.lists.example/talk.mp3"/></entry></asx>',
}
_HLS: Final = (
    "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n"
    "#EXTINF:3.0,\n0.aac\n#EXTINF:3.0,\n1.aac\n#EXTINF:3.0,\n2.aac\n#EXT-X-ENDLIST\n"
)


def playlist_input(number: int, dice: random.Random) -> Input:  # noqa: C901  # one kind of change a branch
    """Return a mutated playlist; the reference is the number of its segments that are still named."""
    if dice.random() < 0.5:
        text = _HLS
        for _ in range(dice.randint(1, 2)):
            lines = text.split("\n")
            at = dice.randrange(len(lines))
            match dice.randrange(5):
                case 0:
                    del lines[at]
                case 1:
                    lines.insert(at, lines[at])
                case 2:
                    lines[at] = lines[at][: dice.randrange(len(lines[at]) + 1)]
                case 3:
                    lines.insert(
                        at, dice.choice(("", "#EXT-X-DISCONTINUITY", "# comment", "#EXT-X-GAP", "9.aac"))
                    )
                case _:
                    lines[at] = dice.choice((" ", "\ufeff", "\t")) + lines[at] + dice.choice((" ", "\r", ""))
            text = "\n".join(lines)
        base = f"http://n{number}.hls.example/"
        answers = {f"{base}{part}.aac": file(media_file("aac"), "audio/aac") for part in range(3)}
        answers |= {f"{base}list.m3u8": whole(text.encode(), "application/vnd.apple.mpegurl")}
        named = [
            line.strip()
            for line in text.split("\n")
            if line.strip().removeprefix("\ufeff")[:1] not in {"", "#"}
        ]
        gaps = text.count("#EXT-X-GAP")
        known = [line for line in named if line in {"0.aac", "1.aac", "2.aac"}]

        def judge(outcome: Outcome) -> str | None:
            seconds = outcome.duration_seconds
            fits = any(abs(seconds - SECONDS * (len(known) - gap)) < 1.0 for gap in range(gaps + 1))
            if outcome.code is not None or outcome.warning or fits:
                return None
            return f"{seconds:.2f} s without a warning, {named} are named in {text!r}"

        return Input(number, "playlist", "hls", f"{base}list.m3u8", answers, judge)
    name = dice.choice(list(_PLAYLISTS))
    text = mutated_text(_PLAYLISTS[name].format(n=number), dice)
    url = f"http://n{number}.lists.example/list.{name.partition('-')[0]}"

    def judge_list(outcome: Outcome) -> str | None:
        if outcome.code is not None or _mentions(text, outcome.media_url):
            return None
        return f"{outcome.media_url} is not in {text!r}"

    return Input(number, "playlist", name, url, {url: whole(text.encode(), "audio/x-mpegurl")}, judge_list)


MAKERS: Final = (media_input, media_input, http_input, feed_input, feed_input, page_input, playlist_input)


def inputs(seed: int, first: int, count: int) -> list[Input]:
    """Return the inputs with these numbers."""
    made = []
    for number in range(first, first + count):
        dice = random.Random(f"{seed}/{number}")
        made.append(MAKERS[number % len(MAKERS)](number, dice))
    return made


# --- through the service ------------------------------------------------------------------------------------


async def submit(client: httpx.AsyncClient, given: Input) -> Outcome:
    """Post the input, follow its events to the end, and return what the client learns."""
    response = await client.post("/v1/transcripts", json={"audio_url": given.url})
    body = response.json()
    if response.status_code != 202:
        return Outcome(code=f"{response.status_code} {body['error']}")
    path = f"/v1/transcripts/{body['id']}"
    done: dict[str, Any] = {}
    async with client.stream("GET", f"{path}/events") as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data:") and '"result_ready"' in line:
                done = json.loads(line[5:])
    answer = await client.get(f"{path}/result")
    result = answer.json()
    if answer.status_code != 200:
        return Outcome(code=result["error"], message=result["message"])
    source = result["source"]
    return Outcome(None, "", result["duration_seconds"], done.get("warning"), source["media_url"])


async def differences(url: str, api_key: str, web: ProxiedWeb, given: Sequence[Input]) -> list[str]:
    """Return a line for each input whose outcome is a fault, or not what its reference says."""
    found: list[str] = []
    turns = asyncio.Semaphore(AT_ONCE)
    headers = {"Authorization": f"Bearer {api_key}"}

    async def one(client: httpx.AsyncClient, each: Input) -> None:
        web.answers.update(each.answers)
        async with turns:
            try:
                async with asyncio.timeout(HANG_SECONDS):
                    outcome = await submit(client, each)
            except TimeoutError:
                found.append(f"{each.number} {each.kind} {each.name}: hangs")
                return
        fault = outcome.code is not None and outcome.code.startswith("5")
        said = f"{outcome.code} {outcome.message}" if fault else await asyncio.to_thread(each.judge, outcome)
        if said is not None:
            found.append(f"{each.number} {each.kind} {each.name}: {said}")

    async with (
        httpx.AsyncClient(base_url=url, headers=headers, timeout=HANG_SECONDS, trust_env=False) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for each in given:
            tasks.create_task(one(client, each))
    return sorted(found, key=lambda line: int(line.split(" ")[0]))


def main() -> int:
    """Run so many inputs, and print the differences."""
    options = argparse.ArgumentParser()
    options.add_argument("count", type=int)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--first", type=int, default=0)
    asked = options.parse_args()
    given = inputs(asked.seed, asked.first, asked.count)
    with (
        tempfile.TemporaryDirectory() as folder,
        ProxiedWeb(media_file("mp3")) as web,
        ServerProcess(Path(folder) / "data", SETTINGS | {"EGRESS_PROXY": web.url}) as server,
    ):
        found = asyncio.run(differences(server.url, server.create_key(), web, given))
        if "Traceback" in server.log():
            found.append("the log has a traceback")
            sys.stderr.write(server.log()[-20_000:])
    for line in found:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{len(found)} differences in {len(given)} inputs\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
