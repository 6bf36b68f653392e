"""How each figure is measured: ours and plain faster-whisper by turns, on the same model and audio."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from stenobird.demo import CLIP_PATH, MODEL_DIR, word_error_rate
from tests.bench import encoder, load, plain
from tests.bench.figures import Bar, Figure, Measurement, Question
from tests.bench.processes import PeakMemory
from tests.bench.service import Service, served
from tests.support.random_model import BASE, write_random_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.bench.audio import Studio
    from tests.bench.figures import Scale

MB = 1_000_000
AT_ONCE = 4


WALL = Question("a", "one job: wall clock over plain", Bar("<=", 1.0))
THROUGHPUT = Question(
    "a", f"{AT_ONCE} jobs at once: throughput over {AT_ONCE} plain runs in turn", Bar(">=", 1.3)
)
FIRST_WORDS = Question("b", "first transcript event over download, then transcribe", Bar("<=", 0.05))
ACCURACY = Question("c", "word error rate minus plain's", Bar("<=", 0.5), " points")
MEMORY = Question("d", "peak RSS of long minus short audio", Bar("<=", 40.0), " MB")
ENCODER = Question("e", "encoder time, stock allocator over ours", Bar(">=", 1.3))


def speed(studio: Studio, scale: Scale) -> list[Figure]:
    """Measure one job, and several at once, against plain runs in turn."""
    clip = studio.clip(scale.short_minutes)
    ones: list[float] = []
    many: list[float] = []
    shares: dict[str, list[float]] = {"plain": [], "one": [], "many": []}
    cpu: dict[str, list[float]] = {"one": [], "many": []}
    with Service(CLIP_PATH) as service, served([clip.path] * AT_ONCE) as (_, urls):
        for number in range(scale.rounds):
            if number % 2:  # whoever goes second may find another machine: take turns
                one, several = service.transcribe(urls[0]), service.transcribe(*urls)
                runs = plain.transcribe(MODEL_DIR, clip.path, CLIP_PATH, runs=AT_ONCE)
            else:
                runs = plain.transcribe(MODEL_DIR, clip.path, CLIP_PATH, runs=AT_ONCE)
                one, several = service.transcribe(urls[0]), service.transcribe(*urls)
            in_turn = sum(run.wall_seconds for run in runs)
            ones.append(one.wall_seconds / (in_turn / AT_ONCE))
            many.append(in_turn / several.wall_seconds)
            cpu_in_turn = sum(run.cpu_seconds for run in runs)
            cpu["one"].append(one.cpu_seconds / (cpu_in_turn / AT_ONCE))
            cpu["many"].append(several.cpu_seconds / cpu_in_turn)
            shares["plain"].append(mean(run.cpu_share for run in runs))
            shares["one"].append(one.cpu_share)
            shares["many"].append(several.cpu_share)
    plain_share = mean(shares["plain"])
    what = f"{scale.short_minutes:g} min of mp3; {scale.rounds} rounds by turns, median and range"
    return [
        Figure(
            WALL,
            median(ones),
            f"POST to done over transcribe(), {what}; CPU seconds {median(cpu['one']):.2f} of plain's",
            tuple(ones),
            {"ours": mean(shares["one"]), "plain": plain_share},
            {"cpu_seconds_over_plain": cpu["one"]},
        ),
        Figure(
            THROUGHPUT,
            median(many),
            f"first POST to last done; {what}; CPU seconds {median(cpu['many']):.2f} of plain's",
            tuple(many),
            {"ours": mean(shares["many"]), "plain": plain_share},
            {"cpu_seconds_over_plain": cpu["many"]},
        ),
    ]


def first_words(studio: Studio, scale: Scale) -> list[Figure]:
    """Measure the time to the first words of a slow download."""
    clip = studio.clip(scale.medium_minutes)
    rate = scale.throttle_bytes_per_second
    download_seconds = clip.path.stat().st_size / rate
    [then] = plain.transcribe(MODEL_DIR, clip.path, CLIP_PATH, first_segment_only=True)
    with Service(CLIP_PATH) as service, served([clip.path], bytes_per_second=rate) as (server, [url]):
        event, run = service.first_transcript(url)
        sent = sum(server.sent_bytes.values())
    return [
        Figure(
            FIRST_WORDS,
            run.wall_seconds / (download_seconds + then.first_segment_seconds),
            f"{scale.medium_minutes:g} min at {rate / 1024:g} KiB/s: {run.wall_seconds:.1f} s, over "
            f"{download_seconds:.0f} s of download (computed: bytes over rate) + "
            f"{then.first_segment_seconds:.1f} s to plain's first segment (measured)",
            cpu_share={"ours": run.cpu_share, "plain": then.cpu_share},
            details={"first_text": event.text, "bytes_sent": sent, "bytes": clip.path.stat().st_size},
        )
    ]


def accuracy(studio: Studio, scale: Scale) -> list[Figure]:
    """Compare the word error rates on the same audio."""
    clip = studio.clip(scale.medium_minutes)
    [theirs] = plain.transcribe(MODEL_DIR, clip.path, CLIP_PATH)
    with Service(CLIP_PATH) as service, served([clip.path]) as (_, [url]):
        ours = service.transcribe(url)
    our_rate = 100 * word_error_rate(clip.text, ours.texts[0])
    their_rate = 100 * word_error_rate(clip.text, theirs.text)
    return [
        Figure(
            ACCURACY,
            our_rate - their_rate,
            f"{scale.medium_minutes:g} min of speech: ours {our_rate:.2f} %, plain {their_rate:.2f} %",
            cpu_share={"ours": ours.cpu_share, "plain": theirs.cpu_share},
            details={"ours_percent": our_rate, "plain_percent": their_rate},
        )
    ]


def memory(studio: Studio, scale: Scale) -> list[Figure]:
    """Compare the peak memory of the whole process tree on long and on short audio, in fresh servers."""
    peaks: list[float] = []
    shares: dict[str, float] = {}
    details: dict[str, dict[str, float]] = {}
    for minutes in (scale.short_minutes, scale.long_minutes):
        clip = studio.clip(minutes)
        with (
            Service(CLIP_PATH) as service,
            served([clip.path]) as (_, [url]),
            PeakMemory(service.pid) as memory,
        ):
            run = service.transcribe(url)
        peaks.append(sum(memory.peak.values()) / MB)
        shares[f"{minutes:g} min"] = run.cpu_share
        for moment, sizes in (("start", memory.start), ("peak", memory.peak)):
            details[f"{minutes:g} min, {moment}, MB"] = {name: size / MB for name, size in sizes.items()}
    return [
        Figure(
            MEMORY,
            peaks[1] - peaks[0],
            f"sum of RSS of the whole tree, sampled 10 times a second, a fresh server each: "
            f"{scale.long_minutes:g} min {peaks[1]:.0f} MB, {scale.short_minutes:g} min {peaks[0]:.0f} MB",
            cpu_share=shares,
            details=details,
        )
    ]


def allocator(_studio: Studio, scale: Scale) -> list[Figure]:
    """Time the encoder of a model of `base` dimensions with and without the allocator set-up."""
    ratios: list[float] = []
    cpu: list[float] = []
    shares: dict[encoder.Allocator, list[float]] = {"stock": [], "tuned": []}
    with TemporaryDirectory(prefix="stenobird-bench-") as folder:
        model = Path(folder) / "base"
        write_random_model(model, BASE)
        for number in range(scale.encoder_rounds):
            order: list[encoder.Allocator] = ["tuned", "stock"] if number % 2 else ["stock", "tuned"]
            runs = {which: encoder.encode(model, scale.encoder_windows, which) for which in order}
            ratios.append(runs["stock"].seconds_a_window / runs["tuned"].seconds_a_window)
            cpu.append(runs["stock"].cpu_seconds / runs["tuned"].cpu_seconds)
            for which in order:
                shares[which].append(runs[which].cpu_share)
    return [
        Figure(
            ENCODER,
            median(ratios),
            f"random weights, base dimensions, int8, {scale.encoder_windows} windows a core, "
            f"{scale.encoder_rounds} rounds by turns, median and range; CPU seconds: {median(cpu):.2f}",
            tuple(ratios),
            {which: mean(values) for which, values in shares.items()},
            {"cpu_seconds_stock_over_ours": cpu},
        )
    ]


MEASUREMENTS: Mapping[str, Measurement] = {
    "a": Measurement((WALL, THROUGHPUT), speed),
    "b": Measurement((FIRST_WORDS,), first_words),
    "c": Measurement((ACCURACY,), accuracy),
    "d": Measurement((MEMORY,), memory),
    "e": Measurement((ENCODER,), allocator),
    **load.MEASUREMENTS,
}
