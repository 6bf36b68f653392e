"""Reads what a page says about itself: titles, dates, feed links, players. Runs in the parsing child only."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from stenobird.discovery import urls
from stenobird.discovery.feeds.episodes import plain
from stenobird.discovery.page.surroundings import text_of
from stenobird.discovery.parsing import lenient
from stenobird.discovery.parsing.facts import EpisodeFacts, PageFacts
from stenobird.egress.references import absolute

if TYPE_CHECKING:
    from stenobird.discovery.page.json_ld import JSONLD

MAX_LINKS: Final = 800
MAX_SCRIPT_CHARACTERS: Final = 256 * 1024
MAX_CONFIGURABLE: Final = 5000
"""Elements in which the configuration of a player is looked for."""

_SCRIPT_PLAYER_HOSTS: Final = ("buzzsprout.com", "podigee.io", "podigee.com", "spreaker.com", "megaphone.fm")
_FEED_TYPES: Final = (
    "application/rss", "application/atom", "application/feed+json", "text/xml+rss", "application/rdf",
)  # fmt: skip
SITE_NAMES: Final = ("og:site_name", "application-name", "al:ios:app_name")
_FEED_PATH = re.compile(
    r"(?:/(?:feed|rss|podcast\.xml|feed\.xml|rss\.xml|index\.xml|atom\.xml)/?$|\.rss$|/rss/|/feed/(?:podcast|mp3|m4a|aac|opus|ogg)"
    r"|//feeds?\.|//rss\.|anchor\.fm/s/\w+/podcast/rss|feeds\.|/podcast/feed|/feeds?/\w|feed\.php|rss\.php|format=rss)",
    re.IGNORECASE,
)
_FEED_HOSTS: Final = (
    "libsyn.com", "buzzsprout.com", "megaphone.fm", "simplecast.com", "acast.com", "omnycontent.com",
    "omny.fm", "anchor.fm", "transistor.fm", "captivate.fm", "podbean.com", "spreaker.com", "art19.com",
    "podigee.io", "feedburner.com", "fireside.fm", "blubrry.com", "audioboom.com", "soundcloud.com",
    "podtrac.com", "ivoox.com", "ausha.co", "castos.com", "redcircle.com", "podomatic.com", "rss.com",
    "pinecast.com", "zencast.fm", "feedpress.me",
)  # fmt: skip
_COMMENT_FEED = re.compile(
    r"comments?(?:[/_-]|\b)|kommentar|kommentti|commentaires|coment[aá]rios|commenti|reacties|comentaris|yorum"
    r"|コメント|评论|комментари|σχόλι|댓글",
    re.IGNORECASE,
)
_DATES: Final = (
    "article:published_time", "datepublished", "music:release_date", "date", "dc.date", "dcterms.created",
    "publish-date", "pubdate", "sailthru.date", "parsely-pub-date", "og:published_time",
)  # fmt: skip
_DURATIONS: Final = (
    "music:duration", "og:audio:duration", "duration", "audio:duration", "twitter:audio:duration",
)  # fmt: skip
_TITLE_SEPARATOR = re.compile(r"\s+[|\u2013\u2014\u00b7\u2022\u00bb:-]+\s+")


def read_head(tree: Any, url: str, base: str, structured: JSONLD) -> PageFacts:
    """Return the facts of a page, all but its audio. `base` is the base of its relative references."""
    page = PageFacts(url, url, meta=_metas(tree), is_podcast=structured.is_podcast)
    elements = [
        (element, (element.get("rel") or "").lower().split(), absolute(base, element.get("href") or ""))
        for element in tree.iter("link")
        if element.get("href")
    ]
    canonical = next((address for _, rel, address in elements if "canonical" in rel), None)
    canonical = canonical or absolute(base, page.first_meta("og:url") or "")
    links = _links(tree, base)
    oembed = [
        address
        for element, rel, address in elements
        if address and "alternate" in rel and "json+oembed" in (element.get("type") or "").lower()
    ]
    seconds = (lenient.parse_duration(page.first_meta(name)) for name in _DURATIONS)
    kind = (page.first_meta("og:type") or "").lower()
    is_list = kind in {"music.playlist", "music.radio_station", "profile"}
    site = page.first_meta(*SITE_NAMES)
    known = structured.episode
    shows = (known.show, page.first_meta("og:podcast", "podcast:title", "music:album", "series"), site)
    show = next(filter(None, shows), None)
    title, alternate_titles = _titles(tree, page, known.title, {plain(show), plain(site), ""})
    episode = EpisodeFacts(
        title=title,
        show=show,
        guid=known.guid,
        published=known.published or page.first_meta(*_DATES) or _time_element(tree),
        duration_seconds=known.duration_seconds or next(filter(None, seconds), None),
        page_urls=tuple(dict.fromkeys(filter(None, (url, canonical, *known.page_urls)))),
        alternate_titles=alternate_titles,
    )
    return replace(
        page,
        episode=episode,
        title=title,
        canonical=canonical,
        links=tuple(address for address, _, _ in links),
        iframes=_iframes(tree, base, page, structured),
        configurations=_configurations(tree, base),
        feeds=_feeds(elements, links, structured, url),
        oembed=tuple(oembed[:3]),
        is_episode=structured.is_episode or not (urls.is_home(url) or structured.is_show or is_list),
        login=_asks_for_login(tree, url, title),
        refresh=_refresh(tree, base),
    )


def _asks_for_login(tree: Any, url: str, title: str | None) -> bool:
    password = any((element.get("type") or "").lower() == "password" for element in tree.iter("input"))
    words = r"log[- ]?in|sign[- ]?in|anmeld|connexion|auth|sso|account"
    return password and bool(re.search(words, f"{url} {title or ''}", re.IGNORECASE))


def _metas(tree: Any) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for meta in tree.iter("meta"):
        content = (meta.get("content") or "").strip()[:4096]
        for attribute in ("property", "name", "itemprop"):
            name = (meta.get(attribute) or "").strip().lower()
            if name and content and len(found) < 500:
                found.setdefault(name, [])
                if content not in found[name]:
                    found[name].append(content)
    return {name: tuple(contents[:20]) for name, contents in found.items()}


def _titles(
    tree: Any, page: PageFacts, known: str | None, names: set[str]
) -> tuple[str | None, tuple[str, ...]]:
    """Return the page's title and alternatives; `names` are the plain names of its show and site."""
    document = _joined(next((title for title in tree.iter("title") if title.getparent().tag != "svg"), None))
    headings = [text for element in islice(tree.iter("h1"), 3) if (text := _joined(element))]
    shared = page.first_meta("og:title", "twitter:title", "dc.title", "headline", "parsely-title")
    everything = [text for text in (known, shared, *headings, document) if text]
    title = next(iter(everything), None)
    if len(headings) == 1 and title and plain(headings[0]) and plain(headings[0]) in plain(title):
        title = headings[0]
    pieces: list[str] = list(everything)
    for text in everything[:5]:
        parts = _TITLE_SEPARATOR.split(text)
        if len(parts) > 1:
            # "Episode | Show" or "Show: Episode": either part may be the title, so both are alternatives.
            pieces += [" - ".join(parts[:-1]), " - ".join(parts[1:])]
    return title, tuple(dict.fromkeys(text for text in pieces if plain(text) not in names))[:12]


def _joined(element: Any | None) -> str | None:
    return (text_of(element, 500) or None) if element is not None else None


def _time_element(tree: Any) -> str | None:
    times = [
        element for element in islice(tree.iter("time"), 50) if lenient.parse_date(element.get("datetime"))
    ]
    for element in times:
        if element.get("itemprop") == "datePublished" or "pubdate" in element.attrib:
            return str(element.get("datetime"))
    for element in times[:1]:
        if any(parent.tag in {"article", "main", "header"} for parent in element.iterancestors()):
            return str(element.get("datetime"))
    return None


def _links(tree: Any, base: str) -> list[tuple[str, str, str]]:
    """Return the absolute address, the visible text and the type of each link."""
    found = []
    for element in islice(tree.iter("a"), MAX_LINKS):
        address = absolute(base, element.get("href") or "")
        if address:
            text = text_of(element) or element.get("title") or element.get("aria-label")
            found.append((address, (text or "")[:200], (element.get("type") or "")[:60].lower()))
    return found


# --- feeds --------------------------------------------------------------------------------------------------


def _feeds(  # noqa: C901  # one place where feeds are linked a branch
    elements: list[Any], links: list[tuple[str, str, str]], structured: JSONLD, page_url: str
) -> tuple[str, ...]:
    """Return addresses of feeds, the most likely podcast feed first, without feeds of comments."""
    scored: dict[str, float] = {}
    # WordPress gives each post a feed of its comments, titled in any language.
    own = None if urls.is_home(page_url) else f"{urls.page_key(page_url)}/feed"

    def add(address: str, label: str, points: float) -> None:
        text = f"{address} {label}"
        if _COMMENT_FEED.search(text) or urls.page_key(address) == own or len(scored) > 50:
            return
        if re.search(r"podcast|episodes?|audio|mp3|m4a|aac", text, re.IGNORECASE):
            points += 3
        if urls.is_on(address, *_FEED_HOSTS):
            points += 2
        key = address.split("#", 1)[0]
        scored[key] = max(scored.get(key, float("-inf")), points)

    for feed in structured.feeds:
        add(feed, "podcast", 4)
    for element, rel, address in elements:
        kind = (element.get("type") or "").lower()
        if address and ({"alternate", "feed"} & set(rel)) and (kind.startswith(_FEED_TYPES) or "feed" in rel):
            add(address, element.get("title") or "", 2)
    for url, text, kind in links:
        address = urls.normalised(url)
        named = re.search(r"\brss\b|\bfeed\b|\bxml\b", text, re.IGNORECASE)
        if kind.startswith(_FEED_TYPES) or (_FEED_PATH.search(address) and not urls.is_audio_url(address)):
            add(address, text, 1.5 if named else 0.5)
        elif named and urls.extension(address) in {"xml", "rss"}:
            add(address, text, 1)
    ranked = sorted(scored.items(), key=lambda row: -row[1])
    return tuple(address for address, points in ranked if points > 0)[:8]


# --- players ------------------------------------------------------------------------------------------------

_BESIDE = re.compile(
    r"(?:^|[\s_-])(?:sidebar|related|promo|comments?|footer|widget)(?:$|[\s_-])", re.IGNORECASE
)


_LAZY_ADDRESS = re.compile(r"data-(?:[\w-]+-)?(?:src|url|original)(?:-[\w-]+)?")


def _iframes(tree: Any, base: str, page: PageFacts, structured: JSONLD) -> tuple[str, ...]:
    found: list[str | None] = []
    for element in islice(tree.iter("iframe", "amp-iframe", "embed", "object"), 200):
        if _is_beside(element):
            continue
        # A lazy player, or one that waits for consent, has its address in a `data-` attribute.
        lazy = (value for name, value in element.attrib.items() if _LAZY_ADDRESS.fullmatch(name))
        addresses = (
            absolute(base, value or "") for value in (element.get("src"), *lazy, element.get("data"))
        )
        found.append(next(filter(None, addresses), None))
    found += [_script_player(script, base) for script in islice(tree.iter("script"), 500)]
    found += structured.players
    found.append(absolute(base, page.first_meta("twitter:player", "og:audio:iframe") or ""))
    return tuple(dict.fromkeys(filter(None, found)))[:40]


def _script_player(script: Any, base: str) -> str | None:
    """Return the address of the player that a script inserts."""
    address = absolute(base, script.get("data-configuration") or script.get("src") or "")
    if address is None or not urls.is_on(address, *_SCRIPT_PLAYER_HOSTS):
        return None
    return address if re.search(r"\d{4,}|/embed\b", address) else None


_CONFIGURED = re.compile(
    r"podlovePlayer(?:Cache)?\s*\(\s*[^,;]{1,200},\s*[\"']([^\"'\s]{1,2000})[\"']"
    r"|(?:config|playlist|episode|player|setup|source|fetch|getJSON|load|media)\w{0,20}[\"']?\s*[:=(]\s*"
    r"[\"']([^\"'\s]{1,2000}\.json(?:\?[^\"'\s]{0,500})?)[\"']"
    r"|(?:config(?:uration)?|playlist)(?:_?ur[il])?[\"']?\s*[:=]\s*"
    r"[\"']((?:https?:)?/[^\"'\s]{1,2000})[\"']",
    re.IGNORECASE,
)
_CONFIGURING = re.compile(
    r"(?:data-)?(?:[\w-]*config|[\w-]*playlist|[\w-]*player|[\w-]*episode|[\w-]*json|setup|src|url)[\w-]*"
)
_LIST_FILE = re.compile(r"[^\s\"'{}\[\]]{1,2000}\.(?:json|xml|m3u|pls|xspf)(?:\?[^\s\"']*)?")
_IN_QUERY = re.compile(r"[?&#][\w-]+=([^&#]{1,2000}\.json)(?=[&#]|$)")


def _configurations(tree: Any, base: str) -> tuple[str, ...]:
    """Return addresses of what configures players: an attribute, an argument of Podlove, `*.json` files."""
    written: list[str] = []
    for element in islice(tree.iter(), MAX_CONFIGURABLE):
        if not isinstance(element.tag, str) or element.tag in {"a", "img", "meta"}:
            continue
        if element.tag == "link":
            fetched = element.get("as") == "fetch" and (element.get("href") or "")
            written += [fetched] if fetched and _LIST_FILE.fullmatch(fetched) else []
            continue
        for name, value in element.attrib.items():
            # Inline JSON and names of variables occur as well.
            is_address = "/" in value and value[0] not in "{[" and "config" in name
            if _CONFIGURING.fullmatch(name) and (is_address or _LIST_FILE.fullmatch(value)):
                written.append(value)
            if element.tag == "iframe" and name.endswith("src") and (inner := _IN_QUERY.search(value)):
                written.append(unquote(inner[1]))
        if element.tag == "script" and not element.get("src"):
            text = (element.text or "").replace("\\/", "/")[:MAX_SCRIPT_CHARACTERS]
            written += [match[1] or match[2] or match[3] for match in islice(_CONFIGURED.finditer(text), 3)]
    found = dict.fromkeys(address for value in written if (address := absolute(base, value)))
    return tuple(address for address in found if not urls.is_on(address, *_SCRIPT_PLAYER_HOSTS))[:3]


def _is_beside(element: Any) -> bool:
    node = element
    for _ in range(30):
        if node is None or node.tag in {"body", "html", "main", "article"}:
            return False
        if node.tag in {"aside", "footer", "nav"} or _BESIDE.search(
            f"{node.get('class') or ''} {node.get('id') or ''}"
        ):
            return True
        node = node.getparent()
    return False


def _refresh(tree: Any, base: str) -> str | None:
    """Return the target of a page's immediate redirect by `<meta http-equiv=refresh>` or by a script."""
    metas = [meta for meta in tree.iter("meta") if (meta.get("http-equiv") or "").lower() == "refresh"]
    targets = (urls.refresh_target(meta.get("content") or "", base) for meta in metas)
    return next(filter(None, targets), None) or _scripted_refresh(tree, base)


_LOCATION = re.compile(
    r"(?:^|[\s;{(])(?:window\.|document\.|top\.|self\.)?location(?:\.href)?\s*"
    r"(?:=\s*|\.(?:replace|assign)\(\s*)[\"']((?:https?:)?/[^\"'\s<>]{1,2000})[\"']"
)
MAX_WORDLESS_CHARACTERS: Final = 200
"""A page with more text than that has content, so its scripts don't count as redirects."""


def _scripted_refresh(tree: Any, base: str) -> str | None:
    """Return the redirect in the only script of an otherwise empty page, as link shorteners have it."""
    scripts = [script for script in islice(tree.iter("script"), 4) if not script.get("src")]
    body = next(tree.iter("body"), None)
    if len(scripts) != 1 or len(scripts[0].text or "") > 4096:
        return None
    own = scripts[0].text or ""
    said = text_of(body, MAX_WORDLESS_CHARACTERS * 2) if body is not None else ""
    said = said.replace(" ".join(own.split()), "")
    match = _LOCATION.search(own.replace("\\/", "/"))
    return absolute(base, match[1]) if match and len(said) <= MAX_WORDLESS_CHARACTERS else None
