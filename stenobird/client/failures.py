"""Turns error bodies into the exceptions that the server raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stenobird import errors
from stenobird.errors import StenobirdError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_WRITTEN_BY_THE_CLASS = frozenset(
    {
        "error",
        "message",
        "id",
        "status",
        "retry_after_seconds",
        "accepted_url_examples",
        "unsupported_url_examples",
    }
)


class ServiceUnreachable(StenobirdError):
    """The Stenobird service does not answer. Check its address and the network; "resume" continues a job."""

    code = "service_unreachable"
    http_status = 503
    retryable = True


class ServiceError(StenobirdError):
    """The service answered in a way this client does not know. Update the client, or tell the operator.

    `code` and `http_status` are those of the answer.
    """

    code = "service_error"


def unreachable(reason: str, **details: Any) -> ServiceUnreachable:
    """Return the error for a failed connection; `reason` is the library's message."""
    why = f" ({reason})" if reason else ""
    return ServiceUnreachable(
        f"The Stenobird service does not answer{why}. Check its address and the network; "
        '"resume" continues a job.',
        details={"reason": reason, **details},
    )


def error_from_body(
    body: Mapping[str, Any], http_status: int, *, retry_after_seconds: float | None = None
) -> StenobirdError:
    """Return the exception for a flat error body; an unknown code becomes a `ServiceError` with that code."""
    code = str(body.get("error") or "service_error")
    cls = _classes_by_code().get(code)
    if cls is None:
        cls = type("ServiceError", (ServiceError,), {"code": code, "http_status": http_status})
    message = body.get("message")
    waiting = body.get("retry_after_seconds", retry_after_seconds)
    return cls(
        message if isinstance(message, str) else None,
        details={name: value for name, value in body.items() if name not in _WRITTEN_BY_THE_CLASS},
        retry_after_seconds=float(waiting) if isinstance(waiting, int | float) else None,
    )


def _classes_by_code() -> dict[str, type[StenobirdError]]:
    # A code means the class that defines it, not those that inherit it. `JobError` and its subclass
    # `TranscriptionFailed` define the same code; the subclass comes last and wins. Subclasses in other
    # modules are internal to the server.
    families = (errors.RequestError, errors.JobError)
    return {
        cls.code: cls
        for family in families
        for cls in _family(family)
        if cls.__module__ == errors.__name__ and "code" in vars(cls)
    }


def _family(cls: type[StenobirdError]) -> Iterator[type[StenobirdError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)
