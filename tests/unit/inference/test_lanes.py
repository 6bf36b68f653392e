from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stenobird.inference.lanes import URGENT_IN_A_ROW, FairLanes


def taken(lanes: FairLanes[str]) -> list[str]:
    items = []
    while (item := lanes.pop()) is not None:
        items.append(item)
    return items


def test_jobs_take_turns_and_keep_their_own_order() -> None:
    lanes: FairLanes[str] = FairLanes()
    for item in ("a1", "a2", "a3", "b1", "c1", "c2"):
        lanes.put(item[0], item, urgent=False)

    assert taken(lanes) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_urgent_windows_pass_long_jobs_but_do_not_starve_them() -> None:
    lanes: FairLanes[str] = FairLanes()
    for i in range(3):
        lanes.put("long", f"long{i}", urgent=False)
    for i in range(10):
        lanes.put(f"preview{i}", f"p{i}", urgent=True)

    order = taken(lanes)

    assert [i for i, item in enumerate(order) if item.startswith("long")] == [
        URGENT_IN_A_ROW,
        2 * URGENT_IN_A_ROW + 1,
        12,
    ]


def test_live_windows_and_those_of_recordings_take_turns() -> None:
    lanes: FairLanes[str] = FairLanes()
    for i in range(4):
        lanes.put("recording", f"r{i}", urgent=False)
        lanes.put(f"station{i % 2}", f"live{i}", urgent=False, live=True)
    lanes.put("preview", "p", urgent=True)

    assert taken(lanes) == ["p", "live0", "r0", "live1", "r1", "live2", "r2", "live3", "r3"]


def test_an_item_put_back_is_the_next_one() -> None:
    lanes: FairLanes[str] = FairLanes()
    for item in ("a1", "b1", "b2"):
        lanes.put(item[0], item, urgent=False)
    first = lanes.pop()
    assert first == "a1"
    lanes.put("a", first, urgent=False, back=True)

    assert taken(lanes) == ["a1", "b1", "b2"]


def test_discarded_items_are_gone_wherever_they_wait() -> None:
    lanes: FairLanes[str] = FairLanes()
    lanes.put("a", "a1", urgent=True)
    lanes.put("a", "a2", urgent=False)
    lanes.discard("a", "a1")
    lanes.discard("a", "a2")
    lanes.discard("a", "never there")

    assert len(lanes) == 0
    assert lanes.pop() is None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.booleans()), max_size=40))
def test_every_item_comes_out_once(puts: list[tuple[str, bool, bool]]) -> None:
    lanes: FairLanes[int] = FairLanes()
    for number, (job, urgent, live) in enumerate(puts):
        lanes.put(job, number, urgent=urgent, live=live)

    out = []
    while (item := lanes.pop()) is not None:
        out.append(item)

    assert sorted(out) == list(range(len(puts)))
    for lane in {put[1:] for put in puts}:
        for job in "abcd":
            mine = [n for n in out if puts[n] == (job, *lane)]
            assert mine == sorted(mine)
