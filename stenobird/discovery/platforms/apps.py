"""Podcast apps and directories: pages about episodes whose audio and feed are on other hosts."""

from __future__ import annotations

from stenobird.discovery.platforms.fields import Fields
from stenobird.discovery.platforms.platform import Platform, Route
from stenobird.discovery.platforms.ways import (
    AppleShow,
    FeedURL,
    JSONLookup,
    MediaURL,
    PageAudio,
    PageMeta,
    PageState,
    PlayerTag,
    ShowLinks,
)

_EPISODE_LD = PageAudio("page.json_ld")

OVERCAST = Platform(
    "Overcast",
    hosts=("overcast.fm",),
    routes=(
        Route(
            r"/\+[\w-]+(?:/[\d:]+)?",
            (PageMeta("twitter:player:stream"), PlayerTag("audio", "audioplayer"), ShowLinks()),
        ),
        Route(r"/itunes(?P<apple>\d+)(?:/.*)?", (AppleShow("{apple}"),)),
    ),
    examples=("https://overcast.fm/+Kebtyd8dg", "https://overcast.fm/itunes1234567890/the-show"),
)

POCKET_CASTS = Platform(
    "Pocket Casts",
    hosts=("pca.st", "play.pocketcasts.com", "pocketcasts.com"),
    routes=(
        Route(r"/itunes/(?P<apple>\d+)", (AppleShow("{apple}"),)),
        Route(
            r"/(?:episode/[\w-]+|podcasts?/[^/]+/[^/]+(?:/[^/]+)?|[A-Za-z0-9]{4,12})",
            (_EPISODE_LD, PlayerTag("audio", "audio_player"), ShowLinks()),
        ),
    ),
    examples=(
        "https://pca.st/episode/c51cd5a1-9cb2-4d11-8a0f-1b5e9d4e8d11",
        "https://pca.st/abc123",
        "https://pca.st/itunes/1234567890",
    ),
)

CASTBOX = Platform(
    "Castbox",
    hosts=("castbox.fm",),
    routes=(
        Route(
            r"/episode/.*-id\d+-id(?P<id>\d+)",
            (
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
                PlayerTag("audio"),
            ),
        ),
        Route(r"/vic/(?P<apple>\d+)", (AppleShow("{apple}"),)),
    ),
    examples=(
        "https://castbox.fm/episode/The-title-id1234567-id456789012?country=us",
        "https://castbox.fm/vic/1234567890",
    ),
)

PODCAST_ADDICT = Platform(
    "Podcast Addict",
    hosts=("podcastaddict.com",),
    routes=(
        Route(r"/episode/(?P<enclosure>https?(?::|%3[Aa]).+)", (MediaURL("{enclosure:link}"),)),
        Route(r"/feed/(?P<feed>https?(?::|%3[Aa]).+)", (FeedURL("{feed:link}", newest=True),)),
        Route(
            r"(?:/[^/]+)?/episode/\d+",
            (PlayerTag("audio", drop_query=("from",)), _EPISODE_LD, ShowLinks()),
        ),
    ),
    examples=(
        "https://podcastaddict.com/the-show/episode/123456789",
        "https://podcastaddict.com/episode/https%3A%2F%2Fcdn.example.com%2Fa.mp3",
        "https://podcastaddict.com/feed/https%3A%2F%2Ffeeds.example.com%2Fshow",
    ),
)

GOOGLE_PODCASTS = Platform(
    "Google Podcasts",
    hosts=("podcasts.google.com",),
    routes=(
        Route(
            r"/feed/(?P<feed>[\w%=+.-]+)/episode/(?P<episode>[\w%=+.-]+)",
            (FeedURL("{feed:base64}", guid="{episode:base64}"),),
            final=True,
        ),
        Route(r"/feed/(?P<feed>[\w%=+.-]+)", (FeedURL("{feed:base64}", newest=True),), final=True),
        Route(
            r"/?",
            (FeedURL("{feed:base64}", guid="{episode:base64}"),),
            needs=("feed", "episode"),
            final=True,
        ),
        Route(
            r"/?(?:subscribe-by-rss-feed)?",
            (FeedURL("{feed:base64}", newest=True),),
            needs=("feed",),
            final=True,
        ),
    ),
    examples=(
        "https://podcasts.google.com/feed/aHR0cHM6Ly9mZWVkcy5leGFtcGxlLmNvbS9zaG93/episode/Z3VpZC0x?hl=de",
        "https://podcasts.google.com/feed/aHR0cHM6Ly9mZWVkcy5leGFtcGxlLmNvbS9zaG93",
        "https://podcasts.google.com/?feed=aHR0cHM6Ly9mZWVkcy5leGFtcGxlLmNvbS9zaG93&episode=Z3VpZC0x",
        "https://podcasts.google.com/subscribe-by-rss-feed?feed=aHR0cHM6Ly9mZWVkcy5leGFtcGxlLmNvbS9zaG93",
    ),
)

PODBAY = Platform(
    "Podbay",
    hosts=("podbay.fm",),
    routes=(
        Route(
            r"/p/[^/]+/e/(?P<moment>\d+)",
            (
                PageState(
                    "__NEXT_DATA__",
                    Fields(media=("mediaURL",), title="title", show="podcast.title"),
                    root="props.pageProps.episode",
                    same={"timestamp": "moment"},
                ),
            ),
        ),
    ),
    examples=("https://podbay.fm/p/the-show/e/1647338400",),
)

APPLE_IDS = Platform(
    "A link by Apple id",
    hosts=(
        "castro.fm",
        "moon.fm",
        "podbean.com",
        "listennotes.com",
        "pods.link",
        "podcastrepublic.net",
        "app.podcastguru.io",
        "sonnet.fm",
        "goodpods.com",
        "listentojam.com",
    ),
    routes=(
        Route(
            r"/(?:itunes|i|podcast|p|podcasts-aid)/(?:id)?(?P<apple>\d{6,12})",
            (AppleShow("{apple}"),),
        ),
    ),
    examples=("https://castro.fm/itunes/1234567890", "https://www.listennotes.com/itunes/id1234567890"),
)

PODFRIEND = Platform(
    "Podfriend",
    hosts=("podfriend.com", "web.podfriend.com"),
    routes=(
        Route(r"/podcast/(?P<apple>\d{6,12})", (AppleShow("{apple}"),)),
        Route(
            r"/podcast/(?P<apple>\d{6,12})/(?P<guid>.+)",
            (AppleShow("{apple}", newest=False, guid="{guid:text}"),),
        ),
    ),
    examples=("https://podfriend.com/podcast/1234567890", "https://podfriend.com/podcast/1234567890/guid-1"),
)

FEED_LINKS = Platform(
    "A link by feed",
    hosts=(
        "antennapod.org",
        "anytimeplayer.app",
        "player.fm",
        "gpodder.net",
        "pcasts.in",
        "radiopublic.com",
        "subscribeonandroid.com",
        "podknife.com",
        "breez.link",
    ),
    routes=(
        Route(
            r"/p",
            (FeedURL("{feedURL:link}", guid="{episodeID:text}"),),
            needs=("feedURL", "episodeID"),
        ),
        Route(r"/(?:deeplink/)?subscribe", (FeedURL("{url:link}", newest=True),), needs=("url",)),
        Route(r"/subscribe", (FeedURL("{id:link}", newest=True),), needs=("id",)),
        Route(r"/p", (FeedURL("{feedURL:link}", newest=True),), needs=("feedURL",)),
        Route(r"/podcast", (FeedURL("{feed_url:link}", newest=True),), needs=("feed_url",)),
        Route(r"/(?:feed/)?(?P<feed>https?(?::|%3[Aa]).+)", (FeedURL("{feed:link}", newest=True),)),
        Route(r"/(?P<feed>[\w-]+(?:\.[\w-]+)+/.+)", (FeedURL("{feed:link}", newest=True),)),
    ),
    examples=(
        "https://antennapod.org/deeplink/subscribe?url=https%3A%2F%2Ffeeds.example.com%2Fshow",
        "https://player.fm/subscribe?id=https%3A%2F%2Ffeeds.example.com%2Fshow",
        "https://subscribeonandroid.com/feeds.example.com/show",
        "https://breez.link/p?feedURL=https%3A%2F%2Ffeeds.example.com%2Fshow&episodeID=guid-1",
        "https://breez.link/p?feedURL=https%3A%2F%2Ffeeds.example.com%2Fshow",
        "https://podknife.com/podcast?feed_url=https://feeds.example.com/show",
        "https://pcasts.in/feed/https%3A%2F%2Ffeeds.example.com%2Fshow",
    ),
)

APPS = (
    OVERCAST,
    POCKET_CASTS,
    CASTBOX,
    PODCAST_ADDICT,
    GOOGLE_PODCASTS,
    PODBAY,
    APPLE_IDS,
    PODFRIEND,
    FEED_LINKS,
)
