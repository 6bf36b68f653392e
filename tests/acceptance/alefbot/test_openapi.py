"""The description holds: whatever a client sends, it gets an answer that `openapi.json` describes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from stenobird.testing.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKS = [
    # A status that is not described fails the first, so a 5xx passes only where it is described.
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 8
"""For each operation: enough for the kinds of wrong input, short enough for every run."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service that counts no requests and has room for every job."""
    unlimited = {
        "PREMIUM_REQUESTS_PER_MINUTE": "1000000",
        "PREVIEWS_PER_MINUTE": "1000000",
        "MAX_QUEUED": "1000000",
        # Jobs of random addresses end at once: nothing is opened.
        "EGRESS_ALLOW": "",
        "EGRESS_PORTS": "1",
    }
    with ServerProcess(tmp_path_factory.mktemp("openapi") / "data", unlimited) as process:
        yield process


@pytest.fixture(scope="module")
def headers(server: ServerProcess) -> dict[str, str]:
    """A test key: what it makes costs nothing."""
    return {"Authorization": f"Bearer {server.create_key('--mode', 'test')}"}


@pytest.fixture(scope="module")
def described(server: ServerProcess) -> Any:
    """The published description."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    # Streams last as long as their jobs, and have tests of their own.
    return schema.exclude(path_regex=r"/events$")


@pytest.mark.slow
def test_every_answer_is_described(described: Any, headers: dict[str, str]) -> None:
    """The library's own pytest plugin does not know this pytest, so its operations are walked here."""
    for operation, mode in itertools.product(described.get_all_operations(), GenerationMode):
        strategy = operation.ok().as_strategy(generation_mode=mode)

        @given(case=strategy)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        def send(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS)

        try:
            send()
        except Unsatisfiable:
            # What takes any input has no wrong one.
            assert mode is GenerationMode.NEGATIVE, operation.ok().label


def test_no_operation_has_a_default_response(described: Any) -> None:
    for path, item in described.raw_schema["paths"].items():
        for method, operation in item.items():
            assert "default" not in operation["responses"], (method, path)
            assert {"401", "503"} <= set(operation["responses"]) or not path.startswith("/api/v1"), path
