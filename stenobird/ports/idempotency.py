"""Answers kept under idempotency keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a request with an Idempotency-Key was answered: sent again to whoever repeats it."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """The right to work on a request. What it makes has the id `resource_id`, so it is made once."""

    scope_hash: str
    resource_id: str
    token: str


class IdempotencyStore(Protocol):
    """Idempotency keys, kept 24 hours on the database's clock. Every method is one transaction."""

    async def look(self, scope_hash: str, body_hash: str) -> StoredAnswer | None:
        """Return the stored answer, if there is one, without writing.

        Raises `IdempotencyMismatch` where the body was another, `IdempotencyInProgress` while it is made.
        """

    async def claim(
        self, scope_hash: str, body_hash: str, *, account_id: str | None, resource_id: str
    ) -> IdempotencyClaim | StoredAnswer:
        """Return the right to work on the request, or the answer that was stored meanwhile.

        The claim's `resource_id` is that of the first claim, whoever made it and died. Raises as `look`.
        """

    async def answer(self, claim: IdempotencyClaim, answer: StoredAnswer) -> None:
        """Store the answer; nothing happens when another request has taken the claim over."""

    async def forget(self, claim: IdempotencyClaim) -> None:
        """Remove the claim: nothing was made, and the next request may have another body."""

    async def abandon(self, claim: IdempotencyClaim) -> None:
        """Let the next request take over at once: whether something was made is not known."""

    async def withdraw(self, scope_hash: str, answer: StoredAnswer) -> None:
        """Remove a stored answer that is no longer good; nothing happens when there is another by now."""

    async def purge(self) -> int:
        """Delete what is older than 24 hours; return how many there were."""
