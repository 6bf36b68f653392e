from __future__ import annotations

import threading

import numpy as np

from stenobird.speech.host_child import WindowQueue
from stenobird.speech.protocol import EngineInfo, WindowRequest


def window(context: str = "before") -> WindowRequest:
    return WindowRequest(np.zeros(160, np.int16), 0, ((0, 160),), "en", context=context)


def a_queue(*contexts: str, device: str = "cpu", replicas: int = 2, batch: int = 4) -> WindowQueue:
    """Return a queue with windows 0, 1, 2, ... that can wait."""
    queue = WindowQueue(EngineInfo("fake", "fake", device, "int8", replicas, replicas * batch, ("en",)))
    for number, context in enumerate(contexts):
        queue.put(number, window(context), urgent=False)
    return queue


def numbers(batch: list[tuple[int, WindowRequest]]) -> list[int]:
    return [number for number, _ in batch]


def test_each_replica_takes_its_share_of_what_is_ready() -> None:
    queue = a_queue(*["before"] * 5)

    assert [numbers(queue.take()) for _ in range(3)] == [[0, 1, 2], [3], [4]]


def test_no_batch_is_larger_than_a_replica_decodes_at_once() -> None:
    queue = a_queue(*["before"] * 20)

    assert numbers(queue.take()) == [0, 1, 2, 3]


def test_windows_on_a_cpu_are_taken_together_where_the_same_text_is_before_them() -> None:
    queue = a_queue("one", "two", "one", "two", "one")

    assert [numbers(queue.take()) for _ in range(3)] == [[0, 2, 4], [1], [3]]


def test_an_urgent_window_on_a_cpu_goes_first_and_alone() -> None:
    queue = a_queue(*["before"] * 3)
    queue.put(3, window(), urgent=True)
    queue.put(4, window(), urgent=True)

    assert [numbers(queue.take()) for _ in range(3)] == [[3], [4], [0, 1]]


def test_a_gpu_takes_everything_at_once_urgent_windows_first() -> None:
    queue = a_queue("one", "two", device="cuda", replicas=1, batch=16)
    queue.put(2, window(), urgent=True)

    assert numbers(queue.take()) == [2, 0, 1]


def test_the_thread_for_urgent_windows_leaves_the_others() -> None:
    queue, taken = a_queue("before"), []
    thread = threading.Thread(target=lambda: taken.append(numbers(queue.take_urgent())))
    thread.start()
    queue.put(1, window(), urgent=True)
    thread.join()

    assert taken == [[1]]
    assert numbers(queue.take()) == [0]
