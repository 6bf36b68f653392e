"""Names of the languages that Whisper writes: the OpenAI dialect answers with names, not codes."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES: Final = (
    "af afrikaans am amharic ar arabic as assamese az azerbaijani ba bashkir be belarusian bg bulgarian "
    "bn bengali bo tibetan br breton bs bosnian ca catalan cs czech cy welsh da danish de german el greek "
    "en english es spanish et estonian eu basque fa persian fi finnish fo faroese fr french gl galician "
    "gu gujarati ha hausa haw hawaiian he hebrew hi hindi hr croatian ht haitian_creole hu hungarian "
    "hy armenian id indonesian is icelandic it italian ja japanese jw javanese ka georgian kk kazakh "
    "km khmer kn kannada ko korean la latin lb luxembourgish ln lingala lo lao lt lithuanian lv latvian "
    "mg malagasy mi maori mk macedonian ml malayalam mn mongolian mr marathi ms malay mt maltese "
    "my myanmar ne nepali nl dutch nn nynorsk no norwegian oc occitan pa punjabi pl polish ps pashto "
    "pt portuguese ro romanian ru russian sa sanskrit sd sindhi si sinhala sk slovak sl slovenian "
    "sn shona so somali sq albanian sr serbian su sundanese sv swedish sw swahili ta tamil te telugu "
    "tg tajik th thai tk turkmen tl tagalog tr turkish tt tatar uk ukrainian ur urdu uz uzbek "
    "vi vietnamese yi yiddish yo yoruba yue cantonese zh chinese"
)
_WORDS: Final = _NAMES.split()

NAME_OF: Final[Mapping[str, str]] = MappingProxyType(
    {code: name.replace("_", " ") for code, name in zip(_WORDS[::2], _WORDS[1::2], strict=True)}
)
CODE_OF: Final[Mapping[str, str]] = MappingProxyType({name: code for code, name in NAME_OF.items()})


def language_code(value: str) -> str:
    """Return the code that a client means: "en", "EN-us" and "English" alike; else the value, lower case."""
    wanted = value.strip().lower()
    return CODE_OF.get(wanted) or wanted.replace("_", "-").partition("-")[0]
