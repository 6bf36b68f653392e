"""The one logging configuration: structured lines on standard error, those of all libraries included.

Our own modules log through structlog, which writes each line itself: that takes a fifth of the time of
`logging`. uvicorn, asyncio and other libraries log through `logging`, whose only handler formats their
records in the same way.
"""

from __future__ import annotations

import functools
import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from stenobird.config import Settings


def configure_logging(settings: Settings) -> None:
    """Configure structlog and `logging`: readable lines on a terminal, JSON elsewhere."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # The renderer's default tracebacks show local variables, and with them the clients' keys.
    console = structlog.dev.ConsoleRenderer(pad_event_to=0, exception_formatter=structlog.dev.plain_traceback)
    renderer: Any = structlog.processors.JSONRenderer() if as_json else console
    formatting: list[Any] = [structlog.processors.format_exc_info, renderer] if as_json else [renderer]
    level = settings.log_level.upper()
    structlog.configure(
        processors=[*shared, *formatting],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=functools.cache(_Lines),
    )
    without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[without_meta, *formatting])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.captureWarnings(capture=True)
    root.setLevel(level)
    for chatty in ("httpx", "httpcore", "alembic", "aiosqlite", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


class _Lines(structlog.WriteLogger):
    """Writes rendered lines to standard error; `name` is that of the module."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(sys.stderr)
        self.name = name
