"""`stenobird transcribe`: one link or file to text, on this machine or through another service."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from stenobird.bootstrap import open_storage
from stenobird.cli.local import borrowed_key, local_client, local_service, running_service
from stenobird.cli.output import LiveTranscript, writable_file
from stenobird.client import AsyncStenobirdClient, ErrorEvent, Job, StatusEvent, TranscriptOptions
from stenobird.config import Settings
from stenobird.errors import EmptyUploadBody, InvalidRequest, StenobirdError, TranscriptCancelled
from stenobird.jobs.schemas import MAX_SPEAKERS
from stenobird.logs import configure_logging
from stenobird.serving import until_signal

_KEY_NAME = "stenobird transcribe"
INTERRUPTED_STATUS = 130
"""The exit status that shells expect after Ctrl-C."""


@dataclass(slots=True, kw_only=True)
class _Run:
    """What the command was asked. `source` is `None` if it continues the job `job_id`."""

    source: str | None
    job_id: str | None
    api: str | None
    api_key: str | None
    format_name: str
    options: TranscriptOptions
    live: bool
    """Whether the audio is live: at first what the user says, then what the service found."""
    text_out: bool
    """Whether the text goes to standard output as it comes, and not at the end."""


@click.command()
@click.argument("source", metavar="URL|FILE", required=False)
@click.option(
    "--api", envvar="STENOBIRD_API_URL", help="Use this service; without it, this machine transcribes."
)
@click.option(
    "--key",
    envvar="STENOBIRD_API_KEY",
    help="API key for --api; without one, a preview. Prefer the environment variable.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["txt", "json", "srt", "vtt", "docx"]),
    default="txt",
    show_default=True,
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=writable_file,
    help="Write to this file instead of standard output.",
)
@click.option("--language", help="The spoken language: en, en-US, English; detected if omitted.")
@click.option("--prompt", help="Names and terms that are likely to be spoken.")
@click.option(
    "--keyword", "keywords", multiple=True, metavar="NAME", help="Spell a name this way; repeatable."
)
@click.option("--words", "word_timestamps", is_flag=True, help="Include the times of each word (json).")
@click.option("--translate", "task", flag_value="translate", help="Translate into English.")
@click.option("--speakers", is_flag=True, help="Say who speaks: Speaker 1, Speaker 2, …")
@click.option("--min-speakers", type=click.IntRange(1, MAX_SPEAKERS), help="The least number of speakers.")
@click.option("--max-speakers", type=click.IntRange(1, MAX_SPEAKERS), help="The greatest number of speakers.")
@click.option("--live", is_flag=True, help="Print the text as it comes; meant for live audio.")
@click.option(
    "--minutes",
    "max_minutes",
    type=click.IntRange(1),
    help="When to stop if the audio is live; default: 60.",
)
@click.option("--resume", metavar="ID", help="Continue with a job that was left running.")
@click.option("-q", "--quiet", is_flag=True, help="Show only the result.")
def transcribe(  # noqa: PLR0913  # click passes them by name
    source: str | None,
    output: Path | None,
    *,
    api: str | None,
    key: str | None,
    resume: str | None,
    format_name: str,
    live: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Transcribe URL|FILE: show the words as they are recognized, and the whole text at the end.

    Ctrl-C leaves the job as it is and prints how to continue it. Live audio is stopped there, and the text so
    far is kept; a second Ctrl-C does not wait for the last words.
    """
    if (source is None) == (resume is None):
        raise click.UsageError("Give a URL or a file, or --resume with the id of a job.")
    # Before anything is transcribed or paid for.
    if output is None and format_name == "docx" and sys.stdout.isatty():
        raise click.UsageError("A docx needs -o FILE.docx.")
    run = _Run(
        source=source,
        job_id=resume,
        api=api,
        api_key=key,
        format_name=format_name,
        options=TranscriptOptions(**{name: value or None for name, value in options.items()}),
        live=live,
        text_out=live and output is None and format_name == "txt",
    )
    settings = Settings(log_level="warning")
    if resume is None:
        # The models are loaded for those jobs only that need them.
        model = (settings.speaker_model or "auto") if options["speakers"] else ""
        settings = settings.model_copy(update={"speaker_model": model})
    configure_logging(settings)
    with LiveTranscript(quiet=quiet, text_out=run.text_out) as shown:
        ended = asyncio.run(_transcribe(run, settings, shown))
    if isinstance(ended, StenobirdError):
        raise ended
    if ended is None:
        if run.job_id is not None:
            state, elsewhere = ("goes on", f"--api {api} ") if api else ("is kept", "")
            click.echo(
                f"\nThe job {state}. Continue with: stenobird transcribe {elsewhere}--resume {run.job_id}",
                err=True,
            )
        sys.exit(INTERRUPTED_STATUS)
    if output is not None:
        _save(output, ended, run)
    elif not run.text_out:
        # As bytes: the terminal's encoding may lack letters that the transcript has.
        click.echo(ended, nl=format_name == "json")


def _save(output: Path, document: bytes, run: _Run) -> None:
    try:
        _write_whole(output, document)
    except OSError as exc:
        raise InvalidRequest(
            f"{output} can't be written ({exc.strerror}). The transcript is kept: --resume {run.job_id} "
            "-o ELSEWHERE"
        ) from exc
    click.echo(f"Saved {output}.", err=True)


def _write_whole(output: Path, document: bytes) -> None:
    """Write the whole file or nothing. Symbolic links and special files are written to directly."""
    if output.is_symlink() or (output.exists() and not output.is_file()):
        output.write_bytes(document)
        return
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        part.write_bytes(document)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


async def _transcribe(run: _Run, settings: Settings, shown: LiveTranscript) -> bytes | StenobirdError | None:
    """Return the document or the error that the job ended with, `None` if the user left it."""
    async with AsyncExitStack() as stack:
        stopped = await stack.enter_async_context(until_signal())
        source = _file(run.source) or escaped(run.source)
        api, api_key = await _open_target(run, settings, stack)
        make = local_client if run.api is None else AsyncStenobirdClient
        client = await stack.enter_async_context(make(api, api_key=api_key))
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(_follow(client, source, run, shown))
            stopping = tasks.create_task(stopped.wait())
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            ended: bytes | StenobirdError | None = None
            if run.live and not following.done() and (job := await _stop(client, run)) is not None:
                if run.api is not None and job.body.get("cancel_requested") and not job.body.get("source"):
                    # The service cancels it before any audio was found: nothing is to come.
                    ended = TranscriptCancelled()
                else:
                    stopped.clear()
                    stopping = tasks.create_task(stopped.wait())
                    await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if ended is None and following.done():
                ended = following.result()
            following.cancel()
            stopping.cancel()
    return ended


async def _stop(client: AsyncStenobirdClient, run: _Run) -> Job | None:
    """Stop the job and return its state, `None` where that could not be done."""
    if run.job_id is None:
        return None
    try:
        return await client.stop(run.job_id)
    except StenobirdError as error:
        click.echo(error.message, err=True)
        return None


async def _open_target(run: _Run, settings: Settings, stack: AsyncExitStack) -> tuple[str, str | None]:
    """Return the service that transcribes, and a key for it: `--api`, else the one on this machine."""
    if run.api is not None:
        return run.api, run.api_key
    running = running_service(settings)
    if running is not None:
        storage = await stack.enter_async_context(open_storage(settings))
        return running, await stack.enter_async_context(borrowed_key(storage.keys, _KEY_NAME))
    return await stack.enter_async_context(local_service(settings, key_name=_KEY_NAME))


def escaped(url: str | None) -> str | None:
    """Percent-encode what is not UTF-8 in an argument: Python keeps it as half surrogate pairs."""
    if url is None:
        return None
    return "".join(f"%{ord(sign) - 0xDC00:02X}" if "\udc80" <= sign <= "\udcff" else sign for sign in url)


def _file(source: str | None) -> Path | None:
    if source is None or "://" in source:
        return None
    path = Path(source).expanduser()
    if not path.is_file():
        raise InvalidRequest(f"{source} is neither a URL (https://…) nor a file.")
    if path.stat().st_size == 0:
        raise EmptyUploadBody(f"The file {source} is empty. Send one that has audio.")
    return path


async def _follow(
    client: AsyncStenobirdClient, source: str | Path | None, run: _Run, shown: LiveTranscript
) -> bytes | StenobirdError:
    """Follow the job to its end; return its document, or the error that it ended with."""
    try:
        if source is not None:
            if isinstance(source, Path):
                source = await client.upload(source)
            run.job_id = (await client.create(source, run.options)).id
        assert run.job_id is not None
        failure = None
        async with aclosing(client.resume(run.job_id)) as events:
            async for event in events:
                shown.show(event)
                if isinstance(event, StatusEvent) and event.source:
                    run.live = event.live
                if isinstance(event, ErrorEvent):
                    failure = event.error
        return failure or await client.document(run.job_id, run.format_name)
    except StenobirdError as error:
        return error
