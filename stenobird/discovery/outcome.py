"""Chooses the error that says best why no audio was found, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stenobird.discovery import urls
from stenobird.errors import (
    SEND_AUDIO,
    TRY_LATER,
    AudioContentTypeNotSupported,
    AudioSourceNotFound,
    AudioSourceUnreachable,
    AudioUnreachable,
    DestinationForbidden,
    EgressError,
    JobError,
    UnsupportedURL,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.discovery.parsing.facts import PageFacts
    from stenobird.discovery.search import Search
    from stenobird.sources import Candidate

MAX_CANDIDATES: Final = 10
"""Rejected candidates that an error lists."""
_OPEN_IN_BROWSER: Final = "Check that the URL opens in a browser, then try again."
_LOGIN: Final = frozenset({401, 402, 403, 407})


def refusal(url: str, reason: EgressError | int) -> JobError:
    """Return the error for a submitted URL that could not be opened, or answered with an error status.

    A URL that ends like audio is taken for the media itself (`audio_unreachable`), any other for a page or
    feed that leads to it (`audio_source_unreachable`).
    """
    host = urls.host_of(url) or url
    if isinstance(reason, DestinationForbidden):
        return UnsupportedURL(f"{host} is not opened: {reason.with_remedy('Send a public URL.')}")
    if isinstance(reason, int) and reason in _LOGIN:
        return UnsupportedURL(
            f"{host} does not show this to the public (status {reason}). Send a URL that opens without login,"
            " or the direct audio URL."
        )
    if isinstance(reason, int):
        what = f"The server answered {reason}. {_remedy_of(reason)}"
    else:
        what = reason.with_remedy(_OPEN_IN_BROWSER)
    if urls.is_audio_url(url):
        return AudioUnreachable(f"The audio at {host} could not be opened. {what}")
    return AudioSourceUnreachable(
        f"{host} could not be opened. {what} You can also send the direct audio URL."
    )


def gone(url: str) -> JobError:
    """Return the error for a URL that named something and now redirects to its site's front page."""
    return AudioSourceNotFound(
        f"{urls.host_of(url)} redirects this URL to its front page: the recording is no longer there. Send"
        " the direct audio URL, or the podcast's feed with the episode's guid after a #."
    )


def _remedy_of(status: int) -> str:
    if status in {404, 410}:
        return "It was moved or taken away: check the URL."
    return TRY_LATER if status >= 500 or status in {408, 425, 429} else _OPEN_IN_BROWSER


def failure(  # noqa: PLR0911  # one reason a branch, the most specific first
    search: Search, errors: Sequence[JobError], page: PageFacts | None
) -> JobError:
    """Return the error that explains best why no audio was found."""
    if errors and page is None and not search.unreachable:
        return errors[0]
    if page is not None and page.login and not page.accepted:
        return UnsupportedURL("The page asks for a login. Send a URL that opens without login.")
    unsupported = next((error for error in errors if isinstance(error, UnsupportedURL)), None)
    if unsupported is not None:
        return unsupported
    if page is None and search.not_media and not search.unreachable:
        url, what = search.not_media[0]
        return AudioContentTypeNotSupported(
            f"{urls.host_of(url)} sent no audio that can be decoded: {what}. {SEND_AUDIO}"
        )
    if search.unreachable:
        url, what = search.unreachable[0]
        return AudioUnreachable(
            f"The audio was found, but {urls.host_of(url)} did not deliver it. {what}",
            details=_details(search.rejected),
        )
    if search.forbidden:
        url, what = search.forbidden[0]
        return UnsupportedURL(f"The audio's address is not opened: {what} Send a public URL.")
    if errors:
        return errors[0]
    return AudioSourceNotFound(
        f"{_explanation(search, page)} Send the direct audio URL, or the podcast's feed with the"
        " episode's guid after a #.",
        details=_details(search.rejected),
    )


def _explanation(search: Search, page: PageFacts | None) -> str:
    rejected = search.rejected
    if (clip := search.clip) is not None:
        return f"Only a clip of {clip.seconds:.0f} s of {clip.expected_seconds:.0f} s was found."
    if page is not None and page.outcome == "ambiguous":
        count = len(page.candidates)
        listed = "; ".join(_short(one.url) for one in page.candidates[:3])
        more = f" and {count - 3} more" if count > 3 else ""
        return f"The page has {count} audio files, and none stands out: {listed}{more}."
    if not rejected:
        return "No audio was found behind this URL."
    shown = "; ".join(f"{_short(one.url)}: {one.rejected}" for one in rejected[:3])
    more = f" and {len(rejected) - 3} more" if len(rejected) > 3 else ""
    return f"No audio was found behind this URL. Looked at and rejected: {shown}{more}."


def _short(url: str) -> str:
    return url if len(url) <= 80 else f"{url[:60]}…{url[-19:]}"


def _details(rejected: Sequence[Candidate]) -> dict[str, Any]:
    rows = [
        {"url": one.url, "technique": one.technique, "score": one.score, "reason": one.rejected}
        for one in rejected[:MAX_CANDIDATES]
    ]
    return {"candidates": [{name: value for name, value in row.items() if value is not None} for row in rows]}
