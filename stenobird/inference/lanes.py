"""A queue that is fair among jobs, and lets urgent windows go first, within a bound."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")

URGENT_IN_A_ROW = 4
"""Urgent items that may go before a waiting ordinary one: at most 4 to 1."""


class FairLanes(Generic[T]):
    """Items of many jobs in three lanes.

    Urgent items (previews, first windows) go first, at most `URGENT_IN_A_ROW` of them while others wait. Live
    and ordinary items take turns, so that neither waits for more than one of the other. Within a lane the
    jobs take turns, an item each, and a job's own items keep their order. So with J jobs waiting in a lane,
    an item at the head of its job waits for at most J - 1 others of that lane.
    """

    def __init__(self) -> None:
        self._urgent: OrderedDict[str, deque[T]] = OrderedDict()
        self._live: OrderedDict[str, deque[T]] = OrderedDict()
        self._ordinary: OrderedDict[str, deque[T]] = OrderedDict()
        self._passed = 0
        self._was_live = False

    def __len__(self) -> int:
        return sum(len(items) for lane in self._lanes for items in lane.values())

    @property
    def _lanes(self) -> tuple[OrderedDict[str, deque[T]], ...]:
        return self._urgent, self._live, self._ordinary

    def put(self, job_id: str, item: T, *, urgent: bool, live: bool = False, back: bool = False) -> None:
        """Add an item behind its job's others. What is `live` is in that lane, urgent or not.

        `back` is for an item that was taken but not served; it becomes the next of its lane.
        """
        lane = self._live if live else self._urgent if urgent else self._ordinary
        items = lane.setdefault(job_id, deque())
        if back:
            items.appendleft(item)
            lane.move_to_end(job_id, last=False)
        else:
            items.append(item)

    def pop(self, *, urgent: bool = True, live: bool = True, ordinary: bool = True) -> T | None:
        """Take the next item of the lanes that may be served, or `None`."""
        live, ordinary = live and bool(self._live), ordinary and bool(self._ordinary)
        if urgent and self._urgent and (not (live or ordinary) or self._passed < URGENT_IN_A_ROW):
            self._passed = self._passed + 1 if live or ordinary else 0
            return _take_turn(self._urgent)
        if not (live or ordinary):
            return None
        self._passed = 0
        self._was_live = live and not (ordinary and self._was_live)
        return _take_turn(self._live if self._was_live else self._ordinary)

    def discard(self, job_id: str, item: T) -> None:
        """Remove an item; fine if it is not waiting."""
        for lane in self._lanes:
            items = lane.get(job_id)
            if items is not None and item in items:
                items.remove(item)
                if not items:
                    del lane[job_id]

    def drain(self) -> list[T]:
        """Take everything, in no particular order."""
        items = [item for lane in self._lanes for queue in lane.values() for item in queue]
        for lane in self._lanes:
            lane.clear()
        return items


def _take_turn(lane: OrderedDict[str, deque[T]]) -> T:
    job_id, items = next(iter(lane.items()))
    item = items.popleft()
    if items:
        lane.move_to_end(job_id)
    else:
        del lane[job_id]
    return item
