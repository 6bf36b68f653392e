"""Reads audio, and facts about the episode, from a page's JSON-LD. Runs in the parsing child."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from stenobird.discovery import urls
from stenobird.discovery.feeds.episodes import plain
from stenobird.discovery.page.candidates import Finding, is_narration
from stenobird.discovery.parsing import lenient
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


@dataclass(slots=True)
class JSONLDFacts:
    """What a page's JSON-LD says about audio and the episode; unknown facts are `None`."""

    findings: list[Finding] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    title: str | None = None
    show: str | None = None
    published: str | None = None
    duration_seconds: float | None = None
    guid: str | None = None
    page_url: str | None = None
    players: list[str] = field(default_factory=list)
    feeds: list[str] = field(default_factory=list)
    is_episode: bool = False
    is_show: bool = False
    is_article: bool = False
    names: set[str] = field(default_factory=set)
    """Plain names of the episodes outside lists."""
    unread: list[str] = field(default_factory=list)
    """Scripts that could not be parsed."""


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


def read_json_ld(scripts: list[str], base: str) -> JSONLDFacts:
    """Read all JSON-LD scripts of a page; those that can't be repaired are `unread`."""
    facts = JSONLDFacts()
    numbers = itertools.count()
    for text in dict.fromkeys(scripts):
        data = parse_json(text)
        if data is None:
            facts.unread.append(text)
            continue
        nodes = list(_walk(data, _Place(), [MAX_NODES], numbers))
        owners = {place.refers_to: place for _, place in nodes if place.refers_to}
        for node, place in nodes:
            owner = None if place.kinds else owners.get(str(node.get("@id")))
            _read_node(node, owner or place, facts, base)
    if len(facts.names) > 1:
        # Several episodes, and the JSON-LD does not say which of them the page is about; the head must.
        facts.title = facts.published = facts.duration_seconds = facts.guid = facts.page_url = None
    return facts


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


def _read_node(  # noqa: C901  # one kind of node a branch
    node: dict[str, Any], place: _Place, facts: JSONLDFacts, base: str
) -> None:
    kinds = _kinds(node)
    if len(facts.nodes) < 200 and kinds:
        facts.nodes.append({key: value for key, value in node.items() if not isinstance(value, dict | list)})
    if kinds & _MEDIA_KINDS or (place.is_media and not kinds):
        _read_media(node, kinds, place, facts, base)
    if kinds & _EPISODES and not place.listed:
        facts.is_episode = True
        facts.names.add(plain(_name(node)))
        _read_facts(node, facts, base)
    elif (
        kinds & _SHOWS and place.key not in {"partofseries", "partofseason", "ispartof"} and not place.listed
    ):
        facts.is_show = True
    elif kinds & (_ARTICLES | {"recipe", "product"}) and not place.listed:
        facts.is_article = facts.is_article or kinds != {"webpage"}
        _read_facts(node, facts, base)
    if kinds & _SHOWS and not place.listed:
        for value in _strings(node.get("webFeed")):
            feed = absolute(base, value)
            if feed:
                facts.feeds.append(feed)
    if not kinds & (_MEDIA_KINDS | _OTHER_MEDIA) and not (place.is_media and not kinds):
        for key in ("audio", "associatedMedia", "encoding", "contentUrl", "audioUrl"):
            address = node.get(key)
            if isinstance(address, str):
                told = key == "audio" or (key in {"associatedMedia", "encoding"} and kinds & _EPISODES)
                _add(address, node, place, facts, base, needs_extension=not told)


def _read_media(
    node: dict[str, Any], kinds: frozenset[str], place: _Place, facts: JSONLDFacts, base: str
) -> None:
    media_type = " ".join(
        str(node.get(key) or "") for key in ("encodingFormat", "fileFormat", "@type")
    ).lower()
    # An episode's media is audio unless it says otherwise, whatever its extension: it is sniffed anyway.
    foreign = "videoobject" in kinds or any(kind in media_type for kind in ("video", "image", "text", "html"))
    is_audio = "audioobject" in kinds or "audio" in media_type or (place.is_media and not foreign)
    for value in _strings(node.get("contentUrl")):
        _add(value, node, place, facts, base, needs_extension=not is_audio)
    if not node.get("contentUrl"):
        for value in _strings(node.get("url")):
            _add(value, node, place, facts, base, needs_extension=not (is_audio and place.is_media))
    if is_audio and not place.listed:
        for value in _strings(node.get("embedUrl")):
            player = absolute(base, value)
            if player:
                facts.players.append(player)
        seconds = lenient.parse_duration(node.get("duration"))
        if seconds and facts.duration_seconds is None:
            facts.duration_seconds = seconds


def _add(
    value: str, node: dict[str, Any], place: _Place, facts: JSONLDFacts, base: str, *, needs_extension: bool
) -> None:
    kinds = _kinds(node)
    url = absolute(base, strip_cdata(value))
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
    facts.findings.append(
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


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)][:50]
    if isinstance(value, dict):
        return _strings(value.get("@id") or value.get("url") or value.get("contentUrl"))
    return []


def _read_facts(node: dict[str, Any], facts: JSONLDFacts, base: str) -> None:
    facts.title = facts.title or _name(node)
    facts.published = facts.published or _first(
        node, "datePublished", "uploadDate", "dateCreated", "startDate"
    )
    facts.duration_seconds = facts.duration_seconds or next(
        (
            seconds
            for key in ("duration", "timeRequired")
            if (seconds := lenient.parse_duration(node.get(key)))
        ),
        None,
    )
    facts.page_url = facts.page_url or absolute(base, _first(node, "url") or "")
    identifier = node.get("identifier")
    if isinstance(identifier, dict):
        identifier = identifier.get("value")
    if isinstance(identifier, str):
        facts.guid = facts.guid or identifier[:500]
    for key in ("partOfSeries", "isPartOf", "partOfSeason"):
        series = node.get(key)
        for one in series if isinstance(series, list) else [series]:
            if isinstance(one, dict) and _kinds(one) & _SHOWS:
                facts.show = facts.show or _name(one)


def _first(node: dict[str, Any], *keys: str) -> str | None:
    return next((value for key in keys if isinstance(value := node.get(key), str) and value.strip()), None)
