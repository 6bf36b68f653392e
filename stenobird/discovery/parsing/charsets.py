"""From the bytes of a page or feed to its text, whatever it claims. Runs in the parsing child."""

from __future__ import annotations

import codecs
import re
from typing import Final

from bs4.dammit import EncodingDetector

_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})[\"']", re.IGNORECASE)
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What the web calls Latin-1 or ASCII is Windows-1252 in browsers, and so for the other families.
_WIDER: Final = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-9": "cp1254",
}


def decode_xml(body: bytes, content_type: str) -> str:
    """Decode a feed: the byte order mark, then the XML declaration, then the header, then UTF-8."""
    declared = _XML_ENCODING.search(body[:1024])
    return _decode(
        body, [declared[1].decode("ascii", "replace") if declared else None, _header(content_type)]
    )


def decode_html(body: bytes, content_type: str) -> str:
    """Decode a page: the byte order mark, then the header, then its meta element, then UTF-8."""
    declared = EncodingDetector.find_declared_encoding(body[:4096], is_html=True)
    return _decode(body, [_header(content_type), declared if isinstance(declared, str) else None])


def _header(content_type: str) -> str | None:
    match = _CHARSET.search(content_type)
    return match[1] if match else None


def _decode(body: bytes, claims: list[str | None]) -> str:
    for bom, encoding in _BOMS:
        if body.startswith(bom):
            return body[len(bom) :].decode(encoding, "replace")
    try:
        # What is valid UTF-8 and not ASCII is UTF-8, whatever it claims: that does not happen by chance.
        text = body.decode()
    except UnicodeDecodeError:
        pass
    else:
        if not body.isascii() or not any(_is_stateful(claim) for claim in claims):
            return text
    for claim in claims:
        known = _known(claim)
        if known not in {None, "utf-8"}:
            return body.decode(known or "utf-8", "replace")
    forgiving = body.decode("utf-8", "replace")
    wide_bytes = len(body) - len(body.decode("ascii", "ignore"))
    # A page that is cut, or has one bad comment, is still UTF-8; one where every umlaut fails is not.
    return forgiving if forgiving.count("\ufffd") * 4 < wide_bytes else body.decode("cp1252", "replace")


def _known(claim: str | None) -> str | None:
    """Return the codec to use for a claimed encoding, `None` for one that is no text encoding here."""
    if not claim:
        return None
    try:
        info = codecs.lookup(claim)
    except (LookupError, ValueError):
        return None
    if not getattr(info, "_is_text_encoding", True) or info.name in {
        "utf-7",
        "idna",
        "punycode",
        "unicode_escape",
    }:
        return None
    if info.name.startswith(("utf-16", "utf-32")):
        # A declaration that can be read as ASCII was not written in UTF-16.
        return None
    return _WIDER.get(info.name, info.name)


def _is_stateful(claim: str | None) -> bool:
    return (_known(claim) or "").startswith(("iso2022", "hz"))
