"""Retention removes each kind independently."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from stenobird.config import Settings
from stenobird.errors import StorageUnavailable
from stenobird.serving import remove_expired

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from stenobird.web.services import Services

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("failure", [StorageUnavailable(), PermissionError("no")], ids=["away", "broken"])
async def test_a_failed_removal_does_not_delay_the_others(tmp_path: Path, failure: Exception) -> None:
    done: dict[str, Any] = {}

    def removal(name: str) -> Callable[..., Awaitable[object]]:
        async def remove(**bounds: float) -> object:
            done[name] = bounds
            raise failure

        return remove

    services = SimpleNamespace(
        settings=Settings(data_dir=tmp_path, retention_days=2),
        jobs=SimpleNamespace(purge=removal("jobs")),
        uploads=SimpleNamespace(sweep=removal("uploads")),
        accounts=SimpleNamespace(sweep_deleted=removal("accounts")),
        idempotency=SimpleNamespace(purge=removal("idempotency")),
        webhooks=SimpleNamespace(purge=removal("deliveries")),
    )
    await remove_expired(cast("Services", services), now=1_000_000.0)
    before = 1_000_000.0 - 2 * 86_400
    assert done == {
        "jobs": {"older_than": before},
        "uploads": {},
        "accounts": {},
        "idempotency": {},
        "deliveries": {"settled_before": before},
    }
