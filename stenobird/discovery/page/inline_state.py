"""Finds audio addresses in scripts and attributes: application state, player options, flashvars.

Runs in the parsing child. Scripts are searched as text, because most are not JSON. State may be JSON in a
JavaScript string in JSON, so all levels of escapes are removed first.
"""

from __future__ import annotations

import html
import itertools
import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from stenobird.discovery import urls
from stenobird.discovery.page.candidates import Finding
from stenobird.egress.references import absolute

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MENTIONS: Final = 300
CONTEXT_CHARACTERS: Final = 400

AUDIO_HINT = re.compile(r"\.(?:mp3|m4a|m4b|aac|ogg|oga|opus|wav|flac|wma|m3u8)(?![a-z0-9])", re.IGNORECASE)
_AUDIO_KEY: Final = (
    r"audio_?(?:file)?_?(?:url|src|source|link|uri)|enclosure_?(?:url)?|mp3_?(?:url|file|link)?|podcast_?(?:audio_?)?url"
    r"|episode_?audio|trackable_media_url|audio"
)
_ADDRESS = re.compile(r"//[^\s\"'<>\\`|{}^]{4,2000}")
_ROOTED = re.compile(
    r"[\"']((?:\.{0,2}/|[\w%~+-]{1,40}/)[\w%~+-][^\s\"'<>\\`|{}^]{0,500}\.(?:mp3|m4a|m4b|aac|ogg|oga|opus|wav|flac)(?:\?[^\s\"'<>\\`]{0,500})?)[\"']",
    re.IGNORECASE,
)
_KEY_BEFORE = re.compile(rf"(?<![\w-])(?:{_AUDIO_KEY})[\"']?\s*[:=]\s*[\"']$", re.IGNORECASE)
_KEY_HINT = re.compile(r"audio|enclosure|mp3|podcast_?url|trackable", re.IGNORECASE)
# The keys' first letters are left out, which lets the regex engine skip to the few possible places.
_TITLE = re.compile(r"(?:itle|ame|eadline)[\"']?\s*:\s*[\"']([^\"]{3,200}?)[\"'](?=\s*[,}\]])")
_NO_TITLE: Final = (
    "filen", "usern", "hostn", "classn", "authorn", "lastn", "firstn", "domainn", "shown", "subt", "sit",
)  # fmt: skip
_NEXT_ITEM = re.compile(r"\}\s*,\s*\{")
_NO_AUDIO: Final = frozenset({
    "jpg", "jpeg", "png", "gif", "webp", "svg", "html", "htm", "js", "css", "mp4", "webm", "xml", "rss",
    "json",
})  # fmt: skip
_UNWANTED_NEARBY = re.compile(
    r"type[\"']?\s*:\s*[\"']tts|voice_?id|narrated_?audio|text_?to_?speech|\b(?:tts|narration)\w*[\"']?\s*:"
    r"|\b(?:timer|latest\w*|intros?|jingles?|live\w*|related\w*|recommend\w*)[\"']?\s*:\s*[\"'{\[]"
)


_SPOKEN_BY_MACHINE = re.compile(r"type[\"']?\s*:\s*[\"']tts|voice_?id|text_?to_?speech")


_UNWANTED_PENALTY: Final = 40.0
"""For an address that its surroundings call a narration, a live stream or another item."""

_ESCAPE = re.compile(r"\\(?:u00([2-7][0-9a-f])|x([2-7][0-9a-f])|([/\"']))", re.IGNORECASE)
_ENCODED_STATE = re.compile(r"(?<=[\"'])%(?:7B|5B)[^\s\"'<>\\]{8,}", re.IGNORECASE)
_STREAMED = re.compile(r"\.(?:push\(\[1,|enqueue\()\s*\"((?:[^\"\\]|\\.)*+)\"")
_ENTITIES: Final = {"&quot;": '"', "&#34;": '"', "&#x2F;": "/", "&q;": '"', "&a;": "&"}
"""Of HTML, and of Angular's state."""
_BASE64 = re.compile(r"(?<![\w+/-])(?:eyJ|W3s|aHR0c)[\w+/-]{20,}={0,2}")
"""What starts like an encoded object, list of objects or address."""
MAX_ENCODED: Final = 20


def unescaped(text: str) -> str:
    r"""Remove the escapes of ASCII characters (`\/`, `\"`, `\u002F`, `\x2F`) and `&amp;`, on all levels.

    State that is percent-encoded as a whole is decoded.
    """
    if "%22" in text:
        text = _ENCODED_STATE.sub(lambda found: unquote(found[0]), text)
    while "\\\\" in text:
        text = text.replace("\\\\", "\\")
    if "\\" in text:
        text = _ESCAPE.sub(lambda found: found[3] or chr(int(found[1] or found[2], 16)), text)
    if "&" in text:
        text = re.sub(r"&(?:amp;)+", "&", text)
        for entity, char in _ENTITIES.items():
            text = text.replace(entity, char)
    return text


def joined(scripts: list[str]) -> list[str]:
    """Return the scripts of a page, those that stream its state in pieces as one text.

    Next.js and React Router cut it anywhere, also within an address.
    """
    pieces = [
        _STREAMED.findall(text) if "__next_f" in text or "streamController" in text else []
        for text in scripts
    ]
    whole = [text for text, found in zip(scripts, pieces, strict=True) if not found]
    return [*whole, "".join(itertools.chain(*pieces))]


def encoded_texts(source: str) -> Iterator[str]:
    """Yield the first texts in a page's source that are encoded in Base64."""
    return map(
        urls.base64_text, (match[0] for match in itertools.islice(_BASE64.finditer(source), MAX_ENCODED))
    )


def mentions(text: str, base: str, *, keyed: bool = True) -> Iterator[Finding]:
    """Yield the audio addresses that a script or attribute mentions, in order, each once.

    With `keyed`, an address without an audio extension counts if its key says that it is audio.
    """
    if not AUDIO_HINT.search(text) and not (keyed and _KEY_HINT.search(text)):
        return
    text = unescaped(text)
    seen: set[str] = set()
    spots = [*_absolute_spots(text, keyed=keyed)]
    spots.extend((match.start(1), match.end(1), match[1]) for match in _ROOTED.finditer(text))
    for start, end, reference in sorted(spots)[:MAX_MENTIONS]:
        url = absolute(base, reference)
        if url is None or url in seen or urls.extension(url) in _NO_AUDIO:
            continue
        seen.add(url)
        before = text[max(0, start - CONTEXT_CHARACTERS) : start]
        after = text[end : end + CONTEXT_CHARACTERS]
        unwanted = _UNWANTED_NEARBY.search(_own_object(before).lower()) or _SPOKEN_BY_MACHINE.search(
            after.partition("}")[0].lower()
        )
        yield Finding(
            url,
            "page.inline_state",
            context=_nearest_title(before, after),
            penalty=_UNWANTED_PENALTY if unwanted else 0.0,
        )


def _absolute_spots(text: str, *, keyed: bool) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and text of addresses that end like audio or, with `keyed`, whose key says so."""
    for match in _ADDRESS.finditer(text):
        before = text[max(0, match.start() - 80) : match.start()]
        scheme = "https:" if before.endswith("https:") else "http:" if before.endswith("http:") else ""
        if not scheme and before[-1:] not in {'"', "'", "=", "("}:
            continue  # a comment, or another scheme
        start, address = match.start() - len(scheme), scheme + match[0]
        named = keyed and _KEY_BEFORE.search(before.removesuffix(scheme))
        audio = _trimmed(address) if AUDIO_HINT.search(address) else ""
        # An HLS address without a key that says audio is nearly always a video's.
        if named or (audio and urls.is_audio_url(audio)):
            yield start, match.end(), audio or address


def _trimmed(url: str) -> str:
    """Cut brackets and punctuation that follow an address in prose or code."""
    return re.split(r"[)\],;](?=$|[^\w])|&quot;", url, maxsplit=1)[0].rstrip(".,;)")


def _own_object(before: str) -> str:
    """Return the part of the text before an address that is probably in the same object."""
    return before[-200:].rpartition("}")[2]


def _nearest_title(before: str, after: str) -> str:
    """Return the title nearest to an address within its item of a list."""
    behind = _titles(_NEXT_ITEM.split(before)[-1])
    ahead = [] if behind else _titles(_NEXT_ITEM.split(after, maxsplit=1)[0])
    return html.unescape((behind[-1:] or ahead[:1] or [""])[0])


def _titles(text: str) -> list[str]:
    return [
        match[1]
        for match in _TITLE.finditer(text)
        if not text[max(0, match.start() - 12) : match.start()].lower().endswith(_NO_TITLE)
    ]


def attribute_mentions(value: str, base: str, *, hls: bool = False) -> Iterator[Finding]:
    """Yield the audio addresses in an attribute: an address, JSON, or `file=…&title=…` (flashvars)."""
    value = value.strip()
    if value[:3].lower() in {"%7b", "%5b"}:
        value = unquote(value)
    if not value or value.startswith(("data:", "blob:", "javascript:")):
        return
    if value[:1] not in "{[" and not re.search(r"[\s{}\"'<>]", value[:2000]):
        if "=" in value.split("?", 1)[0]:
            for part in value.split("&"):
                name, _, text = part.partition("=")
                target = unquote(text)
                if re.fullmatch(r"\w{1,40}", name) and urls.is_audio_url(absolute(base, target) or ""):
                    yield Finding(absolute(base, target) or "", "page.attribute")
            return
        url = absolute(base, value)
        if url and (urls.names_audio(url) or (hls and urls.extension(url) == "m3u8")):
            yield Finding(url, "page.attribute")
        return
    yield from mentions(value, base, keyed=value[:1] in "{[")


# --- configurations of players ------------------------------------------------------------------------------

_ADDRESS_KEYS: Final = frozenset({"url", "src", "file", "href", "uri", "source", "link"})
_AUDIO_PARENTS: Final = frozenset({"audio", "audios", "enclosure", "enclosures", "audiofiles", "audio_files"})


def marked_json(body: bytes, base: str) -> bytes | None:
    """Return JSON in which the key of an audio file's address says so, `None` if it is none.

    The file's type, or the key of the object around it, says that it is audio. Names of files are resolved.
    """

    def marked(data: Any, *, is_audio: bool) -> Any:
        if isinstance(data, list):
            return [marked(one, is_audio=is_audio) for one in data]
        if not isinstance(data, dict):
            return data
        is_audio = is_audio or any(
            isinstance(value, str) and value.lower().startswith("audio/") for value in data.values()
        )
        return dict(entry(key, value, is_audio=is_audio) for key, value in data.items())

    def entry(key: str, value: Any, *, is_audio: bool) -> tuple[str, Any]:
        name = key.lower()
        if not isinstance(value, str):
            return key, marked(value, is_audio=name in _AUDIO_PARENTS)
        if name in _ADDRESS_KEYS | urls.AUDIO_EXTENSIONS and urls.is_audio_url(value):
            value = absolute(base, value) or value
        return "audioUrl" if is_audio and name in _ADDRESS_KEYS else key, value

    try:
        return json.dumps(marked(json.loads(body), is_audio=False), ensure_ascii=False).encode(
            "utf-8", "replace"
        )
    except (ValueError, RecursionError):
        return None
