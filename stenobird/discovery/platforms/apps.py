"""Podcast apps and directories: pages about episodes whose audio and feed are on other hosts."""

from __future__ import annotations

from stenobird.discovery.platforms.platform import Platform, Route
from stenobird.discovery.platforms.visit import Fields
from stenobird.discovery.platforms.ways import (
    NEXT_DATA,
    AppleShow,
    FeedURL,
    JSONLookup,
    MediaURL,
    PageAudio,
    PageJSON,
    PageMeta,
    PlayerTag,
    ShowLinks,
)

_EPISODE_LD = PageAudio("page.json_ld")
_GOOGLE_EPISODE = FeedURL("{feed:base64}", guid="{episode:base64}")
_GOOGLE_SHOW = FeedURL("{feed:base64}", newest=True)
_BY_APPLE_ID = (
    "castro.fm", "moon.fm", "podbean.com", "listennotes.com", "pods.link", "podcastrepublic.net",
    "app.podcastguru.io", "sonnet.fm", "goodpods.com", "listentojam.com",
)  # fmt: skip
_BY_FEED = (
    "antennapod.org", "anytimeplayer.app", "player.fm", "gpodder.net", "pcasts.in", "radiopublic.com",
    "subscribeonandroid.com", "podknife.com", "breez.link",
)  # fmt: skip

APPS = (
    Platform(
        "Overcast",
        ("overcast.fm",),
        Route(
            r"/\+[\w-]+(?:/[\d:]+)?",
            PageMeta("twitter:player:stream"),
            PlayerTag("audioplayer"),
            ShowLinks(),
        ),
        Route(r"/itunes(?P<apple>\d+)(?:/.*)?", AppleShow("{apple}")),
    ),
    Platform(
        "Pocket Casts",
        ("pca.st", "play.pocketcasts.com", "pocketcasts.com"),
        Route(r"/itunes/(?P<apple>\d+)", AppleShow("{apple}")),
        Route(
            r"/(?:episode/[\w-]+|podcasts?/[^/]+/[^/]+(?:/[^/]+)?|[A-Za-z0-9]{4,12})",
            _EPISODE_LD,
            PlayerTag("audio_player"),
            ShowLinks(),
        ),
    ),
    Platform(
        "Castbox",
        ("castbox.fm",),
        Route(
            r"/episode/.*-id\d+-id(?P<id>\d+)",
            JSONLookup(
                "https://everest.castbox.fm/data/episode/v4?eid={id}",
                Fields(
                    media=("data.url", "data.urls.0"),
                    title="data.title",
                    show="data.channel.title",
                    published="data.release_date",
                ),
                same={"data.eid": "id"},
            ),
            PlayerTag(),
        ),
        Route(r"/vic/(?P<apple>\d+)", AppleShow("{apple}")),
    ),
    Platform(
        "Podcast Addict",
        ("podcastaddict.com",),
        Route(r"/episode/(?P<enclosure>https?(?::|%3[Aa]).+)", MediaURL("{enclosure:link}")),
        Route(r"/feed/(?P<feed>https?(?::|%3[Aa]).+)", FeedURL("{feed:link}", newest=True)),
        Route(r"(?:/[^/]+)?/episode/\d+", PlayerTag(drop_query="from"), _EPISODE_LD, ShowLinks()),
    ),
    Platform(
        "Google Podcasts",
        ("podcasts.google.com",),
        Route(r"/feed/(?P<feed>[\w%=+.-]+)/episode/(?P<episode>[\w%=+.-]+)", _GOOGLE_EPISODE, final=True),
        Route(r"/feed/(?P<feed>[\w%=+.-]+)", _GOOGLE_SHOW, final=True),
        Route(r"/?", _GOOGLE_EPISODE, needs=("feed", "episode"), final=True),
        Route(r"/?(?:subscribe-by-rss-feed)?", _GOOGLE_SHOW, needs=("feed",), final=True),
    ),
    Platform(
        "Podbay",
        ("podbay.fm",),
        Route(
            r"/p/[^/]+/e/(?P<moment>\d+)",
            PageJSON(
                NEXT_DATA,
                Fields(media=("mediaURL",), title="title", show="podcast.title"),
                root="props.pageProps.episode",
                same={"timestamp": "moment"},
            ),
        ),
    ),
    Platform(
        "A link by Apple id",
        _BY_APPLE_ID,
        Route(r"/(?:itunes|i|podcast|p|podcasts-aid)/(?:id)?(?P<apple>\d{6,12})", AppleShow("{apple}")),
    ),
    Platform(
        "Podfriend",
        ("podfriend.com", "web.podfriend.com"),
        Route(r"/podcast/(?P<apple>\d{6,12})", AppleShow("{apple}")),
        Route(
            r"/podcast/(?P<apple>\d{6,12})/(?P<guid>.+)",
            AppleShow("{apple}", newest=False, guid="{guid:text}"),
        ),
    ),
    Platform(
        "A link by feed",
        _BY_FEED,
        Route(r"/p", FeedURL("{feedURL:link}", guid="{episodeID:text}"), needs=("feedURL", "episodeID")),
        Route(r"/(?:deeplink/)?subscribe", FeedURL("{url:link}", newest=True), needs=("url",)),
        Route(r"/subscribe", FeedURL("{id:link}", newest=True), needs=("id",)),
        Route(r"/p", FeedURL("{feedURL:link}", newest=True), needs=("feedURL",)),
        Route(r"/podcast", FeedURL("{feed_url:link}", newest=True), needs=("feed_url",)),
        Route(r"/(?:feed/)?(?P<feed>https?(?::|%3[Aa]).+)", FeedURL("{feed:link}", newest=True)),
        Route(r"/(?P<feed>[\w-]+(?:\.[\w-]+)+/.+)", FeedURL("{feed:link}", newest=True)),
    ),
)
