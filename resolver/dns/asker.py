"""Who asks, and through what kind of door: what a reply may depend on beside the packet."""

import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Asker(NamedTuple):
    """One client as its door knows it."""

    address: str = ""
    """IP address as text; empty where the door knows none, and then nothing is allowed to it."""
    encrypted: bool = False
    """Nobody on the way can read the reply, so that its length is worth hiding (RFC 7830)."""
    keeps_connection: bool = False
    """A DNS connection that stays open (RFC 7828): TCP and TLS, neither UDP nor HTTP."""
    may_recurse: bool = False
    """Ordinary DNS is asked for this one (RA). The resolver says so, no door does."""
    more: Callable[[bytes], Awaitable[None]] | None = None
    """Sends a message of a reply that has several (AXFR), and returns when there is room for the
    next; None where a reply is one message."""


UNKNOWN = Asker()


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Whether ``address`` (text, perhaps with a scope) lies in one of ``networks``; what is no
    address does not."""
    try:
        asker = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(asker, ipaddress.IPv6Address) and asker.ipv4_mapped is not None:
        asker = asker.ipv4_mapped
    return any(asker in network for network in networks)


def is_public(address: str) -> bool:
    """Whether ``address`` (text) is one of the open Internet, that strangers may send us to."""
    it = ipaddress.ip_address(address)
    if isinstance(it, ipaddress.IPv6Address) and it.ipv4_mapped is not None:
        it = it.ipv4_mapped
    return it.is_global and not it.is_multicast
