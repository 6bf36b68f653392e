"""Finds the audio players among a page's iframes, and whether they all play one recording. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stenobird.discovery import urls
from stenobird.discovery.page.candidates import is_narration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_NO_PLAYER: Final = (
    "youtube.com", "youtube-nocookie.com", "youtu.be", "vimeo.com", "dailymotion.com", "google.com",
    "googletagmanager.com", "doubleclick.net", "googlesyndication.com", "facebook.com", "twitter.com",
    "x.com", "instagram.com", "tiktok.com", "linkedin.com", "pinterest.com", "reddit.com", "disqus.com",
    "recaptcha.net", "hcaptcha.com", "cloudflare.com", "typeform.com", "hubspot.com", "mailchimp.com",
    "list-manage.com", "paypal.com", "stripe.com", "amazon-adsystem.com", "openstreetmap.org",
    "datawrapper.de", "flourish.studio", "calendly.com", "patreon.com", "ko-fi.com", "giphy.com",
    "taboola.com", "outbrain.com", "wikipedia.org", "twitch.tv", "jwplatform.com", "brightcove.net",
    "kaltura.com",
)  # fmt: skip
_PLAYER_HOSTS: Final = (
    "buzzsprout.com", "libsyn.com", "podbean.com", "spreaker.com", "simplecast.com", "transistor.fm",
    "captivate.fm", "acast.com", "megaphone.fm", "omny.fm", "omnycontent.com", "art19.com", "audioboom.com",
    "blubrry.com", "fireside.fm", "podigee.com", "podigee.io", "castos.com", "redcircle.com",
    "soundcloud.com", "mixcloud.com", "anchor.fm", "podcasters.spotify.com", "creators.spotify.com",
    "open.spotify.com", "podcasts.apple.com", "iheart.com", "castbox.fm", "pinecast.com", "ausha.co",
    "ivoox.com", "zencastr.com", "podomatic.com", "whooshkaa.com", "npr.org", "archive.org",
    "radiofrance.fr", "rss.com", "hearthis.at", "audiomack.com", "overcast.fm", "pca.st", "pocketcasts.com",
    "podcloud.fr", "podlovers.org", "letscast.fm", "podcaster.de", "castopod.org", "justcast.com",
    "resonaterecordings.com", "sounder.fm", "backtracks.fm", "podient.com", "audiomeans.fr", "bandcamp.com",
    "ximalaya.com", "supportingcast.fm", "simplecastaudio.com",
)  # fmt: skip
_PLAYER_PATH = re.compile(
    r"podcast|audio|episode|(?:^|[/._-])(?:player|embed|listen|sound|radio|track)", re.IGNORECASE
)
_VIDEO = re.compile(r"//(?:[\w-]+\.)*videos?[.-]|/videos?(?:[/._-]|$)|video-?player", re.IGNORECASE)
_SHOW_PLAYER = re.compile(r"/playlist/|/show/|/playlists/|/sets/|multi|latest", re.IGNORECASE)


def player_frames(iframes: Iterable[str], page_url: str, knows: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the iframes that may be audio players, those of known platforms first."""
    known: list[str] = []
    likely: list[str] = []
    for url in iframes:
        if urls.is_on(url, *_NO_PLAYER) or not urls.is_sane(url) or is_narration(url) or _VIDEO.search(url):
            continue
        if knows(url) or urls.is_on(url, *_PLAYER_HOSTS):
            known.append(url)
        elif urls.page_key(url) != urls.page_key(page_url) and _PLAYER_PATH.search(urls.path_of(url)):
            likely.append(url)
    return tuple(dict.fromkeys(known + likely))


def one_each(frames: Iterable[str]) -> tuple[str, ...] | None:
    """Return the frames, or `None` if two of them are on one host.

    Players of several hosts (Spotify, Apple) on one page play the same episode. Two players of one host play
    two episodes, and nothing says which of them is the page's.
    """
    chosen: dict[str, str] = {}
    for url in frames:
        host = ".".join(urls.host_of(url).split(".")[-2:])
        # A player is often named twice, as an iframe and as twitter:player, with different parameters.
        if host in chosen and _identity(chosen[host]) != _identity(url):
            return None
        chosen.setdefault(host, url)
    return tuple(sorted(chosen.values(), key=lambda url: bool(_SHOW_PLAYER.search(url))))


def _identity(url: str) -> str:
    """Return the longest token with a digit in a player's address, which is its episode id."""
    tokens = re.findall(r"[A-Za-z0-9_-]*\d[A-Za-z0-9_-]*", f"{urls.path_of(url)}/{urls.query_of(url)}")
    return max(tokens, key=len, default=urls.page_key(url)).lower()
