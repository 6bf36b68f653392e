"""The compose files and `.env.example`: valid, hardened alike, and about settings that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from stenobird.cli import main
from stenobird.config import Settings
from tests.support.dockerfile import parse_dockerfile

ROOT = Path(__file__).parents[3]
FILES = ("compose.yaml", "compose.gpu.yaml", "compose.scale.yaml")
WHOLE = ("compose.yaml", "compose.scale.yaml")
DATA = "/var/lib/stenobird"


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe").load((ROOT / name).read_text(encoding="utf-8"))
    return document


SERVICES = {(name, service): body for name in WHOLE for service, body in load(name)["services"].items()}
OURS = {key: body for key, body in SERVICES.items() if "build" in body}


def each(services: dict[tuple[str, str], dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "service", services.values(), ids=[f"{file}-{name}" for file, name in services]
    )


def schema_check(path: Path) -> subprocess.CompletedProcess[str]:
    """Compare a file with the schema of the Compose Specification."""
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", FILES)
def test_it_follows_the_compose_specification(name: str) -> None:
    result = schema_check(ROOT / name)
    assert result.returncode == 0, result.stdout


def test_a_misspelt_key_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("services: {web: {image: stenobird, stop_grace: 45s}}")
    assert "stop_grace" in schema_check(path).stdout


@each(SERVICES)
def test_it_has_limits_and_no_privileges(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "pid", "network_mode", "devices"}
    limits = service["deploy"]["resources"]["limits"]
    assert limits.keys() >= {"memory", "pids"}


@each(SERVICES)
def test_it_restarts_and_has_a_health_check(service: dict[str, Any]) -> None:
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["healthcheck"].keys() >= {"interval", "timeout", "retries", "start_period"}


@each(SERVICES)
def test_its_image_is_pinned(service: dict[str, Any]) -> None:
    image = service["image"]
    assert re.fullmatch(r"[a-z]+(?:/[a-z]+)?:\d[\w.-]+|\$\{(CPU|CUDA)_IMAGE:-stenobird:(cpu|cuda)\}", image)


@each(SERVICES)
def test_it_waits_for_its_dependencies(service: dict[str, Any]) -> None:
    conditions = [need["condition"] for need in service.get("depends_on", {}).values()]
    assert set(conditions) <= {"service_healthy"}


@each(OURS)
def test_the_stop_timeout_is_longer_than_the_drain(service: dict[str, Any]) -> None:
    grace = int(re.fullmatch(r"(\d+)s", service["stop_grace_period"])[1])  # type: ignore[index]
    # Stopping the children and closing the database come after the drain.
    assert grace >= Settings.model_fields["grace_seconds"].default + 15


def test_the_proxy_stops_after_the_web_processes() -> None:
    services = load("compose.scale.yaml")["services"]
    assert int(services["proxy"]["stop_grace_period"][:-1]) > int(services["web"]["stop_grace_period"][:-1])


@each(OURS)
def test_its_command_exists(service: dict[str, Any]) -> None:
    for arguments in (service.get("command", ["serve"]), service["healthcheck"]["test"][2:]):
        result = CliRunner().invoke(main, [*arguments, "--help"])
        assert result.exit_code == 0, result.output
    assert service["healthcheck"]["test"][1] == "stenobird"


@each(OURS)
def test_its_writable_paths_are_volumes_of_the_image(service: dict[str, Any]) -> None:
    dockerfile = parse_dockerfile((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    target = service["build"]["target"]
    prepared = dockerfile.stage(f"{target}-base").one("RUN").split()
    mounted = [volume.rpartition(":")[2] for volume in service["volumes"]]
    assert {DATA, "/var/tmp"} <= set(mounted)
    assert [path for path in mounted if path.startswith(DATA) and path not in prepared] == []
    assert service["image"].endswith(f":{target}}}")


def test_named_volumes_and_networks_are_declared() -> None:
    for name in WHOLE:
        document = load(name)
        for service in document["services"].values():
            named = {volume.partition(":")[0] for volume in service.get("volumes", []) if ":" in volume}
            assert {volume for volume in named if volume[0] not in "./"} <= set(document["volumes"])
            assert set(service.get("networks", [])) <= set(document.get("networks", {}))


def test_spools_are_not_shared_and_uploads_are() -> None:
    """Each worker owns its spool folder; what a web process takes in, every worker has to hear."""
    services = load("compose.scale.yaml")["services"]
    for name in ("web", "worker", "worker-gpu"):
        assert DATA in services[name]["volumes"]
        assert f"uploads:{DATA}/uploads" in services[name]["volumes"]


def test_only_stenobird_can_reach_the_database() -> None:
    document = load("compose.scale.yaml")
    assert document["networks"]["back"]["internal"] is True
    for name in ("postgres", "valkey"):
        assert document["services"][name]["networks"] == ["back"]
        assert "ports" not in document["services"][name]


def test_files_mounted_from_the_repository_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.partition(":")[0]).is_file()


# --- settings


def example() -> dict[str, str]:
    """Return what `.env.example` would set if every line were uncommented."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", "\n".join(lines), re.MULTILINE))


def settings_among(names: set[str]) -> set[str]:
    return {name.removeprefix("STENOBIRD_").lower() for name in names if name.startswith("STENOBIRD_")}


def test_every_setting_in_the_example_exists_and_is_valid() -> None:
    values = {name.removeprefix("STENOBIRD_").lower(): value for name, value in example().items() if value}
    ours = {name: values[name] for name in settings_among(set(example())) if name in values}
    assert settings_among(set(example())) <= set(Settings.model_fields)
    Settings.model_validate(ours)


def test_the_example_changes_nothing_until_it_is_edited() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_the_compose_files_set_only_settings_that_exist() -> None:
    for name in FILES:
        for service in load(name)["services"].values():
            assert settings_among(set(service.get("environment", {}))) <= set(Settings.model_fields)


def test_every_variable_of_the_compose_files_is_in_the_example() -> None:
    used = {
        variable
        for name in FILES
        for variable in re.findall(r"\$\{([A-Z][A-Z0-9_]*)", (ROOT / name).read_text(encoding="utf-8"))
    }
    assert "POSTGRES_PASSWORD" in used
    assert used <= set(example())


def test_the_password_makes_the_database_url() -> None:
    url = load("compose.scale.yaml")["services"]["web"]["environment"]["STENOBIRD_DATABASE_URL"]
    default = re.sub(r"\$\{POSTGRES_PASSWORD:[^}]*\}", "secret", url)
    assert (
        default == "${STENOBIRD_DATABASE_URL:-postgresql+asyncpg://stenobird:secret@postgres:5432/stenobird}"
    )


@pytest.mark.skipif(
    shutil.which("caddy") is None, reason="THE CADDYFILE IS NOT CHECKED: caddy is not installed"
)
def test_caddy_accepts_its_file() -> None:
    result = subprocess.run(
        ["caddy", "validate", "--adapter", "caddyfile", "--config", ROOT / "deploy/Caddyfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
