"""A queue that is fair among jobs and lets urgent windows go first, within a bound."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")

URGENT_IN_A_ROW = 4
"""Urgent items that may go before a waiting ordinary one: at most 4 to 1."""


class FairLanes(Generic[T]):
    """Items of many jobs in two lanes.

    Urgent items (previews, first windows) go first, at most `URGENT_IN_A_ROW` of them while an ordinary one
    waits. Within a lane the jobs take turns, an item each, and a job's own items keep their order. So with J
    jobs waiting in a lane, an item at the head of its job waits for at most J - 1 others of that lane.
    """

    def __init__(self) -> None:
        self._urgent: OrderedDict[str, deque[T]] = OrderedDict()
        self._ordinary: OrderedDict[str, deque[T]] = OrderedDict()
        self._passed = 0

    def __len__(self) -> int:
        return sum(len(items) for lane in (self._urgent, self._ordinary) for items in lane.values())

    def put(self, job_id: str, item: T, *, urgent: bool) -> None:
        """Add an item behind its job's others."""
        lane = self._urgent if urgent else self._ordinary
        lane.setdefault(job_id, deque()).append(item)

    def put_back(self, job_id: str, item: T, *, urgent: bool) -> None:
        """Return an item that was taken but not served; it becomes the next of its lane."""
        lane = self._urgent if urgent else self._ordinary
        lane.setdefault(job_id, deque()).appendleft(item)
        lane.move_to_end(job_id, last=False)

    def pop(self, *, urgent: bool = True, ordinary: bool = True) -> T | None:
        """Take the next item of the lanes that may be served, or `None`."""
        served = ordinary and bool(self._ordinary)
        if urgent and self._urgent and (not served or self._passed < URGENT_IN_A_ROW):
            self._passed = self._passed + 1 if served else 0
            return _take_turn(self._urgent)
        if not served:
            return None
        self._passed = 0
        return _take_turn(self._ordinary)

    def discard(self, job_id: str, item: T) -> None:
        """Remove an item; fine if it is not waiting."""
        for lane in (self._urgent, self._ordinary):
            items = lane.get(job_id)
            if items is not None and item in items:
                items.remove(item)
                if not items:
                    del lane[job_id]

    def drain(self) -> list[T]:
        """Take everything, in no particular order."""
        items = [item for lane in (self._urgent, self._ordinary) for queue in lane.values() for item in queue]
        self._urgent.clear()
        self._ordinary.clear()
        return items


def _take_turn(lane: OrderedDict[str, deque[T]]) -> T:
    job_id, items = next(iter(lane.items()))
    item = items.popleft()
    if items:
        lane.move_to_end(job_id)
    else:
        del lane[job_id]
    return item
