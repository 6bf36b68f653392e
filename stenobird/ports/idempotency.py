"""Responses stored under idempotency keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The response to a request with an Idempotency-Key, which is sent again when the request is repeated."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """The right to process a request. The resource it creates has the id `resource_id`, so it exists once."""

    scope_hash: str
    resource_id: str
    token: str
