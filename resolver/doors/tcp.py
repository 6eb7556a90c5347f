"""The TCP door: messages behind two bytes of length (RFC 1035 4.2.2, RFC 7766).

What must stay true:
- replies leave as they are ready, in any order (RFC 7766 6.2.1.1), those at hand in one write per
  burst;
- one turn of the reactor answers at most ``BURST`` questions of a connection; the rest waits for
  the next turn, and nothing more is read meanwhile, so that nobody starves the others;
- one connection has at most ``max_under_way`` questions waiting for data and about ``MAX_UNSENT``
  bytes unsent; beyond either nothing more is read from it until there is room;
- a connection that neither asks a whole question nor takes a reply for ``idle`` seconds is closed,
  whatever bytes trickle in;
- the number of connections is bounded in all and per address; when all are taken, the one that
  has been idle longest makes room.
"""

import asyncio
import ipaddress
import logging
from collections import Counter
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from resolver.dns.asker import Asker
from resolver.dns.message import STREAM_LIMIT
from resolver.doors.listening import tcp_socket
from resolver.resolve import LaterReply, Reply, Resolver

log = logging.getLogger("blockstore.resolver")

IDLE = 10.0
BURST = 64
MAX_UNDER_WAY = 100
MAX_UNSENT = 65_536
MAX_CONNECTIONS = 512
MAX_PER_ADDRESS = 64
MAX_PER_LOOPBACK = 384  # whole resolvers stand in front there, and they leave room for others
SMALLEST_MESSAGE = 12


@implementer(IHalfCloseableProtocol, IPushProducer)
class DnsConnection(Protocol):
    """One client."""

    factory: "DnsConnections"

    def __init__(self, address: str, asker: Asker) -> None:
        self.address = address
        self._asker = asker._replace(more=self._send_more)
        self._buffer = bytearray()
        self._under_way: set[asyncio.Task[Reply]] = set()
        self._unread = False  # the peer takes no replies: the transport's buffer is full
        self._half_closed = False
        self._reading = True
        self._closing = False
        self._gone = False
        self._last_progress = 0.0
        self._timer: Any = None
        self._room = asyncio.Event()  # set when the peer has read what there was
        self._next_turn: Any = None  # the call that goes on with what is whole in the buffer

    @property
    def idle_since(self) -> float | None:
        """When it last did something, if nothing is under way; in the reactor's seconds."""
        return None if self._under_way else self._last_progress

    # Protocol

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        # The transport calls pauseProducing when more than its bufferSize, 64 KiB, is unsent.
        self.transport.registerProducer(self, True)
        self._last_progress = self.factory.reactor.seconds()
        self._timer = self.factory.reactor.callLater(self.factory.idle, self._look_at_the_clock)
        self.factory.connected(self)

    def dataReceived(self, data: bytes) -> None:
        if not self._closing:
            self._buffer += data
            self._answer_what_is_whole()

    def connectionLost(self, reason: object = None) -> None:
        self._gone = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._next_turn is not None:
            self._next_turn.cancel()
        for task in list(self._under_way):
            task.cancel()
        self._buffer.clear()
        self.factory.disconnected(self)

    # IHalfCloseableProtocol: who has asked all its questions may close its side at once.

    def readConnectionLost(self) -> None:
        self._half_closed = True
        self._close_when_done()

    def writeConnectionLost(self) -> None:
        self.transport.abortConnection()

    # IPushProducer, called by the transport

    def pauseProducing(self) -> None:
        self._unread = True
        self._read_or_not()

    def resumeProducing(self) -> None:
        self._unread = False
        self._room.set()
        self._last_progress = self.factory.reactor.seconds()
        self._answer_what_is_whole()

    def stopProducing(self) -> None:
        """The transport closes; connectionLost follows."""

    # Inside

    def _go_on_next_turn(self) -> None:
        if self._next_turn is None:
            self._next_turn = self.factory.reactor.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        self._next_turn = None
        self._answer_what_is_whole()

    def _answer_what_is_whole(self) -> None:
        out: list[bytes] = []
        unsent = 0
        taken = 0
        left = BURST
        while self._has_room() and len(self._buffer) - taken >= 2:
            length = int.from_bytes(self._buffer[taken : taken + 2], "big")
            if length < SMALLEST_MESSAGE:
                self.factory.outcomes["senseless length"] += 1
                self.transport.abortConnection()
                return
            if len(self._buffer) - taken - 2 < length:
                break
            if not left:
                self._go_on_next_turn()
                break
            left -= 1
            packet = bytes(self._buffer[taken + 2 : taken + 2 + length])
            taken += 2 + length
            self.factory.outcomes["received"] += 1
            reply = self.factory.resolver.begin(packet, STREAM_LIMIT, self._asker)
            if isinstance(reply, bytes):
                out += (len(reply).to_bytes(2, "big"), reply)
                unsent += 2 + len(reply)
                if unsent > MAX_UNSENT:
                    self._write(out)
                    out, unsent = [], 0
            elif reply is not None:
                self._wait_for(reply)
        del self._buffer[:taken]
        if taken:
            self._last_progress = self.factory.reactor.seconds()
        if out:
            self._write(out)
        self._read_or_not()
        self._close_when_done()

    def _has_room(self) -> bool:
        waiting = len(self._under_way) >= self.factory.max_under_way
        later = self._next_turn is not None
        return not (self._unread or waiting or later or self._closing or self._gone)

    def _read_or_not(self) -> None:
        """Stop reading while there is no room; the kernel then holds the client back."""
        wanted = self._has_room()
        if wanted == self._reading or self._gone or self._closing or self._half_closed:
            return
        self._reading = wanted
        if wanted:
            self.transport.resumeProducing()
        else:
            self.transport.pauseProducing()

    def _write(self, out: list[bytes]) -> None:
        self.factory.outcomes["sent"] += len(out) // 2
        self.transport.write(b"".join(out))

    def _wait_for(self, later: LaterReply) -> None:
        task = asyncio.ensure_future(later)
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    async def _send_more(self, message: bytes) -> None:
        """One of several messages of a reply; returns when there is room for the next."""
        self._write([len(message).to_bytes(2, "big"), message])
        self._last_progress = self.factory.reactor.seconds()
        while self._unread:
            self._room.clear()
            await self._room.wait()
        await asyncio.sleep(0)

    def _ended(self, task: "asyncio.Task[Reply]") -> None:
        self._under_way.discard(task)
        if self._gone or task.cancelled():
            return
        reply = task.result()
        if reply is not None:
            if not self._unread:
                self._last_progress = self.factory.reactor.seconds()
            self._write([len(reply).to_bytes(2, "big"), reply])
        if self._buffer:
            self._go_on_next_turn()  # many may end in one turn, and share what it may answer
        else:
            self._read_or_not()
            self._close_when_done()

    def _close_when_done(self) -> None:
        if not self._half_closed or self._under_way or self._next_turn is not None or self._gone:
            return
        left = self._buffer
        whole_left = len(left) >= 2 and len(left) - 2 >= int.from_bytes(left[:2], "big")
        if not (whole_left and self._unread):
            self._close()

    def _close(self) -> None:
        """Let what is written leave, and end."""
        self._closing = True
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _look_at_the_clock(self) -> None:
        left = self._last_progress + self.factory.idle - self.factory.reactor.seconds()
        if self._under_way and not self._unread:
            left = self.factory.idle  # we owe it a reply, and each wait has an end of its own
        if left > 0:
            self._timer = self.factory.reactor.callLater(left, self._look_at_the_clock)
            return
        self.factory.outcomes["idle"] += 1
        if self._unread or self._closing:
            self.transport.abortConnection()
            return
        self._timer = self.factory.reactor.callLater(self.factory.idle, self._look_at_the_clock)
        self._close()


class DnsConnections(Factory):
    """All connections of one door. ``reactor`` gives the time; ``encrypted`` says that TLS lies
    between these and the client."""

    noisy = False

    def __init__(
        self,
        reactor: Any,
        resolver: Resolver,
        *,
        idle: float = IDLE,
        max_under_way: int = MAX_UNDER_WAY,
        max_connections: int = MAX_CONNECTIONS,
        max_per_address: int = MAX_PER_ADDRESS,
        max_per_loopback: int = MAX_PER_LOOPBACK,
        encrypted: bool = False,
    ) -> None:
        self.reactor = reactor
        self.resolver = resolver
        self.idle = idle
        self.max_under_way = max_under_way
        self._max_connections = max_connections
        self._max_per_address = max_per_address
        self._max_per_loopback = max_per_loopback
        self._encrypted = encrypted
        self._connections: set[DnsConnection] = set()
        self._per_address: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        """"received", "sent", "idle", "senseless length", "made room", "too many"."""

    @property
    def connections(self) -> int:
        return len(self._connections)

    def buildProtocol(self, addr: Any) -> DnsConnection | None:
        """A connection, or None to have it closed at once."""
        address, loopback = peer_key(addr.host)
        most = self._max_per_loopback if loopback else self._max_per_address
        if self._per_address[address] >= most or not self._room_for_one():
            self.outcomes["too many"] += 1
            return None
        asker = Asker(addr.host, self._encrypted, keeps_connection=True)
        connection = DnsConnection(address, asker)
        connection.factory = self
        return connection

    def connected(self, connection: DnsConnection) -> None:
        self._connections.add(connection)
        self._per_address[connection.address] += 1

    def disconnected(self, connection: DnsConnection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._per_address[connection.address] -= 1
        if not self._per_address[connection.address]:
            del self._per_address[connection.address]

    def close_all(self) -> None:
        for connection in list(self._connections):
            connection.transport.abortConnection()

    def _room_for_one(self) -> bool:
        if len(self._connections) < self._max_connections:
            return True
        idle = [c for c in self._connections if c.idle_since is not None]
        if not idle:
            return False
        self.outcomes["made room"] += 1
        longest = min(idle, key=lambda connection: connection.idle_since or 0.0)
        longest.transport.abortConnection()
        self.disconnected(longest)  # at once, or the next newcomer would choose it again
        return True


class TcpDoor:
    """One listening address. ``open_tcp`` makes it."""

    def __init__(self, port: Any, factory: DnsConnections) -> None:
        self._listening = port
        self.connections = factory
        where = port.getHost()
        self.host: str = where.host
        self.port: int = where.port

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        stopped = self._listening.stopListening()
        self.connections.close_all()
        if stopped is not None:
            await stopped.asFuture(asyncio.get_running_loop())


def open_tcp(reactor: Any, host: str, port: int, resolver: Resolver, **limits: Any) -> TcpDoor:
    """Listen on ``host`` (an IP address) and ``port`` (0: any); ``limits`` as DnsConnections has.

    Raises PortUnavailable.
    """
    listening = tcp_socket(host, port)
    factory = DnsConnections(reactor, resolver, **limits)
    try:
        # The reactor keeps a duplicate of the descriptor.
        adopted = reactor.adoptStreamPort(listening.fileno(), listening.family, factory)
    finally:
        listening.close()
    door = TcpDoor(adopted, factory)
    log.info("Answering DNS over TCP on %s port %d.", door.host, door.port)
    return door


def peer_key(host: str) -> tuple[str, bool]:
    """The address a client is counted under, and whether it is this machine. An IPv6 client has a
    whole /64 to itself (RFC 6177), so it is counted by that."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 6 and not address.is_loopback:
        return str(ipaddress.ip_network((address, 64), strict=False)), False
    return str(address), address.is_loopback
