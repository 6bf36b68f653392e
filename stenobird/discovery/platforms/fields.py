"""Reads one episode from a platform's JSON: paths into it, and the fields that name its audio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stenobird.discovery.parsing import lenient
from stenobird.discovery.parsing.facts import EpisodeFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_DEPTH = 24
"""Levels that `walk` descends; platforms nest at most 15."""

MAX_NODES = 50_000
"""Objects that `walk` visits before it gives up on a document."""


def dig(data: Any, path: str) -> Any | None:
    """Return the value at a dotted path (`data.0.url`), `None` if there is none.

    An empty path is the data itself; a number indexes a list.
    """
    for step in path.split(".") if path else ():
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and step.isdigit() and int(step) < len(data):
            data = data[int(step)]
        else:
            return None
    return data


def walk(data: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON document, in document order, within `MAX_DEPTH` and `MAX_NODES`."""
    stack: list[tuple[Any, int]] = [(data, 0)]
    visited = 0
    while stack and visited < MAX_NODES:
        node, depth = stack.pop()
        visited += 1
        if isinstance(node, dict):
            yield node
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        if depth < MAX_DEPTH:
            stack.extend((child, depth + 1) for child in reversed(list(children)))


def text_of(value: Any) -> str | None:
    """Return a non-empty string or number as text; `None` for everything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value).strip() or None


def seconds_of(value: Any, *, milliseconds: bool = False) -> float | None:
    """Return a duration in seconds; `milliseconds` is the unit of a bare number."""
    if not milliseconds:
        return lenient.parse_duration(value)
    text = text_of(value)
    return lenient.parse_duration(int(text) / 1000) if text and text.isdecimal() and len(text) < 13 else None


@dataclass(frozen=True, slots=True)
class Fields:
    """The paths of the relevant values in a platform's JSON object. `media` has the preferred path first.

    With `milliseconds`, that is the unit of `duration`. `feed` is the path of the show's feed.
    """

    media: tuple[str, ...] = ()
    title: str = ""
    show: str = ""
    guid: str = ""
    duration: str = ""
    milliseconds: bool = False
    published: str = ""
    feed: str = ""

    def facts(self, data: Any) -> EpisodeFacts:
        """Return what the object says about the episode."""
        length = dig(data, self.duration) if self.duration else None
        return EpisodeFacts(
            title=text_of(dig(data, self.title)) if self.title else None,
            show=text_of(dig(data, self.show)) if self.show else None,
            guid=text_of(dig(data, self.guid)) if self.guid else None,
            published=text_of(dig(data, self.published)) if self.published else None,
            duration_seconds=seconds_of(length, milliseconds=self.milliseconds),
        )

    def media_urls(self, data: Any) -> tuple[str, ...]:
        """Return the media addresses that the object names, as written."""
        return tuple(url for path in self.media if isinstance(url := dig(data, path), str) and url.strip())


def _means(text: str, value: str) -> bool:
    """Return whether a field is the value or an address that ends with it, in upper or lower case (UUIDs)."""
    return f"/{text.casefold().rstrip('/')}".endswith(f"/{value.casefold()}")


def the_one(data: Any, same: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the object that is the wanted episode, `None` if it is another or can't be identified.

    `data` is an object or a list of them. `same` maps paths to the values that the episode must have there.
    An object with none of these paths is taken only if it is the only object.
    """
    items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else [data]
    unnamed, confirmed = [], []
    for item in items:
        if not isinstance(item, dict):
            continue
        found = [(text_of(dig(item, path)), value) for path, value in same.items()]
        named = [(text, value) for text, value in found if text is not None]
        if any(_means(text, value) for text, value in named):
            confirmed.append(item)
        elif not named:
            unnamed.append(item)
    if len(confirmed) == 1:
        return confirmed[0]
    return unnamed[0] if not confirmed and len(items) == 1 and unnamed else None
