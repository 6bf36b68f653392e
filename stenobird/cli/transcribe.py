"""`stenobird transcribe`: one link or file to text, on this machine or through a service elsewhere."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import sys
import tempfile
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from stenobird.bootstrap import open_storage
from stenobird.cli.live import LiveTranscript
from stenobird.cli.local import local_client, local_service, running_service, serve_file
from stenobird.client import AsyncStenobirdClient, ErrorEvent, TranscriptOptions
from stenobird.config import Settings
from stenobird.errors import InvalidRequest, StenobirdError
from stenobird.logs import configure_logging
from stenobird.serving import until_signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INTERRUPTED_STATUS = 130
"""What shells expect of a command that Ctrl-C ended."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asked for. `resume` is the id of a job to come back to, instead of a source."""

    source: str | None
    resume: str | None
    api: str | None
    api_key: str | None
    format_name: str
    options: TranscriptOptions


@dataclass
class Outcome:
    """How it went: the document in the format asked for, or why there is none."""

    job_id: str | None = None
    document: bytes | None = None
    failure: StenobirdError | None = None
    interrupted: bool = False


@click.command()
@click.argument("source", metavar="URL|FILE", required=False)
@click.option("--api", envvar="STENOBIRD_API_URL", help="A service elsewhere; without it this machine works.")
@click.option(
    "--key", envvar="STENOBIRD_API_KEY", help="API key for --api; without one: a preview. Better not typed."
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["txt", "json", "srt", "vtt", "docx"]),
    default="txt",
    show_default=True,
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Instead of the screen."
)
@click.option("--language", help="ISO 639-1 code of what is spoken; detected where left out.")
@click.option("--prompt", help="Names and terms that are likely to be spoken.")
@click.option("--words", is_flag=True, help="Times for each word, in json.")
@click.option("--translate", is_flag=True, help="Write English, whatever is spoken.")
@click.option("--resume", metavar="ID", help="Come back to a job that was left running.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing but the result.")
def transcribe(source: str | None, output: Path | None, *, quiet: bool, **choices: Any) -> None:
    """Transcribe URL|FILE; words appear as they are heard, the whole text at the end.

    Ctrl-C leaves the job where it is and says how to come back to it.
    """
    if (source is None) == (choices["resume"] is None):
        raise click.UsageError("Give a URL or a file, or --resume with the id of a job.")
    # Before anything is heard, or paid for.
    if output is not None:
        _check_output(output)
    elif choices["format_name"] == "docx" and sys.stdout.isatty():
        raise click.UsageError("A docx needs -o FILE.docx.")
    wish = Wish(
        source=source,
        resume=choices["resume"],
        api=choices["api"],
        api_key=choices["key"],
        format_name=choices["format_name"],
        options=TranscriptOptions(
            language=choices["language"],
            prompt=choices["prompt"],
            word_timestamps=choices["words"] or None,
            task="translate" if choices["translate"] else None,
        ),
    )
    settings = Settings(log_level="warning")
    configure_logging(settings)
    with LiveTranscript(quiet=quiet) as live:
        outcome = asyncio.run(_transcribe(wish, settings, live))
    _finish(wish, outcome, output)


def _finish(wish: Wish, outcome: Outcome, output: Path | None) -> None:
    if outcome.interrupted:
        elsewhere = f"--api {wish.api} " if wish.api else ""
        state = "goes on" if wish.api else "is kept"
        if outcome.job_id is not None:
            click.echo(
                f"\nThe job {state}. Come back to it with: "
                f"stenobird transcribe {elsewhere}--resume {outcome.job_id}",
                err=True,
            )
        sys.exit(INTERRUPTED_STATUS)
    if outcome.failure is not None:
        raise outcome.failure
    if outcome.document is None:
        return
    if output is not None:
        try:
            _write_whole(output, outcome.document)
        except OSError as exc:
            raise click.FileError(
                str(output), f"{exc.strerror}. The transcript is kept: --resume {outcome.job_id} -o ELSEWHERE"
            ) from exc
        click.echo(f"Saved {output}.", err=True)
    else:
        # As it is: the terminal's encoding may lack letters that the transcript has.
        click.echo(outcome.document, nl=wish.format_name == "json")


def _check_output(output: Path) -> None:
    folder = output.parent
    if not folder.is_dir():
        raise click.FileError(str(output), f"there is no folder {folder}")
    if not os.access(output if output.exists() else folder, os.W_OK):
        raise click.FileError(str(output), "it can't be written")


def _write_whole(output: Path, document: bytes) -> None:
    """Write a file whole or not at all; a link, or what is no ordinary file, stays what it is."""
    if output.is_symlink() or (output.exists() and not output.is_file()):
        output.write_bytes(document)
        return
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        part.write_bytes(document)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


async def _transcribe(wish: Wish, settings: Settings, live: LiveTranscript) -> Outcome:
    outcome = Outcome()
    async with AsyncExitStack() as stack:
        stopped = await stack.enter_async_context(until_signal())
        place = await _place(wish, settings, stack)
        make = local_client if wish.api is None else AsyncStenobirdClient
        client = await stack.enter_async_context(make(place.api, api_key=place.api_key))
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(_follow(client, place, wish, live, outcome))
            stopping = tasks.create_task(stopped.wait())
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            outcome.interrupted = not following.done()
            following.cancel()
            stopping.cancel()
    return outcome


@dataclass(frozen=True, slots=True)
class Place:
    """Where the work is done: a service, a key for it, and the URL under which it finds the audio.

    A `file` has to be sent there first.
    """

    api: str
    api_key: str | None
    audio_url: str | None
    file: Path | None = None


async def _place(wish: Wish, settings: Settings, stack: AsyncExitStack) -> Place:
    file = _file(wish.source)
    if wish.api is not None:
        return Place(wish.api, wish.api_key, wish.source if file is None else None, file)
    audio_url = wish.source
    if file is not None:
        path = "/" + quote(file.name)
        audio_url = stack.enter_context(serve_file(file, path))
        loopback = ipaddress.ip_network("127.0.0.1/32")
        settings = settings.model_copy(
            update={"egress_allow": (*settings.egress_allow, loopback), "egress_ports": None}
        )
    running = running_service(settings)
    if running is not None and file is None:
        key = await stack.enter_async_context(_borrowed_key(settings))
        return Place(running, key, audio_url)
    if running is not None:
        # The running service must not be made to read loopback, so a file gets a service of its own.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="stenobird-"))
        settings = settings.model_copy(update={"data_dir": Path(folder), "database_url": None})
    service = await stack.enter_async_context(local_service(settings, key_name="stenobird transcribe"))
    return Place(service.url, service.api_key, audio_url)


def _file(source: str | None) -> Path | None:
    if source is None or "://" in source:
        return None
    path = Path(source).expanduser()
    if not path.is_file():
        raise InvalidRequest(f"{source} is neither a URL (https://…) nor a file.")
    return path


@asynccontextmanager
async def _borrowed_key(settings: Settings) -> AsyncIterator[str]:
    async with open_storage(settings) as storage:
        secret, record = await storage.keys.create(name="stenobird transcribe")
        try:
            yield secret
        finally:
            await storage.keys.revoke(record.id)


async def _follow(
    client: AsyncStenobirdClient, place: Place, wish: Wish, live: LiveTranscript, outcome: Outcome
) -> None:
    """Follow the job to its end and fetch its document; what went wrong is kept, not raised."""
    try:
        if wish.resume is not None:
            outcome.job_id = wish.resume
        else:
            source = place.audio_url
            if place.file is not None:
                source = await client.upload(place.file)
            assert source is not None
            outcome.job_id = (await client.create(source, wish.options)).id
        async with aclosing(client.resume(outcome.job_id)) as events:
            async for event in events:
                live.show(event)
                if isinstance(event, ErrorEvent):
                    outcome.failure = event.error
        if outcome.failure is None:
            outcome.document = await client.document(outcome.job_id, wish.format_name)
    except StenobirdError as error:
        outcome.failure = error
