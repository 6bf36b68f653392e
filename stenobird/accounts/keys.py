"""The format of an API key: a prefix that names its mode, 30 random base62 digits, and a 6-digit checksum.

`sb_live_…` and `sb_test_…` are minted by the CLI and at checkout, `alef_sk_live_…` and `alef_sk_test_…` by
the AlefBot dialect; both families are accepted everywhere. The checksum is the CRC-32 of the 30 digits (as
ASCII) in base62, so a typo is refused without a database lookup. It does not cover the prefix: only the part
after the prefix is hashed and stored, so a key sent with the other mode's prefix is recognised.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from stenobird.ports import KeyMode

KeyFamily: TypeAlias = Literal["sb", "alef_sk"]

BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_DIGITS: Final = 30
CHECKSUM_DIGITS: Final = 6

# Each digit stands for as many bytes as any other.
_UNUSED_BYTES: Final = bytes(range(256 - 256 % len(BASE62), 256))
_DIGIT_OF_BYTE: Final = (BASE62 * 5)[:256].encode()

_KEY = re.compile(r"(sb|alef_sk)_(live|test)_([0-9A-Za-z]{36})", re.ASCII)


@dataclass(frozen=True, slots=True)
class APIKey:
    """A well-formed key; `body` is the secret part, so it is kept out of `repr`."""

    family: KeyFamily
    mode: KeyMode
    body: str = field(repr=False)

    @property
    def secret(self) -> str:
        """The key as its owner sends it."""
        return f"{self.family}_{self.mode}_{self.body}"

    @property
    def key_hash(self) -> str:
        """SHA-256 (hex) of the part after the prefix, as stored; 178 random bits need no key stretching."""
        return hashlib.sha256(self.body.encode("ascii")).hexdigest()

    @property
    def last_four_chars(self) -> str:
        """The part of the key that lists show."""
        return self.body[-4:]


def mint(mode: KeyMode, *, family: KeyFamily = "sb") -> APIKey:
    """Return a new random key."""
    digits = random_base62(RANDOM_DIGITS)
    return APIKey(family, mode, digits + _checksum(digits))


def parse(text: str) -> APIKey | None:
    """Parse a key; return `None` if the text is not a key or its checksum is wrong."""
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    body = match[3]
    if _checksum(body[:RANDOM_DIGITS]) != body[RANDOM_DIGITS:]:
        return None
    family: KeyFamily = "sb" if match[1] == "sb" else "alef_sk"
    mode: KeyMode = "live" if match[2] == "live" else "test"
    return APIKey(family, mode, body)


def random_base62(digits: int) -> str:
    """Return that many random base62 digits, 5.95 bits each."""
    text = ""
    while len(text) < digits:
        text += secrets.token_bytes(2 * digits).translate(_DIGIT_OF_BYTE, _UNUSED_BYTES).decode()
    return text[:digits]


def _checksum(digits: str) -> str:
    number = zlib.crc32(digits.encode("ascii"))
    out = ""
    for _ in range(CHECKSUM_DIGITS):
        number, digit = divmod(number, 62)
        out = BASE62[digit] + out
    return out
