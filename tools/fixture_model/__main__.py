"""Command line: `python -m tools.fixture_model --help`, run from the repository's root."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tools.fixture_model.evaluate import Evaluation

MODEL = Path("stenobird/demo/model")
TOKENIZER = MODEL / "tokenizer.json"

# Each command imports what it needs: only training needs torch, only synthesis espeak-ng, flite and sox.
# ruff: noqa: PLC0415

_path = click.Path(path_type=Path)
_existing = click.Path(path_type=Path, exists=True)


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Make the fixture model, its clips, and measure it."""


@main.command()
@click.argument("first_seed", type=int)
@click.argument("last_seed", type=int)
@click.argument("out", type=_path)
def bank(first_seed: int, last_seed: int, out: Path) -> None:
    """Speak the sentences of the seeds FIRST_SEED up to, not including, LAST_SEED into the pickle OUT."""
    from tools.fixture_model.synthesis import make_bank

    number, seconds = make_bank(range(first_seed, last_seed), out)
    click.echo(f"{number} sentences, {seconds:.0f} s")


@main.command()
@click.argument("out", type=_path)
def tokenizer(out: Path) -> None:
    """Train the tokenizer and write it to OUT."""
    from tools.fixture_model.tokenizer import build_tokenizer

    click.echo(f"{build_tokenizer(out).get_vocab_size()} tokens")


@main.command()
@click.argument("seconds", type=float)
@click.argument("seed", type=int)
@click.argument("out", type=_path)
def clip(seconds: float, seed: int, out: Path) -> None:
    """Speak random sentences into OUT (.mp3 or .wav), with text and times beside it."""
    from tools.fixture_model.clip import random_clip

    random_clip(seconds, seed).write(out)


@main.command("demo-clip")
@click.argument("seed", type=int)
@click.argument("out", type=_path)
def demo_clip(seed: int, out: Path) -> None:
    """Speak the little radio show of a seed into OUT (.mp3 or .wav), with text and times beside it."""
    from tools.fixture_model.demo_clip import show

    made = show(seed)
    made.write(out)
    click.echo(f"{made.seconds:.1f} s, {len(made.rows)} sentences")


@main.command()
@click.argument("minutes", type=float)
@click.argument("out", type=_path)
@click.argument("banks", type=_existing, nargs=-1, required=True)
@click.option("--width", default=192, help="Model width, a multiple of 64.")
@click.option("--tokenizer", "tokenizer_file", type=_existing, default=TOKENIZER)
def train(minutes: float, out: Path, banks: tuple[Path, ...], width: int, tokenizer_file: Path) -> None:
    """Train for MINUTES on BANKS; write the checkpoint OUT (.pt) and the folder of the converted model."""
    from tools.fixture_model.train import train as run

    run(minutes, width, _read_tokenizer(tokenizer_file), banks, out)


@main.command()
@click.argument("minutes", type=float)
@click.argument("source", type=_existing)
@click.argument("out", type=_path)
@click.argument("banks", type=_existing, nargs=-1, required=True)
@click.option("--tokenizer", "tokenizer_file", type=_existing, default=TOKENIZER)
def finetune(minutes: float, source: Path, out: Path, banks: tuple[Path, ...], tokenizer_file: Path) -> None:
    """Go on from the checkpoint SOURCE for MINUTES on BANKS; write OUT (.pt) and the converted model."""
    from tools.fixture_model.train import finetune as run

    run(minutes, _read_tokenizer(tokenizer_file), banks, source, out)


@main.command("evaluate-bank")
@click.argument("bank", type=_existing)
@click.argument("seconds", type=float)
@click.option("--model", type=_existing, default=MODEL)
def evaluate_bank(bank: Path, seconds: float, model: Path) -> None:
    """Measure the word error rate on SECONDS of a stream made from BANK, greedily, without VAD."""
    from tools.fixture_model.evaluate import evaluate_bank as run

    _show(run(model, bank, seconds))


@main.command("evaluate-clip")
@click.argument("clip", type=_existing)
@click.option("--model", type=_existing, default=MODEL)
@click.option("--beam", default=5)
@click.option("--vad/--no-vad", default=False)
def evaluate_clip(clip: Path, model: Path, beam: int, *, vad: bool) -> None:
    """Measure the word error rate on CLIP, whose text lies beside it."""
    from tools.fixture_model.evaluate import evaluate_clip as run

    _show(run(model, clip, beam_size=beam, vad_filter=vad))


def _read_tokenizer(file: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file))


def _show(evaluation: Evaluation) -> None:
    for segment in evaluation.segments:
        click.echo(f"[{segment.start:7.2f} {segment.end:7.2f}] {segment.text.strip()}")
    click.echo(
        f"{evaluation.audio_seconds:.0f} s of audio in {evaluation.wall_seconds:.1f} s, "
        f"word error rate {100 * evaluation.word_error_rate:.1f} %"
    )


if __name__ == "__main__":
    main()
