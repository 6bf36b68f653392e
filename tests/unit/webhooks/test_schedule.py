"""Waits between tries, and what `Retry-After` may change about them."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from stenobird.egress.client import retry_after_seconds
from stenobird.webhooks.delivery import JITTER, MAX_RETRY_AFTER_SECONDS, RETRY_SECONDS, retry_seconds

NOW = 1_800_000_000.0
HOUR = 3600.0


def test_the_tries_take_about_three_days() -> None:
    waits = [retry_seconds(tries, 0.5) for tries in range(1, len(RETRY_SECONDS) + 2)]
    assert waits[-1] is None
    assert len(waits) == 15
    assert 71 * HOUR < sum(wait or 0.0 for wait in waits) < 72 * HOUR
    assert retry_seconds(1, 0.0) != retry_seconds(1, 1.0)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("asked", [1.0, 60.0, 1800.0, MAX_RETRY_AFTER_SECONDS])
def test_no_attempt_is_earlier_than_retry_after(chance: float, asked: float) -> None:
    for tries in range(1, len(RETRY_SECONDS) + 1):
        wait = retry_seconds(tries, chance, asked_seconds=asked)
        usual = retry_seconds(tries, chance)
        assert wait is not None
        assert usual is not None
        assert wait >= asked
        assert usual <= wait <= max(usual, asked * (1 + JITTER))


def test_asking_can_neither_stop_the_tries_nor_use_them_up() -> None:
    for asked in (0.0, 1.0, 86_400.0 * 365):
        waits = [retry_seconds(tries, 1.0, asked_seconds=asked) for tries in range(1, len(RETRY_SECONDS) + 2)]
        assert waits[-1] is None
        assert 71 * HOUR < sum(wait or 0.0 for wait in waits) < 86 * HOUR


def test_receivers_that_asked_for_the_same_time_are_not_called_at_the_same_moment() -> None:
    assert retry_seconds(1, 0.0, asked_seconds=600.0) != retry_seconds(1, 1.0, asked_seconds=600.0)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW + 90), 90.0),
        (formatdate(NOW - 90, usegmt=True), None),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("9" * 5000, None),
        ("Fri, 99 Foo 9999 99:99:99 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2026 00:00:00 +99999999999999999999", None),
        ("١٢٠", None),
    ],
    ids=lambda value: str(value)[:40] if value is not None else "none",
)
def test_retry_after_is_seconds_or_a_date(header: str | None, expected: float | None) -> None:
    headers = {} if header is None else {"retry-after": header}
    assert retry_after_seconds(headers, now=NOW) == expected
    dated = headers | {"date": formatdate(NOW, usegmt=True)}
    assert retry_after_seconds(dated) == expected
