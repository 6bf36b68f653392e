"""Renders the guides for users to HTML, which is checked in and served by the pages.

Parts of a guide can be for one kind of reader only:

    <!-- operators -->           for operators: left out of the pages
    <!-- /operators -->
    <!-- web                     for the pages only
    -->
"""

from __future__ import annotations

import html
import json
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from markdown_it import MarkdownIt

from stenobird.web.site.templating import GUIDES_DIR
from tools.reference.errors import errors_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import EnvType, OptionsDict

SOURCES: Final[Mapping[str, str]] = {
    "quickstart": "quickstart.md",
    "openai-sdk": "how-to/openai-sdk.md",
    "agents": "how-to/agents.md",
    "event-streams": "how-to/event-streams.md",
    "webhooks": "how-to/webhooks.md",
    "live-audio": "how-to/live-audio.md",
    "events": "reference/events.md",
    "errors": "reference/errors.md",
    "how-audio-is-found": "explanation/how-audio-is-found.md",
}
"""The guides for users, in the order of the list; guides for operators are not among them."""

_OPERATORS = re.compile(r"<!-- operators -->.*?<!-- /operators -->\n?", re.DOTALL)
_WEB = re.compile(r"<!-- web\n(.*?)-->\n?", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_LABELS = {"sh": "Commands", "python": "Python", "json": "JSON", "text": "Output"}


def guide_files(docs: Path, pages: Mapping[str, str]) -> dict[Path, str]:
    """Return an HTML fragment per guide and the index of all, by path.

    `pages` are the reference pages by name. A guide that does not exist is left out.
    """
    files = {}
    index = []
    for name, source in SOURCES.items():
        if source.startswith("reference/"):
            text = errors_page(of_operators=False) if name == "errors" else pages[name]
        elif (docs / source).is_file():
            text = (docs / source).read_text(encoding="utf-8")
        else:
            continue
        guide = render(text, source)
        index.append({"name": name, "title": guide.title, "summary": guide.summary})
        files[GUIDES_DIR / f"{name}.html"] = guide.body
    files[GUIDES_DIR / "index.json"] = json.dumps(index, indent=2, ensure_ascii=False) + "\n"
    return files


@dataclass(frozen=True, slots=True)
class Rendered:
    """A guide: title and first sentence as text, the rest as an HTML fragment."""

    title: str
    summary: str
    body: str


def render(text: str, source: str) -> Rendered:
    """Return a guide as HTML. `source` is its path below docs, from which its links lead."""
    text = _COMMENT.sub("", _WEB.sub(r"\1", _OPERATORS.sub("", text)))
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    assert tokens[0].type == "heading_open", f"{source} does not begin with its title"
    title, tokens = tokens[1].content, tokens[3:]
    starts = (number for number, token in enumerate(tokens) if token.type == "paragraph_open")
    summary = next((_plain(tokens[number + 1]) for number in starts), "")
    _prepare(tokens, source)
    for kind, rule in {
        "fence": _fence,
        "table_open": _table_open,
        "table_close": _table_close,
        "heading_open": _heading_open,
    }.items():
        markdown.add_render_rule(kind, rule)
    body = markdown.renderer.render(tokens, markdown.options, {})
    return Rendered(title, summary.partition(". ")[0].rstrip(".:") + ".", body)


def _plain(token: Token) -> str:
    return "".join(" " if child.type == "softbreak" else child.content for child in token.children or ())


def _prepare(tokens: Sequence[Token], source: str) -> None:
    """Add anchors to headings, and point links to pages. Other relative links are replaced by their text."""
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", re.sub(r"[^a-z0-9]+", "-", _plain(tokens[number + 1]).lower()).strip("-"))
        if token.type != "inline" or token.children is None:
            continue
        children: list[Token] = []
        dropped = False
        for child in token.children:
            if child.type == "link_open":
                address = _address(str(child.attrGet("href")), source)
                dropped = address is None
                if address is not None:
                    child.attrSet("href", address)
            if not (dropped and child.type in {"link_open", "link_close"}):
                children.append(child)
            if child.type == "link_close":
                dropped = False
        token.children = children


def _address(target: str, source: str) -> str | None:
    path, mark, anchor = target.partition("#")
    if "://" in path or path.startswith("/") or not path:
        return target
    place = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    name = next((name for name, known in SOURCES.items() if known == place), None)
    return None if name is None else f"/docs/{name}{mark}{anchor}"


def _fence(
    _renderer: RendererHTML, tokens: Sequence[Token], number: int, _options: OptionsDict, _env: EnvType
) -> str:
    language, _, note = tokens[number].info.partition(" ")
    label = "Output" if note == "output" else _LABELS.get(language, language)
    kind = ' class="output"' if note == "output" else ""
    content = html.escape(tokens[number].content)
    return f'<pre{kind} tabindex="0" aria-label="{label}"><code>{content}</code></pre>\n'


def _table_open(
    _renderer: RendererHTML, tokens: Sequence[Token], number: int, _options: OptionsDict, _env: EnvType
) -> str:
    # A page's regions need names of their own.
    count = sum(token.type == "table_open" for token in tokens[: number + 1])
    return f'<div class="scroll" tabindex="0" role="region" aria-label="Table {count}">\n<table>\n'


def _table_close(*_arguments: Any) -> str:
    return "</table>\n</div>\n"


def _heading_open(
    _renderer: RendererHTML, tokens: Sequence[Token], number: int, _options: OptionsDict, _env: EnvType
) -> str:
    token = tokens[number]
    return f'<{token.tag} id="{token.attrGet("id")}">'
