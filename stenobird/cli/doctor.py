"""`stenobird doctor`: every setting with its value, source and verdict, and checks of this machine."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import socket
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click
from dotenv import dotenv_values
from pydantic import SecretStr
from rich.console import Console

from stenobird.bootstrap import open_storage
from stenobird.children.confine import seccomp_available
from stenobird.cli.local import running_service
from stenobird.config import Settings
from stenobird.discovery.extractor.rung import extractor_status
from stenobird.errors import StenobirdError
from stenobird.inference.host import usable_cpus
from stenobird.inference.hub import ModelUnavailable
from stenobird.speakers import models as speaker_models
from stenobird.speech import models as speech_models
from stenobird.translation import models as translation_models

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Level = Literal["ok", "warning", "problem"]
_Checked: TypeAlias = tuple[str, Level, str]
"""The value, the verdict and the message of a check."""
STYLES: dict[Level, str] = {"warning": "yellow", "problem": "red"}
LOW_DISK_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `source` is where the value of a setting comes from."""

    name: str
    value: str
    source: str
    level: Level
    message: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(*, as_json: bool) -> None:
    """Check settings, folders, database and engine; exit status 1 if there is a problem."""
    settings = Settings()
    findings = [*setting_findings(settings), *machine_findings(settings)]
    failed = any(finding.level == "problem" for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in findings]}))
    else:
        _show(findings)
    sys.exit(1 if failed else 0)


def _show(findings: Sequence[Finding]) -> None:
    """Print one line per setting, then the machine, and at the end, where they are seen, the problems."""
    console = Console(soft_wrap=True, highlight=False)
    settings = [finding for finding in findings if finding.source != "machine"]
    width = max(len(finding.name) for finding in settings)
    for finding in settings:
        console.print(f"{finding.name:{width}}  {finding.value}  ({finding.source})", markup=False)
    console.print()
    for finding in findings:
        if finding.source == "machine" and finding.level == "ok":
            value = "" if finding.value == "-" else f"{finding.value}. "
            console.print(f"{finding.name}: {value}{finding.message}", markup=False)
    console.print()
    for level, style in STYLES.items():
        for finding in findings:
            if finding.level == level:
                console.print(f"[{style}]{level}[/] ", end="")
                console.print(f"{finding.name}={finding.value}: {finding.message}", markup=False)
    count = Counter(finding.level for finding in findings)
    console.print(f"Of {len(findings)} checks, problems: {count['problem']}, warnings: {count['warning']}.")


def setting_findings(settings: Settings) -> Iterator[Finding]:
    """Yield one finding per setting: value (secrets masked), source, verdict."""
    env_file = {key.upper() for key in dotenv_values(".env")}
    for name, field in Settings.model_fields.items():
        variable = f"STENOBIRD_{name.upper()}"
        if variable in os.environ:
            source = "environment"
        elif variable in env_file:
            source = ".env"
        else:
            source = "default"
        level, message = _verdict(name, settings)
        yield Finding(
            variable, _shown(getattr(settings, name)), source, level, message or str(field.description)
        )


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, frozenset | tuple):
        return ",".join(str(part) for part in sorted(value, key=str)) or "-"
    return str(value)


def _verdict(name: str, settings: Settings) -> tuple[Level, str]:
    if name == "data_dir":
        return _data_dir_verdict(settings.data_dir)
    value = getattr(settings, name)
    level: Level = "warning"
    message = ""
    match name:
        case "port" if value and not _port_free(settings.host, value):
            if (running := running_service(settings)) is not None and running.endswith(f":{value}"):
                return "ok", f"The service is running here: {running}."
            message = f"Port {value} is taken; stop what listens there or choose another port."
        case "host" if value not in {"127.0.0.1", "localhost", "::1"} and settings.public_url is None:
            message = "Reachable from other machines; set STENOBIRD_PUBLIC_URL so that links are correct."
        case "egress_allow" if value:
            message = "Outgoing requests may reach these networks; clients can read what listens there."
        case "egress_ports" if value is None:
            message = "Outgoing requests may use any port; 80,443,8000,8080,8443 is safer."
        case "model" if value.startswith((".", "/", "~")) and not _model_folder(value):
            level = "problem"
            message = f"{value} has no model.bin; use a CTranslate2 Whisper folder or a hub name."
    return (level, message) if message else ("ok", "")


def _port_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _model_folder(value: str) -> bool:
    return (Path(value).expanduser() / "model.bin").is_file()


def _data_dir_verdict(folder: Path) -> tuple[Level, str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".doctor-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return "problem", f"Can't be written ({error.strerror}); choose another STENOBIRD_DATA_DIR."
    free = shutil.disk_usage(folder).free
    if free < LOW_DISK_BYTES:
        return "warning", f"Only {free / 1024**3:.1f} GiB are free here; spools and models need more."
    return "ok", f"Writable, {free / 1024**3:.0f} GiB free."


def machine_findings(settings: Settings) -> Iterator[Finding]:
    """Yield the findings of the machine: database, models, cores, extractor, confinement."""
    for name, (value, level, message) in {
        "database": asyncio.run(_database(settings)),
        "speech engine": _engine(settings),
        "translator": _translator(settings.translation_model),
        "speaker models": _speakers(settings.speaker_model),
        "cpu cores": _cpus(settings.replicas),
        "yt-dlp": _extractor(),
        "confinement": _confinement(),
    }.items():
        yield Finding(name, value, "machine", level, message)


async def _database(settings: Settings) -> _Checked:
    kind = "PostgreSQL" if settings.database_url else "SQLite"
    try:
        async with open_storage(settings) as storage:
            counts = await storage.stores.jobs.counts()
    except StenobirdError as error:
        return kind, "problem", error.message
    return kind, "ok", f"Opens and is up to date; {sum(counts.values())} transcripts."


def _engine(settings: Settings) -> _Checked:
    offline = importlib.util.find_spec("pocketsphinx") is not None
    if settings.engine == "offline":
        if offline:
            return "offline", "warning", "pocketsphinx: rough text, English only."
        return "offline", "problem", "Install the extra: pip install 'stenobird[offline]'."
    device = "cuda" if settings.device == "cuda" else "cpu"
    try:
        files = speech_models.find_on_disk(settings.model, device=device)
    except ModelUnavailable as error:
        return settings.engine, "problem", str(error)
    if files is not None and files.fixture:
        message = "The bundled fixture model: it knows 178 words; for the demo and tests only."
        return files.name, "warning", message
    if files is not None:
        return f"whisper {files.name}", "ok", f"On disk in {files.folder}, from {files.source}."
    fallback = "; until then pocketsphinx serves previews" if offline and settings.engine == "auto" else ""
    message = (
        "The model is not on disk yet; it is downloaded when the service starts, from the hub or else from "
        f"the package index (see stenobird models list){fallback}."
    )
    return f"whisper {settings.model}", "warning", message


def _translator(model: str) -> _Checked:
    if not model:
        return "-", "ok", "None: translate_to_hebrew is refused. See docs/how-to/translation.md."
    try:
        folder = translation_models.find_on_disk(model)
    except ModelUnavailable as error:
        return model, "problem", str(error)
    if folder is None:
        message = "The model is not on disk yet; it is downloaded from the hub when the service starts."
        return model, "warning", message
    return model, "ok", f"On disk in {folder}."


def _speakers(model: str) -> _Checked:
    if not model:
        return "-", "ok", "None: speakers is refused. See docs/how-to/speakers.md."
    folder = speaker_models.find_on_disk(model)
    if folder is not None:
        return model, "ok", f"On disk in {folder}."
    if model == "auto":
        message = "Not on disk yet; downloaded from the package index when the service starts."
        return model, "warning", message
    return model, "problem", "The folder lacks a model; see docs/how-to/speakers.md, or set it to auto."


def _cpus(wanted: int | None) -> _Checked:
    cores = usable_cpus()
    if wanted is not None and wanted > cores:
        message = f"STENOBIRD_REPLICAS={wanted} is more than the {cores} cores this process may use."
        return str(cores), "warning", message
    return str(cores), "ok", "From the affinity mask and the cgroup's quota."


def _extractor() -> _Checked:
    version, advice = extractor_status(datetime.now(UTC).date())
    message = advice or "Finds audio on video platforms; update it when a site stops working."
    return version or "-", "warning" if advice else "ok", message


def _confinement() -> _Checked:
    if seccomp_available():
        return "seccomp", "ok", "Children make only the system calls that their kind needs."
    message = (
        "seccomp is not available on this kernel, architecture or container: hostile media that takes over a"
        " child can make any system call. Its limits and its environment without secrets remain."
    )
    return "limits only", "warning", message
