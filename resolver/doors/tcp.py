"""The TCP door, and the same inside TLS: messages behind two bytes of length (RFC 7766, RFC 7858).

What must stay true:
- replies leave as they are ready, in any order (RFC 7766 6.2.1.1), those at hand in one write per
  burst;
- one turn of the reactor answers at most ``BURST`` questions of a connection; the rest waits for
  the next turn, and nothing more is read meanwhile, so that nobody starves the others;
- one connection has at most ``max_under_way`` questions waiting for data and about ``MAX_UNSENT``
  bytes unsent; beyond either nothing more is read from it until there is room;
- how many connections there are, and how long one may let us wait, is for ``connections``; an
  unfinished handshake is a connection that does;
- replies inside TLS 1.2 or later are padded for those who pad (RFC 8467), because nobody else can
  read their length.
"""

import asyncio
import logging
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from resolver.dns.asker import Asker
from resolver.dns.message import STREAM_LIMIT
from resolver.doors.certificate import Certificate, Encryption, TlsFactory
from resolver.doors.connections import Place, Places, StreamDoor
from resolver.doors.proxies import SIGNATURE
from resolver.resolve import LaterReply, Reply, Resolver

log = logging.getLogger("blockstore.resolver")

ALPN = b"dot"
BURST = 64
MAX_UNDER_WAY = 100
MAX_UNSENT = 65_536
SMALLEST_MESSAGE = 12


@implementer(IHalfCloseableProtocol, IPushProducer)
class DnsConnection(Protocol):
    """One client."""

    factory: "DnsConnections"
    place: Place

    def __init__(self, asker: Asker) -> None:
        self._asker = asker._replace(more=self._send_more)
        self._buffer = bytearray()
        self.under_way: set[asyncio.Task[Reply]] = set()
        self._unread = False  # the peer takes no replies: the transport's buffer is full
        self._half_closed = False
        self._reading = True
        self._closing = False
        self._gone = False
        self._room = asyncio.Event()  # set when the peer has read what there was
        self._next_turn: Any = None  # the call that goes on with what is whole in the buffer

    # Client, as its place knows it

    def is_owed(self) -> bool:
        return bool(self.under_way) and not self._unread

    def time_out(self) -> None:
        if self._unread or self._closing:
            self.cut_off()
        else:
            self._close()

    def cut_off(self) -> None:
        self.transport.abortConnection()

    # Protocol

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        # The transport calls pauseProducing when more than its bufferSize, 64 KiB, is unsent.
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        if not self._closing:
            self._buffer += data
            self._answer_what_is_whole()

    def connectionLost(self, reason: object = None) -> None:
        self._gone = True
        self.place.leave()
        if self._next_turn is not None:
            self._next_turn.cancel()
        for task in list(self.under_way):
            task.cancel()
        self._buffer.clear()

    # IHalfCloseableProtocol: who has asked all its questions may close its side at once.

    def readConnectionLost(self) -> None:
        self._half_closed = True
        self._close_when_done()

    def writeConnectionLost(self) -> None:
        self.cut_off()

    # IPushProducer, called by the transport

    def pauseProducing(self) -> None:
        self._unread = True
        self._read_or_not()

    def resumeProducing(self) -> None:
        self._unread = False
        self._room.set()
        self.place.progress()
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
            if length < SMALLEST_MESSAGE or self._buffer.startswith(SIGNATURE, taken):
                self.cut_off()
                return
            if len(self._buffer) - taken - 2 < length:
                break
            if not left:
                self._go_on_next_turn()
                break
            left -= 1
            packet = bytes(self._buffer[taken + 2 : taken + 2 + length])
            taken += 2 + length
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
            self.place.progress()
        if out:
            self._write(out)
        self._read_or_not()
        self._close_when_done()

    def _has_room(self) -> bool:
        waiting = len(self.under_way) >= self.factory.max_under_way
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
        self.transport.write(b"".join(out))

    def _wait_for(self, later: LaterReply) -> None:
        task = asyncio.ensure_future(later)
        self.under_way.add(task)
        task.add_done_callback(self._ended)

    async def _send_more(self, message: bytes) -> None:
        """One of several messages of a reply; returns when there is room for the next."""
        self._write([len(message).to_bytes(2, "big"), message])
        self.place.progress()
        while self._unread:
            self._room.clear()
            await self._room.wait()
        await asyncio.sleep(0)

    def _ended(self, task: "asyncio.Task[Reply]") -> None:
        self.under_way.discard(task)
        if self._gone or task.cancelled():
            return
        reply = task.result()
        if reply is not None:
            if not self._unread:
                self.place.progress()
            self._write([len(reply).to_bytes(2, "big"), reply])
        if self._buffer:
            self._go_on_next_turn()  # many may end in one turn, and share what it may answer
        else:
            self._read_or_not()
            self._close_when_done()

    def _close_when_done(self) -> None:
        if not self._half_closed or self.under_way or self._next_turn is not None or self._gone:
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


class DnsConnections(Factory):
    """All connections of one door; ``limits`` as ``Places`` has them. ``reactor`` gives the time;
    ``encrypted`` says that TLS lies between these and the client."""

    noisy = False

    def __init__(
        self,
        reactor: Any,
        resolver: Resolver,
        *,
        max_under_way: int = MAX_UNDER_WAY,
        encrypted: bool = False,
        **limits: Any,
    ) -> None:
        self.reactor = reactor
        self.resolver = resolver
        self.max_under_way = max_under_way
        self._encrypted = encrypted
        self.places = Places(reactor, **limits)

    def buildProtocol(self, addr: Any) -> DnsConnection | None:
        """A connection, or None to have it closed at once."""
        connection = DnsConnection(Asker(addr.host, self._encrypted, keeps_connection=True))
        connection.factory = self
        place = self.places.take(connection, addr.host)
        if place is None:
            return None
        connection.place = place
        return connection


def open_tcp(reactor: Any, host: str, port: int, resolver: Resolver, **limits: Any) -> StreamDoor:
    """Listen on ``host`` (an IP address) and ``port`` (0: any); ``limits`` as DnsConnections has.

    Raises PortUnavailable.
    """
    factory = DnsConnections(reactor, resolver, **limits)
    door = StreamDoor(reactor, host, port, factory, factory.places, "--dns-port")
    log.info("Answering DNS over TCP on %s port %d.", door.host, door.port)
    return door


def open_tls(
    reactor: Any, host: str, port: int, resolver: Resolver, certificate: Certificate, **limits: Any
) -> StreamDoor:
    """The same inside TLS. Raises PortUnavailable."""
    inner = DnsConnections(reactor, resolver, encrypted=True, **limits)
    factory = TlsFactory(Encryption(certificate, ALPN), False, inner, reactor)
    door = StreamDoor(reactor, host, port, factory, inner.places, "--dot-port")
    log.info("Answering DNS over TLS on %s port %d.", door.host, door.port)
    return door
