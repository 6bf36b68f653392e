"""Chooses the page's audio among the addresses found on the page: scores, rejections, ties.

All findings are collected before one is chosen. A file's base score says how trustworthy the place is in
which it was found, evidence around it adds to or subtracts from it, and 40 is enough. If several different
files are equally good, none is chosen: a wrong file is worse than none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import unquote

from stenobird.discovery import urls
from stenobird.discovery.feeds.episodes import plain
from stenobird.sources import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

THRESHOLD: Final = 40.0
TIE_POINTS: Final = 1.0
COMPARED: Final = 40
"""Files that are compared with the best one; more of them would not change the result."""
MANY: Final = 3
"""This many different files of one kind are a list, of which only clear evidence selects one."""

BASE_SCORES: Final = {
    "page.json_ld": 85.0,
    "page.og_audio": 70.0,
    "page.twitter_stream": 70.0,
    "page.og_audio_secure": 66.0,
    "page.json_ld_article": 62.0,
    "page.audio_element": 60.0,
    "page.microdata": 60.0,
    "page.attribute": 52.0,
    "page.inline_state": 42.0,
    "page.link_text": 40.0,
    "page.link": 34.0,
    "page.json_ld_video": 40.0,
    "page.og_video": 40.0,
    "page.video_element": 40.0,
}
_LATE: Final = frozenset({"page.inline_state", "page.link_text"})
"""Considered only if nothing else reaches the threshold."""


@dataclass(slots=True)
class Finding:
    """One place on a page that names an address. `context` is the text next to it."""

    url: str
    technique: str
    context: str = ""
    evidence: bool = False
    """The text, class or `download` attribute of a link says that it is audio."""
    aside: bool = False
    narration: bool = False
    penalty: float = 0.0
    main: bool = False
    """Inside the page's `main` or `article`, and not in a side element of it."""
    video: bool = False
    recorded: bool = False
    """The page calls it an episode, so a word in its address does not make it a live stream."""
    group: int | None = None
    """Findings of one player element share a group, because they are formats of one recording."""


Choice: TypeAlias = tuple[Literal["found", "ambiguous", "none"], tuple[Candidate, ...], int]
"""The outcome, the candidates best first and rejected ones last, and how many may be opened, in order."""


# --- rejections ---------------------------------------------------------------------------------------------

CLIPS = re.compile(
    r"mp3-preview|//[\w-]*cdn\w*-previews?[.-]|audiopreview|/audio/clips/|[-_./]preview\.\w{2,4}$|//p\.scdn\.co/"
    r"|samples\.audible|/audio[-_]?samples?/|audio-ssl\.itunes\.apple\.com/.*preview",
    re.IGNORECASE,
)
"""Samples that music platforms and shops give away instead of the recording."""
_PREVIEW = re.compile(rf"{CLIPS.pattern}|clip_\d|/previews?/", re.IGNORECASE)
_SOUND = re.compile(
    r"/plugins/|/(?:assets|static|dist|build|js|public|resources)/(?:\w+/)?(?:sounds?|sfx)/|googleassistant"
    r"|/sounds?/(?:ui|notif)|/prons?/|/pronunciations?/|_pron(?:unciation)?[/_.]|ssl\.gstatic\.com/dictionary"
    r"|/(?:blank|silence|silent|empty|beep|click|ding|pop|chime|bell|notif(?:y|ication)?s?|alert|success|error"
    r"|message|ping|"
    r"[\w-]*(?:second|sec|s)-(?:of-)?silence|captcha[\w-]*)\.(?:mp3|ogg|wav|m4a)$",
    re.IGNORECASE,
)
_STATION_HOST = re.compile(
    r"streamguys|icecast|shoutcast|streamtheworld|radiojar\.com|zeno\.fm|ihrhls\.com|securenetsystems|streamon\.fm"
    r"|\.radio\.co$|radionomy|stream\.live\.|sslstream|rndfnk\.com|\.ic\.llnwd\.|listen2myradio|rcast\.net"
    r"|radiostreamlive|voscast|caster\.fm|live365|^ice\d+\.\w+\.\w+$",
    re.IGNORECASE,
)
_STATION_PATH = re.compile(
    r"/live(?:\.m3u8|\.mp3|-?stream)?$|/;|/listen\.(?:pls|m3u)$|[-_/]live\.m3u8$|/live(?:/\w+)?/[\w-]+\.m3u8$",
    re.IGNORECASE,
)
_LIVE_WORDS = re.compile(r"/live/|live-?stream|icecast|shoutcast", re.IGNORECASE)
_LIVE_NAME = re.compile(r"\w{0,12}(?:livestream|icecast|shoutcast)\w{0,3}", re.IGNORECASE)
# /dlf/01/128/mp3/stream.mp3: short names and bit rates, but no date, slug or episode number.
_LIVE_PATH = re.compile(
    r"(?:(?:0\d|32|48|64|96|128|192|256|320|[a-z][\w.]{0,11})/){0,4}(?:stream|listen|live)\d?(?:\.(?:mp3|aac|ogg|m3u8|pls))?",
    re.IGNORECASE,
)
_LIVE_LABEL = re.compile(
    r"(?:live|direct|directo|diretta|ice|stream|streaming|streams|listen|radio|audio-live|str)\d{0,3}",
    re.IGNORECASE,
)
_NARRATION_URL = re.compile(
    r"(?:^|[/._-])(?:polly|tts|audio-?not[ae]s?|text[-_]?to[-_]?speech|speechkit|beyondwords|trinityaudio|readspeaker|adauris"
    r"|ad-auris|elevenlabs|everlit|remixd|narrator|narrations?|narrated|spoken-?article|readaloud|read-aloud|playht)"
    r"(?:[/._-]|$)|play\.ht/|speechkit|beyondwords|trinityaudio|readspeaker",
    re.IGNORECASE,
)


def rejection(  # noqa: PLR0911  # one reason a branch
    url: str, *, origin: str = "", recorded: bool = False, title: frozenset[str] = frozenset()
) -> str | None:
    """Return why this address can't be the audio of a page of this origin, `None` if it may be.

    `recorded` means that the page calls it an episode; `title` has the words of the page's title.
    """
    if not urls.is_sane(url):
        return "no usable address (built by a script)"
    if url.lower().endswith(
        (".mp3.m3u", ".swf", ".js", ".css", ".html", ".htm", ".svg", ".jpg", ".jpeg", ".png")
    ):
        return "not an audio file"
    if "/wiki/File:" in url or "/wiki/Datei:" in url or "/wiki/Fichier:" in url:
        return "a page about a file"
    if _PREVIEW.search(url):
        return "a preview or clip"
    if _SOUND.search(url):
        return "a sound of the site, not its content"
    if is_live(url, origin=origin, recorded=recorded, title=title):
        return "a live stream"
    return None


def is_live(
    url: str, *, origin: str = "", recorded: bool = False, title: frozenset[str] = frozenset()
) -> bool:
    """Return whether an address on a page of this origin looks like a radio station's endless stream.

    If only a word or a port suggests it, a file name with a date or title outweighs it.
    """
    host, path = urls.host_of(url), urls.path_of(url).strip("/")
    if _STATION_PATH.search(f"/{path}") or _LIVE_PATH.fullmatch(path):
        return True
    folder, _, name = path.rpartition("/")
    stem = name.partition(".")[0].replace("-", "").replace("_", "")
    station = bool(_STATION_HOST.search(host))
    suspect = bool(station or _LIVE_WORDS.search(f"//{host}/{folder}/") or _LIVE_NAME.fullmatch(stem))
    if not suspect:
        port = re.search(r"^https?://[^/]+:(\d{4,5})(?:/|$)", url)
        # On-demand files on such hosts are in folders and have dates or numbers.
        shallow = not folder and not re.search(r"\d{4,}", path)
        telling = (port and port[1].startswith(("8", "9"))) or _LIVE_LABEL.fullmatch(host.split(".")[0])
        suspect = shallow and bool(telling) and urls.origin_of(url) != origin
    if not suspect or (recorded and not station):
        return False
    return not (_is_recording(url, title) and (urls.is_audio_url(url) or not station))


_DATED = re.compile(r"(?<!\d)(?:19|20)\d\d[-_./]?(?:0[1-9]|1[0-2])(?:[-_./]?[0-3]\d)?(?!\d)|\d{6,}")
_STATION_WORDS = re.compile(
    r"^(?:live|stream|radio|fm|am|hq|lq|hd|high|low|web|main|\d+k?|mp3|aac|ogg|opus)$"
)


def _is_recording(url: str, title: frozenset[str]) -> bool:
    """Return whether the file's name is that of a recording: a date, half of the title, or four words."""
    name = urls.file_name(url).rpartition(".")[0]
    if _DATED.search(name):
        return True
    words = words_of(re.sub(r"[-_+.%]+", " ", name))
    if len(words & title) >= max(2, len(title) / 2):
        return True
    telling = [word for word in re.split(r"[\W_]+", name) if len(word) > 1 and not _STATION_WORDS.match(word)]
    return len(telling) >= 4


def is_narration(text: str) -> bool:
    """Return whether an address names a text-to-speech service or a narration of the article."""
    return bool(_NARRATION_URL.search(text))


# --- scoring ------------------------------------------------------------------------------------------------

_STOP_WORDS: Final = frozenset(
    re.findall(
        r"\w+",
        """the and for with from that this what how why who you your are was were not all out about
        into our his her its der die das und mit von den dem ein eine ist les des une est pour
        dans sur aux del los las por con para una que il lo gli di da per non het een van voor och
        som att det podcast episode folge audio mp3 listen download player play news radio show""",
    )
)


def words_of(text: str) -> set[str]:
    """Return the distinctive words of a title: three letters or more, no stop words; CJK in pairs."""
    found: set[str] = set()
    for word in plain(text).split():
        if re.search(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]", word):
            found.update(word[index : index + 2] for index in range(max(1, len(word) - 1)))
        elif (len(word) > 2 or word.isdigit()) and word not in _STOP_WORDS:
            found.add(word)
    return found


@dataclass(slots=True)
class _File:
    """A file, the best of its findings, and their combined score."""

    best: Finding
    score: float
    overlap: float
    titled: bool
    """Its own title is nearly the page's: two words or more agree, and it has few others."""
    identified: bool
    variant: str
    stem: str
    """See `urls.variant_stem`."""
    place: str
    """Host and name, if the name identifies an episode: /stream/ep-12.mp3 and /download/ep-12.mp3 are one
    file, but /book-1/01.mp3 and /book-2/01.mp3 are not."""
    groups: frozenset[int]


def choose(
    findings: Iterable[Finding], title: set[str], tokens: set[str], *, origin: str = "", video: bool = False
) -> Choice:
    """Choose among a page's findings: only video files with `video`, else only audio.

    `title` has the words of the page's title, `tokens` the distinctive ones of its URL. `origin` is its
    scheme, host and port: a file on the page's own server is no radio station's stream.
    """
    rejected: list[Candidate] = []
    usable: list[Finding] = []
    for finding in findings:
        if finding.video is not video:
            continue
        finding.url = urls.for_request(finding.url)
        reason = rejection(finding.url, origin=origin, recorded=finding.recorded, title=frozenset(title))
        if reason is None:
            usable.append(finding)
        elif not any(candidate.url == finding.url for candidate in rejected):
            rejected.append(Candidate(finding.url, finding.technique, rejected=reason))
    files = _files([finding for finding in usable if finding.technique not in _LATE], title, tokens)
    if not files or files[0].score < THRESHOLD:
        files = _files(usable, title, tokens)
    reach = [file for file in files if file.score >= THRESHOLD]
    if not reach:
        return "none", (*_rejected(files, "too little evidence"), *rejected[:20]), 0
    if tied := _tied(files):
        listed = _rejected(files, f"{len(tied)} files are equally likely")
        return "ambiguous", (*listed, *rejected[:20]), 0
    chosen = [reach[0], *_stand_ins(reach[0], reach[1:])]
    others = _rejected([file for file in files if file not in chosen], "another file is likelier")
    return "found", (*(_candidate(file, None) for file in chosen), *others, *rejected[:20]), len(chosen)


def _rejected(files: Sequence[_File], reason: str) -> list[Candidate]:
    return [_candidate(file, reason) for file in files[:20]]


def _candidate(file: _File, rejected: str | None) -> Candidate:
    title = file.best.context.strip()[:200] or None
    return Candidate(
        file.best.url, file.best.technique, score=round(file.score, 1), title=title, rejected=rejected
    )


def _files(findings: Sequence[Finding], title: set[str], tokens: set[str]) -> list[_File]:
    """Group findings by file, score the files, best first (document order among equals)."""
    by_key: dict[str, list[Finding]] = {}
    for finding in findings:
        by_key.setdefault(urls.audio_key(finding.url), []).append(finding)
    files = [_scored(group, title, tokens) for group in by_key.values()]
    return sorted(files, key=lambda file: (-file.score, _format_rank(file.best.url)))


def _scored(group: list[Finding], title: set[str], tokens: set[str]) -> _File:
    best = max(group, key=_value)
    url = best.url
    context = {
        word for finding in group for word in words_of(f"{finding.context} {_spoken_name(finding.url)}")
    }
    overlap = len(title & context) / len(title) if title else 0.0
    lower = re.sub(r"[\W_]+", "", unquote(urls.path_of(url)).lower())
    identified = any(re.sub(r"[\W_]+", "", token) in lower for token in tokens)
    # A bare link counts only if its text says audio or has half of the page's title.
    is_bare = best.technique == "page.link" and not best.evidence and overlap < 0.5
    techniques = {finding.technique for finding in group}
    variant = urls.variant_key(url)
    return _File(
        best,
        score=(
            _value(best)
            + (0.0 if is_bare else 20.0 * overlap)
            + (12.0 if identified else 0.0)
            + 4.0 * (len(techniques) - 1)
        ),
        overlap=overlap,
        titled=any(_is_titled(finding.context, title) for finding in group),
        identified=identified,
        variant=variant,
        stem=urls.variant_stem(url) if urls.is_audio_url(url) else "",
        place=f"{urls.host_of(url)} {urls.file_name(url)}" if re.search(r"[a-z][-_]?\d", variant) else "",
        groups=frozenset(finding.group for finding in group if finding.group is not None),
    )


def _is_titled(context: str, title: set[str]) -> bool:
    words = {word for word in words_of(context) if not word.isdigit() or word in title}
    shared = len(words & title)
    if not shared or shared < 0.5 * len(title):
        return False
    return words == title or (shared >= 2 and shared >= 0.7 * len(words))


def _value(finding: Finding) -> float:
    value = BASE_SCORES[finding.technique] - finding.penalty
    if finding.evidence and finding.technique == "page.link":
        value += 12.0
    if finding.aside:
        value -= 25.0
    if finding.main:
        # Enough to break a tie with a player around the content, too little for anything else.
        value += 2.0
    if finding.narration or is_narration(finding.url):
        value -= 60.0
    if urls.extension(finding.url) == "wma":
        value -= 15.0
    return value


def _spoken_name(url: str) -> str:
    return re.sub(r"[-_+.%]+", " ", urls.file_name(url).rpartition(".")[0])


def _format_rank(url: str) -> int:
    order = ("mp3", "m4a", "aac", "opus", "ogg")
    ending = urls.extension(url)
    return order.index(ending) if ending in order else (len(order) + (ending == "wma"))


def _same_audio(first: _File, second: _File) -> bool:
    """Return whether two files are formats or bit rates of one recording."""
    if first.stem and first.stem == second.stem:
        return True
    if first.groups & second.groups or (first.variant == second.variant and len(first.variant) > 4):
        return True
    return bool(first.place) and first.place == second.place


def _tied(files: Sequence[_File]) -> list[_File]:
    """Return the different files that are as good as the best one, and that one; empty if it stands out."""
    best = files[0]
    different: list[_File] = []
    for file in files[1:COMPARED]:
        if not any(_same_audio(file, known) for known in (best, *different)):
            different.append(file)
    level = [file for file in different if file.score >= best.score - TIE_POINTS]
    if level:
        return [best, *level]
    peers = [
        file
        for file in different
        if file.score >= THRESHOLD
        and _value(file.best) >= _value(best.best) - TIE_POINTS
        and not (file.best.aside and not best.best.aside)
    ]
    # A file in a list is the page's only if its title or address says so, and no other file's address does:
    # "Introducing the Show" on the page of the show has all words of its title, but is a different episode.
    stands_out = best.titled or (best.identified and not any(peer.identified for peer in peers))
    return [best, *peers] if len(peers) >= MANY - 1 and not stands_out else []


def _stand_ins(best: _File, others: Sequence[_File]) -> list[_File]:
    """Return what may be tried if the best file is dead: its other formats, and a single other one as good.

    Files of a list may not be tried: if the page's own file is gone, the others are other episodes.
    """
    same = [file for file in others if _same_audio(best, file)]
    rest = [file for file in others if file not in same]
    if len(rest) == 1 and not rest[0].best.aside and rest[0].overlap >= max(best.overlap, 0.5):
        return [*same, *rest]
    return same
