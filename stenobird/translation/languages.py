"""How translation models call the languages that Whisper reports.

NLLB takes FLORES-200 codes (language and script), M2M-100 takes ISO 639-1 codes between underscores. Where
Whisper does not say which script or variety it wrote, it is the one that it writes: `zh` is simplified,
`sr` Cyrillic, `no` Bokmål.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

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
