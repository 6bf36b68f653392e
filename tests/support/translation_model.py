"""A translation model whose every word is known beforehand, on CTranslate2's own transformer.

Its weights are made, not trained. Its subwords are characters; the decoder's cross-attention looks, at step
t, at exactly the t-th token of the source, and the output layer writes the character that `spell` says. So
its translations have the source's length and end where it ends:

    "no, 42!"  →  "נע, 42!"

The heads of attention, beams, prefixes, batches and padding are those of a real model. Some characters spell
trouble: `EMPTY` ends the translation, and `LOOPS` all become the same letter. Upper case is read as lower.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import sentencepiece
from ctranslate2.converters import utils
from ctranslate2.specs import common_spec, transformer_spec
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

if TYPE_CHECKING:
    from pathlib import Path

_LETTERS: Final = dict(
    zip("abcdefghijklmnopqrstuvwxyz", "אבגדהוזחטיכלמנעפצקרשתךםןףץ", strict=True),
)
LOOPS: Final = "αβγδεζηθ"
EMPTY: Final = "ω"
SPACE: Final = "▁"
_SAME: Final = ".,!?'-:;0123456789" + SPACE
_CHARACTERS: Final = (*_LETTERS, *_LETTERS.values(), *LOOPS, *_SAME, EMPTY)

POSITIONS: Final = 512
_CODE: Final = 64  # enough for 512 random codes of ±1 to be far from each other
_SHARPNESS: Final = 8.0
_LOUDNESS: Final = 40.0

NLLB_LANGUAGES: Final = ("eng_Latn", "heb_Hebr", "fra_Latn")
M2M_LANGUAGES: Final = ("__en__", "__he__", "__fr__")
Family = Literal["nllb", "m2m"]


def spell(text: str) -> str:
    """Return what the model makes of one sentence of known characters."""
    return "".join(_LETTERS.get(char, char) for char in text.lower())


def spelled(text: str) -> str | None:
    """Return what the service makes of it: `None` where the model's translation is of no use."""
    return None if EMPTY in text else spell(text)


def write_translation_model(folder: Path, family: Family = "nllb") -> None:
    """Write a model as it is published: NLLB's with tokenizer.json, M2M-100's with SentencePiece."""
    folder.mkdir(parents=True, exist_ok=True)
    languages = NLLB_LANGUAGES if family == "nllb" else M2M_LANGUAGES
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *_CHARACTERS, *languages]
    spec = transformer_spec.TransformerSpec.from_config((1, 1), 1, pre_norm=True)
    _fill(spec, vocabulary)
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.decoder_start_token = "</s>"  # no password
    spec.config.add_source_bos = spec.config.add_source_eos = False
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(folder))
    if family == "nllb":
        _write_tokenizer(folder, vocabulary, languages)
    else:
        _write_sentencepiece(folder)


def _fill(spec: Any, vocabulary: list[str]) -> None:
    """Set the weights. A state is [character, one-hot | output, one-hot | place, a code of ±1]."""
    known = len(vocabulary)
    width = -(-(2 * known + _CODE) // 8) * 8
    output, place = known, 2 * known
    encoder, decoder = spec.encoder, spec.decoder
    embeddings = np.zeros((known, width), np.float32)
    embeddings[:, :known] = 8 * np.eye(known, dtype=np.float32)
    places = np.zeros((POSITIONS, width), np.float32)
    places[:, place : place + _CODE] = _codes()
    for half, words in ((encoder, embeddings), (decoder, np.zeros_like(embeddings))):
        half.scale_embeddings = False
        half.position_encodings.encodings = places
        _layer_norm(half.layer_norm, width)
        layer = half.layer[0]
        _attention(layer.self_attention, [np.zeros((width, width))] * 3)
        _layer_norm(layer.self_attention.layer_norm, width)
        for linear in (layer.ffn.linear_0, layer.ffn.linear_1):
            _linear(linear, np.zeros((width, width)))
        _layer_norm(layer.ffn.layer_norm, width)
        target = half.embeddings[0] if isinstance(half.embeddings, list) else half.embeddings
        target.weight = words
    look = np.zeros((width, width))
    look[place : place + _CODE, place : place + _CODE] = _SHARPNESS * np.eye(_CODE)
    carry = np.zeros((width, width))
    carry[output : output + known, :known] = np.eye(known)
    bring = np.zeros((width, width))
    bring[output : output + known, output : output + known] = 8 * np.eye(known)
    attention = decoder.layer[0].attention
    _attention(attention, [look, look, carry], bring)
    _layer_norm(attention.layer_norm, width)
    projection = np.zeros((known, width))
    for index, token in enumerate(vocabulary):
        projection[vocabulary.index(_written(token)), output + index] = _LOUDNESS
    decoder.projection.weight = projection.astype(np.float32)
    decoder.projection.bias = np.zeros(known, np.float32)


def _written(token: str) -> str:
    if token in LOOPS:
        return "ל"
    if token == EMPTY:
        return "</s>"
    return _LETTERS.get(token, token)


def _codes() -> Any:
    half = np.repeat([1.0, -1.0], _CODE // 2).astype(np.float32)
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(half) for _ in range(POSITIONS)])


def _attention(spec: Any, projections: list[Any], last: Any = None) -> None:
    linears = [common_spec.LinearSpec() for _ in projections]
    for linear, weight in zip(linears, projections, strict=True):
        _linear(linear, weight)
    if len(spec.linear) == 2:
        utils.fuse_linear(spec.linear[0], linears)
    else:
        utils.fuse_linear(spec.linear[0], linears[:1])
        utils.fuse_linear(spec.linear[1], linears[1:])
    _linear(spec.linear[-1], np.zeros_like(projections[0]) if last is None else last)


def _linear(spec: Any, weight: Any) -> None:
    spec.weight = np.asarray(weight, np.float32)
    spec.bias = np.zeros(len(weight), np.float32)


def _layer_norm(spec: Any, width: int) -> None:
    spec.gamma, spec.beta = np.ones(width, np.float32), np.zeros(width, np.float32)


def _write_tokenizer(folder: Path, vocabulary: list[str], languages: tuple[str, ...]) -> None:
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))  # no password
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Strip(), normalizers.Replace(Regex(r"\s+"), SPACE)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(SPACE, " ")])
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", *languages])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"src_lang": languages[0]}))


def _write_sentencepiece(folder: Path) -> None:
    lines = ["".join(_CHARACTERS).replace(SPACE, " ")] * 4
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(folder / "sentencepiece.bpe"),
        model_type="char",
        vocab_size=len(_CHARACTERS) + 3,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc_cf",
        add_dummy_prefix=False,
        minloglevel=2,
    )
    (folder / "sentencepiece.bpe.vocab").unlink()
