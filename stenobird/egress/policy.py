"""Decides which URLs and addresses a request may use: syntax, scheme, port, host name and IP address.

This module has the only URL parser in `egress`. Its result is used for the connection, the request line and
the `Host` header, so no second parser can read the URL differently from the one that checked it.

The table of public addresses is our own, because `ipaddress.is_global` lets many unusual addresses through.
Sources: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890 and its updates), the model
of stripe/smokescreen, and the metadata addresses of the clouds. Blocks that lead to another network by
translation (NAT64, 6to4, Teredo, v4-mapped, ISATAP) are refused entirely, whatever IPv4 address they contain.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeAlias

import idna

from stenobird.errors import DestinationForbidden, InvalidURL

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_URL_CHARACTERS = 4096
"""Longest URL, as given and once percent-encoded."""

_MAX_NAME_CHARACTERS = 253
"""The longest name that DNS can carry, without its root dot."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain"})
_INTERNAL_NAMES = frozenset({
    "kubernetes.default", "metadata.goog", "metadata.packet.net", "metadata.platformequinix.com",
    "metadata.tencentyun.com",
})  # fmt: skip
_INTERNAL_SUFFIXES = (
    ".alt", ".arpa", ".corp", ".home", ".i2p", ".internal", ".intranet", ".lan", ".local", ".localdomain",
    ".mail", ".onion", ".private", ".svc",
)  # fmt: skip

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DOT = ".\u3002\uff0e\uff61"  # the characters that UTS 46 maps to one
_DOTS = re.compile(f"[{_DOT}]")
_QUAD = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")
_PLAIN = frozenset(b"!$%&'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~")
_TO_ENCODE = re.compile(f"[^{re.escape(bytes(sorted(_PLAIN)).decode())}]")
_UNUSABLE = (
    # Controls, spaces of all scripts, and halves of surrogate pairs.
    (
        re.compile(r"[\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ud800-\udfff]"),
        "The URL contains a space or a control character. Write it percent-encoded, or leave it out.",
    ),
    (
        re.compile(r"\\"),
        "The URL contains a backslash. Write / between its parts, or %5C for a backslash in a name.",
    ),
    (
        re.compile(r"%0[0ad]", re.IGNORECASE),
        "The URL contains an encoded line break or NUL (%0D, %0A, %00). Leave it out.",
    ),
)


@dataclass(frozen=True, slots=True)
class PublicURL:
    """A URL that passed the policy, in the form in which it will be requested.

    `host` is lower-case ASCII (punycode for international names) or an IP address without brackets. `target`
    is the path and query, percent-encoded and never empty. `fragment` follows the # and is percent-encoded
    too. There is no user and no password.
    """

    scheme: str
    host: str
    port: int
    target: str
    fragment: str = ""

    @property
    def address(self) -> IPAddress | None:
        """The host as an IP address, if it is one."""
        return _as_address(self.host)

    @property
    def authority(self) -> str:
        """Host and, unless it is the scheme's default, port: the value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What must be equal for credentials to be sent after a redirect."""
        return (self.scheme, self.host, self.port)

    def __str__(self) -> str:
        fragment = f"#{self.fragment}" if self.fragment else ""
        return f"{self.scheme}://{self.authority}{self.target}{fragment}"

    def for_request(self) -> PublicURL:
        """Return the URL without its fragment, which is not sent but may name an episode."""
        return replace(self, fragment="")


WEB_PORTS: Final = frozenset({80, 443, 8000, 8080, 8443})
"""Ports on which web servers listen (8000: Icecast and its archives), but no mail servers or shells."""


class EgressPolicy:
    """Checks URLs without the network (`check_url`), and addresses once names are resolved.

    `allow` lists networks that may be reached although they are not public: literal addresses in them pass,
    `localhost` passes if one of them is a loopback network, and internal names (`*.internal`, single labels
    …) pass if one of them is not, because then the addresses decide. Unusual spellings of addresses never
    pass. `ports` are the allowed ports, `None` for all.
    """

    def __init__(self, allow: Sequence[IPNetwork] = (), ports: frozenset[int] | None = WEB_PORTS) -> None:
        self.allow = tuple(allow)
        self.ports = ports
        self._allows_loopback = any(network.network_address.is_loopback for network in self.allow)
        self._allows_internal = any(not network.network_address.is_loopback for network in self.allow)

    def check_url(self, url: str) -> PublicURL:
        """Return the URL as it will be requested, without using the network.

        Raises only `InvalidURL`, whatever the text is.
        """
        if len(url) > MAX_URL_CHARACTERS:
            _refuse(f"The URL has more than {MAX_URL_CHARACTERS} characters.", "Send a shorter one.")
        for pattern, message in _UNUSABLE:
            if pattern.search(url):
                raise InvalidURL(message)
        parts = _URL.fullmatch(url)
        if parts is None:
            _refuse(
                "The URL does not start with http:// or https://.", "Send a web address such as https://…"
            )
        scheme = parts["scheme"].lower()
        host, port = self._check_authority(scheme, parts["authority"])
        target = _encode(parts["path"] or "/") + _encode(parts["query"] or "")
        checked = PublicURL(scheme, host, port, target, _encode((parts["fragment"] or "")[1:]))
        if len(str(checked)) > MAX_URL_CHARACTERS:
            _refuse(
                f"The URL has more than {MAX_URL_CHARACTERS} characters once encoded.", "Send a shorter one."
            )
        return checked

    def allows_address(self, address: IPAddress) -> bool:
        """Return whether a connection to the address may be opened.

        If the operator has allowed a block that translates to IPv4 (NAT64 on an IPv6-only network), the IPv4
        address behind it is checked as well.
        """
        if is_public(address):
            return True
        if not any(address in network for network in self.allow):
            return False
        inner = embedded_v4(address)
        return inner is None or self.allows_address(inner)

    def is_local_name(self, host: str) -> bool:
        """Return whether the name means this machine by definition, not by DNS (RFC 6761)."""
        return host in _LOCAL_NAMES or host.endswith(".localhost")

    def check_address(self, address: IPAddress, *, host: str) -> None:
        """Raise `DestinationForbidden`, with the host but not the address, unless it may be reached."""
        if not self.allows_address(address):
            raise DestinationForbidden(
                f"{host} leads to an address that is not public, so it is not opened.",
                remedy="Send a URL that anyone on the internet can open.",
            )

    def _check_authority(self, scheme: str, authority: str) -> tuple[str, int]:
        if "@" in authority:
            _refuse("The URL contains a user name or password.", "Send a URL that opens without login.")
        if authority.startswith("["):
            literal, bracket, rest = authority[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                _refuse("The URL's [address] is not closed or is followed by more.", "Check it for typos.")
            host, port_text = self._check_v6(literal), rest[1:]
        else:
            name, _, port_text = authority.partition(":")
            host = self._check_host(name)
        return host, self._check_port(scheme, port_text)

    def _check_port(self, scheme: str, text: str) -> int:
        if not text:
            port = DEFAULT_PORTS[scheme]
        elif not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535):
            _refuse("The URL's port is not a number from 1 to 65535.", "Check it for typos.")
        else:
            port = int(text)
        if self.ports is not None and port not in self.ports:
            allowed = ", ".join(str(number) for number in sorted(self.ports))
            _refuse(
                f"Port {port} is not allowed.", f"Send a URL that is served on one of these ports: {allowed}."
            )
        return port

    def _check_v6(self, literal: str) -> str:
        address = _as_address(literal)
        if not isinstance(address, ipaddress.IPv6Address) or address.scope_id is not None:
            _refuse("The text in [ ] is not an IPv6 address.", "Check it for typos.")
        if not self.allows_address(address):
            _refuse("The URL's address is not public.", "Send one that anyone on the internet can open.")
        return address.compressed

    def _check_host(self, name: str) -> str:
        if not name:
            _refuse(
                "The URL has no host name.", "Send a web address such as https://example.com/episode.mp3."
            )
        if len(name) > _MAX_NAME_CHARACTERS + 1:
            _refuse("The URL's host name is too long.", "Check it for typos.")
        if "%" in name:
            _refuse("The URL's host name is percent-encoded.", "Write it plainly.")
        host = _to_ascii(name)
        labels = host.split(".")
        if len(host) > _MAX_NAME_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
            _refuse("The URL's host name is malformed.", "Check it for typos.")
        if _NUMBER.fullmatch(labels[-1]) or _DOTS.split(name.rstrip(_DOT))[-1].isnumeric():
            # A host that ends in a number is an address (WHATWG URL), and resolvers accept unusual spellings.
            # Only the plain spelling passes, which every parser reads in the same way.
            address = _as_address(host) if _QUAD.fullmatch(name) else None
            if address is None:
                _refuse(
                    "The URL's host is a number, not a name.",
                    "Write an address as four plain decimal numbers, or send a host name.",
                )
            if not self.allows_address(address):
                _refuse("The URL's address is not public.", "Send one that anyone on the internet can open.")
            return host
        self._check_name(host)
        return host

    def _check_name(self, host: str) -> None:
        is_internal = "." not in host or host in _INTERNAL_NAMES or host.endswith(_INTERNAL_SUFFIXES)
        allowed = (
            self._allows_loopback if self.is_local_name(host) else self._allows_internal or not is_internal
        )
        if not allowed:
            _refuse(
                f'The host name "{host[:80]}" is not public.',
                "Send one that anyone on the internet can open.",
            )


def _refuse(what: str, remedy: str) -> NoReturn:
    raise InvalidURL(f"{what} {remedy}")


def _as_address(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _to_ascii(name: str) -> str:
    """Return the name in lower-case ASCII without its root dot, mapped as browsers do (UTS 46)."""
    try:
        host = (
            name.lower() if name.isascii() else idna.encode(name, uts46=True, std3_rules=True).decode("ascii")
        )
    except UnicodeError as exc:
        raise InvalidURL(
            "The URL's host name is not a valid international name. Check it for typos."
        ) from exc
    return host.removesuffix(".").lower()


def _encode(text: str) -> str:
    """Percent-encode the characters that a request line can't have; existing encoding is kept."""
    if not _TO_ENCODE.search(text):
        return text
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode())


IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

NOT_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # "this network"; 0.0.0.0 reaches the machine itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 is a cloud's metadata service
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's wire server, reachable from inside only
        "169.254.0.0/16",  # link-local; 169.254.169.254 is the metadata service of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # IETF protocol assignments; 192.0.0.192 is Oracle's metadata service
        "192.0.2.0/24",
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
    )
)
PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
"""All global unicast addresses; others (::1, fc00::/7, 64:ff9b::/96 …) are refused."""
NOT_PUBLIC_V6 = tuple(
    ipaddress.IPv6Network(block)
    for block in (
        "2001::/23",  # IETF protocol assignments: Teredo, benchmarking, ORCHID, DRIP
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # 6bone, returned
        "3fff::/20",  # documentation
    )
)
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""Upper half of an interface identifier whose lower half is an IPv4 address (RFC 5214)."""

# Blocks whose addresses contain an IPv4 address, and by how many bits it is shifted.
_CARRIERS = tuple(
    (ipaddress.IPv6Network(block), shift)
    for block, shift in (
        ("::/96", 0),  # v4-compatible
        ("::ffff:0:0/96", 0),  # v4-mapped
        ("::ffff:0:0:0/96", 0),  # v4-translated (SIIT)
        ("64:ff9b::/96", 0),  # NAT64
        ("64:ff9b:1::/48", 0),  # NAT64 of a local network, if its prefix is /96
        ("2002::/16", 80),  # 6to4
    )
)
_TEREDO = ipaddress.IPv6Network("2001::/32")


def is_public(address: IPAddress) -> bool:
    """Return whether the address means the same host everywhere on the internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in block for block in NOT_PUBLIC_V4)
    if address.scope_id is not None or address not in PUBLIC_V6:
        return False
    if any(address in block for block in NOT_PUBLIC_V6):
        return False
    inner = embedded_v4(address)
    return inner is None or is_public(inner)


def embedded_v4(address: IPAddress) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address to which an IPv6 address is translated, `None` if it contains none."""
    if isinstance(address, ipaddress.IPv4Address) or int(address) <= 1:
        return None  # :: and ::1 are not v4-compatible addresses
    number = int(address)
    for block, shift in _CARRIERS:
        if address in block:
            return ipaddress.IPv4Address((number >> shift) & 0xFFFF_FFFF)
    if address in _TEREDO:
        return ipaddress.IPv4Address(~number & 0xFFFF_FFFF)
    if (number >> 32) & 0xFFFF_FFFF in _ISATAP:
        return ipaddress.IPv4Address(number & 0xFFFF_FFFF)
    return None


# --- look-ups -----------------------------------------------------------------------------------------------

_THREADS = 8


class Resolver(Protocol):
    """Looks up host names. Nothing is cached: every new connection is checked with current addresses."""

    async def resolve(self, host: str, port: int) -> Sequence[IPAddress]:
        """Return every address of the name, the preferred first. Raises `OSError` if there is none."""

    async def aclose(self) -> None:
        """Free the resolver's resources."""


class SystemResolver:
    """`getaddrinfo` on at most eight threads; further look-ups wait, within their caller's timeout.

    A thread that is stuck in a look-up ends at the system's resolver timeout; closing does not wait for it.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="stenobird-dns")

    async def resolve(self, host: str, port: int) -> Sequence[IPAddress]:
        """Return every address that the system knows for the name, in its order of preference (RFC 6724)."""
        loop = asyncio.get_running_loop()
        try:
            texts = await loop.run_in_executor(self._threads, _look_up, host, port)
        except UnicodeError as exc:
            raise socket.gaierror(socket.EAI_NONAME, "The name can't be looked up") from exc
        return [ipaddress.ip_address(text) for text in texts]

    async def aclose(self) -> None:
        """Cancel the look-ups that have not started."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[str]:
    return [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
