"""Podcast hosts: the address of the file, given the id in a page's or player's URL."""

from __future__ import annotations

from stenobird.discovery.platforms.fields import Fields
from stenobird.discovery.platforms.platform import Platform, Route
from stenobird.discovery.platforms.ways import (
    AttributeJSON,
    FeedURL,
    JSONLookup,
    MediaURL,
    PageLink,
    PageMeta,
    PageState,
    ScriptJSON,
    ShowLinks,
)

UUID = r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"

SUBSTACK = Platform(
    "Substack",
    hosts=("{pub}.substack.com", "open.substack.com"),
    routes=(
        Route(
            r"(?:/pub/(?P<pub>[\w-]+))?/p/(?P<slug>[\w-]+)",
            (
                PageState(
                    "_preloads",
                    Fields(
                        media=("podcast_url",),
                        title="title",
                        published="post_date",
                        duration="podcast_duration",
                    ),
                    root="post",
                    # A newsletter's `audio_items` are its text as synthetic speech.
                    when={"post.type": "podcast"},
                    same={"slug": "slug"},
                ),
            ),
        ),
    ),
    examples=(
        "https://example.substack.com/p/the-episode?utm_source=share",
        "https://open.substack.com/pub/example/p/the-episode",
    ),
)

BUZZSPROUT = Platform(
    "Buzzsprout",
    hosts=("buzzsprout.com",),
    routes=(
        Route(
            r"/(?P<show>\d+)/(?:episodes/)?(?P<id>\d+)(?P<slug>-[\w.%~-]*?)?(?:\.mp3|\.js)?",
            (
                MediaURL(
                    "https://www.buzzsprout.com/{show}/episodes/{id}{slug}.mp3",
                    "https://www.buzzsprout.com/{show}/episodes/{id}.mp3",
                ),
                FeedURL("https://rss.buzzsprout.com/{show}.rss", guid="Buzzsprout-{id}"),
            ),
        ),
        Route(r"/(?P<show>\d+)", (FeedURL("https://rss.buzzsprout.com/{show}.rss", newest=True),)),
    ),
    examples=(
        "https://www.buzzsprout.com/1234567/episodes/8901234-the-title",
        "https://www.buzzsprout.com/1234567/8901234-the-title?client_source=small_player&iframe=true",
        "https://www.buzzsprout.com/1234567",
    ),
)

LIBSYN = Platform(
    "Libsyn",
    hosts=("html5-player.libsyn.com", "play.libsyn.com"),
    routes=(
        Route(
            r"/embed/episode/id/(?P<id>\d+)(?:/.*)?",
            (
                ScriptJSON(
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
    ),
    examples=("https://html5-player.libsyn.com/embed/episode/id/6385796/height/90/theme/standard",),
)

TRANSISTOR = Platform(
    "Transistor",
    hosts=("share.transistor.fm",),
    routes=(
        Route(r"/s/(?P<id>[0-9a-f]{6,12})", (PageMeta("twitter:player:stream", "og:audio"), ShowLinks())),
        Route(
            r"/e/(?P<id>[0-9a-f]{6,12})",
            (
                AttributeJSON(
                    "data-episodes",
                    Fields(media=("trackable_media_url", "media_url"), title="title", duration="duration"),
                    same={"share_url": "id"},
                ),
            ),
        ),
    ),
    examples=("https://share.transistor.fm/s/0a1b2c3d", "https://share.transistor.fm/e/0a1b2c3d"),
)

_ACAST_EPISODE = JSONLookup(
    "https://feeder.acast.com/api/v1/shows/{show}/episodes/{id}?showInfo=true",
    Fields(media=("url",), title="title", show="show.title", duration="duration", published="publishDate"),
    same={"id": "id", "episodeUrl": "id", "_id": "id"},
)
ACAST = Platform(
    "Acast",
    hosts=("shows.acast.com", "play.acast.com", "embed.acast.com", "acast.com"),
    routes=(
        Route(
            r"(?:/s|/\$)?/(?P<show>(?!s(?:/|$))[\w-]+)/(?:episodes/)?(?P<id>(?!episodes/?$|about/?$)[^/]+)",
            (_ACAST_EPISODE, PageMeta("og:audio", "twitter:player:stream")),
        ),
        Route(
            r"(?:/s|/\$)?/(?P<show>(?!s(?:/|$))[\w-]+)(?:/episodes)?",
            (FeedURL("https://feeds.acast.com/public/shows/{show}", newest=True),),
        ),
    ),
    examples=(
        "https://shows.acast.com/the-show/episodes/the-episode",
        "https://play.acast.com/s/the-show/2a92b283-1a75-4ad8-8396-499c641de0d9",
        "https://embed.acast.com/$/616ebe1886d7b1398620b943/616ebe33c7e6e70013cae7da",
        "https://shows.acast.com/the-show",
    ),
)

_SIMPLECAST_FIELDS = Fields(
    media=("audio_file.url", "audio_file_url", "enclosure_url"),
    title="title",
    show="podcast.title",
    guid="guid",
    duration="duration",
    published="published_at",
)
SIMPLECAST = Platform(
    "Simplecast",
    hosts=("player.simplecast.com", "embed.simplecast.com", "api.simplecast.com", "{show}.simplecast.com"),
    routes=(
        Route(
            rf"/(?:episodes/)?(?P<id>{UUID})",
            (JSONLookup("https://api.simplecast.com/episodes/{id}", _SIMPLECAST_FIELDS, same={"id": "id"}),),
        ),
        Route(
            r"/episodes/(?P<slug>[\w-]+)",
            (
                JSONLookup(
                    "https://api.simplecast.com/episodes/search",
                    _SIMPLECAST_FIELDS,
                    form="url=https%3A%2F%2F{show}.simplecast.com%2Fepisodes%2F{slug}",
                    same={"slug": "slug"},
                ),
            ),
        ),
    ),
    examples=(
        "https://player.simplecast.com/b6dc49a2-9404-4853-9aa9-9cfc097be876?dark=true",
        "https://the-show.simplecast.com/episodes/the-episode",
    ),
)

MEGAPHONE = Platform(
    "Megaphone",
    hosts=("player.megaphone.fm", "playlist.megaphone.fm"),
    routes=(
        Route(
            r"/",
            (MediaURL("https://traffic.megaphone.fm/{e}.mp3", "https://dcs.megaphone.fm/{e}.mp3"),),
            needs=("e",),
        ),
        Route(r"/", (FeedURL("https://feeds.megaphone.fm/{p}", newest=True),), needs=("p",)),
        Route(
            r"/(?P<id>[A-Z]{2,6}\d{6,14})",
            (MediaURL("https://traffic.megaphone.fm/{id}.mp3", "https://dcs.megaphone.fm/{id}.mp3"),),
        ),
    ),
    examples=(
        "https://player.megaphone.fm/GLT9749789991",
        "https://playlist.megaphone.fm/?e=GLT9749789991",
        "https://playlist.megaphone.fm/?p=GLT1234567890",
    ),
)

ART19 = Platform(
    "Art19",
    hosts=("art19.com",),
    routes=(
        Route(
            rf"(?:/shows/[^/]+)?/episodes/(?P<id>{UUID})(?:/embed)?",
            (MediaURL("https://rss.art19.com/episodes/{id}.mp3"),),
        ),
        Route(r"/shows/(?P<show>[\w-]+)", (FeedURL("https://rss.art19.com/{show}", newest=True),)),
    ),
    examples=(
        "https://art19.com/shows/the-show/episodes/8319b776-4153-4d22-8630-631f204a03dd",
        "https://art19.com/shows/the-show",
    ),
)

AUDIOBOOM = Platform(
    "Audioboom",
    hosts=("audioboom.com", "embeds.audioboom.com"),
    routes=(
        Route(
            r"/(?:posts|boos)/(?P<id>\d+)(?:-[^/]*)?(?:/embed/.*)?",
            (MediaURL("https://audioboom.com/posts/{id}.mp3"),),
        ),
        Route(r"/channels?/(?P<id>\d+)", (FeedURL("https://audioboom.com/channels/{id}.rss", newest=True),)),
    ),
    examples=(
        "https://audioboom.com/posts/7398103-the-title",
        "https://embeds.audioboom.com/posts/7398103/embed/v4",
        "https://audioboom.com/channels/5003904",
    ),
)

OMNY = Platform(
    "Omny",
    hosts=("omny.fm",),
    routes=(
        Route(
            r"/shows/(?P<show>[\w-]+)/(?P<slug>(?!playlists(?:/|$))[\w-]+)(?:/embed)?",
            (
                PageState(
                    "__NEXT_DATA__",
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
                PageMeta("og:audio", "twitter:player:stream"),
            ),
        ),
        Route(
            r"/shows/(?P<show>[\w-]+)(?:/playlists/(?P<list>[\w-]+))?",
            (
                FeedURL("https://omny.fm/shows/{show}/playlists/{list}.rss", newest=True),
                FeedURL("https://omny.fm/shows/{show}/playlists/podcast.rss", newest=True),
            ),
        ),
    ),
    examples=("https://omny.fm/shows/the-show/the-episode/embed", "https://omny.fm/shows/the-show"),
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
SPREAKER = Platform(
    "Spreaker",
    hosts=("spreaker.com", "widget.spreaker.com", "api.spreaker.com"),
    routes=(
        Route(r"/player", _SPREAKER_WAYS, needs=("episode_id",)),
        Route(
            r"/(?:v2/|download/)?episodes?/(?:[^/]*?-)??(?P<episode_id>\d+)(?:/[^/]*\.mp3)?", _SPREAKER_WAYS
        ),
        Route(
            r"/(?:show|podcast)/(?:[^/]*--)?(?P<id>\d+)",
            (FeedURL("https://www.spreaker.com/show/{id}/episodes/feed", newest=True),),
        ),
    ),
    examples=(
        "https://www.spreaker.com/episode/the-title--60269615",
        "https://widget.spreaker.com/player?episode_id=60269615&theme=light",
        "https://www.spreaker.com/podcast/the-show--5918323",
    ),
)

_SOUNDCLOUD_STREAM = MediaURL("https://feeds.soundcloud.com/stream/{track}-episode.mp3")
SOUNDCLOUD = Platform(
    "SoundCloud",
    hosts=("soundcloud.com", "m.soundcloud.com", "w.soundcloud.com", "api.soundcloud.com"),
    routes=(
        Route(r"/tracks/(?:soundcloud(?::|%3A)tracks(?::|%3A))?(?P<track>\d+)", (_SOUNDCLOUD_STREAM,)),
        Route(
            r"/player",
            (_SOUNDCLOUD_STREAM,),
            needs=("url", "track"),
            derive=(("url", r"/tracks/(?:soundcloud(?::|%3A)tracks(?::|%3A))?(?P<track>\d+)"),),
            final=True,
        ),
        # Only tracks published as a podcast can be streamed without a key; the extractor handles the rest.
        Route(
            r"/(?!discover|search|you|stream|upload|charts|tags)[\w-]+/(?!sets|tracks|albums|likes)[\w-]+",
            (
                PageMeta("al:ios:url", "al:android:url", pattern=r"sounds:(?P<track>\d+)"),
                MediaURL("https://feeds.soundcloud.com/stream/{track}-episode.mp3"),
            ),
            final=True,
        ),
    ),
    examples=(
        "https://soundcloud.com/the-user/the-track",
        "https://api.soundcloud.com/tracks/1234567",
        "https://w.soundcloud.com/player/?url=https%3A//api.soundcloud.com/tracks/1234567&color=%23ff5500",
    ),
)

PODBEAN = Platform(
    "Podbean",
    hosts=("{show}.podbean.com",),
    routes=(
        Route(
            r"/e/(?P<slug>[^/]+)",
            (
                PageMeta("og:audio", "twitter:player:stream"),
                FeedURL("https://feed.podbean.com/{show}/feed.xml"),
            ),
        ),
        Route(r"/", (FeedURL("https://feed.podbean.com/{show}/feed.xml", newest=True),)),
    ),
    examples=("https://theshow.podbean.com/e/the-episode/", "https://theshow.podbean.com/"),
)

_IHEART_FIELDS = Fields(media=("mediaUrl",), title="title", duration="duration")
IHEART = Platform(
    "iHeart",
    hosts=("iheart.com",),
    routes=(
        Route(
            r"/podcast/[^/]+/episode/[^/]*?-?(?P<id>\d+)",
            (
                JSONLookup(
                    "https://api.iheart.com/api/v3/podcast/episodes/{id}",
                    _IHEART_FIELDS,
                    root="episode",
                    same={"id": "id"},
                ),
            ),
        ),
        Route(
            r"/podcast/[^/]*?-?(?P<id>\d+)",
            (
                JSONLookup(
                    "https://api.iheart.com/api/v3/podcast/podcasts/{id}/episodes?limit=1",
                    _IHEART_FIELDS,
                    root="data.0",
                ),
            ),
        ),
    ),
    examples=(
        "https://www.iheart.com/podcast/105-the-show-29236323/episode/the-title-70346499/?embed=true",
        "https://www.iheart.com/podcast/105-the-show-29236323/",
    ),
)

AUSHA = Platform(
    "Ausha",
    hosts=("podcast.ausha.co", "smartlink.ausha.co"),
    routes=(Route(r"/[\w-]+/[\w-]+", (PageLink(r"https://audio\.ausha\.co/"), ShowLinks())),),
    examples=("https://podcast.ausha.co/the-show/the-episode",),
)

PODCLOUD = Platform(
    "Podcloud",
    hosts=("podcloud.fr", "{show}.lepodcast.fr"),
    routes=(
        Route(
            r"/podcast/(?P<show>[\w-]+)/episode/(?P<id>[\w-]+)",
            (MediaURL("https://podcloud.fr/ext/{show}/{id}/enclosure.mp3"),),
        ),
        Route(
            r"/(?P<id>(?!rss|feed|podcast|ext|player)[\w-]+)",
            (MediaURL("https://podcloud.fr/ext/{show}/{id}/enclosure.mp3"),),
        ),
    ),
    examples=(
        "https://podcloud.fr/podcast/the-show/episode/the-episode",
        "https://the-show.lepodcast.fr/the-episode",
    ),
)

PINECAST = Platform(
    "Pinecast",
    hosts=("pinecast.com", "{show}.pinecast.co"),
    routes=(
        Route(
            r"/(?:player|listen|episode)/(?P<id>[0-9a-f-]{12,36})(?:\.mp3|/.*)?",
            (MediaURL("https://pinecast.com/listen/{id}.mp3"),),
        ),
        Route(r"/feed/(?P<show>[\w-]+)", (FeedURL("https://pinecast.com/feed/{show}", newest=True),)),
    ),
    examples=(
        "https://pinecast.com/player/dc80cdb6-dcb5-4e76-a1f0-3b6a7e2f1c9d?theme=flat",
        "https://the-show.pinecast.co/episode/dc80cdb6dcb54e76/the-title",
        "https://pinecast.com/feed/the-show",
    ),
)

REDCIRCLE = Platform(
    "RedCircle",
    hosts=("redcircle.com",),
    routes=(
        Route(
            rf"/shows/[\w-]+/ep(?:isodes)?/(?P<id>{UUID})",
            (MediaURL("https://stream.redcircle.com/episodes/{id}/stream.mp3"),),
        ),
        Route(rf"/shows/(?P<show>{UUID})", (FeedURL("https://feeds.redcircle.com/{show}", newest=True),)),
    ),
    examples=(
        "https://redcircle.com/shows/the-show/ep/8a6a7d09-b3fb-4513-88c6-b2784619a301",
        "https://redcircle.com/shows/eb95f7c0-6e7e-4a9c-a957-bf52158b3572",
    ),
)

RSS_COM = Platform(
    "RSS.com",
    hosts=("rss.com",),
    routes=(
        Route(
            r"/podcasts/(?P<show>[\w-]+)", (FeedURL("https://media.rss.com/{show}/feed.xml", newest=True),)
        ),
        Route(
            r"/podcasts/(?P<show>[\w-]+)/\d+",
            (PageMeta("og:audio", "twitter:player:stream"), FeedURL("https://media.rss.com/{show}/feed.xml")),
        ),
    ),
    examples=("https://rss.com/podcasts/the-show/", "https://rss.com/podcasts/the-show/1234567/"),
)

PODIGEE = Platform(
    "Podigee",
    hosts=("{show}.podigee.io",),
    routes=(
        Route(r"/", (FeedURL("https://{show}.podigee.io/feed/mp3", newest=True),)),
        Route(
            r"/(?!feed)[\w-]+",
            (PageMeta("og:audio", "twitter:player:stream"), FeedURL("https://{show}.podigee.io/feed/mp3")),
        ),
    ),
    examples=("https://the-show.podigee.io/", "https://the-show.podigee.io/12-the-episode"),
)

HOSTING = (
    SUBSTACK,
    BUZZSPROUT,
    LIBSYN,
    TRANSISTOR,
    ACAST,
    SIMPLECAST,
    MEGAPHONE,
    ART19,
    AUDIOBOOM,
    OMNY,
    SPREAKER,
    SOUNDCLOUD,
    PODBEAN,
    IHEART,
    AUSHA,
    PODCLOUD,
    PINECAST,
    REDCIRCLE,
    RSS_COM,
    PODIGEE,
)
