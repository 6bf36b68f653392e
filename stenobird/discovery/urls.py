"""Reads URLs: media extensions, tracking prefixes, the identity of files and pages.

Every function is pure, never raises, and takes time linear in the length of its input.
"""

from __future__ import annotations

import base64
import posixpath
import re
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from stenobird.egress.references import absolute

AUDIO_EXTENSIONS: Final = frozenset(
    {"mp3", "m4a", "m4b", "aac", "ogg", "oga", "opus", "wav", "flac"}
    | {"weba", "wma", "aif", "aiff", "amr", "mp2", "mpga", "mka"}
)
VIDEO_EXTENSIONS: Final = frozenset(["mp4", "m4v", "webm", "mov", "ogv", "mkv", "mpg", "mpeg", "avi", "3gp"])

_TIME_FRAGMENT = re.compile(r"t=[\d:.,smhn-]*(?:&.*)?", re.IGNORECASE)
_WRAPPER = re.compile(
    r"(?:web\+)?(pktc|podcast|podcasts|feed|itpc|pcast|rss|podto|acast)(?::)(?://)?", re.IGNORECASE
)
_TRACKERS: Final = frozenset((
    "podtrac.com", "chtbl.com", "chrt.fm", "pdst.fm", "pdcn.co", "mgln.ai", "gum.fm", "pscrb.fm",
    "flex.acast.com", "op3.dev", "blubrry.com", "claritaspod.com", "clrtpod.com", "prfx.byspotify.com",
    "arttrk.com", "podscribe.com", "swap.fm", "pdrl.fm", "podkite.com", "podsights.com", "podcorn.com",
    "2cnt.net", "adtonos.com", "tracking.podigee.com", "pfx.vpixl.com", "pod.link", "audiotrk.com",
    "zen.ai", "podderapp.com", "podroll.fm", "trk.acast.com", "aw.noxsolutions.com",
))  # fmt: skip
_HOST_SEGMENT = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,18}(?::\d{2,5})?", re.IGNORECASE
)
_SESSION_KEYS: Final = re.compile(
    r"utm_\w+|fbclid|gclid|mc_[ce]id|ref|source|from|igshid|si|amp|share|cmp|wt\w*|at_\w+", re.IGNORECASE
)
_HARD_URL = re.compile(r"[\s\"'<>{}|\\^`]|Math\.random", re.IGNORECASE)


def normalised(url: str) -> str:
    """Return the URL that a browser would open: without the scheme of a podcast app and a `#t=` time.

    Other fragments stay, because they can name an episode of a feed; `for_request` drops them.
    """
    url = url.strip()
    match = _WRAPPER.match(url)
    if match and not url.lower().startswith(("http:", "https:")):
        rest = url[match.end() :].removeprefix("subscribe/")
        url = rest if re.match(r"https?://", rest, re.IGNORECASE) else "https://" + rest.lstrip("/")
    base, _, fragment = url.partition("#")
    return base if _TIME_FRAGMENT.fullmatch(fragment) else url


def for_request(url: str) -> str:
    """Return the URL without its fragment, as it is requested."""
    return url.partition("#")[0]


_REFRESH = re.compile(
    r"\s*(\d{0,3})(?:\.[\d.]*)?\s*[;,\s]\s*(?:url\s*=\s*)?(?:\"([^\"]*)|'([^']*)|([^\s\"'].*))", re.IGNORECASE
)
MAX_REFRESH_SECONDS: Final = 5


def refresh_target(content: str, base: str) -> str | None:
    """Return where an immediate redirect by `Refresh` leads, as a header or a `<meta>`; `None` if nowhere."""
    match = _REFRESH.match(content)
    if match is None or int(match[1] or 0) > MAX_REFRESH_SECONDS:
        return None
    return absolute(base, match[2] or match[3] or match[4] or "")


def _split(url: str) -> SplitResult:
    """Return the parts of a URL, all empty if it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def origin_of(url: str) -> str:
    """Return scheme, host and port as they stand in the URL, lower-case; empty if it is no URL."""
    parts = _split(url)
    return f"{parts.scheme}://{parts.netloc}".lower() if parts.netloc else ""


def host_of(url: str) -> str:
    """Return the lower-case host without `www.`, empty if it is no URL."""
    return (_split(url).hostname or "").lower().rstrip(".").removeprefix("www.")


def path_of(url: str) -> str:
    """Return the path as written, empty if it is no URL."""
    return _split(url).path


def query_of(url: str) -> list[tuple[str, str]]:
    """Return the query's pairs, empty if it is no URL."""
    try:
        return parse_qsl(_split(url).query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return []


def is_on(url: str, *domains: str) -> bool:
    """Return whether the URL's host is one of `domains` or a subdomain of one."""
    return _is_below(host_of(url), frozenset(domains))


def _is_below(host: str, domains: frozenset[str]) -> bool:
    labels = host.split(".")
    return any(".".join(labels[start:]) in domains for start in range(len(labels) - 1))


def extension(url: str) -> str:
    """Return the lower-case extension of the path's last segment, empty if there is none."""
    name = posixpath.basename(unquote(path_of(url))).partition(";")[0]
    _, dot, ending = name.rpartition(".")
    return ending.lower() if dot and len(ending) <= 5 and ending.isalnum() else ""


def is_audio_url(url: str) -> bool:
    """Return whether the path (or one nested in the query, as in tracking redirects) ends like audio."""
    if extension(url) in AUDIO_EXTENSIONS:
        return True
    nested = unwrapped(url)
    return bool(nested) and extension(nested[-1]) in AUDIO_EXTENSIONS


def names_audio(url: str) -> bool:
    """Return whether the path or a value in the query ends like audio, as in /download.php?file=talk.mp3."""
    values = (value.rpartition(".")[2].lower() for _, value in query_of(url) if "." in value)
    return is_audio_url(url) or any(value in AUDIO_EXTENSIONS for value in values)


def is_video_url(url: str) -> bool:
    """Return whether the path ends like a video file."""
    return extension(url) in VIDEO_EXTENSIONS


def file_name(url: str) -> str:
    """Return the last segment of the path, percent-decoded, lower-case."""
    return posixpath.basename(unquote(path_of(unwrapped_or_self(url)))).lower()


def is_sane(url: str) -> bool:
    """Return whether a URL found in a document is plausible: no quotes, spaces or script code in it."""
    return len(url) <= 4096 and not _HARD_URL.search(url)


# --- tracking prefixes --------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def unwrapped(url: str) -> tuple[str, ...]:
    """Return the URLs nested in this one, from the outside in; empty if there are none.

    They serve to compare files, and to replace a dead prefix. A working prefix is never bypassed, because it
    may insert ads or sign the URL.
    """
    found: list[str] = []
    current = url
    for _ in range(8):
        inner = _unwrap_once(current)
        if inner is None or inner in found or inner == url:
            break
        found.append(inner)
        current = inner
    return tuple(found)


def unwrapped_or_self(url: str) -> str:
    """Return the innermost URL."""
    return (unwrapped(url) or (url,))[-1]


_NESTED = re.compile(r"https?(?::|%3A|%253A)(?:/|%2F|%252F){1,2}", re.IGNORECASE)


def _unwrap_once(url: str) -> str | None:  # one kind of wrapping a branch
    parts = _split(url)
    nested = _NESTED.search(parts.path)
    if nested:
        return _nested_url(nested, parts.query)
    nested = _NESTED.search(parts.query)
    if nested:
        return _nested_url(nested, "")
    if is_on(url, "t.subsplash.com"):
        return _from_base64(posixpath.basename(parts.path))
    if not _is_below(host_of(url), _TRACKERS):
        return None
    segments = parts.path.split("/")
    for index in range(1, len(segments) - 1):
        segment = segments[index]
        if _HOST_SEGMENT.fullmatch(segment) and segment.rsplit(".", 1)[-1].lower() not in AUDIO_EXTENSIONS:
            rest = "/".join(segments[index:])
            return f"https://{rest}" + (f"?{parts.query}" if parts.query else "")
    return None


def _nested_url(nested: re.Match[str], query: str) -> str | None:
    """Return the URL that starts at the match; `query` follows the path that contains the match."""
    inner = nested.string[nested.start() :]
    if "%" in nested[0]:
        inner = unquote(unquote(inner.split("&", 1)[0]) if "%25" in nested[0] else inner.split("&", 1)[0])
    elif query:
        inner = f"{inner}?{query}"
    inner = re.sub(r"^(https?):/(?!/)", r"\1://", inner, flags=re.IGNORECASE)
    return inner if host_of(inner) else None


def base64_text(token: str) -> str:
    """Return the text that a token in either alphabet encodes, with or without padding; empty if none."""
    token = token.replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), validate=True).decode()
    except ValueError:
        return ""


def _from_base64(name: str) -> str | None:
    match = re.search(r"https?://[^\s\"'<>]+", base64_text(name.rsplit(".", 1)[0]))
    return match[0] if match else None


# --- identity -----------------------------------------------------------------------------------------------


def audio_key(url: str) -> str:
    """Return what identifies a file: its name if that is long, else host and path, without prefixes."""
    inner = unwrapped_or_self(url)
    name = file_name(inner)
    if len(name) > 14 and "." in name:
        return name
    key = f"{host_of(inner)}{unquote(path_of(inner))}".lower()
    # If the path has no audio extension, the query names the file: /play?id=7, /download.php?file=ep7.mp3
    if extension(inner) not in AUDIO_EXTENSIONS:
        query = "&".join(f"{name}={value}" for name, value in sorted(query_of(inner)) if name.lower() != "_")
        return f"{key}?{query}" if query else key
    return key


_VARIANT_WORDS = re.compile(
    r"(?<![a-z0-9])(?:mp3|m4a|aac|ogg|opus|vbr|cbr|hq|lq|hi|lo|high|low|mono|stereo|small|large"
    r"|\d{2,3}k(?:b|bps|bit|bits)?|q\d|itunes|download|stream|player|web)(?![a-z0-9])"
)


def variant_key(url: str) -> str:
    """Return the file's name without extension, bit rate and format: equal for variants of one recording."""
    stem = file_name(url).rpartition(".")[0] or file_name(url)
    return re.sub(r"[^\w]+|_+", "", _VARIANT_WORDS.sub("", stem.replace("_", "-")))


def variant_stem(url: str) -> str:
    """Return the address without extension, bit rate and format.

    /1.mp3, /1.m4a, /aac/1.m4a and /1-64k.mp3 are one recording.
    """
    stem = re.sub(r"\.\w{2,5}(?=$|[?#])", "", url.replace("_", "-").lower())
    return re.sub(
        r"/{2,}|[-.]+(?=[/?#]|$)", lambda match: match[0][0].strip("-."), _VARIANT_WORDS.sub("", stem)
    )


def page_key(url: str) -> str:
    """Return the page's identity: no scheme, `www.`, tracking parameters, fragment or trailing slash."""
    parts = _split(url.strip())
    if not (parts.netloc or parts.path):
        return url.strip().lower()
    query = "&".join(
        sorted(f"{name}={value}" for name, value in query_of(url) if not _SESSION_KEYS.fullmatch(name))
    )
    path = re.sub(r"/(?:index\.(?:html?|php)|amp/?)?$", "", unquote(parts.path)).rstrip("/")
    return f"{host_of(url)}{path}" + (f"?{query}" if query else "")


def url_tokens(url: str) -> set[str]:
    """Return the lower-case ids and slugs of a page URL that have more than seven characters."""
    parts = _split(url)
    text = unquote(f"{parts.path}?{parts.query}").lower()
    tokens = set(re.findall(r"[a-z0-9]{8,}", text))
    slugs = {re.sub(r"\.(?:html?|php|aspx?)$", "", segment) for segment in re.split(r"[/?&=]", text)}
    return {token for token in tokens | slugs if len(token) > 7 and not re.fullmatch(r"[a-z]+", token)} | {
        slug for slug in slugs if len(slug) > 7 and re.search(r"[-_\d]", slug)
    }


def is_home(url: str) -> bool:
    """Return whether the path is that of a front page: `/`, `/index.html`, `/podcast/`."""
    path = path_of(url).strip("/").lower()
    return re.fullmatch(r"(?:index\.(?:html?|php)|home|podcasts?|[a-z]{2}(?:-[a-z]{2})?|)", path) is not None


def is_gone_home(asked: str, answered: str) -> bool:
    """Return whether a URL that names something was redirected to the front page of the same site.

    Some sites do that instead of answering 404; the audio on the front page is unrelated.
    """
    named = not is_home(asked) and bool(url_tokens(asked))
    return named and is_home(answered) and host_of(asked) == host_of(answered) and not url_tokens(answered)
