"""A resolver whose answers are a script, so that a test can rebind a name between two look-ups."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.egress.policy import IPAddress

Answer: TypeAlias = "Sequence[str] | Exception"
"""The addresses of one look-up, or the error that it ends with."""


class FakeResolver:
    """Answers look-ups from a script; satisfies `egress.policy.Resolver`.

    Each name has a list of answers: the first look-up gets the first, and the last is repeated. A name that
    is not in the script does not exist. `calls` holds the names in the order in which they were looked up.
    """

    def __init__(self, script: Mapping[str, Sequence[Answer]]) -> None:
        self._script = {name: list(answers) for name, answers in script.items()}
        self.calls: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[IPAddress]:
        """Return the next scripted answer for the name; the port makes no difference."""
        del port
        self.calls.append(host)
        answers = self._script.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [ipaddress.ip_address(text) for text in answer]

    async def aclose(self) -> None:
        """Nothing is held."""
