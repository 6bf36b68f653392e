"""Training: 85 minutes from scratch on two CPU cores, then 15 minutes of fine-tuning on full windows.

Both schedules are driven by the clock, so a faster machine takes more steps in the same time.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812  # the name every PyTorch reader expects
from torch import Tensor, nn

from tools.fixture_model.export import export
from tools.fixture_model.network import FixtureNet
from tools.fixture_model.windows import IGNORED, Batch, WindowMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

HEAD_WIDTH = 64
WINDOW_SECONDS = 30.0
LOG_STEPS = 50
CHECKPOINT_STEPS = 500


@dataclass(frozen=True)
class Step:
    """What one step of a schedule asks for."""

    seconds: float
    batch_size: int
    padded: bool
    learning_rate: float
    ctc_weight: float
    label_smoothing: float


def pretraining_step(rng: random.Random, step: int, done: float) -> Step:
    """Short windows first, so that the CTC head finds the alignment, then full ones; `done` is 0 to 1."""
    if done < 0.30:
        seconds, size, padded = rng.choice([4.0, 5.0, 7.0]), 32, False
    elif done < 0.50:
        seconds, size, padded = rng.choice([8.0, 12.0, 16.0]), 12, rng.random() < 0.3
    else:
        seconds, size, padded = WINDOW_SECONDS, 6, True
    return Step(
        seconds,
        size,
        padded,
        learning_rate=1.2e-3 * min(1, (step + 1) / 300) * _cosine(done, floor=0.03),
        ctc_weight=1.0 if done < 0.3 else 0.3 if done < 0.6 else 0.1,
        label_smoothing=0.02,
    )


def finetuning_step(_rng: random.Random, step: int, done: float) -> Step:
    """Full windows only."""
    rate = 3e-4 * min(1, (step + 1) / 50) * _cosine(done, floor=0.01)
    return Step(WINDOW_SECONDS, 6, padded=True, learning_rate=rate, ctc_weight=0.05, label_smoothing=0.0)


def _cosine(done: float, *, floor: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done)) * (1 - floor) + floor


Schedule: TypeAlias = "Callable[[random.Random, int, float], Step]"


class Trainer:
    """One run over a bank: owns network, optimiser and clock."""

    def __init__(self, net: FixtureNet, windows: WindowMaker, *, seed: int, learning_rate: float) -> None:
        self._net = net
        self._windows = windows
        self._rng = random.Random(seed)
        self._optimizer = torch.optim.AdamW(
            net.parameters(), learning_rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        self._accuracy: float | None = None

    def run(self, minutes: float, schedule: Schedule, checkpoint: Path) -> None:
        """Train for so many minutes of wall clock; write `checkpoint` now and then, and at the end."""
        begun, step = time.monotonic(), 0
        while (elapsed := time.monotonic() - begun) < minutes * 60:
            plan: Step = schedule(self._rng, step, elapsed / (minutes * 60))
            loss = self._step(plan)
            step += 1
            if step % LOG_STEPS == 0:
                print(
                    f"{elapsed:6.0f} s  step {step}  window {plan.seconds:.0f} s  loss {loss:.3f}  "
                    f"word accuracy {self._accuracy:.4f}  rate {plan.learning_rate:.1e}",
                    flush=True,
                )
            if step % CHECKPOINT_STEPS == 0:
                torch.save(self._net.state_dict(), checkpoint)
        torch.save(self._net.state_dict(), checkpoint)

    def _step(self, plan: Step) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = plan.learning_rate
        batch = self._windows.batch(self._rng, plan.batch_size, plan.seconds, padded=plan.padded)
        with torch.autocast("cpu", torch.bfloat16):
            memory = self._net.encode(batch.mel)
            logits = self._net.decode(batch.tokens[:, :-1], memory)
            symbols = self._net.ctc(memory)
        loss = F.cross_entropy(
            logits.float().flatten(0, 1),
            batch.labels.flatten(),
            ignore_index=IGNORED,
            label_smoothing=plan.label_smoothing,
        ) + plan.ctc_weight * _ctc_loss(symbols, batch)
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._net.parameters(), 1.0)
        self._optimizer.step()
        self._track(logits, batch.labels)
        return float(loss.item())

    @torch.no_grad()
    def _track(self, logits: Tensor, labels: Tensor) -> None:
        text = (labels >= 0) & (labels < self._windows.text_ids)
        now = (logits.argmax(-1) == labels)[text].float().mean().item() if text.any() else 1.0
        self._accuracy = now if self._accuracy is None else 0.97 * self._accuracy + 0.03 * now


def _ctc_loss(symbols: Tensor, batch: Batch) -> Tensor:
    targets = torch.tensor([symbol for row in batch.symbols for symbol in row])
    if not len(targets):
        return torch.tensor(0.0)
    return F.ctc_loss(
        symbols.float().log_softmax(-1).transpose(0, 1),
        targets,
        torch.full((len(batch.symbols),), symbols.shape[1]),
        torch.tensor([len(row) for row in batch.symbols]),
        blank=0,
        zero_infinity=True,
    )


def train(minutes: float, width: int, tokenizer: Tokenizer, banks: Sequence[Path], out: Path) -> None:
    """Train from scratch; write the checkpoint `out` and, beside it, the folder `<stem>_ct2`."""
    torch.set_num_threads(2)
    torch.manual_seed(1)
    net = FixtureNet(tokenizer.get_vocab_size(), width, heads=width // HEAD_WIDTH)
    trainer = Trainer(net, WindowMaker(tokenizer, banks), seed=0, learning_rate=1e-3)
    trainer.run(minutes, pretraining_step, out)
    _finish(net, tokenizer, out)


def finetune(minutes: float, tokenizer: Tokenizer, banks: Sequence[Path], source: Path, out: Path) -> None:
    """Go on from the checkpoint `source` on 30-second windows without dropout."""
    torch.set_num_threads(2)
    torch.manual_seed(2)
    state = torch.load(source)
    width = state["emb.weight"].shape[1]
    net = FixtureNet(tokenizer.get_vocab_size(), width, heads=width // HEAD_WIDTH)
    net.load_state_dict(state)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    trainer = Trainer(net, WindowMaker(tokenizer, banks), seed=99, learning_rate=3e-4)
    trainer.run(minutes, finetuning_step, out)
    _finish(net, tokenizer, out)


def _finish(net: FixtureNet, tokenizer: Tokenizer, out: Path) -> None:
    net.eval()
    export(net, tokenizer, out.with_name(f"{out.stem}_ct2"))
