"""Web processes and workers that share only PostgreSQL and Redis, while all of them break."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.chaos import SHORT, run
from tests.support.postgresql import postgresql_available
from tests.support.redis_server import redis_available

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not postgresql_available(), reason="PostgreSQL's server is not installed")
@pytest.mark.skipif(not redis_available(), reason="Redis is not installed")
def test_whatever_breaks_each_job_ends_once_and_nothing_is_left_over(tmp_path: Path) -> None:
    ends = run(tmp_path, SHORT, seed=14)
    assert ends["completed"] >= 5
