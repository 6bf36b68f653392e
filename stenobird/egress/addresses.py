"""Which IP addresses are public, and the look-up of names.

The table is our own, because `ipaddress.is_global` lets many unusual addresses through.

Sources: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890 and its updates), the model
of stripe/smokescreen, and the metadata addresses of the clouds. Blocks that lead to another network by
translation (NAT64, 6to4, Teredo, v4-mapped, ISATAP) are refused entirely, whatever IPv4 address they contain.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

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
