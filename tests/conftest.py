"""Fixtures that every test area shares."""

from __future__ import annotations

import functools
import gc
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx._config
import httpx._transports.default
import hypothesis
import pytest

if TYPE_CHECKING:
    import ssl

DATA = Path(__file__).parent / "data"

MEMORY_BYTES = 4 << 30
"""More than the tests' files take at once; folders of tests that passed are removed."""


def pytest_configure(config: pytest.Config) -> None:
    """Collect no garbage while tests are: what is made then lives to the end."""
    gc.disable()
    share_certificates()
    be_patient()
    keep_files_in_memory()
    if not config.getoption("--hypothesis-profile"):
        generate_the_same_examples()


def generate_the_same_examples() -> None:
    """Let Hypothesis generate the same examples in each run, however long a busy machine takes for one.

    `--hypothesis-profile default` generates others.
    """
    hypothesis.settings.register_profile(
        "tests", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("tests")


def share_certificates() -> None:
    """Read the certificates that HTTP clients trust once a process: it takes longer than most tests."""
    transports: Any = httpx._transports.default
    read = transports.create_ssl_context
    read_once = functools.cache(read)

    def create_ssl_context(*, trust_env: bool = True, **options: Any) -> ssl.SSLContext:
        named = trust_env and not os.environ.keys().isdisjoint(("SSL_CERT_FILE", "SSL_CERT_DIR"))
        usual = options in ({"verify": True, "cert": None}, {"verify": True}) and not named
        context: ssl.SSLContext = read_once() if usual else read(trust_env=trust_env, **options)
        return context

    transports.create_ssl_context = create_ssl_context


def be_patient() -> None:
    """Let requests of HTTP clients that have no timeout of their own take long: cores may be busy."""
    default: Any = httpx._config.DEFAULT_TIMEOUT_CONFIG
    default.connect = default.read = default.write = default.pool = 180.0


def keep_files_in_memory() -> None:
    """Put temporary files into memory where it has room: SQLite waits for a disk at each commit."""
    memory = Path("/dev/shm")
    if "TMPDIR" in os.environ or not memory.is_dir():
        return
    facts = os.statvfs(memory)
    if facts.f_bavail * facts.f_frsize >= MEMORY_BYTES and not facts.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = str(memory)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pytest's workers begin with the files that have slow tests: at the end they would work alone."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but never look at what was made before."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run in which nothing may be skipped, but something was: `.ci/run` sets the variable."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [str(report.longrepr) for report in reporter.stats.get("skipped", [])] if reporter else []
    # The published contracts are not part of the repository, so a clone elsewhere may lack them.
    missed = [reason for reason in skipped if "NOT TESTED AGAINST THE SPEC" not in reason]
    if os.environ.get("STENOBIRD_TESTS_NO_SKIP") and missed and exitstatus == 0:
        session.exitstatus = 1
        print(f"\n{len(missed)} skipped, and STENOBIRD_TESTS_NO_SKIP is set:", *missed, sep="\n  ")  # noqa: T201


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the service does, those with a module's fixture on one loop."""
    return "asyncio"


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of spoken clips with their texts (`short`, 21 s; `long`, 3 min)."""
    return DATA / "clips"


@pytest.fixture(scope="session")
def fixture_model() -> Path:
    """The folder of the small Whisper-format model that knows 178 words."""
    import stenobird.demo  # noqa: PLC0415  # the package is looked up only when a test needs it

    return Path(stenobird.demo.__file__).parent / "model"


@pytest.fixture(scope="session")
def tiny_en() -> Path:
    """The folder of tiny.en, a real model, downloaded once into the user's cache."""
    from stenobird.inference.hub import ModelUnavailable  # noqa: PLC0415  # loads the engine's libraries
    from stenobird.speech.models import resolve  # noqa: PLC0415

    try:
        return resolve("tiny.en", device="cpu", cache_dir=None, progress=lambda *_: None).folder
    except ModelUnavailable as error:
        pytest.skip(f"NOT TESTED WITH A REAL MODEL: {error}")
