"""All jobs of an account that is being deleted: ended, then removed with their events and audio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stenobird.jobs.events import JobEvents

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stenobird.ports import AccountStore, JobStore

PAGE: Final = 100


async def remove_account_jobs(
    store: JobStore,
    accounts: AccountStore,
    account_id: str,
    *,
    discard: Callable[[str], Awaitable[None]],
) -> int:
    """Cancel the account's jobs and delete those that have ended; return how many are still ending.

    A job that a worker holds ends when its lease is next renewed, and goes when this is called again.
    Cancelled jobs are not billed.
    """
    ending = 0
    after = ""
    while page := await accounts.job_ids(account_id, after=after, limit=PAGE):
        after = page[-1]
        for job_id in page:
            job = await store.get(job_id)
            if job is None:
                continue
            if not job.terminal:
                done = JobEvents(job.id, job.base_url).done("cancelled")
                job = await store.request_cancel(job.id, [done])
            if job.terminal:
                await store.delete(job.id)
                await discard(job.id)
            else:
                ending += 1
    return ending
