"""The languages that Whisper knows: their codes, their names, and what clients call them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Codes and names by turns. The codes are Whisper's own: ISO 639-1, but for haw, jw and yue.
_LANGUAGES: Final = (
    "af afrikaans am amharic ar arabic as assamese az azerbaijani ba bashkir be belarusian "
    "bg bulgarian bn bengali bo tibetan br breton bs bosnian ca catalan cs czech cy welsh da danish "
    "de german el greek en english es spanish et estonian eu basque fa persian fi finnish fo faroese "
    "fr french gl galician gu gujarati ha hausa haw hawaiian he hebrew hi hindi hr croatian "
    "ht haitian_creole hu hungarian hy armenian id indonesian is icelandic it italian ja japanese "
    "jw javanese ka georgian kk kazakh km khmer kn kannada ko korean la latin lb luxembourgish "
    "ln lingala lo lao lt lithuanian lv latvian mg malagasy mi maori mk macedonian ml malayalam "
    "mn mongolian mr marathi ms malay mt maltese my myanmar ne nepali nl dutch nn nynorsk no norwegian "
    "oc occitan pa punjabi pl polish ps pashto pt portuguese ro romanian ru russian sa sanskrit "
    "sd sindhi si sinhala sk slovak sl slovenian sn shona so somali sq albanian sr serbian "
    "su sundanese sv swedish sw swahili ta tamil te telugu tg tajik th thai tk turkmen tl tagalog "
    "tr turkish tt tatar uk ukrainian ur urdu uz uzbek vi vietnamese yi yiddish yo yoruba "
    "yue cantonese zh chinese"
)
# Codes and names that clients use for languages that Whisper lists under another one, each with its code.
_ALIASES: Final = (
    "jv jw nb no iw he in id ji yi fil tl cmn zh "
    "burmese my valencian ca flemish nl haitian ht letzeburgesch lb pushto ps panjabi pa moldavian ro "
    "moldovan ro sinhalese si castilian es mandarin zh farsi fa filipino tl bokmål no"
)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    words = text.split()
    return zip(words[::2], words[1::2], strict=True)


NAME_OF: Final[Mapping[str, str]] = MappingProxyType(
    {code: name.replace("_", " ") for code, name in _pairs(_LANGUAGES)}
)
"""The English name of each language by its code, in lower case."""
_CODE_OF: Final[Mapping[str, str]] = {
    **{code: code for code in NAME_OF},
    **{name: code for code, name in NAME_OF.items()},
    **dict(_pairs(_ALIASES)),
}


def language_code(value: str) -> str | None:
    """Return the code for `en`, `EN`, `en-US`, `he_IL` or `English`; `None` for no known language."""
    wanted = value.strip().lower().replace("_", "-")
    return _CODE_OF.get(wanted) or _CODE_OF.get(wanted.partition("-")[0])
