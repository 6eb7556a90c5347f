"""The HTTPS door: DNS over HTTPS inside TLS, by HTTP/2 or by twisted.web's HTTP/1.1.

Which of them is settled by ALPN. Twisted's own HTTP/2 loses requests, and dig asks in HTTP/2
alone, so that goes by ``h2`` (``http2``). The same requests are answered without TLS on the API's
port, for a proxy in front (see ``api``). What must stay true: everything that bounds a request of
the API bounds one here; a client behind a proxy is never taken for the proxy where that would let
it have more.
"""

import asyncio
import logging
from typing import Any

from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from resolver.dns.asker import Asker
from resolver.doors.certificate import Certificate, Encryption, TlsFactory
from resolver.doors.connections import StreamDoor
from resolver.doors.doh_pages import MAX_MESSAGE, Begin, answer, error_reply, too_large
from resolver.doors.http2 import Asked, Http2
from resolver.doors.http_values import HttpReply, HttpRequest
from resolver.doors.web import LINGER, BoundedChannel, BoundedFactory, BoundedRequest

log = logging.getLogger("blockstore.resolver")

H2, HTTP_1 = b"h2", b"http/1.1"
UNITS_A_TURN = 32
"""What one HTTP/2 connection may cost before all others have their turn; see ``http2.BUDGET``."""


class HttpsRequest(BoundedRequest):
    """One request to a door that answers DNS and nothing else."""

    def too_large(self) -> HttpReply:
        return error_reply(413, str(too_large()))

    def process(self) -> None:
        asker = Asker(self.channel.peer, encrypted=True)
        answer_request(self, asker, self.channel.factory.begin)


def answer_request(request: BoundedRequest, asker: Asker, begin: Begin) -> None:
    """Read ``request`` as DNS over HTTPS and end it with its reply, now or later."""
    if request.received > request.max_body:
        request.send(request.too_large())
        return
    doh = HttpRequest(
        request.method.decode("latin-1"),
        request.uri.decode("latin-1"),
        request.getHeader("content-type") or "",
        request.getHeader("accept") or "",
        request.content.getvalue(),
    )
    reply = answer(doh, asker, begin)
    if isinstance(reply, HttpReply):
        request.send(reply)
        return
    task = asyncio.ensure_future(reply)
    request.notifyFinish().addErrback(lambda _reason: task.cancel())
    task.add_done_callback(lambda done: None if done.cancelled() else request.send(done.result()))


@implementer(IHandshakeListener)
class Handshake(Protocol):
    """A connection until its handshake settles what it speaks (ALPN)."""

    def __init__(self, channel: BoundedChannel) -> None:
        self._channel = channel

    def connectionMade(self) -> None:
        self._channel.transport = self.transport  # by which its place cuts it off
        self.transport.setTcpNoDelay(True)

    def handshakeCompleted(self) -> None:
        chosen: Protocol = self._channel
        if self.transport.negotiatedProtocol == H2:
            chosen = Http2Connection(self._channel)
        self.transport.wrappedProtocol = chosen
        chosen.makeConnection(self.transport)

    def connectionLost(self, reason: Any = None) -> None:
        self._channel.place.leave()


@implementer(IPushProducer)
class Http2Connection(Protocol):
    """One connection that speaks HTTP/2."""

    def __init__(self, channel: BoundedChannel) -> None:
        self._factory = channel.factory
        self._place = channel.place
        self._asker = Asker(channel.peer, encrypted=True)
        self.http2 = Http2(MAX_MESSAGE)
        self._tasks: dict[int, asyncio.Task[HttpReply]] = {}
        self._paused = False
        self._next_turn: Any = None
        self._place.client = self

    def connectionMade(self) -> None:
        self._place.progress()
        self.transport.registerProducer(self, True)
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        self.http2.receive(data)
        if self._next_turn is None:
            self._take_turn()

    def connectionLost(self, reason: Any = None) -> None:
        self._place.leave()
        if self._next_turn is not None:
            self._next_turn.cancel()
        for task in self._tasks.values():
            task.cancel()

    # Client, as its place knows it

    def is_owed(self) -> bool:
        return bool(self._tasks) and not self._paused

    def time_out(self) -> None:
        self.http2.go_away()
        self._flush()

    def cut_off(self) -> None:
        self.transport.abortConnection()

    # IPushProducer, by which the transport says that more than its buffer is unsent

    def pauseProducing(self) -> None:
        """The peer does not read: nothing more is read from it, and nothing more answered."""
        self._paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._next_turn is None:
            self._take_turn()

    def stopProducing(self) -> None:
        """The transport closes."""

    # Inside

    def _take_turn(self) -> None:
        """Handle the frames that are here, and let others speak after ``UNITS_A_TURN``."""
        self._next_turn = None
        turn_ends = self.http2.spent + UNITS_A_TURN
        while self.http2.spent < turn_ends:
            if self._paused:
                return  # and goes on when the transport says so
            events = self.http2.step()
            for event in events or ():
                if isinstance(event, Asked):
                    self._place.progress()
                    self._answer(event.stream, event.request)
                elif event.stream in self._tasks:
                    self._tasks.pop(event.stream).cancel()
            self._flush()
            if events is None:
                if not self._paused:
                    self.transport.resumeProducing()
                return
        self.transport.pauseProducing()
        self._next_turn = self._factory.reactor.callLater(0, self._take_turn)

    def _answer(self, stream: int, request: HttpRequest) -> None:
        reply = answer(request, self._asker, self._factory.begin)
        if isinstance(reply, HttpReply):
            self.http2.reply(stream, reply)
            return
        task = self._tasks[stream] = asyncio.ensure_future(reply)
        task.add_done_callback(lambda done: self._answered(stream, done))

    def _answered(self, stream: int, done: "asyncio.Task[HttpReply]") -> None:
        if done.cancelled() or self._tasks.pop(stream, None) is None:
            return
        self._place.progress()
        self.http2.reply(stream, done.result())
        self._flush()

    def _flush(self) -> None:
        """Write what there is to write."""
        out = self.http2.take()
        if not out:
            return
        # Past the buffer that makes one TLS record of many writes: there are clients that take one
        # reply of each record they read (dnsperf).
        TLSMemoryBIOProtocol.write(self.transport, out)
        if self.http2.closing:
            self._place.end_within(LINGER)
            self.transport.unregisterProducer()
            self.transport.loseConnection()


class HttpsFactory(BoundedFactory):
    """Connections to the HTTPS door; ``begin`` answers DNS packets, ``limits`` as ``Places`` has
    them."""

    def __init__(self, begin: Begin, reactor: Any, **limits: Any) -> None:
        super().__init__(HttpsRequest, reactor, **limits)
        self.begin = begin

    def buildProtocol(self, addr: Any) -> Any:
        channel = super().buildProtocol(addr)
        return None if channel is None else Handshake(channel)


def open_https(
    reactor: Any, host: str, port: int, begin: Begin, certificate: Certificate, **limits: Any
) -> StreamDoor:
    """Listen on ``host`` (an IP address) and ``port`` (0: any); ``limits`` as ``Places`` has them.

    Raises PortUnavailable.
    """
    inner = HttpsFactory(begin, reactor, **limits)
    factory = TlsFactory(Encryption(certificate, H2, HTTP_1), False, inner, reactor)
    door = StreamDoor(reactor, host, port, factory, inner.places, "--doh-port")
    log.info("Answering DNS over HTTPS on %s port %d.", door.host, door.port)
    return door
