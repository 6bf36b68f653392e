"""The ways from a platform's URL to its audio, to be combined in a platform's entry.

A way is called with the `Visit`, and adds to it what it finds. It raises `EgressError`, or a `JobError` with
the reason. The `OFFLINE` ways need no request, and are followed even if an earlier one has found media.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from stenobird.discovery.feeds.directory import apple_shows
from stenobird.discovery.parsing.facts import EpisodeFacts
from stenobird.discovery.parsing.lenient import strict_json, unescape_attribute
from stenobird.discovery.platforms.visit import Fields, dig, json_after, the_one
from stenobird.errors import UnsupportedURL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from stenobird.discovery.platforms.visit import Visit

    Way: TypeAlias = Callable[[Visit], Awaitable[None]]

API_BYTES = 2 * 1024 * 1024
"""An API's response about one episode is read up to here."""

NEXT_DATA = r"<script\b[^<>]*\sid\s*=\s*[\"']?__NEXT_DATA__[^<>]*>\s*"
"""Before the state of a page that Next.js has made, for `PageJSON`."""

_FORM = {"content-type": "application/x-www-form-urlencoded"}
_SRC = re.compile(r"""\ssrc\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>=]+))""", re.IGNORECASE)


class MediaURL:
    """The media's address follows from the page's: `MediaURL("https://rss.art19.com/episodes/{id}.mp3")`.

    Several templates are tried in order. A template is skipped if the URL lacks one of its values.
    """

    def __init__(self, *templates: str) -> None:
        self._templates = templates

    async def __call__(self, visit: Visit) -> None:
        for template in self._templates:
            visit.add_media(visit.fill(template), "its address follows from the episode's id", base="")


@dataclass(frozen=True, slots=True)
class FeedURL:
    """The show's feed follows from the page's address; `guid` and `title` name the episode in it.

    A show's route sets `newest=True`; an episode's route must not.
    """

    template: str
    guid: str = ""
    title: str = ""
    newest: bool = False

    async def __call__(self, visit: Visit) -> None:
        visit.learn(
            EpisodeFacts(
                guid=visit.fill(self.guid) if self.guid else None,
                title=visit.fill(self.title) if self.title else None,
            )
        )
        visit.add_feed(visit.fill(self.template), newest=self.newest, base="")


@dataclass(frozen=True, slots=True)
class JSONWay:
    """JSON describes the episode. `source` says where it is, in the way of each subclass.

    `root` is the path of the episode (or a list of episodes) in it. `same` maps fields of the episode to the
    values of the URL that they must equal, so that another episode is not taken for the wanted one. With
    `newest`, the newest episode of the feed that it names is meant.
    """

    source: str
    fields: Fields
    root: str = ""
    same: Mapping[str, str] = field(default_factory=dict)
    newest: bool = False

    def take(self, visit: Visit, data: Any, base: str, reason: str) -> None:
        """Add what the data say about the episode."""
        same = {path: value for path, name in self.same.items() if (value := visit.values.get(name))}
        episode = the_one(dig(data, self.root), same)
        if episode is None:
            return
        visit.learn(self.fields.facts(episode))
        for url in self.fields.media_urls(episode):
            visit.add_media(url, reason, base=base)
        if self.fields.feed and isinstance(feed := dig(episode, self.fields.feed), str):
            visit.add_feed(feed, newest=self.newest, base=base)


@dataclass(frozen=True, slots=True)
class JSONLookup(JSONWay):
    """An API at the URL `source` returns the episode. `form` is the form-encoded body of a POST."""

    form: str = ""
    headers: Callable[[], dict[str, str]] = lambda: {"accept": "application/json"}

    async def __call__(self, visit: Visit) -> None:
        url = visit.fill(self.source)
        if url is None:
            return
        document = await visit.search.fetch(
            url,
            method="POST" if self.form else "GET",
            headers=self.headers() | (_FORM if self.form else {}),
            content=(visit.fill(self.form) or "").encode() if self.form else None,
            max_bytes=API_BYTES,
        )
        if document.status == 200:
            self.take(visit, strict_json(document.body), document.final_url, "the platform's API names it")


@dataclass(frozen=True, slots=True)
class PageJSON(JSONWay):
    r"""The page has the episode as JSON right after the pattern `source`, in a script or an attribute.

    A pattern for an attribute ends with its opening quote: `PageJSON(r"\sdata-episodes=[\"']", Fields(…))`.
    `page` is the template of another page to read (an embed). `when` are values that fields must have.
    """

    when: Mapping[str, str] = field(default_factory=dict)
    page: str = ""

    async def __call__(self, visit: Visit) -> None:
        embed = visit.fill(self.page) if self.page else None
        data = json_after(self.source, await (visit.search.source(embed) if embed else visit.source()))
        if all(str(dig(data, path)) == value for path, value in self.when.items()):
            self.take(visit, data, visit.url, "the page's data name it")


@dataclass(frozen=True, slots=True)
class PageAudio:
    """The page names exactly one audio file by this technique of the generic reader: `page.json_ld`.

    A page that names several is a list.
    """

    technique: str

    async def __call__(self, visit: Visit) -> None:
        page = await visit.page()
        if page is None:
            return
        # Rejected ones count too, because the choice between several is a guess from titles.
        named = [one for one in page.candidates if one.technique == self.technique]
        if len(named) == 1 and named[0].rejected is None:
            visit.add_media(named[0].url, f"the page names one audio ({self.technique})")


class PageMeta:
    """A `<meta>` of the page has the media's address, or values that `pattern` extracts.

    With `pattern`, its named groups are added to the URL's values for later ways. The first meta that fits is
    used.
    """

    def __init__(self, *names: str, pattern: str = "") -> None:
        self._names, self._pattern = names, pattern

    async def __call__(self, visit: Visit) -> None:
        page = await visit.page()
        if page is None:
            return
        for name in self._names:
            content = page.first_meta(name)
            if content is None:
                continue
            if not self._pattern:
                if visit.add_media(content, f"the page's {name} names it", base=page.final_url):
                    return
            elif found := re.search(self._pattern, content):
                visit.values = {**visit.values, **{k: v for k, v in found.groupdict().items() if v}}
                return


@dataclass(frozen=True, slots=True)
class PageLink:
    """The page links to the media, at the only address with this pattern."""

    pattern: str

    async def __call__(self, visit: Visit) -> None:
        page = await visit.page()
        links = {link for link in page.links if re.match(self.pattern, link)} if page else set()
        if len(links) == 1:
            visit.add_media(links.pop(), "the page links to it")


@dataclass(frozen=True, slots=True)
class PlayerTag:
    """The page's only player is an audio tag with this id; without an id, any such tag.

    The address is the tag's `src`, or that of the `<source>` right after it. `drop_query` is a parameter that
    the page adds to it.
    """

    id: str = ""
    drop_query: str = ""

    async def __call__(self, visit: Visit) -> None:
        with_id = rf"(?=[^<>]*\sid\s*=\s*[\"']?{self.id}[\"'\s>])" if self.id else ""
        player = rf"<audio\b{with_id}[^<>]*>\s*(?:<source\b[^<>]*>)?"
        addresses = set()
        for tag in re.findall(player, await visit.source(), re.IGNORECASE):
            if found := _SRC.search(tag):
                url = unescape_attribute(found[1] or found[2] or found[3] or "")
                addresses.add(re.sub(rf"[?&]{self.drop_query}=[^&#]*$", "", url) if self.drop_query else url)
        if len(addresses) == 1:
            visit.add_media(addresses.pop(), "the page's player plays it")


@dataclass(frozen=True, slots=True)
class ShowLinks:
    """The page links to the show's feed, or to the show in Apple's directory, which has the feed.

    The directory is queried only if the page links to no feed and to one Apple show.
    """

    newest: bool = False

    async def __call__(self, visit: Visit) -> None:
        page = await visit.page()
        if page is None:
            return
        for feed in page.feeds[:3]:
            visit.add_feed(feed, newest=self.newest, base=page.final_url)
        shows = apple_shows(page)
        if not visit.feeds and len(shows) == 1:
            await _apple_show(visit, shows[0], newest=self.newest)


@dataclass(frozen=True, slots=True)
class AppleShow:
    """The URL has the show's Apple id: `AppleShow("{apple}")`; the directory has its feed."""

    id: str
    newest: bool = True
    guid: str = ""

    async def __call__(self, visit: Visit) -> None:
        if self.guid and (guid := visit.fill(self.guid)):
            visit.learn(EpisodeFacts(guid=guid))
        if show := visit.fill(self.id):
            await _apple_show(visit, show, newest=self.newest)


@dataclass(frozen=True, slots=True)
class InDirectory:
    """Look up the show and title that earlier ways have learnt in the podcast directory.

    A show that the directory does not list is exclusive to the platform.
    """

    kind: Literal["episode", "show"] = "episode"

    async def __call__(self, visit: Visit) -> None:
        facts = visit.facts
        if not facts.show or (self.kind == "episode" and not facts.title):
            return
        shows = await visit.directory.find_shows(visit.search, facts.show, exactly=self.kind == "show")
        if self.kind == "show" and len(shows) > 1:
            return  # several shows have this name, and nothing says which is meant
        for show in shows:
            visit.add_feed(show.feed_url, newest=self.kind == "show")
        if not visit.feeds:
            raise UnsupportedURL(
                f"{visit.platform} offers this only encrypted, and the public directory lists no podcast of"
                f" this name: it seems to be exclusive to {visit.platform}. Send the audio URL if there is"
                " one."
            )


@dataclass(frozen=True, slots=True)
class Refuse:
    """This kind of page has no public recording, for the given reason; `{}` is the platform's name."""

    reason: str

    async def __call__(self, visit: Visit) -> None:
        raise UnsupportedURL(self.reason.format(visit.platform))


OFFLINE: Final = (MediaURL, FeedURL, Refuse)


async def _apple_show(visit: Visit, show_id: str, *, newest: bool) -> None:
    listing = await visit.directory.lookup(visit.search, show_id)
    if listing is None:
        return
    if not newest:
        visit.learn(EpisodeFacts(show=listing.name))
    visit.add_feed(listing.feed_url, newest=newest)
