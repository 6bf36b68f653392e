"""Podcast Index: an open directory whose API wants a key; without one, other rungs take its links."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from stenobird.discovery.platforms.fields import Fields, dig, the_one
from stenobird.discovery.platforms.platform import Platform, Route
from stenobird.discovery.platforms.ways import parsed

if TYPE_CHECKING:
    from stenobird.discovery.platforms.visit import Visit
    from stenobird.ports import Clock

_FIELDS = Fields(
    media=("enclosureUrl",),
    title="title",
    show="feedTitle",
    guid="guid",
    duration="duration",
    feed="feedUrl",
)


@dataclass(frozen=True, slots=True)
class PodcastIndexKey:
    """The operator's key for the API. Each request is signed with the time; the key itself is not sent on."""

    key: str
    secret: str
    clock: Clock

    def __repr__(self) -> str:
        return "PodcastIndexKey(…)"

    def headers(self) -> dict[str, str]:
        """Return the headers of one request, valid for about three minutes."""
        now = str(int(self.clock.time()))
        signature = hashlib.sha1(f"{self.key}{self.secret}{now}".encode(), usedforsecurity=False)
        return {"x-auth-key": self.key, "x-auth-date": now, "authorization": signature.hexdigest()}


@dataclass(frozen=True, slots=True)
class IndexLookup:
    """Ask the API for an episode or a feed by its id."""

    key: PodcastIndexKey
    path: str
    root: str
    same: str
    newest: bool = False
    offline: ClassVar[bool] = False

    async def follow(self, visit: Visit) -> None:
        """Add the episode's file and feed (or the show's feed alone, for its newest)."""
        path = visit.fill(self.path)
        if path is None:
            return
        document = await visit.search.fetch(
            f"https://api.podcastindex.org/api/1.0/{path}", headers=self.key.headers()
        )
        if document.status != 200:
            return
        answer = the_one(dig(parsed(document.body), self.root), {"id": visit.values[self.same]})
        if answer is None:
            return
        if self.newest:
            visit.add_feed(dig(answer, "url"), newest=True)
            return
        visit.learn(_FIELDS.facts(answer))
        for url in _FIELDS.media_urls(answer):
            visit.add_media(url, "Podcast Index lists this file under the episode's id")
        visit.add_feed(dig(answer, "feedUrl"))


def podcast_index(key: PodcastIndexKey) -> Platform:
    """Return the entry for an operator who has a key."""
    episode = IndexLookup(key, "episodes/byid?id={episode}", "episode", "episode")
    show = IndexLookup(key, "podcasts/byfeedid?id={show}", "feed", "show", newest=True)
    return Platform(
        "Podcast Index",
        hosts=("podcastindex.org", "fountain.fm", "curiocaster.com"),
        routes=(
            Route(r"/podcast/(?:pi)?(?P<show>\d+)", (episode,), needs=("episode",)),
            Route(r"/episode/(?P<episode>\d+)", (episode,)),
            Route(r"/(?:podcast|show)/(?:pi)?(?P<show>\d+)", (show,)),
        ),
        examples=(
            "https://podcastindex.org/podcast/920666?episode=16795088",
            "https://fountain.fm/show/920666",
        ),
    )
