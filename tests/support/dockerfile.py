"""A Dockerfile, parsed as far as tests ask: stages and their instructions, continued lines joined."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Stage:
    """One `FROM` and the instructions after it, as `(name, arguments)`, without comments."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """Return the arguments of every such instruction."""
        return [arguments for name, arguments in self.instructions if name == instruction]

    def one(self, instruction: str) -> str:
        """Return the arguments of the only such instruction. Raises `ValueError` for none or several."""
        (arguments,) = self.all(instruction)
        return arguments

    @property
    def environment(self) -> dict[str, str]:
        """What `ENV` sets."""
        return dict(pair.split("=", 1) for line in self.all("ENV") for pair in line.split())


@dataclass
class Dockerfile:
    """The defaults of the `ARG`s before the first stage, and the stages in order."""

    arguments: dict[str, str]
    stages: list[Stage]

    def stage(self, name: str) -> Stage:
        """Return the stage of this name."""
        (stage,) = (stage for stage in self.stages if stage.name == name)
        return stage


def parse_dockerfile(text: str) -> Dockerfile:
    """Return what the text says. Understands one instruction a line, no heredocs, no escape directive."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name))
        elif instruction and stages:
            stages[-1].instructions.append((instruction, rest.strip()))
        elif instruction == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
    return Dockerfile(arguments, stages)
