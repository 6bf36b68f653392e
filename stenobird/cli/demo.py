"""`stenobird demo`: transcribe a bundled recording with the real service, and show the events."""

from __future__ import annotations

import asyncio
import ipaddress
import tempfile
from pathlib import Path

import click
from rich.console import Console

from stenobird.cli.local import local_client, local_service
from stenobird.cli.models import fetch_model
from stenobird.cli.output import LiveTranscript
from stenobird.config import Settings
from stenobird.demo import CLIP_TEXT_PATH, MODEL_DIR, TALK_TEXT_PATH, word_error_rate
from stenobird.inference.hub import ModelUnavailable
from stenobird.logs import configure_logging
from stenobird.web.site.pages import SAMPLE_PATH

MODEL = "tiny.en"
FIXTURE = "the fixture model (178 words, for demos and tests only)"


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the database and the transcript; default: a new temporary folder.",
)
@click.option("--fixture", is_flag=True, help="Use the bundled test model and its clip; download nothing.")
def demo(data_dir: Path | None, *, fixture: bool) -> None:
    """Post the URL of a bundled recording to the real service, and show the events as they arrive.

    It uses the real path: HTTP, the egress guard (with loopback allowed for the demo), the decoder child and
    faster-whisper. The first run downloads the model tiny.en, 70 MB. Where that fails, a bundled test model
    transcribes a clip of its own: it knows 178 words.
    """
    progress = Console(stderr=True)
    model = None if fixture else _download(progress)
    settings = Settings(
        data_dir=data_dir or Path(tempfile.mkdtemp(prefix="stenobird-demo-")),
        engine="whisper",
        model=str(MODEL_DIR) if model is None else str(model),
        device="cpu",
        egress_allow=(ipaddress.ip_network("127.0.0.1/32"),),
        egress_ports=None,
        egress_proxy=None,
        database_url=None,
        log_level="warning",
    )
    configure_logging(settings)
    name, text = (FIXTURE, CLIP_TEXT_PATH) if model is None else (MODEL, TALK_TEXT_PATH)
    asyncio.run(_demo(settings, name, text.read_text(), progress))


def _download(progress: Console) -> Path | None:
    """Return the folder of the model, or `None` if it can't be had, after saying why."""
    try:
        return fetch_model(MODEL).folder
    except ModelUnavailable as error:
        progress.print(f"There is no real model for the demo: {error}", style="yellow", markup=False)
        return None


async def _demo(settings: Settings, model: str, text: str, progress: Console) -> None:
    progress.print(f"Starting the service with {model}")
    async with local_service(settings, key_name="demo") as (service_url, api_key):
        url = f"{service_url}{SAMPLE_PATH}"
        progress.print(f"POST {service_url}/v1/transcripts", highlight=False)
        progress.print(f'     {{"audio_url": "{url}"}}', highlight=False)
        async with local_client(service_url, api_key=api_key) as client:
            with LiveTranscript() as live:
                result = await client.transcribe(url, on_event=live.show)
            stored = {}
            for format_name in ("txt", "srt", "vtt", "json"):
                path = settings.data_dir / f"transcript.{format_name}"
                path.write_bytes(await client.document(result.id, format_name))
                stored[format_name] = path
    errors = word_error_rate(text, result.text)
    progress.print()
    Console().print(stored["txt"].read_text().strip(), highlight=False, soft_wrap=True)
    progress.print()
    progress.print(
        f"{result.transcript.duration_seconds:.0f} s of audio, word error rate {errors:.1%}, "
        f"engine {result.engine}, model {result.model}",
        style="dim",
        highlight=False,
    )
    progress.print(f"Stored in {settings.data_dir}: transcript.txt, .srt, .vtt, .json", highlight=False)
    progress.print("Next: stenobird serve, then post a link of your own (see the README).", style="dim")
