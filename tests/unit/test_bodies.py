"""What all bodies share: times, numbers, omitted fields, and the field that a refusal names."""

from __future__ import annotations

import pytest
from pydantic import Field

from stenobird.bodies import Body, Number, Omittable, RequestBody, Timestamp, utc_text
from stenobird.errors import InvalidRequest


class Shown(Body):
    at: Timestamp
    units: Number
    until: Timestamp | None = None
    note: Omittable[str] = None


class Asked(RequestBody):
    count: int = Field(ge=0)


def test_times_are_utc_with_milliseconds() -> None:
    assert utc_text(1_796_000_400.9876) == "2026-11-30T01:00:00.987Z"
    assert utc_text(1_796_000_400.9876, "seconds") == "2026-11-30T01:00:00Z"


def test_bodies_are_compact_and_omit_only_what_is_marked() -> None:
    body = Shown(at=0.0, units=2)
    assert body.encode() == b'{"at":"1970-01-01T00:00:00.000Z","units":2,"until":null}'
    assert (
        Shown(at=0.0, units=2.5, note="שלום")
        .encode()
        .decode()
        .endswith('"units":2.5,"until":null,"note":"שלום"}')
    )


@pytest.mark.parametrize(
    ("body", "field"), [({"count": -1}, "count"), ({"count": "1"}, "count"), ([], "body")]
)
def test_a_wrong_request_names_its_field(body: object, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Asked.parse(body)
    assert refused.value.details == {"field": field}
    assert f'"{field}" is not valid' in refused.value.message
