"""One run of a platform's rule on a URL: the URL's values, the facts learnt, and the leads found.

Also how an episode is read from a platform's JSON: paths into it, and the fields that name its audio.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote

from stenobird.discovery import urls
from stenobird.discovery.page.candidates import CLIPS
from stenobird.discovery.parsing import lenient
from stenobird.discovery.parsing.facts import EpisodeFacts, FeedLead, FoundSource, MediaLead
from stenobird.discovery.parsing.lenient import decode_html, text_of
from stenobird.egress.references import absolute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stenobird.discovery.feeds.directory import PodcastDirectory
    from stenobird.discovery.parsing.facts import PageFacts, SearchContext


class _Value(str):
    """A value in a template, percent-encoded, or decoded by `{feed:base64}`, `{url:link}` or `{id:text}`."""

    __slots__ = ()

    def __format__(self, how: str) -> str:
        if how == "":
            return quote(self, safe="")
        if how == "base64":
            return _base64_text(self)
        if how == "text":
            return str(self)
        if how == "link":
            return _link(self)
        raise ValueError(f"unknown template filter {how!r}; use base64, link, text or none")


def _base64_text(value: str) -> str:
    return urls.base64_text(unquote(value).rstrip("=."))


def _link(value: str) -> str:
    value = str(value)
    # A proxy may have merged the slashes (`https:/host/feed`); some links have no scheme at all.
    text = unquote(value) if "%" in value and "://" not in value else value
    if match := re.match(r"(https?):/{1,2}(?=[^/])", text, re.IGNORECASE):
        return f"{match[1].lower()}://{text[match.end() :]}"
    return f"https://{text}" if re.match(r"[\w-]+(\.[\w-]+)+/", text) else ""


def values_of_query(query: str) -> dict[str, str]:
    """Return the decoded parameters of the query, the first of each name; none if there are more than 64."""
    try:
        pairs = parse_qsl(query, max_num_fields=64)
    except ValueError:
        return {}
    return dict(reversed(pairs))


def media_url(url: str, base: str) -> str | None:
    """Return an absolute http(s) address without its fragment, `None` if it can't be media."""
    joined = absolute(base, url)
    return None if joined is None or CLIPS.search(joined) else urls.for_request(joined)


@dataclass(slots=True)
class Visit:
    """The state that the ways of one route share. `values` are the named parts of the URL, decoded.

    Ways add media and feeds in the order in which they should be tried, and learn facts for later ways.
    """

    search: SearchContext
    url: str
    platform: str
    values: Mapping[str, str]
    directory: PodcastDirectory
    facts: EpisodeFacts = field(default_factory=EpisodeFacts)
    media: list[MediaLead] = field(default_factory=list)
    feeds: list[FeedLead] = field(default_factory=list)

    @property
    def technique(self) -> str:
        """The name under which the leads of this visit are reported."""
        return f"platform.{re.sub(r'[^a-z0-9]+', '_', self.platform.lower()).strip('_')}"

    def fill(self, template: str) -> str | None:
        """Return the template filled with the URL's values, `None` if one of them is missing or empty."""
        values = {name: _Value(value) for name, value in self.values.items() if value}
        try:
            text = template.format_map(values)
        except KeyError:
            return None
        return text or None

    def learn(self, facts: EpisodeFacts) -> None:
        """Add facts about the episode; those learnt earlier take precedence."""
        self.facts = self.facts.merged(facts)

    def add_media(self, url: str | None, reason: str, *, base: str | None = None) -> bool:
        """Add an address that should be the episode's audio; return whether it is new and can be media."""
        address = media_url(url, self.url if base is None else base) if url else None
        if address is None or any(lead.url == address for lead in self.media):
            return False
        self.media.append(MediaLead(address, self.technique, reason))
        return True

    def add_feed(self, url: str | None, *, newest: bool = False, base: str | None = None) -> bool:
        """Add the show's feed, to be searched for the episode or its newest; return whether it is new."""
        address = media_url(url, self.url if base is None else base) if url else None
        if address is None or any(lead.url == address for lead in self.feeds):
            return False
        self.feeds.append(FeedLead(address, self.technique, newest=newest))
        return True

    async def page(self, url: str | None = None) -> PageFacts | None:
        """Return the page at `url` (without it, the visited page), and learn its facts about the episode."""
        page = await self.search.page(url or self.url, with_state=True)
        if page is not None:
            app = {page.first_meta(name) for name in ("og:site_name", "application-name", "al:ios:app_name")}
            named_after_app = page.episode.show in app
            self.learn(replace(page.episode, show=None) if named_after_app else page.episode)
        return page

    async def source(self) -> str:
        """Return the source of the visited page, for what its parsed facts don't include."""
        page = await self.page()
        if page is None:
            return ""
        if page.text:
            return page.text
        document = await self.search.fetch(self.url)
        return decode_html(document.body, document.headers.get("content-type", ""))

    def found(self, *, final: bool) -> FoundSource | None:
        """Return all leads with all facts learnt, `None` if there are neither."""
        about = replace(self.facts, page_urls=(*self.facts.page_urls, self.url))
        media = tuple(
            replace(
                lead,
                title=lead.title or about.title,
                podcast=lead.podcast or about.show,
                published=lead.published or about.published,
                duration_seconds=lead.duration_seconds or about.duration_seconds,
            )
            for lead in self.media
        )
        feeds = tuple(
            lead if lead.newest else replace(lead, wanted=lead.wanted.merged(about)) for lead in self.feeds
        )
        if not (media or feeds or final or self.facts != EpisodeFacts()):
            return None
        return FoundSource(media=media, feeds=feeds, wanted=about, final=final)


# --- an episode in JSON -------------------------------------------------------------------------------------

MAX_DEPTH = 24
"""Levels that `walk` descends; platforms nest at most 15."""

MAX_NODES = 50_000
"""Objects that `walk` visits before it gives up on a document."""


def dig(data: Any, path: str) -> Any | None:
    """Return the value at a dotted path (`data.0.url`), `None` if there is none.

    An empty path is the data itself; a number indexes a list.
    """
    for step in path.split(".") if path else ():
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and step.isdigit() and int(step) < len(data):
            data = data[int(step)]
        else:
            return None
    return data


def walk(data: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON document, in document order, within `MAX_DEPTH` and `MAX_NODES`."""
    stack: list[tuple[Any, int]] = [(data, 0)]
    visited = 0
    while stack and visited < MAX_NODES:
        node, depth = stack.pop()
        visited += 1
        if isinstance(node, dict):
            yield node
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        if depth < MAX_DEPTH:
            stack.extend((child, depth + 1) for child in reversed(list(children)))


def seconds_of(value: Any, *, milliseconds: bool = False) -> float | None:
    """Return a duration in seconds; `milliseconds` is the unit of a bare number."""
    if not milliseconds:
        return lenient.parse_duration(value)
    text = text_of(value)
    return lenient.parse_duration(int(text) / 1000) if text and text.isdecimal() and len(text) < 13 else None


@dataclass(frozen=True, slots=True)
class Fields:
    """The paths of the relevant values in a platform's JSON object. `media` has the preferred path first.

    With `milliseconds`, that is the unit of `duration`. `feed` is the path of the show's feed.
    """

    media: tuple[str, ...] = ()
    title: str = ""
    show: str = ""
    guid: str = ""
    duration: str = ""
    milliseconds: bool = False
    published: str = ""
    feed: str = ""

    def facts(self, data: Any) -> EpisodeFacts:
        """Return what the object says about the episode."""
        length = dig(data, self.duration) if self.duration else None
        return EpisodeFacts(
            title=text_of(dig(data, self.title)) if self.title else None,
            show=text_of(dig(data, self.show)) if self.show else None,
            guid=text_of(dig(data, self.guid)) if self.guid else None,
            published=text_of(dig(data, self.published)) if self.published else None,
            duration_seconds=seconds_of(length, milliseconds=self.milliseconds),
        )

    def media_urls(self, data: Any) -> tuple[str, ...]:
        """Return the media addresses that the object names, as written."""
        return tuple(url for path in self.media if isinstance(url := dig(data, path), str) and url.strip())


def _means(text: str, value: str) -> bool:
    """Return whether a field is the value or an address that ends with it, in upper or lower case (UUIDs)."""
    return f"/{text.casefold().rstrip('/')}".endswith(f"/{value.casefold()}")


def the_one(data: Any, same: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the object that is the wanted episode, `None` if it is another or can't be identified.

    `data` is an object or a list of them. `same` maps paths to the values that the episode must have there.
    An object with none of these paths is taken only if it is the only object.
    """
    items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else [data]
    unnamed, confirmed = [], []
    for item in items:
        if not isinstance(item, dict):
            continue
        found = [(text_of(dig(item, path)), value) for path, value in same.items()]
        named = [(text, value) for text, value in found if text is not None]
        if any(_means(text, value) for text, value in named):
            confirmed.append(item)
        elif not named:
            unnamed.append(item)
    if len(confirmed) == 1:
        return confirmed[0]
    return unnamed[0] if not confirmed and len(items) == 1 and unnamed else None
