"""`stenobird demo`: transcribe a bundled clip with the real service, and show the events."""

from __future__ import annotations

import asyncio
import ipaddress
import tempfile
from pathlib import Path

import click
from rich.console import Console

from stenobird.cli.live import LiveTranscript
from stenobird.cli.local import local_client, local_service, serve_file
from stenobird.config import Settings
from stenobird.demo import CLIP_PATH, CLIP_TEXT_PATH, MODEL_DIR
from stenobird.demo.wer import word_error_rate
from stenobird.logs import configure_logging

CLIP_URL_PATH = "/episodes/clip.mp3"
LINE_BYTES_PER_SECOND = 96 * 1024
"""Pace of the clip's download, slow enough that words arrive before it has ended."""


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the database and the transcript; default: a new temporary folder.",
)
def demo(data_dir: Path | None) -> None:
    """Serve a bundled clip, post its URL to the real service, and show the events as they arrive.

    It uses the real path: HTTP, the egress guard (with loopback allowed for the demo), the decoder child and
    faster-whisper. Only the model is a fixture, which knows 178 words; nothing is downloaded.
    """
    folder = data_dir or Path(tempfile.mkdtemp(prefix="stenobird-demo-"))
    settings = Settings(
        data_dir=folder,
        engine="whisper",
        model=str(MODEL_DIR),
        device="cpu",
        egress_allow=(ipaddress.ip_network("127.0.0.1/32"),),
        egress_ports=None,
        egress_proxy=None,
        database_url=None,
        log_level="warning",
    )
    configure_logging(settings)
    asyncio.run(_demo(settings, Console(stderr=True), Console()))


async def _demo(settings: Settings, progress: Console, screen: Console) -> None:
    with serve_file(CLIP_PATH, CLIP_URL_PATH, bytes_per_second=LINE_BYTES_PER_SECOND) as url:
        progress.print("Starting the service with the fixture model (178 words, for demos and tests only)")
        async with local_service(settings, key_name="demo") as (service_url, api_key):
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
    errors = word_error_rate(CLIP_TEXT_PATH.read_text(), result.text)
    progress.print()
    screen.print(stored["txt"].read_text().strip(), highlight=False, soft_wrap=True)
    progress.print()
    progress.print(
        f"{result.transcript.duration_seconds:.0f} s of audio, word error rate {errors:.1%}, "
        f"engine {result.engine}, model {result.model}",
        style="dim",
        highlight=False,
    )
    progress.print(f"Stored in {settings.data_dir}: transcript.txt, .srt, .vtt, .json", highlight=False)
    progress.print("Next: stenobird serve, then post a link of your own (see the README).", style="dim")
