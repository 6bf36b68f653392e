"""Reads a page: collects every mention of audio as a finding, and the facts about its episode.

Runs in the parsing child only. It walks lxml's tree directly, because BeautifulSoup's takes a second to build
for the largest pages. The text around a finding is judged here, where the tree is; `candidates` makes the
choice.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from lxml import etree, html  # type: ignore[import-untyped]

from stenobird.discovery import urls
from stenobird.discovery.page import candidates
from stenobird.discovery.page.candidates import Finding, words_of
from stenobird.discovery.page.head import SITE_NAMES, read_head
from stenobird.discovery.page.inline_state import (
    AUDIO_HINT,
    attribute_mentions,
    encoded_texts,
    joined,
    mentions,
)
from stenobird.discovery.page.json_ld import JSONLD
from stenobird.discovery.page.surroundings import heading_near, labels, places_of, says_audio, text_of
from stenobird.discovery.parsing.facts import PageFacts
from stenobird.discovery.parsing.lenient import decode_html
from stenobird.egress.references import absolute

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FINDINGS: Final = 1000
PAGE_GROUP: Final = -1
"""The group of all addresses in the page's head, which name one recording."""

_PLAYERS: Final = ("audio", "amp-audio", "video", "amp-video")
_MICRODATA = etree.XPath(
    "//*[@itemprop='contentUrl' or @itemprop='contentURL' or @itemprop='audio' or @itemprop='url'"
    " or @itemprop='associatedMedia' or @itemprop='encoding' or @property='contentUrl']"
)
_SPEAKING = re.compile(r"\sdata-(?:audio|mp3|podcast|episode)[\w-]*\s*=", re.IGNORECASE)
_SPEAKING_LINK = re.compile(
    r">[^<>]{0,60}\b(?:mp3|m4a)\b(?!\W{0,3}(?:feed|rss|abo))[^<>]{0,30}<", re.IGNORECASE
)
_SPEAKING_WORD = re.compile(r"audio|podcast|episode|folge\b|episodio|épisode|recording", re.IGNORECASE)
_SPEAKING_ATTRIBUTES = etree.XPath(
    "//@*[name()='data-audio' or name()='data-audio-url' or name()='data-audio-src' or name()='data-audiourl'"
    " or name()='data-audio-file' or name()='data-mp3' or name()='data-mp3-url' or name()='data-podcast-url'"
    " or name()='data-episode-audio' or name()='data-audio-source']"
)
_ADDRESS = re.compile(r"(?:https?:)?/[^\s\"'<>{}]{3,2000}$", re.IGNORECASE)
_NO_AUDIO: Final = frozenset(
    {"jpg", "jpeg", "png", "gif", "webp", "svg", "html", "htm", "js", "css", "xml", "rss", "json"}
    | {"mp4", "webm", "vtt", "srt", "txt", "pdf", "m3u8"}
)
_OWN_TECHNIQUE: Final = frozenset({"audio", "video", "source", "amp-audio", "amp-video", "script", "img"})
_END = re.compile(r"</(?:html|body)\s*>", re.IGNORECASE)
_BEHIND_THE_END = re.compile(r"</html\s*>\s*(?:<!--[^>]{0,2000}-->\s*)*<[a-z]", re.IGNORECASE)
_ENCYCLOPAEDIAS: Final = ("wikipedia.org", "wiktionary.org")
_SOURCE_ATTRIBUTES: Final = (
    "src", "data-src", "data-source", "data-url", "data-file", "data-audio", "data-lazy-src",
)  # fmt: skip
_PROSE: Final = frozenset({"alt", "title", "aria-label", "download", "class", "id", "style", "content"})
_OWN_ATTRIBUTES: Final = frozenset({"srcset", *_SOURCE_ATTRIBUTES})


def read_page(body: bytes, *, url: str, content_type: str) -> PageFacts:
    """Return the page's facts. `url` is its address after redirects."""
    text = decode_html(body, content_type)
    tree = _tree(text)
    if tree is None:
        return PageFacts(url=url, final_url=url)
    return _PageReader(tree, url, text).facts()


def _tree(text: str) -> Any | None:
    clean = text.replace("\x00", "")
    if not clean.strip():
        return None
    if _BEHIND_THE_END.search(clean):
        # libxml2 drops everything after `</html>`; browsers append it to the body.
        clean = _END.sub("", clean)
    parser = html.HTMLParser(
        encoding="utf-8", recover=True, no_network=True, remove_comments=True, huge_tree=True
    )
    try:
        return html.document_fromstring(
            clean.encode("utf-8", "replace"), parser=parser, ensure_head_body=False
        )
    except (etree.ParserError, etree.XMLSyntaxError, ValueError, AssertionError):
        return None


class _PageReader:
    def __init__(self, tree: Any, url: str, source: str) -> None:
        self.tree = tree
        self.source = source
        self.hints = {match[0] for match in AUDIO_HINT.finditer(source)}
        self.url = url
        base = next((base for element in tree.iter("base") if (base := element.get("href"))), None)
        self.base = (absolute(url, base) if base else None) or url
        self.findings: list[Finding] = []
        self._groups = 0
        self._element_groups: dict[Any, int] = {}
        self._places_of = cache(places_of)

    def facts(self) -> PageFacts:
        scripts = [
            ((script.get("type") or "").lower(), script.text or "")
            for script in self.tree.iter("script")
            if not script.get("src")
        ]
        structured = JSONLD(self.base)
        structured.read([text for kind, text in scripts if "ld+json" in kind])
        head = read_head(self.tree, self.url, self.base, structured)
        self._from_head(head)
        self.findings.extend(structured.findings)
        self._from_players()
        self._from_microdata()
        self._from_attributes()
        self._from_speaking_attributes()
        others = [text for kind, text in scripts if "ld+json" not in kind]
        for text in [*joined(others), *structured.unread, *encoded_texts(self.source)]:
            self.findings.extend(mentions(text, self.base))
        title, origin = _title_words(head), urls.origin_of(self.url)
        tokens = urls.url_tokens(head.canonical or self.url) | urls.url_tokens(self.url)
        if urls.is_on(self.url, *_ENCYCLOPAEDIAS):
            # Audio in an encyclopaedia illustrates the entry (a pronunciation, a sample); it is never the
            # subject.
            self.findings.clear()
        findings = self.findings[:MAX_FINDINGS]
        outcome, listed, accepted = candidates.choose(findings, title, tokens, origin=origin)
        videos = findings if self._is_video_page(head, structured) else []
        _, video, usable = candidates.choose(videos, title, tokens, origin=origin, video=True)
        return replace(
            head,
            episode=replace(head.episode, audio_urls=tuple(one.url for one in listed[:accepted])),
            candidates=listed,
            accepted=accepted,
            outcome=outcome,
            videos=video[:usable],
        )

    def _is_video_page(self, head: PageFacts, structured: JSONLD) -> bool:
        """Return whether the video is the page's main content; in an article, it is an illustration."""
        kind = (head.first_meta("og:type") or "").lower()
        players = [player for player in self.tree.iter(*_PLAYERS) if player.tag.lower().endswith("video")]
        main = len(players) == 1 or any(one.technique == "page.json_ld_video" for one in self.findings)
        return kind.startswith("video") or (kind != "article" and main and not structured.is_article)

    # --- where audio is named -------------------------------------------------------------------------------

    def _from_head(self, head: PageFacts) -> None:
        types = (head.first_meta("og:audio:type", "og:audio:content_type") or "").lower()
        stream_type = (head.first_meta("twitter:player:stream:content_type") or "").lower()
        for name, technique, kind in (
            ("og:audio", "page.og_audio", types),
            ("og:audio:url", "page.og_audio", types),
            ("og:audio:secure_url", "page.og_audio_secure", types),
            ("twitter:player:stream", "page.twitter_stream", stream_type),
            ("og:video", "page.og_video", "video/"),
            ("og:video:url", "page.og_video", "video/"),
        ):
            for content in head.meta.get(name, ()):
                url = absolute(self.base, content)
                if url is None or kind.startswith(("text/", "application/x-shockwave", "image/")):
                    continue
                # In a page's head, an HLS address is a video's unless its type says audio.
                hls = urls.extension(url) == "m3u8" and not kind.startswith("audio/")
                video = kind.startswith("video/") or urls.is_video_url(url) or hls
                video = video and not urls.is_audio_url(url)
                if technique == "page.og_video" and not (video and urls.is_video_url(url)):
                    continue
                how = "page.og_video" if video else technique
                self.findings.append(
                    Finding(url, how, context=head.title or "", video=video, group=PAGE_GROUP)
                )

    def _from_players(self) -> None:
        for player in self.tree.iter(*_PLAYERS):
            tag = player.tag.lower()
            # A muted video that plays automatically is decoration.
            decoration = "muted" in player.attrib and ("autoplay" in player.attrib or "loop" in player.attrib)
            if tag.endswith("video") and decoration:
                continue
            self._groups += 1
            for element in [player, *player.iter("source")]:
                for name in _SOURCE_ATTRIBUTES:
                    if url := absolute(self.base, element.get(name) or ""):
                        self._add_player_source(url, element, player)

    def _add_player_source(self, url: str, element: Any, player: Any) -> None:
        kind = (element.get("type") or "").lower()
        video = player.tag.lower().endswith("video") and not (
            urls.is_audio_url(url) or kind.startswith("audio/")
        )
        if kind.startswith(("image/", "text/")) or (video and not urls.is_video_url(url)):
            return
        self._add(
            _without_cache_buster(url),
            "page.video_element" if video else "page.audio_element",
            player,
            context=f"{labels(player)} {heading_near(player)}",
            video=video,
            group=self._groups,
        )

    def _from_microdata(self) -> None:
        marked = "itemprop" in self.source or "contentUrl" in self.source
        for element in _MICRODATA(self.tree) if marked else ():
            value = element.get("href") or element.get("content") or element.get("src")
            url = absolute(self.base, value or "")
            kind = (element.get("type") or "").lower()
            if url and (urls.is_audio_url(url) or kind.startswith("audio/") or _is_of_audio(element, url)):
                self._add(url, "page.microdata", element, context=f"{labels(element)} {text_of(element)}")

    def _from_attributes(self) -> None:
        for value in self._hinting_values():
            element, name = value.getparent(), (value.attrname or "").lower()
            if element is None or not isinstance(element.tag, str):
                continue
            tag = element.tag.lower()
            if tag == "a" and name == "href" and not value.startswith("javascript:"):
                self._from_link(element, str(value))
            elif tag == "a" and name == "download":
                # The file's name says audio, the address need not.
                self._from_link(element, element.get("href") or "", named=True)
            elif (tag in _OWN_TECHNIQUE and name in _OWN_ATTRIBUTES) or _names_no_audio(element):
                continue
            elif name.startswith("on") or value.startswith("javascript:"):
                found = mentions(str(value), self.base, keyed=False)
                self._from_mentions(found, "page.inline_state", element)
            elif name not in _PROSE or (tag == "meta" and name == "content"):
                self._from_mentions(
                    attribute_mentions(str(value), self.base, hls="audio" in name or "audio" in tag),
                    "page.attribute",
                    element,
                    # JSON in an attribute may list many episodes; plain values are formats of one.
                    group=None if value.lstrip()[:1] in {"{", "["} else self._group_of(element),
                )

    def _from_speaking_attributes(self) -> None:
        """Add addresses that don't end like audio but whose type or attribute says audio."""
        for element in self.tree.iter("a", "link") if "audio/" in self.source else ():
            if (element.get("type") or "").startswith("audio/"):
                self._from_link(element, element.get("href") or "")
        speaking = bool(_SPEAKING_LINK.search(self.source))
        for element in self.tree.iter("a") if speaking or "download" in self.source else ():
            if not (speaking or "download" in element.attrib):
                continue
            address, text = absolute(self.base, element.get("href") or "") or "", text_of(element, 100)
            nameless = not urls.is_audio_url(address) and urls.extension(address) not in _NO_AUDIO
            named = "download" in element.attrib and _SPEAKING_WORD.search(text)
            if address and nameless and (named or _SPEAKING_LINK.search(f">{text}<")):
                self._add(address, "page.link_text", element, context=f"{text} {heading_near(element)}")
        for value in _SPEAKING_ATTRIBUTES(self.tree) if _SPEAKING.search(self.source) else ():
            element = value.getparent()
            url = absolute(self.base, value) if _ADDRESS.match(value) else None
            if url and not urls.is_audio_url(url) and urls.extension(url) not in _NO_AUDIO:
                context = f"{labels(element)} {text_of(element)} {heading_near(element)}"
                self._add(url, "page.attribute", element, context=context, group=self._group_of(element))

    def _hinting_values(self) -> list[Any]:
        """Return the attribute values that contain one of the audio extensions found in the page's source."""
        if not self.hints:
            return []
        has_hint = " or ".join(f"contains(., '{hint}')" for hint in sorted(self.hints)[:16])
        values: list[Any] = self.tree.xpath(f"//@*[{has_hint}]")
        return values[: MAX_FINDINGS * 2]

    def _from_mentions(
        self, found: Iterator[Finding], technique: str, element: Any, *, group: int | None = None
    ) -> None:
        for mention in found:
            context = mention.context or f"{labels(element)} {text_of(element)} {heading_near(element)}"
            self._add(
                _without_cache_buster(mention.url),
                technique,
                element,
                context=context,
                penalty=mention.penalty,
                group=group,
            )

    def _group_of(self, element: Any) -> int:
        """Return the group shared by the attributes of one element, such as `data-mp3` and `data-ogg`."""
        if element not in self._element_groups:
            self._groups += 1
            self._element_groups[element] = self._groups
        return self._element_groups[element]

    def _from_link(self, element: Any, reference: str, *, named: bool = False) -> None:
        url = absolute(self.base, reference)
        typed = named or (element.get("type") or "").lower().startswith("audio/")
        if url is None or not (typed or urls.names_audio(url)):
            return
        if element.getparent() is not None and element.getparent().tag == "audio":
            self._add(url, "page.audio_element", element, context="", group=self._groups)
            return
        text = text_of(element)
        near = " ".join([text, *(element.get(name) or "" for name in ("class", "id", "title", "rel"))])
        parent = element.getparent()
        if parent is not None and len(text_of(parent)) < 120:
            near = f"{near} {parent.get('class') or ''} {text_of(parent)}"
        evidence = typed or "download" in element.attrib or says_audio(near)
        self._add(
            _without_cache_buster(url),
            "page.link",
            element,
            context=f"{text} {labels(element)} {heading_near(element) if len(text) < 40 else ''}",
            evidence=evidence,
        )

    def _add(self, url: str, technique: str, element: Any, **more: Any) -> None:
        if len(self.findings) < MAX_FINDINGS:
            places = self._places_of(element)
            self.findings.append(
                Finding(
                    url,
                    technique,
                    aside="aside" in places,
                    narration="narration" in places,
                    main="main" in places and "aside" not in places,
                    penalty=more.pop("penalty", 0.0) + (60.0 if "comments" in places else 0.0),
                    **more,
                )
            )


def _is_of_audio(element: Any, url: str) -> bool:
    """Return whether an address is the `contentUrl` of an AudioObject, in microdata or RDFa."""
    node = (
        element.getparent() if "content" in f"{element.get('itemprop')} {element.get('property')}" else None
    )
    while node is not None and not (kind := node.get("itemtype") or node.get("typeof")):
        node = node.getparent()
    return node is not None and kind.endswith("AudioObject") and urls.extension(url) not in _NO_AUDIO


def _names_no_audio(element: Any) -> bool:
    names = f"{element.get('property')} {element.get('name')}"
    return element.tag == "meta" and ("preview" in names or element.get("http-equiv") is not None)


def _title_words(head: PageFacts) -> set[str]:
    site = head.first_meta(*SITE_NAMES) or ""
    return words_of(head.title or "") - words_of(head.episode.show or "") - words_of(site)


def _without_cache_buster(url: str) -> str:
    """Drop the `?_=1` with which WordPress numbers the players of a page."""
    return re.sub(r"[?&]_=\d+$", "", url)
