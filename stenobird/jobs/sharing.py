"""Share links: tokens with which anyone can read one transcript until its owner revokes them."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from stenobird.accounts.keys import random_base62
from stenobird.errors import InvalidRequest, TranscriptNotFound
from stenobird.ports import Caller, JobRecord

if TYPE_CHECKING:
    from stenobird.jobs.service import JobService
    from stenobird.storage.job_store import JobStore, ShareStore

MAX_LINKS: Final = 20
"""Links that one transcript can have at a time."""

_DIGITS: Final = 32
_TOKEN: Final = re.compile(rf"sh_[A-Za-z0-9]{{{_DIGITS}}}")


class ShareService:
    """The share links of transcripts. A token gives read access to one transcript and to nothing else."""

    def __init__(self, shares: ShareStore, store: JobStore, jobs: JobService) -> None:
        self._shares = shares
        self._store = store
        self._jobs = jobs

    async def create(self, job_id: str, caller: Caller | None) -> str:
        """Return a new token; only its hash is stored.

        Raises `TranscriptNotFound`, `MissingAPIKey`, `ReadOnlyKey`, and `InvalidRequest` for a preview, which
        anyone who has its id can read, and for a transcript that has `MAX_LINKS` links already.
        """
        await self._owned(job_id, caller)
        token = f"sh_{random_base62(_DIGITS)}"
        if not await self._shares.add(job_id, _hash(token), max_links=MAX_LINKS):
            raise InvalidRequest(
                f"This transcript has {MAX_LINKS} share links already. Revoke them first: "
                f"DELETE /v1/transcripts/{job_id}/share."
            )
        return token

    async def count(self, job_id: str, caller: Caller | None) -> int:
        """Return how many links there are. Raises as `create` does."""
        await self._owned(job_id, caller)
        return await self._shares.count(job_id)

    async def revoke(self, job_id: str, caller: Caller | None) -> None:
        """Revoke all links of the transcript, with immediate effect. Raises as `create` does."""
        await self._owned(job_id, caller)
        await self._shares.revoke(job_id)

    async def reader(self, job_id: str, token: str) -> Caller:
        """Return the caller that the token stands for: the transcript's account, read-only.

        It must be used to read this one transcript only. Raises `TranscriptNotFound` for a token that is
        revoked, malformed or of another transcript.
        """
        if not _TOKEN.fullmatch(token) or await self._shares.opens(_hash(token)) != job_id:
            raise TranscriptNotFound
        job = await self._store.get(job_id)
        if job is None or job.account_id is None:
            raise TranscriptNotFound
        return Caller(job.account_id, "share", "live", "read_only", "free")

    async def _owned(self, job_id: str, caller: Caller | None) -> JobRecord:
        job = await self._jobs.get(job_id, caller)
        if job.mode == "preview":
            raise InvalidRequest(
                "A preview needs no share link: anyone with its address can read it.", details={"field": "id"}
            )
        if caller is not None:
            caller.require_write()
        return job


def _hash(token: str) -> str:
    # The token has 190 random bits, so a plain hash can't be reversed by guessing.
    return hashlib.sha256(token.encode()).hexdigest()
