"""URLs that each platform must recognise, at least one per route."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "Overcast": ("https://overcast.fm/+Kebtyd8dg", "https://overcast.fm/itunes1234567890/the-show"),
    "Pocket Casts": (
        "https://pca.st/episode/c51cd5a1-9cb2-4d11-8a0f-1b5e9d4e8d11",
        "https://pca.st/abc123",
        "https://pca.st/itunes/1234567890",
    ),
    "Castbox": (
        "https://castbox.fm/episode/The-title-id1234567-id456789012?country=us",
        "https://castbox.fm/vic/1234567890",
    ),
    "Podcast Addict": (
        "https://podcastaddict.com/the-show/episode/123456789",
        "https://podcastaddict.com/episode/https%3A%2F%2Fcdn.example.com%2Fa.mp3",
        "https://podcastaddict.com/feed/https%3A%2F%2Ffeeds.example.com%2Fshow",
    ),
    "Google Podcasts": (
        "https://podcasts.google.com/feed/aHR0cHM6Ly9mZWVkcy5leGFtcGxlLmNvbS9zaG93/episode/Z3VpZC0x?hl=de",
        "https://podcasts.google.com/feed/aHR0cHM6Ly9mZWVkcy5leGFtcGxlLmNvbS9zaG93",
        "https://podcasts.google.com/?feed=aHR0cHM6Ly9mZWVkcy5leGFtcGxlLmNvbS9zaG93&episode=Z3VpZC0x",
        "https://podcasts.google.com/subscribe-by-rss-feed?feed=aHR0cHM6Ly9mZWVkcy5leGFtcGxlLmNvbS9zaG93",
    ),
    "Podbay": ("https://podbay.fm/p/the-show/e/1647338400",),
    "A link by Apple id": (
        "https://castro.fm/itunes/1234567890",
        "https://www.listennotes.com/itunes/id1234567890",
    ),
    "Podfriend": (
        "https://podfriend.com/podcast/1234567890",
        "https://podfriend.com/podcast/1234567890/guid-1",
    ),
    "A link by feed": (
        "https://antennapod.org/deeplink/subscribe?url=https%3A%2F%2Ffeeds.example.com%2Fshow",
        "https://player.fm/subscribe?id=https%3A%2F%2Ffeeds.example.com%2Fshow",
        "https://subscribeonandroid.com/feeds.example.com/show",
        "https://breez.link/p?feedURL=https%3A%2F%2Ffeeds.example.com%2Fshow&episodeID=guid-1",
        "https://breez.link/p?feedURL=https%3A%2F%2Ffeeds.example.com%2Fshow",
        "https://podknife.com/podcast?feed_url=https://feeds.example.com/show",
        "https://pcasts.in/feed/https%3A%2F%2Ffeeds.example.com%2Fshow",
    ),
    "Apple Podcasts": (
        "https://podcasts.apple.com/de/podcast/the-show/id1234567890?i=1000512345678",
        "https://podcasts.apple.com/us/podcast/id1234567890",
        "https://itunes.apple.com/podcast/the-show/id1234567890?mt=2",
    ),
    "Podcast Index": (
        "https://podcastindex.org/podcast/920666?episode=16795088",
        "https://fountain.fm/show/920666",
    ),
    "Substack": (
        "https://example.substack.com/p/the-episode?utm_source=share",
        "https://open.substack.com/pub/example/p/the-episode",
    ),
    "Buzzsprout": (
        "https://www.buzzsprout.com/1234567/episodes/8901234-the-title",
        "https://www.buzzsprout.com/1234567/8901234-the-title?client_source=small_player&iframe=true",
        "https://www.buzzsprout.com/1234567",
    ),
    "Libsyn": ("https://html5-player.libsyn.com/embed/episode/id/6385796/height/90/theme/standard",),
    "Transistor": ("https://share.transistor.fm/s/0a1b2c3d", "https://share.transistor.fm/e/0a1b2c3d"),
    "Acast": (
        "https://shows.acast.com/the-show/episodes/the-episode",
        "https://play.acast.com/s/the-show/2a92b283-1a75-4ad8-8396-499c641de0d9",
        "https://embed.acast.com/$/616ebe1886d7b1398620b943/616ebe33c7e6e70013cae7da",
        "https://shows.acast.com/the-show",
    ),
    "Simplecast": (
        "https://player.simplecast.com/b6dc49a2-9404-4853-9aa9-9cfc097be876?dark=true",
        "https://the-show.simplecast.com/episodes/the-episode",
    ),
    "Megaphone": (
        "https://player.megaphone.fm/GLT9749789991",
        "https://playlist.megaphone.fm/?e=GLT9749789991",
        "https://playlist.megaphone.fm/?p=GLT1234567890",
    ),
    "Art19": (
        "https://art19.com/shows/the-show/episodes/8319b776-4153-4d22-8630-631f204a03dd",
        "https://art19.com/shows/the-show",
    ),
    "Audioboom": (
        "https://audioboom.com/posts/7398103-the-title",
        "https://embeds.audioboom.com/posts/7398103/embed/v4",
        "https://audioboom.com/channels/5003904",
    ),
    "Omny": ("https://omny.fm/shows/the-show/the-episode/embed", "https://omny.fm/shows/the-show"),
    "Spreaker": (
        "https://www.spreaker.com/episode/the-title--60269615",
        "https://widget.spreaker.com/player?episode_id=60269615&theme=light",
        "https://www.spreaker.com/podcast/the-show--5918323",
    ),
    "SoundCloud": (
        "https://soundcloud.com/the-user/the-track",
        "https://api.soundcloud.com/tracks/1234567",
        "https://w.soundcloud.com/player/?url=https%3A//api.soundcloud.com/tracks/1234567&color=%23ff5500",
    ),
    "Podbean": ("https://theshow.podbean.com/e/the-episode/", "https://theshow.podbean.com/"),
    "iHeart": (
        "https://www.iheart.com/podcast/105-the-show-29236323/episode/the-title-70346499/?embed=true",
        "https://www.iheart.com/podcast/105-the-show-29236323/",
    ),
    "Ausha": ("https://podcast.ausha.co/the-show/the-episode",),
    "Podcloud": (
        "https://podcloud.fr/podcast/the-show/episode/the-episode",
        "https://the-show.lepodcast.fr/the-episode",
    ),
    "Pinecast": (
        "https://pinecast.com/player/dc80cdb6-dcb5-4e76-a1f0-3b6a7e2f1c9d?theme=flat",
        "https://the-show.pinecast.co/episode/dc80cdb6dcb54e76/the-title",
        "https://pinecast.com/feed/the-show",
    ),
    "RedCircle": (
        "https://redcircle.com/shows/the-show/ep/8a6a7d09-b3fb-4513-88c6-b2784619a301",
        "https://redcircle.com/shows/eb95f7c0-6e7e-4a9c-a957-bf52158b3572",
    ),
    "RSS.com": ("https://rss.com/podcasts/the-show/", "https://rss.com/podcasts/the-show/1234567/"),
    "Podigee": ("https://the-show.podigee.io/", "https://the-show.podigee.io/12-the-episode"),
    "Spotify": (
        "https://open.spotify.com/episode/4rOoJ6Egrf8K2IrywzwOMk?si=x",
        "https://open.spotify.com/intl-de/show/2mTUnDkuKUkhiueKcVWoP0",
        "https://open.spotify.com/embed/episode/4rOoJ6Egrf8K2IrywzwOMk",
        "https://open.spotify.com/track/11dFghVXANMlKmJXsNCbNl",
    ),
    "Deezer": (
        "https://www.deezer.com/en/episode/565416092",
        "https://www.deezer.com/show/1001234",
        "https://www.deezer.com/track/3135556",
    ),
    "Tidal": ("https://tidal.com/browse/track/77646168",),
    "Bandcamp": ("https://artist.bandcamp.com/track/the-song", "https://artist.bandcamp.com/album/the-album"),
    "YouTube": ("https://www.youtube.com/watch?v=dQw4w9WgXcQ", "https://youtu.be/dQw4w9WgXcQ"),
}
