"""The yt-dlp rung, for sites whose audio only a maintained extractor finds. It runs in a confined child.

yt-dlp only finds the address. The service downloads the audio itself, under the same policy as any other.

    try_ ──► child (child.py) ──► loopback proxy ──► egress policy ──► site
                 │ JSON on stdout, bounded; killed at the deadline, on cancellation, with this process
                 ▼
             choose() ──► MediaLead: the address, and the Referer or User-Agent that its server requires
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import re
import socket
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import structlog
from pydantic import BaseModel, ConfigDict, Field, OnErrorOmit, ValidationError

from stenobird.children.process import ChildProcess
from stenobird.discovery.parsing.facts import EpisodeFacts, FoundSource, MediaLead
from stenobird.discovery.parsing.lenient import iso, parse_duration
from stenobird.errors import (
    AudioSourceNotFound,
    AudioSourceUnreachable,
    EgressError,
    ExtractorUnavailable,
    UnsupportedURL,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.discovery.parsing.facts import SearchContext
    from stenobird.egress.proxy import EgressProxy
    from stenobird.errors import JobError
    from stenobird.sources import Stage

_log = structlog.get_logger(__name__)

CHILD = Path(__file__).with_name("child.py")
DISTRIBUTION = "yt-dlp"
FRESH_DAYS = 60
"""Sites change every few weeks, so an older extractor probably fails on some of them."""
UPDATE = 'update it with "pip install -U yt-dlp"'

_AUDIO_PLAYERS = re.compile(
    r"https?://(?:w\.soundcloud\.com/player|(?:www|player-widget)\.mixcloud\.com/widget"
    r"|bandcamp\.com/EmbeddedPlayer)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ExtractorLimits:
    """Limits of one extraction; the error at each of them says which it was."""

    wall_seconds: float = 60.0
    cpu_seconds: int = 30
    address_space_bytes: int = 1024 * 1024 * 1024
    open_files: int = 64
    answer_bytes: int = 4 * 1024 * 1024
    network_bytes: int = 64 * 1024 * 1024
    socket_timeout_seconds: float = 15.0
    children: int = 2
    """Extractions at once; further ones wait."""


# --- running the child --------------------------------------------------------------------------------------


class Extractor:
    """The last rung: sites that yt-dlp knows, and the audio players of such sites on the page.

    Each extraction runs in a child of its own, at most `limits.children` at once.

    `authorities` is a PEM file of certificate authorities to trust instead of the usual ones.
    """

    stage: ClassVar[Stage] = "resolving_extractor"

    def __init__(
        self,
        proxy: EgressProxy,
        *,
        limits: ExtractorLimits | None = None,
        authorities: Path | None = None,
        python: str = sys.executable,
    ) -> None:
        self._proxy = proxy
        self._limits = limits or ExtractorLimits()
        self._authorities = authorities
        self._python = python
        self._free = asyncio.Semaphore(self._limits.children)

    async def extract(self, urls: Sequence[str]) -> Extraction | None:
        """Return the result for the first URL that an extractor supports, `None` if none is supported.

        Unsupported URLs are never requested. Raises a `JobError` with the reason of a failure. If cancelled,
        it kills the child and waits for its end.
        """
        async with self._free:
            with (
                self._proxy.granted(self._limits.network_bytes) as grant,
                tempfile.TemporaryDirectory(prefix="stenobird-extractor-") as home,
            ):
                answer = await self._run(urls, grant.url, home)
        if answer["outcome"] == "unsuitable":
            return None
        if answer["outcome"] != "found":
            raise _explained(answer)
        return read_extraction(answer.get("info"))

    async def try_(self, search: SearchContext, url: str) -> FoundSource:
        """Return the recording at the URL, else that of the only audio player on the page."""
        found = await self.extract([url, *await _only_player(search, url)])
        return FoundSource(media=choose(found)) if found is not None else FoundSource()

    async def _run(self, urls: Sequence[str], proxy: str, home: str) -> dict[str, Any]:
        limits = self._limits
        request = {
            "urls": list(urls),
            "proxy": proxy,
            "socket_timeout_seconds": limits.socket_timeout_seconds,
            "readable": [str(self._authorities)] if self._authorities else [],
            "limits": {
                "AS": limits.address_space_bytes,
                "CPU": limits.cpu_seconds,
                "FSIZE": 0,
                "NOFILE": limits.open_files,
            },
        }
        environment = {
            "PATH": "/nonexistent",  # no ffmpeg, no downloaders, no JavaScript engines
            "HOME": home,
            "TMPDIR": home,
            "LANG": "C.UTF-8",
            "YTDLP_NO_PLUGINS": "1",
            "NO_PROXY": "",
        }
        if self._authorities is not None:
            environment["SSL_CERT_FILE"] = str(self._authorities)
        try:
            child = await ChildProcess.start(
                [self._python, "-I", "-B", str(CHILD)],
                environment=environment,
                cwd=home,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise ExtractorUnavailable(
                f"The extractor could not be started ({error}). Send the direct audio URL, or tell the"
                " operator."
            ) from error
        try:
            async with asyncio.timeout(limits.wall_seconds):
                output = await _converse(child, json.dumps(request).encode(), limits.answer_bytes, proxy)
                await child.wait()
        except TimeoutError as error:
            raise AudioSourceUnreachable(
                f"The address of the audio was not found within {limits.wall_seconds:g} s. Try again"
                " later, or send the direct audio URL."
            ) from error
        finally:
            await child.aclose()
        try:
            answer = json.loads(output)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("outcome"), str):
            _log.error("extractor_broke_off", exit_status=child.returncode, stderr=await child.stderr_tail())
            raise ExtractorUnavailable(
                f"The extractor ended early (exit status {child.returncode}): it reached one of its limits"
                f" (memory, time, output) or is broken. Send the direct audio URL; the operator can {UPDATE}."
            )
        return answer


async def _converse(child: ChildProcess, request: bytes, answer_bytes: int, proxy: str) -> bytes:
    """Return the answer, sending a connection to the proxy for each empty line before it."""
    output = bytearray()
    with contextlib.suppress(ConnectionError):  # it may have ended at once: its exit status says why
        child.writer.write(request + b"\n")
        await child.writer.drain()
        while block := await child.reader.read(64 * 1024):
            if block == b"\n":
                await _send_connection(child, proxy)
            output += block
            if len(output) > answer_bytes:
                return b""
    return bytes(output)


async def _send_connection(child: ChildProcess, proxy: str) -> None:
    parts = urlsplit(proxy)
    with socket.socket() as connection:
        connection.settimeout(0)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (parts.hostname, parts.port))
        except OSError:
            child.send(b"\n")
        else:
            connection.settimeout(None)  # the child shares this flag
            child.send(b"\n", connection.fileno())


def _explained(answer: Mapping[str, Any]) -> JobError:
    outcome, detail = answer["outcome"], str(answer.get("detail") or "").strip().rstrip(".")
    site = str(answer.get("extractor") or "the site")
    said = f" ({detail})" if detail else ""
    if outcome == "missing":
        return ExtractorUnavailable(
            f"yt-dlp, which finds the audio of this site, can't be loaded{said}. Send the direct audio URL;"
            f" the operator can {UPDATE}."
        )
    known: dict[str, JobError] = {
        "live": UnsupportedURL("This is a live stream. Send it again when the recording is online."),
        "drm": UnsupportedURL(f"The recording is encrypted (DRM), so it can't be transcribed{said}."),
        "login": UnsupportedURL(f"The recording is not public{said}. Send a link that opens without login."),
        "restricted": UnsupportedURL(f"The site does not serve this recording in Stenobird's region{said}."),
        "several": AudioSourceNotFound(
            "This link stands for several recordings. Send the link of one of them."
        ),
        "empty": AudioSourceNotFound("This link stands for a list without any recording."),
        "gone": AudioSourceNotFound(f"The site has no recording at this address{said}."),
        "refused": AudioSourceNotFound(f"The site does not give out this recording{said}."),
        "unreachable": AudioSourceUnreachable(f"The site could not be reached{said}."),
    }
    return known.get(outcome) or ExtractorUnavailable(
        f"The extractor for {site} can't read this page any more{said}. Send the direct audio URL;"
        f" the operator can {UPDATE}."
    )


# --- choosing a format --------------------------------------------------------------------------------------

LEADS = 3
"""Formats that are returned: the best, and others to try if its server refuses."""

_GOOD_KILOBITS = 96.0
"""A higher bit rate does not improve the transcript, and makes the download longer."""

_HLS = frozenset({"m3u8", "m3u8_native"})
_AUDIO_EXTENSIONS = frozenset({"mp3", "m4a", "opus", "ogg", "aac", "wav", "flac", "mpga"})


class Format(BaseModel):
    """One format in which a site offers the recording."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    url: str = Field(max_length=8192)
    protocol: str = ""
    ext: str = ""
    acodec: str | None = None
    vcodec: str | None = None
    abr: float | None = None
    tbr: float | None = None
    format_id: str = ""
    format_note: str = ""
    language_preference: float = -1
    preference: float = 0
    has_drm: bool = False
    headers: dict[str, str] = Field(default_factory=dict)


class Extraction(BaseModel):
    """The extractor's result for one recording."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    extractor_key: str = ""
    title: str | None = None
    series: str | None = None
    uploader: str | None = None
    upload_date: str | None = None
    timestamp: float | None = None
    duration: float | None = None
    live_status: str | None = None
    is_live: bool = False
    has_drm: bool = False
    formats: tuple[OnErrorOmit[Format], ...] = ()

    @property
    def published(self) -> str | None:
        """The date in ISO 8601, if it is known."""
        if self.timestamp is not None:
            with contextlib.suppress(OverflowError, ValueError, OSError):
                return iso(datetime.fromtimestamp(self.timestamp, UTC))
        day = self.upload_date or ""
        return f"{day[:4]}-{day[4:6]}-{day[6:]}" if re.fullmatch(r"\d{8}", day) else None


def read_extraction(info: Any) -> Extraction:
    """Return the child's answer without malformed formats."""
    try:
        return Extraction.model_validate(info)
    except ValidationError as error:
        raise ExtractorUnavailable(
            "The extractor answered with something unexpected. Send the direct audio URL; the operator can"
            f" {UPDATE}."
        ) from error


def choose(found: Extraction) -> tuple[MediaLead, ...]:
    """Return the formats to try, the best for listening to speech first, at most `LEADS`.

    Audio is preferred to video, whole files to segments, and the original language to dubs; then the bit rate
    that is just good enough. Raises `UnsupportedURL` for live streams, encrypted recordings and samples, and
    `AudioSourceNotFound` if no format can be fetched.
    """
    site = found.extractor_key or "The site"
    if found.is_live or found.live_status in {"is_live", "is_upcoming", "post_live"}:
        raise UnsupportedURL("This is a live stream. Send it again when the recording is online.")
    audible = [form for form in found.formats if form.acodec != "none" and form.ext != "mhtml"]
    unencrypted = [form for form in audible if not form.has_drm]
    if not unencrypted and (audible or found.has_drm):
        raise UnsupportedURL(f"{site} encrypts this recording (DRM), so it can't be transcribed.")
    whole = [form for form in unencrypted if "preview" not in f"{form.format_id} {form.format_note}".lower()]
    if unencrypted and not whole:
        raise UnsupportedURL(f"{site} offers only a sample of this recording without an account.")
    usable = [
        form
        for form in whole
        if form.url.startswith(("https://", "http://")) and form.protocol in {"http", "https", *_HLS}
    ]
    if not usable:
        raise AudioSourceNotFound(
            f"{site} offers this recording only in a way that can't be downloaded. Send the direct audio URL."
        )
    best = sorted(usable, key=_rank)[:LEADS]
    episode = EpisodeFacts(
        title=found.title,
        show=found.series or found.uploader,
        published=found.published,
        duration_seconds=parse_duration(found.duration),
    )
    return tuple(
        MediaLead(
            form.url,
            f"extractor.{re.sub(r'[^a-z0-9]+', '_', site.lower())}",
            f"yt-dlp's extractor for {site} found it",
            headers={
                name.lower(): value
                for name, value in form.headers.items()
                if value.isascii() and value.isprintable()
            },
            episode=episode,
        )
        for form in best
    )


def _rank(form: Format) -> tuple[float, ...]:
    rate = form.abr or form.tbr or 0.0
    has_video = form.vcodec != "none" and (form.vcodec is not None or form.ext not in _AUDIO_EXTENSIONS)
    return (
        has_video,
        form.protocol in _HLS,
        -form.language_preference,
        -form.preference if form.preference < 0 else 0,
        0 < rate < 0.5 * _GOOD_KILOBITS,
        abs(rate - _GOOD_KILOBITS) if rate else _GOOD_KILOBITS,
        form.ext not in {"m4a", "mp3", "opus", "webm"},
        not form.url.startswith("https://"),
    )


async def _only_player(search: SearchContext, url: str) -> tuple[str, ...]:
    try:
        page = await search.page(url)
    except EgressError:
        return ()
    players = dict.fromkeys(url for url in page.iframes if _AUDIO_PLAYERS.match(url)) if page else {}
    return tuple(players) if len(players) == 1 else ()


# --- for `doctor` -------------------------------------------------------------------------------------------


def extractor_status(today: date) -> tuple[str | None, str]:
    """Return the version of the installed yt-dlp, read without loading it, and `advice_on` it."""
    try:
        version = importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None, f"yt-dlp is not installed: {UPDATE}"
    return version, advice_on(version, today)


def advice_on(version: str, today: date) -> str:
    """Return a sentence for the operator of a yt-dlp version, empty if it is new enough.

    A version is the date of its release (`2026.10.26`).
    """
    try:
        released = date(*(int(part) for part in version.split(".")[:3]))
    except (ValueError, TypeError, OverflowError):
        return f"the age of yt-dlp {version} is unknown"
    age_days = (today - released).days
    old = f"yt-dlp is {age_days} days old, sites change every few weeks: {UPDATE}"
    return old if age_days > FRESH_DAYS else ""
