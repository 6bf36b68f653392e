"""SKILL.md keeps to the Agent Skills specification and has what each agent reads beyond it."""

from __future__ import annotations

import re
from typing import Any

import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from stenobird.web.site.skill_files import SKILL, skills_folder

FOLDER = skills_folder() / SKILL
# What the specification names, then what Claude Code, Hermes and OpenClaw add; all of them skip what they
# don't know.
STANDARD = {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}
ADDED = {"version", "homepage", "argument-hint", "platforms", "required_environment_variables"}


def _read() -> tuple[dict[str, Any], str]:
    _, front, body = (FOLDER / "SKILL.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


def test_frontmatter_keeps_to_the_limits_of_the_specification() -> None:
    fields, body = _read()
    assert fields.keys() <= STANDARD | ADDED
    assert fields["name"] == FOLDER.name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", fields["name"])
    assert len(fields["name"]) <= 64
    assert 1 <= len(fields["description"]) <= 1024
    # Some agents put it into a prompt between tags.
    assert not set("<>") & set(fields["description"])
    assert 1 <= len(fields["compatibility"]) <= 500
    assert body.count("\n") < 500


def test_every_file_that_the_instructions_name_is_there() -> None:
    _, body = _read()
    named = set(re.findall(r"scripts/[a-z.]+", body))
    assert named
    assert all((FOLDER / name).is_file() for name in named)


def test_key_reaches_the_script_in_hermes_and_openclaw() -> None:
    fields, _ = _read()
    # Hermes hands a sandbox only the variables that a skill declares; optional ones don't ask the user.
    declared = {each["name"]: each["optional"] for each in fields["required_environment_variables"]}
    assert declared == {"STENOBIRD_API_KEY": True, "STENOBIRD_API_URL": True}
    openclaw = fields["metadata"]["openclaw"]
    assert openclaw["primaryEnv"] == "STENOBIRD_API_KEY"
    # "requires.env" would hide the skill from everybody without a key.
    assert openclaw["requires"] == {"bins": ["curl"]}


def test_codex_finds_its_interface() -> None:
    interface = yaml.safe_load((FOLDER / "agents" / "openai.yaml").read_text())["interface"]
    assert 25 <= len(interface["short_description"]) <= 64
    assert f"${SKILL}" in interface["default_prompt"]
