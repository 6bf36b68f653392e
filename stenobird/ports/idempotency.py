"""Responses stored under idempotency keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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


class IdempotencyStore(Protocol):
    """Idempotency keys, kept 24 hours on the database's clock. Every method is one transaction."""

    async def look(self, scope_hash: str, body_hash: str) -> StoredAnswer | None:
        """Return the stored response, if there is one, without writing.

        Raises `IdempotencyMismatch` for another body, `IdempotencyInProgress` while the first is processed.
        """

    async def claim(
        self, scope_hash: str, body_hash: str, *, account_id: str | None, resource_id: str
    ) -> IdempotencyClaim | StoredAnswer:
        """Return the right to process the request, or the response that was stored meanwhile.

        A claim that takes over from a crashed process keeps its `resource_id`. Raises what `look` raises.
        """

    async def answer(self, claim: IdempotencyClaim, answer: StoredAnswer) -> None:
        """Store the response, unless another request has taken over the claim."""

    async def forget(self, claim: IdempotencyClaim) -> None:
        """Remove the claim, because nothing was created; the next request may have another body."""

    async def abandon(self, claim: IdempotencyClaim) -> None:
        """Let the next request take over at once; it is unknown whether something was created."""

    async def withdraw(self, scope_hash: str, answer: StoredAnswer) -> None:
        """Remove this stored response, which is outdated; a newer one stays."""

    async def purge(self) -> int:
        """Delete keys older than 24 hours; return how many."""
