# ruff: noqa: RUF001  # the punctuation of other scripts is the point
"""Texts around the model: their sentences, their languages, and whether a translation is usable.

NLLB was trained on single sentences and tends to leave out the first of several, so sentences are translated
one by one, and joined again. It takes FLORES-200 codes (language and script), M2M-100 takes ISO 639-1 codes
between underscores. Where Whisper does not say which script or variety it wrote, it is the one that it
writes: `zh` is simplified, `sr` Cyrillic, `no` Bokmål.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

_CLOSING = r"[\"'”’»)\]」』）]*"
_SENTENCE_END: Final = re.compile(rf"[.!?…؟।۔።။]+{_CLOSING}\s+|[。！？]+{_CLOSING}\s*")
_ABBREVIATION: Final = re.compile(
    r"(?:^|[\s(\[\"'“])(?:\w|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Sen|Rep|Mt|vs|e\.g|i\.e|z\.B)\.$"
)
_CLAUSE_END: Final = re.compile(r"[,;:،؛–—]\s+|[、，；：]")
_SPACE: Final = re.compile(r"\s+")

MAX_PERIOD_TOKENS: Final = 8
REPEATS: Final = 4
"""Tokens that repeat so often in a row are a loop, unless the source repeats as often."""
LONG_SOURCE_TOKENS: Final = 16
MIN_SHARE: Final = 0.2
"""A translation of a long source with fewer tokens than this share of it has left most of it out."""


def pieces(text: str, size: Callable[[str], int], limit: int) -> list[str]:
    """Return the text's sentences, stripped; longer ones than `limit` (by `size`) are cut at clauses.

    Where a sentence has no clauses it is cut between words, and where there are no words, anywhere: a piece
    is over the limit only if a single character is.
    """
    return [piece for sentence in sentences(text) for piece in _within(sentence, size, limit)]


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text, in order, stripped; their words are all of its words."""
    start = 0
    for match in _SENTENCE_END.finditer(text):
        before = text[start : match.end()].rstrip()
        after = text[match.end() : match.end() + 1]
        if after.islower() or _ABBREVIATION.search(before):
            continue
        yield before.lstrip()
        start = match.end()
    if rest := text[start:].strip():
        yield rest


def _within(sentence: str, size: Callable[[str], int], limit: int) -> list[str]:
    if len(sentence) <= 1 or size(sentence) <= limit:
        return [sentence]
    middle = _middle(sentence)
    halves = (sentence[:middle].strip(), sentence[middle:].strip())
    return [piece for half in halves if half for piece in _within(half, size, limit)]


def _middle(text: str) -> int:
    """Return the best place to cut near the middle: after a clause, else between words, else anywhere."""
    for mark in (_CLAUSE_END, _SPACE):
        ends = [match.end() for match in mark.finditer(text)]
        inner = [end for end in ends if len(text) / 4 <= end <= len(text) * 3 / 4]
        if inner:
            return min(inner, key=lambda end: abs(end - len(text) / 2))
    return len(text) // 2


def has_letters(text: str) -> bool:
    """Whether there is a letter in the text, of any script."""
    return any(char.isalpha() for char in text)


def is_usable(text: str, tokens: Sequence[str], source_tokens: Sequence[str], *, ended: bool) -> bool:
    """Whether a translation may be shown.

    It may not when it is empty or all punctuation, when it loops and the source does not, when most of a long
    source is missing, or when it reached the length limit before its end. The source has letters.
    """
    if not ended or not has_letters(text):
        return False
    if len(source_tokens) >= LONG_SOURCE_TOKENS and len(tokens) < MIN_SHARE * len(source_tokens):
        return False
    return not loops(tokens) or loops(source_tokens)


def loops(tokens: Sequence[str]) -> bool:
    """Whether a run of up to `MAX_PERIOD_TOKENS` tokens repeats, `REPEATS` times or more in a row."""
    for period in range(1, MAX_PERIOD_TOKENS + 1):
        same = 0
        for index in range(period, len(tokens)):
            same = same + 1 if tokens[index] == tokens[index - period] else 0
            if same >= period * (REPEATS - 1):
                return True
    return False


# fmt: off
FLORES: Final[Mapping[str, str]] = {
    "af": "afr_Latn", "am": "amh_Ethi", "ar": "arb_Arab", "as": "asm_Beng", "az": "azj_Latn",
    "ba": "bak_Cyrl", "be": "bel_Cyrl", "bg": "bul_Cyrl", "bn": "ben_Beng", "bo": "bod_Tibt",
    "bs": "bos_Latn", "ca": "cat_Latn", "cs": "ces_Latn", "cy": "cym_Latn", "da": "dan_Latn",
    "de": "deu_Latn", "el": "ell_Grek", "en": "eng_Latn", "es": "spa_Latn", "et": "est_Latn",
    "eu": "eus_Latn", "fa": "pes_Arab", "fi": "fin_Latn", "fo": "fao_Latn", "fr": "fra_Latn",
    "gl": "glg_Latn", "gu": "guj_Gujr", "ha": "hau_Latn", "he": "heb_Hebr", "hi": "hin_Deva",
    "hr": "hrv_Latn", "ht": "hat_Latn", "hu": "hun_Latn", "hy": "hye_Armn", "id": "ind_Latn",
    "is": "isl_Latn", "it": "ita_Latn", "ja": "jpn_Jpan", "jw": "jav_Latn", "ka": "kat_Geor",
    "kk": "kaz_Cyrl", "km": "khm_Khmr", "kn": "kan_Knda", "ko": "kor_Hang", "lb": "ltz_Latn",
    "ln": "lin_Latn", "lo": "lao_Laoo", "lt": "lit_Latn", "lv": "lvs_Latn", "mg": "plt_Latn",
    "mi": "mri_Latn", "mk": "mkd_Cyrl", "ml": "mal_Mlym", "mn": "khk_Cyrl", "mr": "mar_Deva",
    "ms": "zsm_Latn", "mt": "mlt_Latn", "my": "mya_Mymr", "ne": "npi_Deva", "nl": "nld_Latn",
    "nn": "nno_Latn", "no": "nob_Latn", "oc": "oci_Latn", "pa": "pan_Guru", "pl": "pol_Latn",
    "ps": "pbt_Arab", "pt": "por_Latn", "ro": "ron_Latn", "ru": "rus_Cyrl", "sa": "san_Deva",
    "sd": "snd_Arab", "si": "sin_Sinh", "sk": "slk_Latn", "sl": "slv_Latn", "sn": "sna_Latn",
    "so": "som_Latn", "sq": "als_Latn", "sr": "srp_Cyrl", "su": "sun_Latn", "sv": "swe_Latn",
    "sw": "swh_Latn", "ta": "tam_Taml", "te": "tel_Telu", "tg": "tgk_Cyrl", "th": "tha_Thai",
    "tk": "tuk_Latn", "tl": "tgl_Latn", "tr": "tur_Latn", "tt": "tat_Cyrl", "uk": "ukr_Cyrl",
    "ur": "urd_Arab", "uz": "uzn_Latn", "vi": "vie_Latn", "yi": "ydd_Hebr", "yo": "yor_Latn",
    "yue": "yue_Hant", "zh": "zho_Hans",
}
# fmt: on
"""Whisper's languages in FLORES-200. Breton, Hawaiian and Latin are not in it."""

_M2M_NAMES: Final[Mapping[str, str]] = {"jw": "jv", "nn": "no"}
"""Whisper's codes that M2M-100 spells otherwise; it has one Norwegian."""

_WITHOUT_FLORES: Final = ("br", "haw", "la")
WHISPER_LANGUAGES: Final = (*FLORES, *_WITHOUT_FLORES)

WRITTEN_WITHOUT_SPACES: Final = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})


def language_tokens(vocabulary: Collection[str]) -> dict[str, str]:
    """Return the tokens that name languages in a model's vocabulary, by Whisper's codes.

    Empty where the model is neither NLLB nor M2M-100.
    """
    nllb = {code: token for code, token in FLORES.items() if token in vocabulary}
    if nllb:
        return nllb
    m2m = {code: f"__{_M2M_NAMES.get(code, code)}__" for code in WHISPER_LANGUAGES}
    return {code: token for code, token in m2m.items() if token in vocabulary}
