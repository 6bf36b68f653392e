"""Billed minutes are as the price says: whole minutes, rounded down, at least one."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from stenobird.jobs.leased import billable_minutes
from stenobird.ports import SAMPLE_RATE

THREE_HOURS_AND_A_SECOND = 3 * 3600 + 1


def test_every_duration_up_to_three_hours_and_a_second_costs_what_the_price_says() -> None:
    for seconds in range(THREE_HOURS_AND_A_SECOND + 1):
        expected = 1 if seconds < 120 else math.floor(seconds / 60)
        assert billable_minutes(seconds * SAMPLE_RATE) == expected, seconds


@given(st.integers(0, THREE_HOURS_AND_A_SECOND * SAMPLE_RATE))
def test_to_the_sample_a_minute_counts_when_it_is_whole(samples: int) -> None:
    minutes = billable_minutes(samples)
    assert minutes >= 1
    assert minutes == 1 or minutes * 60 * SAMPLE_RATE <= samples
    assert samples < (minutes + 1) * 60 * SAMPLE_RATE


@given(st.integers(1, 181))
def test_the_last_sample_of_a_minute_makes_it_whole(minutes: int) -> None:
    whole = minutes * 60 * SAMPLE_RATE
    assert billable_minutes(whole) == minutes
    assert billable_minutes(whole - 1) == max(1, minutes - 1)
