"""CPU time that pages and feeds of several sizes cost: `python tests/bench/discovery_cpu.py`.

Prints milliseconds of this process's own CPU time, the best of five. The bounds of the design: 20 ms at the
median page, 200 ms at 1.4 MB.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from stenobird.discovery.feeds.reader import read_feed
from stenobird.discovery.page.reader import read_page

if TYPE_CHECKING:
    from collections.abc import Callable


def page_of(cards: int) -> bytes:
    """Return a page of link cards whose state lists two audio files a card: denser than most real ones."""
    articles = "".join(
        f'<article class="card"><h2><a href="/p/{number}">Title {number} of the list</a></h2>'
        f'<div class="meta"><time datetime="2024-01-01">1 Jan</time><img src="/i/{number}.jpg" alt=""></div>'
        f"<p>{'lorem ipsum dolor sit amet ' * 8}</p></article>"
        for number in range(cards)
    )
    state = ",".join(
        f'{{"id":{number},"title":"Episode {number}",'
        f'"audio":{{"url":"https:\\/\\/c.example\\/ep{number}.mp3"}}}}'
        for number in range(cards * 2)
    )
    script = f'<script>window.__STATE__={{"items":[{state}]}}</script>'
    return (
        f"<html><head><title>List</title></head><body><h1>List</h1>{articles}{script}</body></html>".encode()
    )


def feed_of(items: int) -> bytes:
    """Return a feed with long descriptions."""
    description = "<p>some words here &amp; there</p>" * 100
    rows = "".join(
        f"<item><title>Episode {number}</title><guid>{number}</guid>"
        "<pubDate>Tue, 04 Jun 2024 08:00:00 GMT</pubDate>"
        f"<description><![CDATA[{description}]]></description>"
        f'<enclosure url="https://c.example/{number}.mp3" type="audio/mpeg" length="1"/></item>'
        for number in range(items)
    )
    return f'<rss version="2.0"><channel><title>Feed</title>{rows}</channel></rss>'.encode()


def best_ms(read: Callable[..., object], body: bytes) -> float:
    """Return the least CPU time of five readings, in milliseconds."""
    times = []
    for _ in range(5):
        start = time.process_time()
        read(body, url="https://x.example/list", content_type="")
        times.append(time.process_time() - start)
    return min(times) * 1000


def main() -> None:
    """Measure and print."""
    pages = [(read_page, page_of(cards)) for cards in (20, 100, 500, 1000, 2200)]
    feeds = [(read_feed, feed_of(items)) for items in (100, 1200)]
    documents: list[tuple[Callable[..., object], bytes]] = [*pages, *feeds]
    for read, body in documents:
        sys.stdout.write(
            f"{getattr(read, '__name__', 'read')} {len(body) / 1e6:6.2f} MB {best_ms(read, body):7.1f} ms\n"
        )


if __name__ == "__main__":
    main()
