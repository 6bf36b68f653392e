"""A small Whisper-architecture network in plain PyTorch. Needs torch, which nothing else here does."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  # the name every PyTorch reader expects
from torch import Tensor, nn

DROPOUT = 0.05
CTC_SYMBOLS = 28
"""Blank, space and a to z: the auxiliary head that teaches the encoder to align."""


class Attention(nn.Module):
    """Multi-head attention with Whisper's projections: the key has no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.h = heads
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.v, self.o = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Attend from `x` (batch, time, width) to `memory`, or to itself."""
        memory = x if memory is None else memory
        y = F.scaled_dot_product_attention(
            self._split(self.q(x)), self._split(self.k(memory)), self._split(self.v(memory)), is_causal=causal
        )
        return self.o(y.transpose(1, 2).reshape(x.shape))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.h, -1).transpose(1, 2)


class Block(nn.Module):
    """One pre-norm layer; with `cross` a decoder layer (causal, and attending to the encoder)."""

    def __init__(self, width: int, heads: int, *, cross: bool) -> None:
        super().__init__()
        self.ln1, self.att = nn.LayerNorm(width), Attention(width, heads)
        if cross:
            self.lnx, self.xatt = nn.LayerNorm(width), Attention(width, heads)
        self.cross = cross
        self.ln2 = nn.LayerNorm(width)
        self.f1, self.f2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """Return `x` (batch, time, width) after the layer."""
        x = x + self.drop(self.att(self.ln1(x), causal=self.cross))
        if self.cross:
            x = x + self.drop(self.xatt(self.lnx(x), memory))
        return x + self.drop(self.f2(F.gelu(self.f1(self.ln2(x)))))


def sinusoids(length: int, width: int) -> Tensor:
    """Return Whisper's fixed positions, shape (length, width)."""
    increment = math.log(10000) / (width // 2 - 1)
    angles = torch.arange(length)[:, None] * torch.exp(-increment * torch.arange(width // 2))[None]
    return torch.cat([angles.sin(), angles.cos()], 1)


class FixtureNet(nn.Module):
    """Encoder, decoder and an auxiliary CTC head that the export leaves out.

    Attribute names are those of the checkpoints that exist.
    """

    def __init__(
        self,
        vocabulary_size: int,
        width: int = 192,
        heads: int = 3,
        encoder_layers: int = 4,
        decoder_layers: int = 2,
    ) -> None:
        super().__init__()
        self.heads = heads
        mel_bins, audio_context, text_context = 80, 1500, 448
        self.c1 = nn.Conv1d(mel_bins, width, 3, padding=1)
        self.c2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.register_buffer("epos", sinusoids(audio_context, width) * 0.2)
        self.enc = nn.ModuleList(Block(width, heads, cross=False) for _ in range(encoder_layers))
        self.eln = nn.LayerNorm(width)
        self.emb = nn.Embedding(vocabulary_size, width)
        self.dpos = nn.Parameter(torch.randn(text_context, width) * 0.01)
        nn.init.normal_(self.emb.weight, std=0.02)
        self.dec = nn.ModuleList(Block(width, heads, cross=True) for _ in range(decoder_layers))
        self.dln = nn.LayerNorm(width)
        self.ctc = nn.Linear(width, CTC_SYMBOLS)
        with torch.no_grad():
            self.c1.weight.mul_(1.5)
            self.c2.weight.mul_(2.0)

    def encode(self, mel: Tensor) -> Tensor:
        """Turn log-mel features (batch, 80, frames) into memory (batch, frames / 2, width)."""
        x = F.gelu(self.c2(F.gelu(self.c1(mel)))).transpose(1, 2)
        x = x + self.epos[: x.shape[1]]
        for block in self.enc:
            x = block(x)
        return self.eln(x)

    def decode(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """Return logits (batch, time, vocabulary) for `tokens` (batch, time)."""
        x = self.emb(tokens) + self.dpos[: tokens.shape[1]]
        for block in self.dec:
            x = block(x, memory)
        return self.dln(x) @ self.emb.weight.T
