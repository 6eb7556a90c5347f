"""How many replies, and how dear ones, one network may draw: response rate limiting and budgets.

Addresses of datagrams can be forged, so the one who is flooded is not the one who asks. What must
stay true:
- a network (IPv4 /24, IPv6 /56) gets so many like replies a second, and so many in all; of the
  surplus every ``slip``-th is answered with TC or BADCOOKIE, by which an honest client gets through
  over TCP or with a cookie, and the rest with silence;
- work is rationed by what it costs: a reply from memory is cheap, one made anew is not, one whose
  data must be looked for in the network is dear to others too;
- loopback is never limited; the table is bounded, and the network seen longest ago goes first;
- no clock: ``now`` is seconds of a clock that never goes back.
"""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from resolver.dns.codes import Rcode
from resolver.dns.cookies import address_octets
from zonefiles.dht.limits import Allowance

BURST_SECONDS = 2.0
"""So many seconds' worth may come at once."""
MAX_BUCKETS = 50_000
"""About 15 MB when full."""
IN_ALL = 10
"""A network may draw so many times as many replies in all as like ones."""


class Cost(Enum):
    """What a reply takes."""

    COMPUTED = "made anew from what this node holds"
    FETCHED = "looked for in the network"


class Verdict(Enum):
    """What becomes of a reply."""

    SEND = "sent"
    SLIP = "answered with TC or BADCOOKIE"
    DROP = "dropped"


@dataclass(frozen=True, slots=True)
class Rates:
    """Replies a second to one network; 0: no limit."""

    alike: float = 50.0
    """To one question, or of one kind of refusal."""
    computed: float = 500.0
    fetched: float = 20.0
    slip: int = 2
    """Of what is too much, one in so many is answered; 0: none."""


def allowance(rate: float, most: int = MAX_BUCKETS) -> Allowance:
    """``rate`` a second for each of ``most`` keys, and ``BURST_SECONDS`` of them saved up."""
    return Allowance(rate, max(1.0, rate * BURST_SECONDS), max_sources=most)


class ReplyRates:
    """Response rate limiting, for doors whose clients' addresses may be forged."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._allowance = allowance(rates.alike)
        self._surplus = 0

    def judge(self, address: str, packet: bytes, reply: bytes, now: float) -> Verdict:
        """What becomes of ``reply`` to ``packet`` from ``address``."""
        if not self._rates.alike or is_exempt(address):
            return Verdict.SEND
        network = network_of(address)
        alike = self._allowance.take((network, reply_class(packet, reply)), now)
        if alike and self._allowance.take(network, now, 1 / IN_ALL):
            return Verdict.SEND
        self._surplus += 1
        slip = self._rates.slip
        return Verdict.SLIP if slip and self._surplus % slip == 0 else Verdict.DROP


class WorkBudget:
    """Who may still have work done. Clients that proved their address have an account of their
    own, so that forged questions cannot use it up."""

    def __init__(self, rates: Rates) -> None:
        limited = {Cost.COMPUTED: rates.computed, Cost.FETCHED: rates.fetched}
        self._allowances = {cost: allowance(rate) for cost, rate in limited.items() if rate}

    def admits(self, address: str, cost: Cost, proven: bool, now: float) -> bool:
        allowed = self._allowances.get(cost)
        if allowed is None or is_exempt(address):
            return True
        return allowed.take((network_of(address), proven), now)


def reply_class(packet: bytes, reply: bytes) -> bytes:
    """What a reply is like: replies to one question are alike, and so are all that say there is no
    such name, and all refusals and failures; else a flood would only need ever new names."""
    rcode = reply[3] & 0xF if len(reply) > 3 else 0
    if rcode == Rcode.NXDOMAIN:
        return b"\x03"
    if rcode != Rcode.NOERROR:
        return b"\xff"
    end = packet.find(0, 12)
    return packet[12:end].lower() + packet[end : end + 5]


def is_exempt(address: str) -> bool:
    """Whether this is the machine itself, or a door that knows no addresses."""
    return address.startswith("127.") or address in ("", "::1")


@lru_cache(maxsize=4_096)
def network_of(address: str) -> bytes:
    """The octets of the /24 or /56 around an address."""
    octets = address_octets(address)
    return octets[:3] if len(octets) == 4 else octets[:7]
