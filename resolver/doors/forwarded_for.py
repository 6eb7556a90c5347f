"""Who asks when proxies stand in between: what ``X-Forwarded-For`` may be believed.

Pure. What must stay true: nobody becomes a client of this machine, or another than it is, by what
it writes itself: a header counts only from a proxy that the settings name.
"""

import ipaddress
from collections.abc import Collection, Sequence

from resolver.dns.asker import Network, is_within

MAX_HOPS = 32


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
