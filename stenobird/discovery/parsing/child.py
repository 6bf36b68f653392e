"""The child process that parses pages and feeds: `python -m stenobird.discovery.parsing.child`.

Reads requests from stdin and answers on stdout, one at a time, until stdin ends. A frame is a JSON header
of one line, `{"op", "url", "content_type", "size"}`, followed by `size` bytes of document; an
answer is `{"size"}` on one line and that many bytes of JSON. Once loaded, the child can't open files or
sockets, or start processes. Its memory and, per request, its CPU time are limited, and it ends with its
parent.
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import encodings
import json
import pkgutil
import resource
import sys
from typing import TYPE_CHECKING, Any, Final

from stenobird.children.confine import allow_only, confine, limit

if TYPE_CHECKING:
    from typing import BinaryIO

MEMORY_BYTES: Final = 320 * 1024**2
CPU_SECONDS: Final = 10
REHEARSALS: Final = (
    ("page", b"<html><head><title>A</title></head><body><audio src=a.mp3></audio></body></html>"),
    ("feed", b"<rss version='2.0'><channel><title>A</title><item><title>B</title></item></channel></rss>"),
    ("feed", b"<rss version='2.0'><channel><title>A & B</title><item><title>C<br></channel>"),
)
"""A page, a feed, and a feed that is no XML and therefore read by another parser."""


def allow_cpu(seconds: int) -> None:
    """Give the next request this much CPU time; past it the kernel ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + 1 + seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def answer(header: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Parse one document and return plain data; `failed` says why a document could not be parsed."""
    # Imported late, because parsing libraries are slow to load and not every child parses.
    from stenobird.discovery.feeds.reader import read_feed  # noqa: PLC0415
    from stenobird.discovery.page.reader import read_page  # noqa: PLC0415

    url, content_type = header["url"], header["content_type"]
    try:
        if header["op"] == "feed":
            feed = read_feed(body, url=url, content_type=content_type)
            return {"feed": dataclasses.asdict(feed) if feed is not None else None}
        page = read_page(body, url=url, content_type=content_type)
    except (MemoryError, RecursionError) as exc:
        return {"failed": f"{type(exc).__name__}: the document is too large or too deeply nested"}
    return {"page": dataclasses.asdict(page)}


def rehearse() -> None:
    """Read small documents and look up all encodings, so that whatever is imported late is loaded already."""
    header = {"url": "https://example.com/", "content_type": ""}
    for op, body in REHEARSALS:
        answer({**header, "op": op}, body)
    for codec in pkgutil.iter_modules(encodings.__path__):
        with contextlib.suppress(LookupError):  # not all are codecs, or not on this platform
            codecs.lookup(codec.name)


def serve(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Answer requests until stdin ends."""
    rehearse()
    limit(NOFILE=0)
    allow_only("parser")
    while line := stdin.readline():
        header = json.loads(line)
        body = stdin.read(header["size"])
        allow_cpu(CPU_SECONDS)
        reply = json.dumps(answer(header, body), ensure_ascii=True, default=str).encode()
        stdout.write(b'{"size": %d}\n' % len(reply))
        stdout.write(reply)
        stdout.flush()


def main() -> None:
    """Run the child; its only argument is the parent's process id."""
    confine(int(sys.argv[1]), FSIZE=0, AS=MEMORY_BYTES)
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
