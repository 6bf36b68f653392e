"""Write a `FixtureNet` in CTranslate2's Whisper format, as faster-whisper loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ctranslate2.converters import utils
from ctranslate2.specs import common_spec, whisper_spec

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

    from tools.fixture_model.network import Attention, Block, FixtureNet

# Never written as text. Whisper suppresses these in its own configuration too.
SUPPRESSED = (
    "<|startoftranscript|>",
    "<|en|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
)


def export(net: FixtureNet, tokenizer: Tokenizer, out: Path, quantization: str = "int8") -> None:
    """Write model and tokenizer to the folder `out`, quantised."""
    layers, heads = len(net.enc), net.heads
    spec = whisper_spec.WhisperSpec(layers, heads, len(net.dec), heads)
    _encoder(spec.encoder, net)
    _decoder(spec.decoder, net)
    _configure(spec, tokenizer, alignment_layer=len(net.dec) - 1, heads=heads)
    spec.validate()
    spec.optimize(quantization=quantization)
    out.mkdir(parents=True, exist_ok=True)
    spec.save(str(out))
    tokenizer.save(str(out / "tokenizer.json"))


def _configure(spec: Any, tokenizer: Tokenizer, *, alignment_layer: int, heads: int) -> None:
    ids = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    spec.register_vocabulary([token for token, _ in ids])
    spec.config.suppress_ids = [tokenizer.token_to_id(token) for token in SUPPRESSED]
    spec.config.suppress_ids_begin = [tokenizer.token_to_id("<|endoftext|>")]
    spec.config.lang_ids = [tokenizer.token_to_id("<|en|>")]
    spec.config.alignment_heads = [(alignment_layer, head) for head in range(heads)]


def _encoder(spec: Any, net: FixtureNet) -> None:
    for target, convolution in ((spec.conv1, net.c1), (spec.conv2, net.c2)):
        target.weight, target.bias = _array(convolution.weight), _array(convolution.bias)
    spec.position_encodings.encodings = _array(net.epos)
    _layer_norm(spec.layer_norm, net.eln)
    for layer, block in zip(spec.layer, net.enc, strict=True):
        _block(layer, block)


def _decoder(spec: Any, net: FixtureNet) -> None:
    spec.embeddings.weight = _array(net.emb.weight)
    spec.position_encodings.encodings = _array(net.dpos)
    _layer_norm(spec.layer_norm, net.dln)
    spec.projection.weight = _array(net.emb.weight)
    for layer, block in zip(spec.layer, net.dec, strict=True):
        _block(layer, block)


def _block(spec: Any, block: Block) -> None:
    _attention(spec.self_attention, block.att, block.ln1, own_memory=True)
    if block.cross:
        _attention(spec.attention, block.xatt, block.lnx, own_memory=False)
    _linear(spec.ffn.linear_0, block.f1)
    _linear(spec.ffn.linear_1, block.f2)
    _layer_norm(spec.ffn.layer_norm, block.ln2)


def _attention(spec: Any, attention: Attention, norm: Any, *, own_memory: bool) -> None:
    """Fuse the projections as CTranslate2 wants them: all three, or the query apart from the other two."""
    projections = [common_spec.LinearSpec() for _ in range(3)]
    for projection, source in zip(projections, (attention.q, attention.k, attention.v), strict=True):
        projection.weight = _array(source.weight)
        projection.bias = (
            np.zeros(source.weight.shape[0], np.float32) if source.bias is None else _array(source.bias)
        )
    if own_memory:
        utils.fuse_linear(spec.linear[0], projections)
    else:
        utils.fuse_linear(spec.linear[0], projections[:1])
        utils.fuse_linear(spec.linear[1], projections[1:])
    _linear(spec.linear[-1], attention.o)
    _layer_norm(spec.layer_norm, norm)


def _linear(spec: Any, source: Any) -> None:
    spec.weight = _array(source.weight)
    if source.bias is not None:
        spec.bias = _array(source.bias)


def _layer_norm(spec: Any, source: Any) -> None:
    spec.gamma, spec.beta = _array(source.weight), _array(source.bias)


def _array(tensor: Any) -> Any:
    return tensor.detach().float().numpy()
