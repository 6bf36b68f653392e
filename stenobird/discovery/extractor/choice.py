"""What an extractor says about a recording, and which of its formats is best for listening to speech."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stenobird.discovery.parsing.facts import MediaLead
from stenobird.errors import AudioSourceNotFound, ExtractorUnavailable, UnsupportedURL

if TYPE_CHECKING:
    from collections.abc import Mapping

LEADS = 3
"""Formats that are returned: the best, and others to try if its server refuses."""

_GOOD_KILOBITS = 96.0
"""A higher bit rate does not improve the transcript, and makes the download longer."""


class Format(BaseModel):
    """One format in which a site offers the recording."""

    model_config = ConfigDict(extra="ignore", frozen=True)

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

    @property
    def is_audio_only(self) -> bool:
        """Whether it has no video."""
        return self.vcodec == "none" or (
            self.vcodec is None and self.ext in {"mp3", "m4a", "opus", "ogg", "aac", "wav", "flac", "mpga"}
        )

    @property
    def is_hls(self) -> bool:
        """Whether it is a playlist of segments."""
        return self.protocol in {"m3u8", "m3u8_native"}

    @property
    def is_clip(self) -> bool:
        """Whether it is only a sample of the recording."""
        return "preview" in f"{self.format_id} {self.format_note}".lower()


class Extraction(BaseModel):
    """The extractor's result for one recording."""

    model_config = ConfigDict(extra="ignore", frozen=True)

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
    formats: tuple[Format, ...] = ()

    @property
    def published(self) -> str | None:
        """The date in ISO 8601, if it is known."""
        if self.timestamp is not None:
            with contextlib.suppress(OverflowError, ValueError, OSError):
                return datetime.fromtimestamp(self.timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        day = self.upload_date or ""
        return f"{day[:4]}-{day[4:6]}-{day[6:]}" if re.fullmatch(r"\d{8}", day) else None


def read_extraction(info: Mapping[str, Any]) -> Extraction:
    """Return the child's answer without malformed formats."""
    formats = []
    for row in info.get("formats") or ():
        with contextlib.suppress(ValidationError):
            formats.append(Format.model_validate(row))
    try:
        return Extraction.model_validate({**info, "formats": formats})
    except ValidationError as error:
        raise ExtractorUnavailable(
            "The extractor answered with something unexpected. Send the direct audio URL; the operator can"
            ' update it with "pip install -U yt-dlp".'
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
    whole = [form for form in unencrypted if not form.is_clip]
    if unencrypted and not whole:
        raise UnsupportedURL(f"{site} offers only a sample of this recording without an account.")
    usable = [
        form
        for form in whole
        if form.url.startswith(("https://", "http://"))
        and (form.is_hls or form.protocol in {"http", "https"})
    ]
    if not usable:
        raise AudioSourceNotFound(
            f"{site} offers this recording only in a way that can't be downloaded. Send the direct audio URL."
        )
    best = sorted(usable, key=_rank)[:LEADS]
    return tuple(
        MediaLead(
            form.url,
            f"extractor.{re.sub(r'[^a-z0-9]+', '_', site.lower())}",
            f"yt-dlp's extractor for {site} found it",
            headers={name.lower(): value for name, value in form.headers.items() if _is_plain(value)},
            kind="hls" if form.is_hls else "file",
            title=found.title,
            podcast=found.series or found.uploader,
            published=found.published,
            duration_seconds=found.duration if found.duration and found.duration > 0 else None,
        )
        for form in best
    )


def _rank(form: Format) -> tuple[float, ...]:
    rate = form.abr or form.tbr or 0.0
    return (
        0 if form.is_audio_only else 1,
        0 if not form.is_hls else 1,
        -form.language_preference,
        -form.preference if form.preference < 0 else 0,
        0 if not rate or rate >= 0.5 * _GOOD_KILOBITS else 1,
        abs(rate - _GOOD_KILOBITS) if rate else _GOOD_KILOBITS,
        0 if form.ext in {"m4a", "mp3", "opus", "webm"} else 1,
        0 if form.url.startswith("https://") else 1,
    )


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable()
