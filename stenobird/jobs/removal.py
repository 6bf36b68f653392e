"""All jobs of an account that is being deleted: ended, then removed with their events and audio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stenobird.jobs.events import JobEvents

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stenobird.ports import JobStore, Wakeups

PAGE: Final = 100


async def remove_account_jobs(
    store: JobStore,
    account_id: str,
    *,
    discard: Callable[[str], Awaitable[None]],
    wakeups: Wakeups | None = None,
) -> int:
    """Cancel the account's jobs and delete those that have ended; return how many are still ending.

    A job that a worker holds ends within moments (without `wakeups`: at the lease's next renewal), and goes
    when this is called again. Cancelled jobs are not billed, and no webhook tells of them.
    """
    ending = 0
    before: tuple[float, str] | None = None
    while page := await store.list_jobs(account_id, before=before, limit=PAGE):
        before = page[-1].created_at, page[-1].id
        for found in page:
            job = found
            if not job.terminal:
                job = await store.request_cancel(job.id, [JobEvents(job.id, job.base_url).done("cancelled")])
            if job.terminal:
                await store.delete(job.id)
                await discard(job.id)
            else:
                ending += 1
            if wakeups is not None:
                await wakeups.notify_event(job.id)
    return ending
