"""docs/reference/errors.md: every code with its status, meaning and remedy, from the tree of errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stenobird import errors
from stenobird.web.alefbot.schemas import OWN_CODES, ScopeViolation
from tools.reference.markdown import generated, table, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stenobird.errors import StenobirdError

REMEDIES: Final[Mapping[str, str]] = {
    "invalid_request": "Correct the body as the message says.",
    "validation_error": "Correct what `details` names.",
    "invalid_api_key_mode": "Send the key exactly as it was shown.",
    "unsupported_url": "Send a public page or feed with audio, or the direct audio URL.",
}
"""Remedies for errors whose message is fixed by the contract and names none."""

INTERNAL: Final = (errors.EgressError, errors.LeaseLost, errors.ConfigurationError)
"""Errors that no client sees."""


_INTRODUCTION: Final = """
Every error has a stable code, and a message that says what happened and what to do. Let programs use the
code, and show the message to people: its wording may change.
"""

_FAILED: Final = """
## When a transcript fails

These happen after `POST` answered 202. The event stream ends with `error` and `done`, the status is
`failed`, and `result_url` answers 422 with the same body. Nothing is billed.
"""

_BODIES: Final = """
## Error bodies

`/v1` has flat bodies. If waiting helps, they contain `retry_after_seconds`, and the header `Retry-After` is
set. Errors about a URL add `accepted_url_examples` and `unsupported_url_examples`.

```json
{"error": "queue_busy", "message": "The queue is full. …", "retry_after_seconds": 5}
```

`/api/v1` has nested bodies, with the request id to quote in support requests:

```json
{"error": {"code": "rate_limit_exceeded", "message": "…", "request_id": "…", "details": {"…": 12}}}
```

`/v1/audio` has OpenAI's form: `{"error": {"message", "type", "param", "code"}}`.
"""


def errors_page(*, of_operators: bool = True) -> str:
    """Return the page, with or without the errors that only operators and Stripe see."""
    requests = sorted(_tree(errors.RequestError), key=lambda kind: (kind.http_status, kind.code))
    if not of_operators:
        requests.remove(errors.InvalidSignature)
    others = [errors.StorageUnavailable, errors.StenobirdError]
    head = ("Code", "Status", "What it means", "What to do", "Retry")
    return generated(
        "Errors",
        _INTRODUCTION,
        "## When a request is refused\n\nThese are the answer to the request itself.",
        table(head, (_row(kind) for kind in [*requests, *others])),
        _FAILED,
        table(
            ("Code", "What it means", "What to do"),
            ([_code(kind), *_sentences(kind)] for kind in _tree(errors.JobError)),
        ),
        _BODIES,
        "## AlefBot codes\n\n`/api/v1` uses the codes above, except for these:",
        table(("At `/v1`", "At `/api/v1`", "Status", "When"), _differences()),
    )


def _differences() -> Iterator[list[str]]:
    own: list[tuple[type[StenobirdError], tuple[str, int]]] = [
        *OWN_CODES.items(),
        (errors.ReadOnlyKey, (ScopeViolation.code, ScopeViolation.http_status)),
        (errors.CompressedRequest, (errors.ValidationFailed.code, errors.CompressedRequest.http_status)),
    ]
    for kind, (code, status) in sorted(own, key=lambda item: item[1]):
        when = ScopeViolation if code == ScopeViolation.code else kind
        yield [_code(kind), f"`{code}`", str(status), _sentences(when)[0]]


def _tree(top: type[StenobirdError]) -> Iterator[type[StenobirdError]]:
    """Yield the classes of errors.py from `top` down that define a code or a status, each pair once."""
    codes: set[tuple[str, int]] = set()
    waiting = [top]
    while waiting:
        kind = waiting.pop(0)
        waiting += [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
        defines = {"code", "http_status"} & vars(kind).keys()
        if issubclass(kind, INTERNAL) or not defines or kind is errors.JobError:
            continue
        if (pair := (kind.code, kind.http_status)) not in codes:
            codes.add(pair)
            yield kind


def _row(kind: type[StenobirdError]) -> list[str]:
    meaning, remedy = _sentences(kind)
    return [_code(kind), str(kind.http_status), meaning, remedy, "yes" if kind.retryable else ""]


def _code(kind: type[StenobirdError]) -> str:
    return f"`{kind.code}`"


def _sentences(kind: type[StenobirdError]) -> tuple[str, str]:
    """Return the first sentence of an error's message, and the rest: what happened, what to do."""
    meaning, _, remedy = kind().message.partition(". ")
    code = OWN_CODES[kind][0] if kind in OWN_CODES and "code" not in vars(kind) else kind.code
    remedy = remedy or REMEDIES.get(code, "")
    assert remedy, f"{kind.__name__} states no remedy: say it in its docstring, or in REMEDIES"
    return text(meaning.removesuffix(".") + "."), text(remedy)
