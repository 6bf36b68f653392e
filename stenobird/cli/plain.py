"""Text of the outside world on a terminal: titles, addresses, words."""

from __future__ import annotations

from rich.text import Text

from stenobird.formats.cues import clean


def plain(text: str, style: str = "") -> Text:
    """Return the text on one line, as it is.

    No bracket in it is markup, no `:name:` a picture, and no control character reaches the terminal.
    """
    return Text(clean(text), style)
