"""One run of a platform's rule on a URL: the URL's values, the facts learnt, and the leads found.

Also how an episode is read from a platform's JSON: paths into it, and the fields that name its audio.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from stenobird.discovery import urls
from stenobird.discovery.page.candidates import CLIPS
from stenobird.discovery.page.head import SITE_NAMES
from stenobird.discovery.parsing import lenient
from stenobird.discovery.parsing.facts import EpisodeFacts, FeedLead, FoundSource, MediaLead
from stenobird.discovery.parsing.lenient import text_of, unescape_attribute
from stenobird.egress.references import absolute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stenobird.discovery.feeds.directory import PodcastDirectory
    from stenobird.discovery.parsing.facts import PageFacts, SearchContext
    from stenobird.errors import EgressError, JobError


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
        address = self._new_address(url, base, self.media)
        if address is not None:
            self.media.append(MediaLead(address, self.technique, reason))
        return address is not None

    def add_feed(self, url: str | None, *, newest: bool = False, base: str | None = None) -> None:
        """Add the show's feed, to be searched for the episode or its newest."""
        if (address := self._new_address(url, base, self.feeds)) is not None:
            self.feeds.append(FeedLead(address, self.technique, newest=newest))

    def _new_address(
        self, url: str | None, base: str | None, leads: Sequence[MediaLead | FeedLead]
    ) -> str | None:
        joined = absolute(self.url if base is None else base, url) if url else None
        address = None if joined is None or CLIPS.search(joined) else urls.for_request(joined)
        return None if any(lead.url == address for lead in leads) else address

    async def page(self) -> PageFacts | None:
        """Return the visited page, and learn its facts about the episode."""
        page = await self.search.page(self.url)
        if page is not None:
            app = {page.first_meta(name) for name in SITE_NAMES}
            named_after_app = page.episode.show in app
            self.learn(replace(page.episode, show=None) if named_after_app else page.episode)
        return page

    async def source(self) -> str:
        """Return the source of the visited page, whose facts about the episode are learnt too."""
        await self.page()
        return await self.search.source(self.url)

    def found(self, *, final: bool, failure: EgressError | JobError | None) -> FoundSource:
        """Return all leads with all facts learnt; `failure` only if there are no leads."""
        about = replace(self.facts, page_urls=(*self.facts.page_urls, self.url))
        media = tuple(replace(lead, episode=about) for lead in self.media)
        feeds = tuple(
            lead if lead.newest else replace(lead, wanted=lead.wanted.merged(about)) for lead in self.feeds
        )
        return FoundSource(media, feeds, about, final, failure=None if media or feeds else failure)


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


def json_after(pattern: str, source: str) -> Any | None:
    """Return the JSON right after the pattern in a page's source, `None` if there is none.

    After a pattern that ends with a quote, it is the value of an attribute. JSON in a string is parsed too,
    as in `JSON.parse("…")`.
    """
    if (found := re.search(pattern, source)) is None:
        return None
    if (quote := found[0][-1]) in "\"'":
        return lenient.strict_json(unescape_attribute(source[found.end() :].partition(quote)[0]))
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(source, found.end())
    except (ValueError, RecursionError):
        return None
    return lenient.strict_json(value) if isinstance(value, str) else value


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


@dataclass(frozen=True, slots=True)
class Fields:
    """The paths of the relevant values in a platform's JSON object. `media` has the preferred path first.

    With `milliseconds`, `duration` is a number of them. `feed` is the path of the show's feed.
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
        # Without a path, `dig` returns the object, which is neither a text nor a duration.
        return EpisodeFacts(
            title=text_of(dig(data, self.title)),
            show=text_of(dig(data, self.show)),
            guid=text_of(dig(data, self.guid)),
            published=text_of(dig(data, self.published)),
            duration_seconds=self._seconds(dig(data, self.duration)),
        )

    def _seconds(self, value: Any) -> float | None:
        if not self.milliseconds:
            return lenient.parse_duration(value)
        text = text_of(value)
        return (
            lenient.parse_duration(int(text) / 1000) if text and text.isdecimal() and len(text) < 13 else None
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
    items = [item for item in (data if isinstance(data, list) else [data]) if isinstance(item, dict)]
    confirmed, is_named = [], False
    for item in items:
        named = [(text, value) for path, value in same.items() if (text := text_of(dig(item, path)))]
        is_named = is_named or bool(named)
        if any(_means(text, value) for text, value in named):
            confirmed.append(item)
    if len(confirmed) == 1:
        return confirmed[0]
    return items[0] if len(items) == 1 and not is_named else None
