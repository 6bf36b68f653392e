"""Reads RSS 0.9-2.0, RDF, Atom and JSON feeds into plain data. Runs in the parsing child only.

lxml parses them, because podcasts need what feedparser drops: `podcast:alternateEnclosure`,
`podcast:liveItem` (which is no item), `xml:base`, and the part of a broken feed before the error. A feed in
which lxml finds no audio goes to feedparser, which knows outdated dialects and reads broken markup in another
way.
"""

from __future__ import annotations

import html
import re
import time
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import feedparser  # type: ignore[import-untyped]
from lxml import etree  # type: ignore[import-untyped]

from stenobird.discovery import urls
from stenobird.discovery.parsing import lenient
from stenobird.discovery.parsing.facts import FeedEpisode, FeedFacts
from stenobird.discovery.parsing.lenient import decode_xml
from stenobird.egress.references import absolute
from stenobird.sources import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_EPISODES: Final = 5000
MAX_HEAD_ELEMENTS: Final = 500
MAX_FEEDPARSER_BYTES: Final = 512 * 1024
"""feedparser takes 0.1 ms of CPU per element, so it only gets small documents."""
MAX_TEXT_CHARACTERS: Final = 1000
MAX_URL_CHARACTERS: Final = 8192

_PREFIXES: Final = (
    ("itunes", "itunes"),
    ("mrss", "media"),
    ("podcastindex", "podcast"),
    ("podcast-namespace", "podcast"),
    ("feedburner", "feedburner"),
    ("2005/atom", "atom"),
    ("purl.org/atom", "atom"),
    ("purl.org/dc", "dc"),
    ("content/", "content"),
    ("xml/1998", "xml"),
)
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_DOCTYPE = re.compile(r"<!DOCTYPE[^>\[]{0,2000}(?:\[.{0,100000}?\]\s*)?>", re.IGNORECASE | re.DOTALL)
_DECLARATION = re.compile(r"<\?xml[^>]{0,500}?\?>")
_CDATA_OR_AMPERSAND = re.compile(
    r"<!\[CDATA\[(?:.*?\]\]>|.*)|&(?!(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9a-f]{1,6});)(?:([a-z]{2,8});)?",
    re.IGNORECASE | re.DOTALL,
)
_ADDRESS_ATTRIBUTE = re.compile(r"\b(?:url|href|src|uri)\s*=\s*(?:\"[^\"<>]{1,8192}\"|'[^'<>]{1,8192}')")
"""XML would read a line break in it as a space; browsers drop it."""
_TAG = re.compile(
    r"<!\[CDATA\[(?:.*?\]\]>|.*)|<!--(?:.*?-->|.*)"
    r"|<(?P<end>/?)(?P<name>[A-Za-z_][\w:.-]{0,80})(?:\s(?:[^<>\"']|\"[^\"<]*\"|'[^'<]*')*?)?(?P<empty>/?)>",
    re.DOTALL,
)
MAX_OPEN: Final = 32
"""An end tag closes one of so many elements that are open."""
_LEAVES: Final = frozenset({"guid", "id", "title", "link", "pubdate", "published", "updated", "enclosure"})
_OF_ITEMS: Final = _LEAVES | {"item", "entry", "description", "content:encoded", "itunes:duration"}
_DATES: Final = (
    "pubdate", "dc:date", "atom:published", "published", "atom:updated", "updated", "date",
)  # fmt: skip
_RANKS: Final = {
    "enclosure": 0,
    "atom_enclosure": 1,
    "attachment": 0,
    "media_content": 2,
    "alternate_enclosure": 3,
    "link": 4,
    "description": 5,
}
_UNPLAYABLE = re.compile(
    r"image/|text/|application/(?:pdf|zip|epub|x-bittorrent|json|xml|x-shockwave|msword|vnd\.(?!apple))",
    re.IGNORECASE,
)
_UNPLAYABLE_EXTENSIONS: Final = frozenset({
    "jpg", "jpeg", "png", "gif", "webp", "svg", "pdf", "epub", "zip", "torrent", "html", "htm", "txt",
    "srt", "vtt",
})  # fmt: skip
_MEDIA_TYPES: Final = {"audio": "audio/", "video": "video/", "image": "image/", "document": "text/"}
_ADDRESSES: Final = frozenset({"url", "href", "resource"})
_LIKE_ADDRESS = re.compile(r"\s*(?:https?:|/|\S+\.\w)", re.IGNORECASE)
_SCHEMELESS = re.compile(r"\s*www\.[\w-]+\.\w", re.IGNORECASE)
_DEAD_ENCLOSURE_HOSTS: Final = ("feedproxy.google.com", "feeds.feedburner.com")


def read_feed(body: bytes, *, url: str, content_type: str) -> FeedFacts | None:
    """Return the feed, or `None` if `body` is no feed. `url` is the base of relative references."""
    text = decode_xml(body, content_type).lstrip("\ufeff \t\r\n\x00")
    if text[:1] == "{":
        return _read_json_feed(text, url)
    root = _parse(text)
    feed = _read_tree(root, url) if root is not None and _is_feed_root(root) else None
    if (feed is None or not _has_audio(feed)) and len(body) <= MAX_FEEDPARSER_BYTES:
        second = _read_with_feedparser(body, url)
        if second is not None and (
            feed is None or _has_audio(second) or len(second.episodes) > len(feed.episodes)
        ):
            return second
    return feed


def _has_audio(feed: FeedFacts) -> bool:
    return any(episode.enclosures for episode in feed.episodes)


def _parser(*, recover: bool) -> etree.XMLParser:
    return etree.XMLParser(
        recover=recover,
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        encoding="utf-8",
    )


def _parse(text: str) -> Any | None:
    """Return the root. A document that is not well-formed is repaired first. Entities are never expanded."""
    text = _DOCTYPE.sub("", _DECLARATION.sub("", text, count=1), count=1)
    start = re.search(r"<(?:rss|feed|rdf:rdf|(?:atom|a):feed|channel)[\s>]", text[: 64 * 1024], re.IGNORECASE)
    if start:
        text = text[start.start() :]
    clean = _ADDRESS_ATTRIBUTE.sub(lambda found: re.sub(r"[\t\r\n]", "", found[0]), _ILLEGAL.sub("", text))
    try:
        return etree.fromstring(clean.encode(), _parser(recover=False))
    except etree.XMLSyntaxError:
        pass
    mended = _balanced(_CDATA_OR_AMPERSAND.sub(_mend, clean))
    try:
        return etree.fromstring(mended.encode("utf-8", "replace"), _parser(recover=True))
    except (etree.XMLSyntaxError, ValueError):
        return None


def _balanced(text: str) -> str:
    """Return a document in which each end tag closes the element that is open.

    libxml2 takes a stray `</guid>` for the end of the item around it. End tags that close nothing are
    dropped, others get the spelling of their start tags, and elements that nothing may be inside of (`guid`)
    end where the next element of an item starts.
    """
    parts: list[str] = []
    opened: list[str] = []
    done = 0
    for tag in _TAG.finditer(text):
        end, name, empty = tag["end"], tag["name"], tag["empty"]
        if not name:
            continue
        lower = name.lower()
        parts.append(text[done : tag.start()])
        done = tag.end()
        if end:
            near = [one.lower() for one in opened[-MAX_OPEN:]]
            if lower in near:
                closed = len(near) - 1 - near[::-1].index(lower)
                while len(near) > closed:
                    near.pop()
                    parts.append(f"</{opened.pop()}>")
            continue
        if opened and opened[-1].lower() in _LEAVES and lower in _OF_ITEMS:
            parts.append(f"</{opened.pop()}>")
        parts.append(tag[0])
        if not empty:
            opened.append(name)
    return "".join([*parts, text[done:]])


def _mend(match: re.Match[str]) -> str:
    """Keep CDATA, replace HTML's named entities by characters, and escape a bare ampersand."""
    if match[0].startswith("<"):
        return match[0]
    if match[1]:
        char = html.unescape(f"&{match[1]};")
        return html.escape(char) if not char.startswith("&") else f"&amp;{match[1]};"
    return "&amp;"


# --- the tree -----------------------------------------------------------------------------------------------


def _name(element: Any) -> str:
    """Return `prefix:local` in lower case with the usual prefix, `local` for RSS and unknown namespaces."""
    tag = element.tag
    if not isinstance(tag, str):
        return ""
    if tag.startswith("{"):
        namespace, _, local = tag[1:].lower().partition("}")
        prefix = next((prefix for part, prefix in _PREFIXES if part in namespace), None)
        return f"{prefix}:{local}" if prefix else local
    return tag.lower()


def _text(element: Any | None) -> str | None:
    if element is None:
        return None
    text = "".join(element.itertext()) if len(element) else (element.text or "")
    return _clean(text)


def _verbatim(element: Any | None) -> str | None:
    """Return the text of an element that holds an address or an id, whose entities the parser has resolved.

    Unlike a title, it must not be unescaped again: `&timestamp=` holds `&times`.
    """
    text = "" if element is None else "".join(element.itertext())
    return text.strip()[:MAX_URL_CHARACTERS] or None


def _clean(text: object) -> str | None:
    if not isinstance(text, str):
        return None
    text = text[: MAX_TEXT_CHARACTERS * 4]
    for _ in range(2):
        text = html.unescape(text) if "&" in text else text
    if "<" in text:
        text = re.sub(r"</?[a-zA-Z][^<>]{0,300}>", "", text)
    return " ".join(text.split())[:MAX_TEXT_CHARACTERS] or None


def _is_feed_root(root: Any) -> bool:
    return _name(root).rpartition(":")[2] in {"rss", "feed", "rdf", "channel", "redirect"}


def _read_tree(root: Any, url: str) -> FeedFacts:
    channel = next(root.iter("{*}channel", "{*}CHANNEL"), root)
    base = _base_of(channel, _base_of(root, url))
    head: dict[str, Any] = {}
    next_page = None
    for child in islice(channel, MAX_HEAD_ELEMENTS):
        name = _name(child)
        if name in {"link", "atom:link"} and not _is_site_link(child):
            if _rel(child) in {"next", "prev-archive"}:
                next_page = next_page or absolute(base, child.get("href") or "")
            continue
        head.setdefault(name, child)
    link_element = head.get("link", head.get("atom:link"))
    link = _verbatim(link_element) or (link_element.get("href") if link_element is not None else None)
    episodes: list[FeedEpisode] = []
    for element in root.iter("{*}item", "{*}entry", "{*}ITEM", "{*}Item", "{*}ENTRY"):
        if _name(element) in {"item", "atom:entry", "entry"}:
            episodes.append(_read_item(element, base, len(episodes)))
            if len(episodes) >= MAX_EPISODES:
                break
    return FeedFacts(
        url=url,
        title=_text(head.get("title", head.get("atom:title", head.get("itunes:title")))),
        link=absolute(base, link or ""),
        episodes=tuple(episodes),
        # The second is that of a feed's oldest way to say so, an XML file with `<redirect>` as its root.
        moved_to=absolute(base, _verbatim(head.get("itunes:new-feed-url", head.get("newlocation"))) or ""),
        next_page=next_page,
    )


def _rel(element: Any) -> str:
    """Return what a link leads to; RFC 4287 allows the name's URI as well."""
    rel = (element.get("rel") or "alternate").strip().lower()
    return str(rel).removeprefix("http://www.iana.org/assignments/relation/")


def _is_site_link(element: Any) -> bool:
    """Return whether a link leads to the site (RSS text, Atom alternate), not to the feed itself or a hub."""
    return _rel(element) == "alternate" and "xml" not in (element.get("type") or "")


def _base_of(element: Any, base: str) -> str:
    return absolute(base, element.get("{http://www.w3.org/XML/1998/namespace}base") or "") or base


def _read_item(item: Any, base: str, position: int) -> FeedEpisode:
    base = _base_of(item, base)
    first: dict[str, Any] = {}
    links: list[Any] = []
    for child in item:
        name = _name(child)
        if name in {"link", "atom:link"}:
            if _rel(child) != "alternate":
                continue
            links.append(child)
        first.setdefault(name, child)

    def pick(*names: str) -> str | None:
        return next((text for name in names if (text := _text(first.get(name)))), None)

    addresses = (element.get("href") or _verbatim(element) for element in links)
    link = _verbatim(first.get("feedburner:origlink")) or next(filter(None, addresses), None)
    moments = (_date(pick(name)) for name in _DATES)
    media = (element.get("duration") for element in item.iter() if _name(element) == "media:content")
    durations = (lenient.parse_duration(value) for value in chain([pick("itunes:duration")], media))
    return FeedEpisode(
        title=pick("title", "atom:title", "itunes:title", "media:title"),
        guid=_verbatim(first.get("guid", first.get("atom:id", first.get("id")))),
        link=absolute(base, link or ""),
        published=next(filter(None, moments), None),
        duration_seconds=next(filter(None, durations), None),
        enclosures=_enclosures(item, first, base),
        position=position,
        number=(pick("itunes:episode", "podcast:episode") or "").lstrip("0") or None,
    )


def _date(text: str | None) -> str | None:
    moment = lenient.parse_date(text)
    if moment is None and text:
        # feedparser knows more formats: "2 janvier 2020", "Mo, 02 Jan", two-digit years.
        parsed = feedparser.datetimes._parse_date(text[:80])  # noqa: SLF001  # no public function does this
        if parsed is not None and 1990 <= parsed.tm_year <= 2200:
            return time.strftime("%Y-%m-%dT%H:%M:%SZ", parsed)
    return lenient.iso(moment)


# --- enclosures ---------------------------------------------------------------------------------------------


class _Enclosures:
    """An item's playable addresses: audio before video, then by kind of element, then in document order."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._rows: dict[str, tuple[tuple[int, int, int], Candidate]] = {}

    def add(self, how: str, reference: object, media_type: object, *, preferred: bool = False) -> None:
        """Add an address as written in the feed, if it can be played. `how` is a key of `_RANKS`."""
        if isinstance(reference, str) and _SCHEMELESS.match(reference):
            reference = f"//{reference.strip()}"
        address = absolute(self._base, reference) if isinstance(reference, str) else None
        kind = _kind(address, str(media_type or "")) if address else None
        if address and kind and address not in self._rows:
            order = (kind == "video", _RANKS[how] * 2 + (not preferred), len(self._rows))
            technique = f"feed.{how}" if kind == "audio" else f"feed.{how}_video"
            self._rows[address] = (order, Candidate(address, technique))

    def best_first(self) -> tuple[Candidate, ...]:
        """Return at most 20 of them."""
        return tuple(candidate for _, candidate in sorted(self._rows.values(), key=lambda row: row[0]))[:20]

    def __bool__(self) -> bool:
        return bool(self._rows)


def _enclosures(  # noqa: C901, PLR0912  # one way of naming an enclosure a branch
    item: Any, first: dict[str, Any], base: str
) -> tuple[Candidate, ...]:
    found = _Enclosures(base)
    original = _verbatim(first.get("feedburner:origenclosurelink"))
    for element in item.iter():
        name = _name(element)
        if name == "enclosure":
            # No specification has an `href` or a text, but feeds do.
            values = (value for key, value in element.attrib.items() if key.rpartition("}")[2] in _ADDRESSES)
            texts = (text for text in element.itertext() if _LIKE_ADDRESS.match(text))
            address = next(filter(None, (*values, *texts)), None)
            if original and address and urls.is_on(address, *_DEAD_ENCLOSURE_HOSTS):
                found.add("enclosure", original, element.get("type"), preferred=True)
            found.add("enclosure", address, element.get("type"))
        elif name in {"atom:link", "link"} and _rel(element) == "enclosure":
            href = absolute(_base_of(element, base), element.get("href") or "")
            found.add("atom_enclosure", href, element.get("type"))
        elif name == "media:content":
            _add_media_content(found, element)
        elif name == "atom:content" and element.get("src"):
            found.add("atom_enclosure", element.get("src"), element.get("type") or "text/")
        elif name == "podcast:alternateenclosure":
            default = element.get("default") == "true"
            for child in element:
                if _name(child) == "podcast:source":
                    found.add("alternate_enclosure", child.get("uri"), element.get("type"), preferred=default)
    if original:
        found.add("enclosure", original, "audio/")
    for named in (_verbatim(first.get("link")), _verbatim(first.get("guid"))):
        if named and (named.startswith(("http:", "https:", "/")) and urls.is_audio_url(named)):
            found.add("link", named, "")
    if not found:
        described = (first.get(name) for name in _DESCRIPTIONS)
        found.add("description", _in_html(_html(one) for one in described if one is not None), "")
    return found.best_first()


def _add_media_content(found: _Enclosures, element: Any) -> None:
    """Add a `media:content` if its type, medium or address says audio or video; others are mostly images."""
    address = element.get("url") or ""
    media_type = element.get("type") or _MEDIA_TYPES.get((element.get("medium") or "").lower(), "")
    if media_type or urls.is_audio_url(address) or urls.is_video_url(address):
        found.add("media_content", address, media_type, preferred=element.get("isDefault") == "true")


def _kind(url: str, media_type: str) -> str | None:
    """Return `audio` or `video`, `None` if it can't be played. A missing or vague type counts as audio."""
    media_type = media_type.strip().lower()
    ending = urls.extension(url)
    if urls.is_audio_url(url):
        return "audio"
    if ending in urls.VIDEO_EXTENSIONS:
        return "audio" if media_type.startswith("audio/") else "video"
    if ending in _UNPLAYABLE_EXTENSIONS and not media_type.startswith(("audio/", "video/")):
        return None
    if media_type.startswith("video/"):
        return "video"
    return None if _UNPLAYABLE.match(media_type) else "audio"


_MEDIA_ATTRIBUTE = re.compile(r"(?:src|href)\s*=\s*[\"']([^\"'<>]{8,2000})[\"']", re.IGNORECASE)


_DESCRIPTIONS: Final = ("content:encoded", "description", "atom:content", "atom:summary")


def _html(element: Any) -> str:
    """Return the HTML that an element has as its text, or as its children (XHTML)."""
    return etree.tostring(element, encoding="unicode") if len(element) else (element.text or "")


def _in_html(texts: Iterable[str]) -> str | None:
    """Return the only audio address in the HTML of an item, if there is exactly one."""
    found: dict[str, str] = {}
    for text in texts:
        for match in _MEDIA_ATTRIBUTE.finditer(text[: 256 * 1024]):
            address = lenient.unescape_attribute(match[1])
            if urls.is_audio_url(address):
                found.setdefault(urls.audio_key(address), address)
    return next(iter(found.values())) if len(found) == 1 else None


# --- other feeds --------------------------------------------------------------------------------------------


def _read_json_feed(text: str, url: str) -> FeedFacts | None:
    data = lenient.strict_json(text)
    if not isinstance(data, dict) or "jsonfeed.org" not in str(data.get("version")):
        return None
    items = data.get("items")
    episodes = [
        _read_json_item(item, url, position)
        for position, item in enumerate(items[:MAX_EPISODES] if isinstance(items, list) else [])
        if isinstance(item, dict)
    ]
    home, next_page = data.get("home_page_url"), data.get("next_url")
    return FeedFacts(
        url=url,
        title=_clean(data.get("title")),
        link=absolute(url, home) if isinstance(home, str) else None,
        episodes=tuple(episodes),
        next_page=absolute(url, next_page) if isinstance(next_page, str) else None,
    )


def _read_json_item(item: dict[str, Any], url: str, position: int) -> FeedEpisode:
    attachments = item.get("attachments")
    rows = [row for row in attachments if isinstance(row, dict)] if isinstance(attachments, list) else []
    found = _Enclosures(url)
    for row in rows:
        found.add("attachment", row.get("url"), row.get("mime_type"))
    if not found:
        found.add("description", _in_html([str(item.get("content_html"))]), "")
    link, identity = item.get("url"), item.get("id")
    seconds = (lenient.parse_duration(row.get("duration_in_seconds")) for row in rows)
    return FeedEpisode(
        title=_clean(item.get("title")),
        guid=str(identity)[:MAX_TEXT_CHARACTERS] if identity is not None else None,
        link=absolute(url, link) if isinstance(link, str) else None,
        published=_date(_clean(item.get("date_published"))),
        duration_seconds=next(filter(None, seconds), None),
        enclosures=found.best_first(),
        position=position,
    )


def _read_with_feedparser(body: bytes, url: str) -> FeedFacts | None:
    parsed = feedparser.parse(body, sanitize_html=False, resolve_relative_uris=False)
    if not parsed.get("version") and not parsed.entries:
        return None
    episodes: list[FeedEpisode] = []
    for entry in parsed.entries[:MAX_EPISODES]:
        found = _Enclosures(url)
        for row in entry.get("enclosures", []):
            found.add("enclosure", row.get("href") or row.get("url"), row.get("type"))
        for row in entry.get("media_content", []):
            _add_media_content(found, row)
        episodes.append(
            FeedEpisode(
                title=_clean(entry.get("title")),
                guid=_clean(entry.get("id")),
                link=absolute(url, str(entry.get("link") or "")),
                published=_date(entry.get("published") or entry.get("updated")),
                duration_seconds=lenient.parse_duration(entry.get("itunes_duration")),
                enclosures=found.best_first(),
                position=len(episodes),
            )
        )
    if not episodes and not parsed.feed.get("title"):
        return None
    return FeedFacts(
        url=url,
        title=_clean(parsed.feed.get("title")),
        link=absolute(url, str(parsed.feed.get("link") or "")),
        episodes=tuple(episodes),
    )
