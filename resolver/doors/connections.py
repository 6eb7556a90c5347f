"""The connections of one door: how many there may be, of whom, and how long one may let us wait.

One mechanism for DNS over TCP, TLS and HTTPS and for the API. What must stay true:
- their number is bounded in all and for each address (an IPv6 /64 counts as one); a proxy that the
  settings name speaks for many and has no bound of its own;
- where there is no room, a newcomer takes the place of the connection that has let us wait longest,
  of the same address where that one's share is used up; who is owed a reply keeps its place;
- a connection that neither asks a whole question nor takes a reply for ``idle`` seconds is ended,
  whatever octets trickle in, and cut off if it has not gone after as many more.
"""

import asyncio
import ipaddress
from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Any, Protocol

from twisted.internet import protocol
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface import implementer

from resolver.dns.asker import Network, is_within
from resolver.doors.listening import tcp_socket
from resolver.doors.proxies import BadHeader, read_header

IDLE = 10.0
MAX_CONNECTIONS = 512
MAX_PER_ADDRESS = 64
MAX_PER_LOOPBACK = 384  # whole resolvers stand in front there, and they leave room for others


class Client(Protocol):
    """A connection as its place knows it."""

    def is_owed(self) -> bool:
        """Whether it waits for us: it has asked, and reads."""

    def time_out(self) -> None:
        """End, after what is written has left."""

    def cut_off(self) -> None:
        """End at once."""


class Place:
    """That of one connection; ``Places.take`` gives it."""

    def __init__(self, places: "Places", address: str, client: Client) -> None:
        self.client = client
        self.address = address
        self._places = places
        self._ending = False
        self.since = places.reactor.seconds()
        """From when on it lets us wait, in the reactor's seconds."""
        self._timer = places.reactor.callLater(places.idle, self._look_at_the_clock)

    def progress(self) -> None:
        """It has asked something whole, or taken a reply."""
        self.since = self._places.reactor.seconds()

    def end_within(self, seconds: float) -> None:
        """It is being ended, and may take so long."""
        if not self._ending:
            self._ending = True
            self._timer.reset(seconds)

    def leave(self) -> None:
        """The connection has ended, or must count no more. May be called twice."""
        if self._timer.active():
            self._timer.cancel()
        self._places.free(self)

    def _look_at_the_clock(self) -> None:
        places = self._places
        if self._ending:
            self.client.cut_off()
            return
        left = self.since + places.idle - places.reactor.seconds()
        if self.client.is_owed():
            left = places.idle  # each wait of ours has an end of its own
        over = left <= 0
        self._timer = places.reactor.callLater(
            places.idle if over else left, self._look_at_the_clock
        )
        if over:
            places.outcomes["idle"] += 1
            self._ending = True
            self.client.time_out()


class Places:
    """All places of a door. ``reactor`` gives the time; ``idle`` is in seconds."""

    def __init__(
        self,
        reactor: Any,
        *,
        idle: float = IDLE,
        max_connections: int = MAX_CONNECTIONS,
        max_per_address: int = MAX_PER_ADDRESS,
        max_per_loopback: int = MAX_PER_LOOPBACK,
        proxies: Collection[Network] = (),
    ) -> None:
        self.reactor = reactor
        self.idle = idle
        self.proxies = proxies
        self._most = max_connections
        self._most_of_one = {False: max_per_address, True: max_per_loopback}
        self._taken: set[Place] = set()
        self._shares: defaultdict[str, set[Place]] = defaultdict(set)
        self.outcomes: Counter[str] = Counter()
        """"idle" (ended because it let us wait), "made room", "too many"."""

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, client: Client, host: str) -> Place | None:
        """A place for ``client``, who comes from ``host`` (an IP address). None: there is no
        room."""
        address, loopback = peer_key(host)
        most = self._most if is_within(host, self.proxies) else self._most_of_one[loopback]
        if len(self._shares[address]) >= most:
            room = self._make_room(self._shares[address])
        else:
            room = len(self._taken) < self._most or self._make_room(self._taken)
        if not room:
            self.outcomes["too many"] += 1
            return None
        place = Place(self, address, client)
        self._shares[address].add(place)
        self._taken.add(place)
        return place

    def free(self, place: Place) -> None:
        """Somebody else may have this place."""
        self._taken.discard(place)
        self._shares[place.address].discard(place)
        if not self._shares[place.address]:
            del self._shares[place.address]

    def clear(self) -> None:
        """Cut off every connection."""
        for place in list(self._taken):
            place.client.cut_off()

    def _make_room(self, among: set[Place]) -> bool:
        waiting = [place for place in among if not place.client.is_owed()]
        if not waiting:
            return False
        self.outcomes["made room"] += 1
        longest = min(waiting, key=lambda place: place.since)
        longest.client.cut_off()
        longest.leave()  # at once, or the next newcomer would choose it again
        return True


class BehindProxies(protocol.Factory):
    """Makes the connections of ``inner``; those from a proxy of ``places`` have to begin with a
    PROXY header, and are then those of the client that it names."""

    noisy = False

    def __init__(self, inner: Any, places: Places) -> None:
        self.inner = inner
        self.places = places

    def buildProtocol(self, addr: Any) -> Any:
        if not is_within(addr.host, self.places.proxies):
            return self.inner.buildProtocol(addr)
        begun = _Proxied(self, addr)
        place = self.places.take(begun, addr.host)
        if place is None:
            return None
        begun.place = place
        return begun


@implementer(IHalfCloseableProtocol)
class _Proxied(protocol.Protocol):
    """A proxy's connection until its header is here."""

    place: Place

    def __init__(self, behind: BehindProxies, addr: Any) -> None:
        self._behind = behind
        self._addr = addr
        self._received = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        try:
            header = read_header(self._received)
        except BadHeader:
            self.cut_off()
            return
        if header is None:
            return
        self.place.leave()
        addr = self._addr
        if header.client is not None:
            kind = IPv6Address if ":" in header.client else IPv4Address
            addr = kind("TCP", header.client, 0)
        inner = self._behind.inner.buildProtocol(addr)
        if inner is None:
            self.cut_off()
            return
        self.transport.protocol = inner
        inner.makeConnection(self.transport)
        if len(self._received) > header.length:
            inner.dataReceived(bytes(self._received[header.length :]))

    def readConnectionLost(self) -> None:
        self.cut_off()

    def writeConnectionLost(self) -> None:
        self.cut_off()

    def connectionLost(self, reason: object = None) -> None:
        self.place.leave()

    # Client, as its place knows it

    def is_owed(self) -> bool:
        return False

    def time_out(self) -> None:
        self.cut_off()

    def cut_off(self) -> None:
        self.transport.abortConnection()


class StreamDoor:
    """One listening address, until ``stop``. ``factory`` makes its connections, which ``places``
    bounds; the proxies of ``places`` have to send PROXY headers. ``flag`` is what chooses another
    port. Raises PortUnavailable."""

    def __init__(
        self, reactor: Any, host: str, port: int, factory: Any, places: Places, flag: str
    ) -> None:
        if places.proxies:
            factory = BehindProxies(factory, places)
        listening = tcp_socket(host, port, flag)
        try:
            # The reactor keeps a duplicate of the descriptor.
            self._port = reactor.adoptStreamPort(listening.fileno(), listening.family, factory)
        finally:
            listening.close()
        self.places = places
        where = self._port.getHost()
        self.host: str = where.host
        self.port: int = where.port

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        stopped = self._port.stopListening()
        self.places.clear()
        if stopped is not None:
            await stopped.asFuture(asyncio.get_running_loop())


def peer_key(host: str) -> tuple[str, bool]:
    """The address a client is counted under, and whether it is this machine. An IPv6 client has a
    whole /64 to itself (RFC 6177), so it is counted by that."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 6 and not address.is_loopback:
        return str(ipaddress.ip_network((address, 64), strict=False)), False
    return str(address), address.is_loopback
