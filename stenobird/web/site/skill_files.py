"""`/skills/stenobird-transcribe/…` and `/llms.txt`, with the address of this service."""

from __future__ import annotations

import hashlib
import re
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

import stenobird
from stenobird.errors import NotFound
from stenobird.web.openapi import SERVICE, TEXT, Answer, Operation, path
from stenobird.web.openapi.document import PUBLIC_ADDRESS
from stenobird.web.requests import base_url_of
from stenobird.web.routing import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

SKILL: Final = "stenobird-transcribe"
INSTALLER: Final = "install.sh"
CHECKSUMS: Final = "SHA256SUMS"
SKILL_FILES: Final = ("SKILL.md", "agents/openai.yaml", "scripts/transcribe.sh")
"""The files to install, in the order of their checksums."""

LLMS_FILE: Final = Path(__file__).parent / "llms.txt"
_Operation = partial(Operation, SERVICE)

# The address is put into shell scripts and YAML, so it must not contain their syntax.
_PLAIN_ADDRESS: Final = re.compile(r"https?://[A-Za-z0-9.\-_:\[\]/~%]+")
# A caching proxy must not give one host's address to another host's client.
_HEADERS: Final = {"Cache-Control": "no-cache", "Vary": "Host, X-Forwarded-Host, X-Forwarded-Proto"}


@cache
def _source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def skills_folder() -> Path:
    """Return the folder of the skills: inside an installed package, beside the package in a checkout."""
    package = Path(stenobird.__file__).parent
    installed = package / "skills"
    return installed if installed.is_dir() else package.parent / "skills"


def skill_files(base_url: str) -> Mapping[str, bytes]:
    """Return all served files by name, with the address replaced, and the checksums of these files."""
    served = {
        name: _source(skills_folder() / SKILL / name).replace(PUBLIC_ADDRESS, base_url).encode()
        for name in (INSTALLER, *SKILL_FILES)
    }
    sums = [f"{hashlib.sha256(served[name]).hexdigest()}  {name}\n" for name in SKILL_FILES]
    return {**served, CHECKSUMS: "".join(sums).encode()}


@_Operation(
    "Get a file of the agent skill",
    {
        200: Answer(
            "The file, with this service's address.",
            {**TEXT, "text/markdown": {"schema": {"type": "string"}}},
        )
    },
    (NotFound,),
    parameters=[path("name", "install.sh, SHA256SUMS, SKILL.md or scripts/transcribe.sh.")],
)
async def skill_file(request: Request) -> Response:
    """Return a file of the agent skill, with the address of this service in it."""
    content = skill_files(_address(request)).get(request.path_params["name"])
    if content is None:
        raise NotFound
    kind = "text/markdown" if request.path_params["name"].endswith(".md") else "text/plain"
    return Response(content, headers={**_HEADERS, "Content-Type": f"{kind}; charset=utf-8"})


@_Operation("Get instructions for agents", {200: Answer("The instructions.", TEXT)})
async def llms(request: Request) -> Response:
    """Return `llms.txt`, which tells language models how to use this service."""
    text = _source(LLMS_FILE).replace(PUBLIC_ADDRESS, _address(request))
    return Response(text, headers={**_HEADERS, "Content-Type": "text/plain; charset=utf-8"})


def _address(request: Request) -> str:
    address = base_url_of(request)
    return address if _PLAIN_ADDRESS.fullmatch(address) else PUBLIC_ADDRESS


ENDPOINTS: Final = (
    Endpoint("GET", "/llms.txt", llms, key="none"),
    Endpoint("GET", f"/skills/{SKILL}/{{name:path}}", skill_file, key="none"),
)
