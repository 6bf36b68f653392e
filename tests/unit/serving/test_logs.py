"""The format and the content of log lines."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# In a process of its own: logging is set up for all of it.
BROKEN_REQUEST = """
import sys
import structlog
from stenobird.config import Settings
from stenobird.logs import configure_logging

def answer(authorization):
    raise ValueError("nobody foresaw this")

configure_logging(Settings(log_format=sys.argv[1]))
try:
    answer("Bearer sb_live_" + "x" * 3 + "secret")
except ValueError:
    structlog.get_logger("test").exception("unexpected error")
"""


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_local_variables(log_format: str) -> None:
    command = [sys.executable, "-c", BROKEN_REQUEST, log_format]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert "nobody foresaw this" in said
    assert "sb_live_xxxsecret" not in said


LIBRARIES = """
import logging
import warnings
from stenobird.config import Settings
from stenobird.logs import configure_logging

configure_logging(Settings(log_format="json", log_level="info"))
logging.getLogger("uvicorn.error").info("Started server process [%d]", 1)
logging.getLogger("asyncio").warning("socket.send() raised exception.")
logging.getLogger("httpx").info("HTTP Request: GET https://example.com/?key=secret")
warnings.warn("careless", stacklevel=1)
"""


def test_libraries_log_in_the_same_format() -> None:
    command = [sys.executable, "-c", LIBRARIES]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stderr.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [(row["logger"], row["level"]) for row in rows] == [
        ("uvicorn.error", "info"),
        ("asyncio", "warning"),
        ("py.warnings", "warning"),
    ]
    assert rows[0]["event"] == "Started server process [1]"
    assert "careless" in rows[2]["event"]
    assert all(row["timestamp"].endswith("Z") for row in rows)
