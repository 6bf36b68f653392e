"""Podcast hosts: the address of the file, given the id in a page's or player's URL."""

from __future__ import annotations

from stenobird.discovery.platforms.platform import Platform, Route
from stenobird.discovery.platforms.visit import Fields
from stenobird.discovery.platforms.ways import (
    NEXT_DATA,
    FeedURL,
    JSONLookup,
    MediaURL,
    PageJSON,
    PageLink,
    PageMeta,
    ShowLinks,
)

UUID = r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"

_ACAST_EPISODE = JSONLookup(
    "https://feeder.acast.com/api/v1/shows/{show}/episodes/{id}?showInfo=true",
    Fields(media=("url",), title="title", show="show.title", duration="duration", published="publishDate"),
    same={"id": "id", "episodeUrl": "id", "_id": "id"},
)

_SIMPLECAST_FIELDS = Fields(
    media=("audio_file.url", "audio_file_url", "enclosure_url"),
    title="title",
    show="podcast.title",
    guid="guid",
    duration="duration",
    published="published_at",
)

_SPREAKER_WAYS = (
    JSONLookup(
        "https://api.spreaker.com/v2/episodes/{episode_id}",
        Fields(
            media=("download_url", "media_url", "playback_url"),
            title="title",
            show="show.title",
            duration="duration",
            milliseconds=True,
            published="published_at",
        ),
        root="response.episode",
        same={"episode_id": "episode_id"},
    ),
    MediaURL("https://api.spreaker.com/download/episode/{episode_id}/episode.mp3"),
)

_SOUNDCLOUD_STREAM = MediaURL("https://feeds.soundcloud.com/stream/{track}-episode.mp3")

_MEGAPHONE = MediaURL("https://traffic.megaphone.fm/{e}.mp3", "https://dcs.megaphone.fm/{e}.mp3")

_PODCLOUD = MediaURL("https://podcloud.fr/ext/{show}/{id}/enclosure.mp3")

_PLAYER = PageMeta("og:audio", "twitter:player:stream")

_IHEART_FIELDS = Fields(media=("mediaUrl",), title="title", duration="duration")

HOSTING = (
    Platform(
        "Substack",
        ("{pub}.substack.com", "open.substack.com"),
        Route(
            r"(?:/pub/(?P<pub>[\w-]+))?/p/(?P<slug>[\w-]+)",
            PageJSON(
                r"\b_preloads\s*=\s*(?:JSON\.parse\(\s*)?",
                Fields(
                    media=("podcast_url",), title="title", published="post_date", duration="podcast_duration"
                ),
                root="post",
                # A newsletter's `audio_items` are its text as synthetic speech.
                when={"post.type": "podcast"},
                same={"slug": "slug"},
            ),
        ),
    ),
    Platform(
        "Buzzsprout",
        ("buzzsprout.com",),
        Route(
            r"/(?P<show>\d+)/(?:episodes/)?(?P<id>\d+)(?P<slug>-[\w.%~-]*?)?(?:\.mp3|\.js)?",
            MediaURL(
                "https://www.buzzsprout.com/{show}/episodes/{id}{slug}.mp3",
                "https://www.buzzsprout.com/{show}/episodes/{id}.mp3",
            ),
            FeedURL("https://rss.buzzsprout.com/{show}.rss", guid="Buzzsprout-{id}"),
        ),
        Route(r"/(?P<show>\d+)", FeedURL("https://rss.buzzsprout.com/{show}.rss", newest=True)),
    ),
    Platform(
        "Libsyn",
        ("html5-player.libsyn.com", "play.libsyn.com"),
        Route(
            r"/embed/episode/id/(?P<id>\d+)(?:/.*)?",
            PageJSON(
                r"\bplaylistItem\s*=\s*",
                Fields(
                    media=("media_url_libsyn", "media_url", "download_link"),
                    title="item_title",
                    show="show_title",
                    published="release_date",
                ),
                same={"item_id": "id"},
            ),
        ),
    ),
    Platform(
        "Transistor",
        ("share.transistor.fm",),
        Route(r"/s/(?P<id>[0-9a-f]{6,12})", PageMeta("twitter:player:stream", "og:audio"), ShowLinks()),
        Route(
            r"/e/(?P<id>[0-9a-f]{6,12})",
            PageJSON(
                r"\sdata-episodes\s*=\s*[\"']",
                Fields(media=("trackable_media_url", "media_url"), title="title", duration="duration"),
                same={"share_url": "id"},
            ),
        ),
    ),
    Platform(
        "Acast",
        ("shows.acast.com", "play.acast.com", "embed.acast.com", "acast.com"),
        Route(
            r"(?:/s|/\$)?/(?P<show>(?!s(?:/|$))[\w-]+)/(?:episodes/)?(?P<id>(?!episodes/?$|about/?$)[^/]+)",
            _ACAST_EPISODE,
            _PLAYER,
        ),
        Route(
            r"(?:/s|/\$)?/(?P<show>(?!s(?:/|$))[\w-]+)(?:/episodes)?",
            FeedURL("https://feeds.acast.com/public/shows/{show}", newest=True),
        ),
    ),
    Platform(
        "Simplecast",
        ("player.simplecast.com", "embed.simplecast.com", "api.simplecast.com", "{show}.simplecast.com"),
        Route(
            rf"/(?:episodes/)?(?P<id>{UUID})",
            JSONLookup("https://api.simplecast.com/episodes/{id}", _SIMPLECAST_FIELDS, same={"id": "id"}),
        ),
        Route(
            r"/episodes/(?P<slug>[\w-]+)",
            JSONLookup(
                "https://api.simplecast.com/episodes/search",
                _SIMPLECAST_FIELDS,
                form="url=https%3A%2F%2F{show}.simplecast.com%2Fepisodes%2F{slug}",
                same={"slug": "slug"},
            ),
        ),
    ),
    Platform(
        "Megaphone",
        ("player.megaphone.fm", "playlist.megaphone.fm"),
        Route(r"/", _MEGAPHONE, needs=("e",)),
        Route(r"/", FeedURL("https://feeds.megaphone.fm/{p}", newest=True), needs=("p",)),
        Route(r"/(?P<e>[A-Z]{2,6}\d{6,14})", _MEGAPHONE),
    ),
    Platform(
        "Art19",
        ("art19.com",),
        Route(
            rf"(?:/shows/[^/]+)?/episodes/(?P<id>{UUID})(?:/embed)?",
            MediaURL("https://rss.art19.com/episodes/{id}.mp3"),
        ),
        Route(r"/shows/(?P<show>[\w-]+)", FeedURL("https://rss.art19.com/{show}", newest=True)),
    ),
    Platform(
        "Audioboom",
        ("audioboom.com", "embeds.audioboom.com"),
        Route(
            r"/(?:posts|boos)/(?P<id>\d+)(?:-[^/]*)?(?:/embed/.*)?",
            MediaURL("https://audioboom.com/posts/{id}.mp3"),
        ),
        Route(r"/channels?/(?P<id>\d+)", FeedURL("https://audioboom.com/channels/{id}.rss", newest=True)),
    ),
    Platform(
        "Omny",
        ("omny.fm",),
        Route(
            r"/shows/(?P<show>[\w-]+)/(?P<slug>(?!playlists(?:/|$))[\w-]+)(?:/embed)?",
            PageJSON(
                NEXT_DATA,
                Fields(
                    media=("AudioUrl",),
                    title="Title",
                    show="Program.Name",
                    duration="DurationSeconds",
                    published="PublishedUtc",
                ),
                root="props.pageProps.clip",
                same={"Slug": "slug"},
            ),
            _PLAYER,
        ),
        Route(
            r"/shows/(?P<show>[\w-]+)(?:/playlists/(?P<list>[\w-]+))?",
            FeedURL("https://omny.fm/shows/{show}/playlists/{list}.rss", newest=True),
            FeedURL("https://omny.fm/shows/{show}/playlists/podcast.rss", newest=True),
        ),
    ),
    Platform(
        "Spreaker",
        ("spreaker.com", "widget.spreaker.com", "api.spreaker.com"),
        Route(r"/player", *_SPREAKER_WAYS, needs=("episode_id",)),
        Route(
            r"/(?:v2/|download/)?episodes?/(?:[^/]*?-)??(?P<episode_id>\d+)(?:/[^/]*\.mp3)?", *_SPREAKER_WAYS
        ),
        Route(
            r"/(?:show|podcast)/(?:[^/]*--)?(?P<id>\d+)",
            FeedURL("https://www.spreaker.com/show/{id}/episodes/feed", newest=True),
        ),
    ),
    Platform(
        "SoundCloud",
        ("soundcloud.com", "m.soundcloud.com", "w.soundcloud.com", "api.soundcloud.com"),
        Route(r"/tracks/(?:soundcloud(?::|%3A)tracks(?::|%3A))?(?P<track>\d+)", _SOUNDCLOUD_STREAM),
        Route(
            r"/player",
            _SOUNDCLOUD_STREAM,
            needs=("url", "track"),
            derive=(("url", r"/tracks/(?:soundcloud(?::|%3A)tracks(?::|%3A))?(?P<track>\d+)"),),
            final=True,
        ),
        # Only tracks published as a podcast can be streamed without a key; the extractor handles the rest.
        Route(
            r"/(?!discover|search|you|stream|upload|charts|tags)[\w-]+/(?!sets|tracks|albums|likes)[\w-]+",
            PageMeta("al:ios:url", "al:android:url", pattern=r"sounds:(?P<track>\d+)"),
            _SOUNDCLOUD_STREAM,
            final=True,
        ),
    ),
    Platform(
        "Podbean",
        ("{show}.podbean.com",),
        Route(r"/e/(?P<slug>[^/]+)", _PLAYER, FeedURL("https://feed.podbean.com/{show}/feed.xml")),
        Route(r"/", FeedURL("https://feed.podbean.com/{show}/feed.xml", newest=True)),
    ),
    Platform(
        "iHeart",
        ("iheart.com",),
        Route(
            r"/podcast/[^/]+/episode/[^/]*?-?(?P<id>\d+)",
            JSONLookup(
                "https://api.iheart.com/api/v3/podcast/episodes/{id}",
                _IHEART_FIELDS,
                root="episode",
                same={"id": "id"},
            ),
        ),
        Route(
            r"/podcast/[^/]*?-?(?P<id>\d+)",
            JSONLookup(
                "https://api.iheart.com/api/v3/podcast/podcasts/{id}/episodes?limit=1",
                _IHEART_FIELDS,
                root="data.0",
            ),
        ),
    ),
    Platform(
        "Ausha",
        ("podcast.ausha.co", "smartlink.ausha.co"),
        Route(r"/[\w-]+/[\w-]+", PageLink(r"https://audio\.ausha\.co/"), ShowLinks()),
    ),
    Platform(
        "Podcloud",
        ("podcloud.fr", "{show}.lepodcast.fr"),
        Route(r"/podcast/(?P<show>[\w-]+)/episode/(?P<id>[\w-]+)", _PODCLOUD),
        Route(r"/(?P<id>(?!rss|feed|podcast|ext|player)[\w-]+)", _PODCLOUD),
    ),
    Platform(
        "Pinecast",
        ("pinecast.com", "{show}.pinecast.co"),
        Route(
            r"/(?:player|listen|episode)/(?P<id>[0-9a-f-]{12,36})(?:\.mp3|/.*)?",
            MediaURL("https://pinecast.com/listen/{id}.mp3"),
        ),
        Route(r"/feed/(?P<show>[\w-]+)", FeedURL("https://pinecast.com/feed/{show}", newest=True)),
    ),
    Platform(
        "RedCircle",
        ("redcircle.com",),
        Route(
            rf"/shows/[\w-]+/ep(?:isodes)?/(?P<id>{UUID})",
            MediaURL("https://stream.redcircle.com/episodes/{id}/stream.mp3"),
        ),
        Route(rf"/shows/(?P<show>{UUID})", FeedURL("https://feeds.redcircle.com/{show}", newest=True)),
    ),
    Platform(
        "RSS.com",
        ("rss.com",),
        Route(r"/podcasts/(?P<show>[\w-]+)", FeedURL("https://media.rss.com/{show}/feed.xml", newest=True)),
        Route(r"/podcasts/(?P<show>[\w-]+)/\d+", _PLAYER, FeedURL("https://media.rss.com/{show}/feed.xml")),
    ),
    Platform(
        "Podigee",
        ("{show}.podigee.io",),
        Route(r"/", FeedURL("https://{show}.podigee.io/feed/mp3", newest=True)),
        Route(r"/(?!feed)[\w-]+", _PLAYER, FeedURL("https://{show}.podigee.io/feed/mp3")),
    ),
)
