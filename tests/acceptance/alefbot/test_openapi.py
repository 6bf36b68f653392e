"""Whatever a client sends, `openapi.json` describes the response."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.openapi import served_schema
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKS = [
    # The first check fails for undocumented statuses, so a 5xx passes only if it is documented.
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = int(os.environ.get("STENOBIRD_OPENAPI_EXAMPLES", "5"))
"""Examples per operation: enough for all kinds of invalid input, few enough for every run."""
AIMED_EXAMPLES = max(2, EXAMPLES // 4)
"""The same for operations on existing resources."""
NEVER_WELL = {
    # Random bytes never have the size of the slot, and there is no receiver.
    ("PUT", "/api/v1/uploads/{upload_id}/binary"),
    ("POST", "/api/v1/webhooks/test"),
}


@dataclass
class Things:
    """A key, and the existing resources of its account."""

    headers: dict[str, str]
    ids: dict[str, str]
    """Values of path parameters, by their name, and for `id` by the path before it."""
    statuses: dict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    """The statuses that each operation has returned."""

    def aim(self, case: Any) -> None:
        """Put the ids of existing resources into a case."""
        for name in case.path_parameters or {}:
            known = self.ids.get(name) or self.ids.get(case.path.partition("/{")[0])
            if known is not None:
                case.path_parameters[name] = known
        if isinstance(case.body, dict) and "upload_id" in case.body:
            case.body["upload_id"] = self.ids["filled"]
            case.body.pop("audio_url", None)
            case.body.pop("webhook_url", None)
            case.body.pop("translate_to_hebrew", None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service without rate limits, and with room for every job."""
    unlimited = {
        "PREMIUM_REQUESTS_PER_MINUTE": "1000000",
        "PREVIEWS_PER_MINUTE": "1000000",
        "MAX_QUEUED": "1000000",
        "JOBS_PER_ACCOUNT": "1000000",
        # Jobs for random addresses end at once: no connection is opened.
        "EGRESS_ALLOW": "",
        "EGRESS_PORTS": "1",
    }
    with ServerProcess(tmp_path_factory.mktemp("openapi") / "data", unlimited) as process:
        yield process


@pytest.fixture(scope="module")
def things(server: ServerProcess) -> Things:
    """A test key: its jobs are free and end at once, and it can't delete the account."""
    headers = {"Authorization": f"Bearer {server.create_key(mode='test')}"}
    with httpx.Client(base_url=f"{server.url}/api/v1", headers=headers, trust_env=False) as api:
        slots = [
            api.post(
                "/uploads", json={"filename": "a.mp3", "content_type": "audio/mpeg", "size_bytes": 5}
            ).json()["upload_id"]
            for _ in range(2)
        ]
        api.put(f"/uploads/{slots[0]}/binary", content=b"12345").raise_for_status()
        job = api.post("/transcriptions", json={"upload_id": slots[0]}).json()["job_id"]
        transcript = api.post(f"{server.url}/v1/transcripts", json={"upload_id": slots[0]}).json()["id"]
    ids = {
        "job_id": job,
        "upload_id": slots[1],
        "filled": slots[0],
        "suffix": "docx",
        "/v1/transcripts": transcript,
    }
    return Things(headers, ids)


@pytest.fixture(scope="module")
def described(server: ServerProcess) -> Any:
    """The published description."""
    schema = served_schema(server.url)
    # Streams last as long as their jobs, and have tests of their own.
    return schema.exclude(path_regex=r"/events$")


@pytest.mark.slow
def test_every_response_is_documented(described: Any, things: Things) -> None:
    """The library's pytest plugin does not support this pytest, so the test iterates over operations."""
    operations = [found.ok() for found in described.get_all_operations()]
    # Operations that delete the resources of the others come last.
    operations.sort(key=lambda operation: operation.method.upper() == "DELETE")
    for operation, mode in itertools.product(operations, GenerationMode):
        _drive(operation, mode, things, EXAMPLES, lambda _case: None)
        if mode is GenerationMode.POSITIVE:
            _drive(operation, mode, things, AIMED_EXAMPLES, things.aim)

    for (method, path), seen in things.statuses.items():
        # Otherwise only refusals would have been tested.
        if path.startswith("/api/v1") and (method, path) not in NEVER_WELL:
            assert any(200 <= status < 300 for status in seen), (method, path, sorted(seen))


def _drive(
    operation: Any, mode: GenerationMode, things: Things, examples: int, change: Callable[[Any], None]
) -> None:
    strategy = operation.as_strategy(generation_mode=mode)
    seen = things.statuses[operation.method.upper(), operation.path]

    @given(case=strategy)
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    def send(case: Any) -> None:
        change(case)
        answer = case.call(headers=things.headers)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    try:
        send()
    except Unsatisfiable:
        # Operations that accept any input have no invalid input.
        assert mode is GenerationMode.NEGATIVE, operation.label


def test_no_operation_has_a_default_response(described: Any) -> None:
    for path, item in described.raw_schema["paths"].items():
        for method, operation in item.items():
            assert "default" not in operation["responses"], (method, path)
            assert {"401", "503"} <= set(operation["responses"]) or not path.startswith("/api/v1"), path
