"""Reads audio, and facts about the episode, from a page's JSON-LD. Runs in the parsing child."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from stenobird.discovery import urls
from stenobird.discovery.feeds.episodes import plain
from stenobird.discovery.page.candidates import Finding, is_narration
from stenobird.discovery.parsing import lenient
from stenobird.discovery.parsing.facts import EpisodeFacts
from stenobird.discovery.parsing.lenient import parse_json
from stenobird.egress.references import absolute

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NODES: Final = 5000
MAX_DEPTH: Final = 24

_EPISODES: Final = frozenset(
    {"podcastepisode", "radioepisode", "episode", "radioclip", "audioepisode", "tvepisode", "musicrecording"}
)
_SHOWS: Final = frozenset(
    {"podcastseries", "radioseries", "podcastseason", "radioseason", "creativeworkseries"}
)
_PODCASTS: Final = frozenset(
    {"podcastepisode", "podcastseries", "podcastseason", "radioepisode", "radioseries"}
)
_ARTICLES: Final = frozenset({
    "article", "newsarticle", "blogposting", "reportagenewsarticle", "webpage", "opinionnewsarticle",
    "report",
})  # fmt: skip
_LIST_KEYS: Final = frozenset({
    "itemlistelement", "episode", "episodes", "haspart", "track", "tracks", "workexample", "relatedlink",
    "mentions", "mainentity.itemlistelement", "containsepisode", "isrelatedto", "subjectof", "citation",
    "comment",
})  # fmt: skip
_MEDIA_KEYS: Final = frozenset({"audio", "associatedmedia", "encoding"})
"""Objects under these keys of an episode are its media, whatever their type or extension."""
_MEDIA_KINDS: Final = frozenset({"audioobject", "mediaobject", "videoobject"})
_OTHER_MEDIA: Final = frozenset({"imageobject", "textobject"})
_NARRATION_WORDS = re.compile(
    r"text[- ]to[- ]speech|\btts\b|narrat|ai[- ]?(?:generated|voice|audio)|automated voice|synthetic"
    r"|read ?aloud"
    r"|vorgelesen"
    r"|listen to (?:this |the )?article|audio ?article|audio version of (?:this|the) article",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Place:
    """A node's place in the tree: its parent's name and types, and whether it is in a list of works."""

    name: str = ""
    kinds: frozenset[str] = frozenset()
    key: str = ""
    listed: bool = False
    depth: int = 0
    episode: int | None = None
    """The number of the episode node above it, whose media are formats of one recording."""
    refers_to: str | None = None
    """The `@id` of the node that it only references."""

    @property
    def is_media(self) -> bool:
        """Whether an episode names it as its media."""
        return self.key in _MEDIA_KEYS and bool(self.kinds & _EPISODES)


class JSONLD:
    """What a page's JSON-LD says about audio and the episode; unknown facts are `None`."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._names: set[str] = set()
        self.findings: list[Finding] = []
        self.episode = EpisodeFacts()
        self.players: list[str] = []
        self.feeds: list[str] = []
        self.is_episode = self.is_show = self.is_article = self.is_podcast = False
        self.unread: list[str] = []
        """Scripts that could not be parsed."""

    def read(self, scripts: list[str]) -> None:
        """Read all JSON-LD scripts of the page."""
        numbers = itertools.count()
        for text in dict.fromkeys(scripts):
            data = parse_json(text)
            if data is None:
                self.unread.append(text)
                continue
            nodes = list(_walk(data, _Place(), [MAX_NODES], numbers))
            owners = {place.refers_to: place for _, place in nodes if place.refers_to}
            for node, place in nodes:
                owner = None if place.kinds else owners.get(str(node.get("@id")))
                self._read_node(node, owner or place)
        if len(self._names) > 1:
            # Several episodes, and the JSON-LD does not say which of them the page is about; the head must.
            self.episode = EpisodeFacts(show=self.episode.show)

    def _read_node(self, node: dict[str, Any], place: _Place) -> None:
        kinds = _kinds(node)
        untyped_media = place.is_media and not kinds
        self.is_podcast = self.is_podcast or bool(kinds & _PODCASTS)
        if kinds & _MEDIA_KINDS or untyped_media:
            self._read_media(node, kinds, place)
        if not place.listed:
            self._read_work(node, kinds, place)
        if not kinds & (_MEDIA_KINDS | _OTHER_MEDIA) and not untyped_media:
            for key in ("audio", "associatedMedia", "encoding", "contentUrl", "audioUrl"):
                if isinstance(address := node.get(key), str):
                    told = key == "audio" or (key in {"associatedMedia", "encoding"} and kinds & _EPISODES)
                    self._add(address, node, place, needs_extension=not told)

    def _read_work(self, node: dict[str, Any], kinds: frozenset[str], place: _Place) -> None:
        if kinds & _EPISODES:
            self.is_episode = True
            self._names.add(plain(_name(node)))
            self._learn(node)
        elif kinds & _SHOWS and place.key not in {"partofseries", "partofseason", "ispartof"}:
            self.is_show = True
        elif kinds & (_ARTICLES | {"recipe", "product"}):
            self.is_article = self.is_article or kinds != {"webpage"}
            self._learn(node)
        if kinds & _SHOWS:
            feeds = (absolute(self._base, value) for value in _strings(node.get("webFeed")))
            self.feeds.extend(filter(None, feeds))

    def _read_media(self, node: dict[str, Any], kinds: frozenset[str], place: _Place) -> None:
        media_type = " ".join(
            str(node.get(key) or "") for key in ("encodingFormat", "fileFormat", "@type")
        ).lower()
        # An episode's media is audio unless it says otherwise, whatever its extension: it is sniffed anyway.
        foreign = "videoobject" in kinds or re.search("video|image|text|html", media_type)
        is_audio = "audioobject" in kinds or "audio" in media_type or (place.is_media and not foreign)
        for value in _strings(node.get("contentUrl")):
            self._add(value, node, place, needs_extension=not is_audio)
        if not node.get("contentUrl"):
            for value in _strings(node.get("url")):
                self._add(value, node, place, needs_extension=not (is_audio and place.is_media))
        if is_audio and not place.listed:
            players = (absolute(self._base, value) for value in _strings(node.get("embedUrl")))
            self.players.extend(filter(None, players))
            seconds = lenient.parse_duration(node.get("duration"))
            self.episode = self.episode.merged(EpisodeFacts(duration_seconds=seconds))

    def _add(self, value: str, node: dict[str, Any], place: _Place, *, needs_extension: bool) -> None:
        kinds = _kinds(node)
        url = absolute(self._base, strip_cdata(value))
        if url is None:
            return
        video = urls.is_video_url(url) or ("videoobject" in kinds and not urls.is_audio_url(url))
        if (needs_extension or video) and not (urls.is_audio_url(url) or urls.is_video_url(url)):
            return
        in_episode = bool((place.kinds | kinds) & _EPISODES)
        in_article = bool((place.kinds | kinds) & _ARTICLES) and not in_episode
        technique = "page.json_ld_article" if in_article else "page.json_ld"
        around = f"{_name(node) or ''} {node.get('@id') or ''} {place.key}"[:1000]
        # An episode may be called "The Narrator"; for an article, the name means a reading of it.
        narrated = not in_episode and (bool(_NARRATION_WORDS.search(around)) or is_narration(around))
        self.findings.append(
            Finding(
                url,
                "page.json_ld_video" if video else technique,
                context=f"{_name(node) or ''} {place.name}".strip(),
                aside=place.listed,
                narration=narrated,
                video=video,
                recorded=in_episode,
                group=-100 - place.episode if place.episode is not None and not place.listed else None,
            )
        )

    def _learn(self, node: dict[str, Any]) -> None:
        """Take the facts about the page's episode or article that are not known yet."""
        identifier = node.get("identifier")
        if isinstance(identifier, dict):
            identifier = identifier.get("value")
        address = absolute(self._base, _first(node, "url") or "")
        seconds = (lenient.parse_duration(node.get(key)) for key in ("duration", "timeRequired"))
        parents = [node.get(key) for key in ("partOfSeries", "isPartOf", "partOfSeason")]
        works = [one for parent in parents for one in (parent if isinstance(parent, list) else [parent])]
        shows = (_name(one) for one in works if isinstance(one, dict) and _kinds(one) & _SHOWS)
        self.episode = self.episode.merged(
            EpisodeFacts(
                title=_name(node),
                show=next(filter(None, shows), None),
                guid=identifier[:500] if isinstance(identifier, str) else None,
                published=_first(node, "datePublished", "uploadDate", "dateCreated", "startDate"),
                duration_seconds=next(filter(None, seconds), None),
                page_urls=(address,) if address and not self.episode.page_urls else (),
            )
        )


def _walk(
    data: Any, place: _Place, budget: list[int], numbers: Iterator[int]
) -> Iterator[tuple[dict[str, Any], _Place]]:
    """Yield every object with its place, parents first."""
    if budget[0] <= 0 or place.depth > MAX_DEPTH:
        return
    if isinstance(data, list):
        listed = place.listed or (place.key in _LIST_KEYS and len(data) > 1)
        for item in data:
            yield from _walk(item, replace(place, listed=listed, depth=place.depth + 1), budget, numbers)
    elif isinstance(data, dict):
        budget[0] -= 1
        node = {_key(name): value for name, value in data.items()}
        identity = node.get("@id")
        if place.is_media and isinstance(identity, str) and len(node) <= 2:
            place = replace(place, refers_to=identity)
        yield node, place
        kinds = _kinds(node)
        name = _name(node) or place.name
        episode = next(numbers) if kinds & _EPISODES else place.episode
        for key, value in node.items():
            if isinstance(value, dict | list):
                lower = key.lower()
                listed = place.listed or (lower in _LIST_KEYS and isinstance(value, list) and len(value) > 1)
                inner = _Place(name, kinds or place.kinds, lower, listed, place.depth + 1, episode)
                yield from _walk(value, inner, budget, numbers)


_PREFIX = re.compile(r"^(?:schema:|https?://schema\.org/)", re.IGNORECASE)
_SPELLINGS: Final = {
    name.lower(): name
    for name in ("@type", "contentUrl", "embedUrl", "encodingFormat", "associatedMedia", "datePublished")
}


def _key(name: str) -> str:
    """Return a property's name without its vocabulary prefix, in the usual spelling."""
    name = _PREFIX.sub("", name)
    return _SPELLINGS.get(name.lower(), name)


def _kinds(node: dict[str, Any]) -> frozenset[str]:
    value = node.get("@type")
    names = value if isinstance(value, list) else [value]
    return frozenset(re.split(r"[/:#]", name)[-1].lower() for name in names if isinstance(name, str))


def _name(node: dict[str, Any]) -> str | None:
    for key in ("name", "headline", "alternativeHeadline", "title"):
        value = node.get(key)
        if isinstance(value, str) and value.strip():
            return " ".join(strip_cdata(value).split())[:500]
    return None


def strip_cdata(text: str) -> str:
    """Remove a CDATA wrapper inside a JSON string, as some radio sites write it."""
    return re.sub(r"^\s*<!\[CDATA\[|\]\]>\s*$", "", text).strip()


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)][:50]
    if isinstance(value, dict):
        return _strings(value.get("@id") or value.get("url") or value.get("contentUrl"))
    return []


def _first(node: dict[str, Any], *keys: str) -> str | None:
    return next((value for key in keys if isinstance(value := node.get(key), str) and value.strip()), None)
