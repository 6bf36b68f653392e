"""The document of a running service, as schemathesis checks responses with it."""

from __future__ import annotations

from typing import Any

import httpx
import schemathesis


def served_schema(url: str) -> Any:
    """Return the schema of the service at `url`, with the schema of one event as that of a stream.

    The document has it inside the schema of the stream, which schemathesis would take for that of each event.
    """
    document: dict[str, Any] = httpx.get(f"{url}/openapi.json", trust_env=False).json()
    for methods in document["paths"].values():
        for operation in methods.values():
            for answer in operation["responses"].values():
                content = answer.get("content", {}).get("text/event-stream")
                if content is not None:
                    content["schema"] = content["schema"]["contentSchema"]
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    return schema
