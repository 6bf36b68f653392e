"""What playlists say, and what is made of them."""

from __future__ import annotations

import pytest

from stenobird.errors import AudioContentTypeNotSupported, AudioTooLarge, UnsupportedURL
from stenobird.media.playlist import (
    MAX_SEGMENTS,
    Part,
    kind_of,
    parse_media_playlist,
    ranked_variants,
)

BASE = "https://media.example.com/shows/1/index.m3u8?token=t"
AT = "https://media.example.com/shows/1/"

MEDIA = """#EXTM3U
#EXT-X-VERSION:4
#EXT-X-TARGETDURATION:10
#EXT-X-MEDIA-SEQUENCE:7
#EXTINF:9.5,first
a.ts
#EXT-X-KEY:METHOD=AES-128,URI="key.bin",IV=0x0000000000000000000000000000000A
#EXTINF:10,
b.ts
#EXT-X-KEY:METHOD=AES-128,URI="https://keys.example.com/k?x=1,2"
#EXTINF:10,
/c.ts
#EXT-X-KEY:METHOD=NONE
#EXT-X-GAP
#EXTINF:10,
missing.ts
#EXT-X-BYTERANGE:100@50
#EXTINF:1,
all.ts
#EXT-X-BYTERANGE:25
#EXTINF:1,
all.ts
#EXT-X-ENDLIST
"""


def test_a_media_playlist_is_its_parts_in_order() -> None:
    playlist = parse_media_playlist(MEDIA, BASE)
    assert playlist.parts == (
        Part(AT + "a.ts", 7),
        Part(AT + "b.ts", 8, key=(AT + "key.bin", bytes(15) + b"\x0a")),
        Part("https://media.example.com/c.ts", 9, key=("https://keys.example.com/k?x=1,2", None)),
        Part(AT + "all.ts", 11, range(50, 150)),
        Part(AT + "all.ts", 12, range(150, 175)),
    )
    assert playlist.seconds == 31.5


def test_addresses_are_repaired_and_what_is_none_stays_for_the_client_to_refuse() -> None:
    addresses = ("my\u00a0talk 1.ts", "a\\b.ts?x=1&amp;y=2", "http://[bad/c.ts", "file:///etc/passwd")
    lines = "".join(f"#EXTINF:1,\n{address}\n" for address in addresses)
    parts = parse_media_playlist(f"#EXTM3U\n{lines}#EXT-X-ENDLIST\n", BASE).parts
    assert [part.url for part in parts] == [
        AT + "my%C2%A0talk%201.ts",
        AT + "a/b.ts?x=1&y=2",
        "http://[bad/c.ts",
        "file:///etc/passwd",
    ]


def test_an_initialisation_section_comes_before_its_segments_and_again_when_it_changes() -> None:
    text = """#EXTM3U
#EXT-X-MAP:URI="init.mp4",BYTERANGE="600@0"
#EXTINF:4,
1.m4s
#EXTINF:4,
2.m4s
#EXT-X-MAP:URI="init2.mp4"
#EXTINF:4,
3.m4s
#EXT-X-ENDLIST
"""
    parts = parse_media_playlist(text, BASE).parts
    assert [part.url.rpartition("/")[2] for part in parts] == [
        "init.mp4",
        "1.m4s",
        "2.m4s",
        "init2.mp4",
        "3.m4s",
    ]
    assert parts[0].byte_range == range(600)


def test_a_playlist_is_live_until_it_says_that_it_has_ended() -> None:
    text = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-MEDIA-SEQUENCE:4\n"
        "#EXT-X-PROGRAM-DATE-TIME:2026-11-30T10:00:00.500Z\n#EXTINF:6,A song\na.ts\n"
        "#EXT-X-DISCONTINUITY\n#EXTINF:5.5,\nb.ts\n"
    )
    live = parse_media_playlist(text, BASE)
    assert (live.ended, live.target_seconds) == (False, 6.0)
    noon = 1_796_032_800.5
    assert [
        (part.sequence, part.seconds, part.starts_at, part.title, part.follows) for part in live.segments
    ] == [
        (4, 6.0, noon, "A song", True),
        (5, 5.5, noon + 6, "", False),
    ]
    assert parse_media_playlist(text + "#EXT-X-ENDLIST\n", BASE).ended


@pytest.mark.parametrize(
    "key",
    [
        'METHOD=SAMPLE-AES,URI="skd://x"',
        'METHOD=AES-128,URI="k",KEYFORMAT="com.apple.streamingkeydelivery"',
        'METHOD=AES-128,URI="k",IV=0xZZ',
        f'METHOD=AES-128,URI="k",IV=0x{"f" * 40}',
    ],
)
def test_protection_that_can_not_be_lifted_is_refused(key: str) -> None:
    with pytest.raises(UnsupportedURL):
        parse_media_playlist(f"#EXTM3U\n#EXT-X-KEY:{key}\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST\n", BASE)


def test_more_segments_than_any_recording_has_are_refused() -> None:
    text = "#EXTM3U\n" + "#EXTINF:6,\na.ts\n" * (2 * MAX_SEGMENTS + 1) + "#EXT-X-ENDLIST\n"
    with pytest.raises(AudioTooLarge):
        parse_media_playlist(text, BASE)


def test_an_empty_playlist_holds_no_audio() -> None:
    with pytest.raises(AudioContentTypeNotSupported):
        parse_media_playlist("#EXTM3U\n#EXT-X-ENDLIST\n", BASE)


MASTER = """#EXTM3U
{media}
#EXT-X-STREAM-INF:BANDWIDTH=3000000,RESOLUTION=1920x1080,CODECS="avc1.640028,mp4a.40.2"{group}
high.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=640x360,CODECS="avc1.4d401e,mp4a.40.2"{group}
low.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=100000,RESOLUTION=320x180,CODECS="avc1.4d401e"
silent.m3u8
{audio}
"""


def test_the_smallest_variant_with_audio_is_chosen() -> None:
    text = MASTER.format(media="", group="", audio="")
    assert ranked_variants(text, BASE)[0] == AT + "low.m3u8"


def test_an_audio_variant_is_chosen_over_any_picture() -> None:
    audio = '#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS="mp4a.40.2"\naudio.m3u8'
    assert ranked_variants(MASTER.format(media="", group="", audio=audio), BASE)[0] == AT + "audio.m3u8"


def test_the_default_rendition_of_a_group_is_chosen_over_its_variants() -> None:
    media = (
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="Commentary",URI="comment.m3u8"\n'
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="Main",DEFAULT=YES,URI="main.m3u8"\n'
        '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="s",NAME="Text",URI="subs.m3u8"'
    )
    text = MASTER.format(media=media, group=',AUDIO="a"', audio="")
    assert ranked_variants(text, BASE)[0] == AT + "main.m3u8"


def test_a_default_rendition_without_an_address_is_the_audio_of_the_variants() -> None:
    media = (
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="Main",DEFAULT=YES\n'
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="Commentary",URI="comment.m3u8"'
    )
    text = MASTER.format(media=media, group=',AUDIO="a"', audio="")
    assert ranked_variants(text, BASE)[0] == AT + "low.m3u8"


def test_a_description_of_the_picture_is_no_default() -> None:
    media = (
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="Described",URI="described.m3u8",'
        'CHARACTERISTICS="public.accessibility.describes-video"\n'
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="Main",URI="main.m3u8"'
    )
    text = MASTER.format(media=media, group=',AUDIO="a"', audio="")
    assert ranked_variants(text, BASE)[0] == AT + "main.m3u8"


def test_a_master_without_audio_is_refused() -> None:
    text = '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.4d401e"\nv.m3u8\n'
    with pytest.raises(AudioContentTypeNotSupported):
        ranked_variants(text, BASE)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (MEDIA, "media"),
        ("\ufeff" + MEDIA, "media"),
        (MASTER, "master"),
        ("#EXTM3U\n1.mp3\n", "other"),
        ("<!doctype html>", "other"),
        ("", "other"),
    ],
)
def test_kinds_of_documents_are_distinguished(text: str, kind: str) -> None:
    assert kind_of(text) == kind
