"""Platforms that encrypt their audio: a recording can only be used if it is found elsewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stenobird.discovery.parsing.facts import EpisodeFacts
from stenobird.discovery.platforms.platform import Platform, Route
from stenobird.discovery.platforms.visit import Fields
from stenobird.discovery.platforms.ways import NEXT_DATA, InDirectory, JSONLookup, PageJSON, Refuse

if TYPE_CHECKING:
    from stenobird.discovery.platforms.visit import Visit

_ID = r"(?P<id>[A-Za-z0-9]{10,32})"
_LOCALE = r"(?:/intl-[a-z]{2}(?:-[a-z]{2})?)?"
_ENTITY = "props.pageProps.state.data.entity"
_MUSIC = Refuse("{} streams encrypted music, so Stenobird can't transcribe it. Send a link to another site.")


async def spotify_title(visit: Visit) -> None:
    """Learn episode and show from the page's `<title>`, in case the embed's layout has changed."""
    if visit.facts.title and visit.facts.show:
        return
    # Not `visit.page()`, because the page's own facts are mixed with the app's name.
    page = await visit.search.page(visit.url)
    if page is None:
        return
    for title in (page.title or "", *page.episode.alternate_titles):
        if found := re.fullmatch(r"(.{1,400}) - (.{1,200}) \| Podcast on Spotify", title.strip()):
            visit.learn(EpisodeFacts(title=found[1], show=found[2]))
            return
    described = page.first_meta("og:description") or ""
    if found := re.match(r"Listen to this episode from (.{1,200}) on Spotify\.", described):
        visit.learn(EpisodeFacts(title=page.first_meta("og:title"), show=found[1]))


MUSIC = (
    Platform(
        "Spotify",
        ("open.spotify.com", "play.spotify.com"),
        Route(
            rf"{_LOCALE}(?:/embed(?:-podcast)?)?/episode/{_ID}(?:/video)?",
            PageJSON(
                NEXT_DATA,
                Fields(
                    title="title",
                    show="subtitle",
                    duration="duration",
                    milliseconds=True,
                    published="releaseDate.isoString",
                ),
                root=_ENTITY,
                same={"id": "id"},
                page="https://open.spotify.com/embed/episode/{id}",
            ),
            spotify_title,
            InDirectory(),
            final=True,
        ),
        Route(
            rf"{_LOCALE}(?:/embed(?:-podcast)?)?/show/{_ID}",
            PageJSON(
                NEXT_DATA,
                Fields(show="title"),
                root=_ENTITY,
                same={"id": "id"},
                page="https://open.spotify.com/embed/show/{id}",
            ),
            InDirectory("show"),
            final=True,
        ),
        Route(
            rf"{_LOCALE}(?:/embed)?/(?:track|album|playlist|artist|user/[^/]+/playlist)/{_ID}",
            _MUSIC,
            final=True,
        ),
        stage="resolving_directory",
    ),
    Platform(
        "Deezer",
        ("deezer.com",),
        Route(
            r"(?:/[a-z]{2})?/episode/(?P<id>\d+)",
            JSONLookup(
                "https://api.deezer.com/episode/{id}",
                Fields(title="title", show="podcast.title", duration="duration", published="release_date"),
                same={"id": "id"},
            ),
            InDirectory(),
            final=True,
        ),
        Route(
            r"(?:/[a-z]{2})?/show/(?P<id>\d+)",
            JSONLookup("https://api.deezer.com/podcast/{id}", Fields(show="title"), same={"id": "id"}),
            InDirectory("show"),
            final=True,
        ),
        Route(r"(?:/[a-z]{2})?/(?:track|album|playlist|artist)/\d+", _MUSIC, final=True),
        stage="resolving_directory",
    ),
    Platform(
        "Tidal",
        ("tidal.com", "listen.tidal.com", "embed.tidal.com"),
        Route(
            r"(?:/browse)?/(?:track|album|playlist|artist|mix|video|tracks|albums|playlists|videos)/[\w-]+(?:/.*)?",
            _MUSIC,
            final=True,
        ),
    ),
    Platform(
        "Bandcamp",
        ("{artist}.bandcamp.com",),
        Route(
            r"/track/(?P<slug>[^/]+)",
            PageJSON(
                r"\sdata-tralbum\s*=\s*[\"']",
                Fields(media=("file.mp3-128",), title="title", duration="duration"),
                root="trackinfo",
            ),
        ),
        Route(
            r"/album/[^/]+",
            Refuse("This is an album of several recordings. Send the link of one track."),
            final=True,
        ),
    ),
    Platform(
        "YouTube",
        ("youtube.com", "m.youtube.com", "music.youtube.com", "youtu.be", "youtube-nocookie.com"),
        Route(r"/(?:watch|live/[\w-]+|shorts/[\w-]+|embed/[\w-]+|v/[\w-]+|playlist|[\w-]{11})", final=True),
    ),
)
