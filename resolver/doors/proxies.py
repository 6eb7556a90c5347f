"""Who asks when proxies stand in between: what ``X-Forwarded-For`` and PROXY headers may tell.

Pure. What must stay true: nobody becomes a client of this machine, or another than it is, by what
it writes itself: a header counts only from a proxy that the settings name, and whether one comes is
settled beforehand, never guessed (section 2 of the PROXY protocol).
"""

import ipaddress
import struct
from collections.abc import Collection, Sequence
from typing import NamedTuple

from resolver.dns.asker import Network, is_within

MAX_HOPS = 32
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
MAX_HEADER = 2_048
"""Octets of a PROXY header: its addresses have 36 at most, the rest are TLVs, which are skipped."""

_HEAD = len(SIGNATURE) + 4
_LOCAL, _PROXY, _UNSPECIFIED = 0x20, 0x21, 0x00
_ADDRESSES = {0x11: (4, 12), 0x12: (4, 12), 0x21: (16, 36), 0x22: (16, 36)}
"""By family and transport (IPv4 or IPv6, stream or datagram): octets of an address, and of both
with their ports."""


class BadHeader(ValueError):
    """No PROXY header of version 2, or not one that is taken here."""


class ProxyHeader(NamedTuple):
    """What a proxy says before the client's own octets."""

    length: int
    """Octets, TLVs included."""
    client: str | None
    """The client's address; None: the proxy speaks for itself."""


def read_header(octets: bytes | bytearray) -> ProxyHeader | None:
    """The PROXY header that ``octets`` begin with (version 2; section 2.2 of the protocol of
    2020/03/05). None: more octets are needed. Raises BadHeader."""
    if octets[: len(SIGNATURE)] != SIGNATURE[: len(octets)]:
        raise BadHeader("there is no PROXY header of version 2")
    if len(octets) < _HEAD:
        return None
    command, family, length = struct.unpack_from("!BBH", octets, len(SIGNATURE))
    if command not in (_LOCAL, _PROXY) or length > MAX_HEADER - _HEAD:
        raise BadHeader("the PROXY header has another version or command, or is too long")
    if len(octets) < _HEAD + length:
        return None
    if command == _LOCAL or family == _UNSPECIFIED:
        return ProxyHeader(_HEAD + length, None)
    size, both = _ADDRESSES.get(family, (0, 0))
    if not size or length < both:
        raise BadHeader("the PROXY header has no IP addresses")
    address = ipaddress.ip_address(bytes(octets[_HEAD : _HEAD + size]))
    return ProxyHeader(_HEAD + length, str(getattr(address, "ipv4_mapped", None) or address))


def client_address(peer: str, forwarded: Sequence[str], proxies: Collection[Network]) -> str | None:
    """The address (text) of the client behind ``peer``; None where it cannot be known.

    ``forwarded`` are the headers X-Forwarded-For in their order. The client is the right-most
    address that is none of ``proxies``, for all to the left of it is what it wrote itself. Where
    one of this machine speaks for others and is not named, it is not known who they are.
    """
    hops = [hop.strip() for header in forwarded for hop in header.split(",")]
    if not hops:
        return peer
    if not is_within(peer, proxies):
        return None if ipaddress.ip_address(peer.partition("%")[0]).is_loopback else peer
    address: str | None = None
    for hop in reversed(hops[-MAX_HOPS:]):
        try:
            address = str(ipaddress.ip_address(hop.strip("[]")))
        except ValueError:
            return None
        if not is_within(address, proxies):
            break
    return address
