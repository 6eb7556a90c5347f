"""The HTTPS door: DNS over HTTPS inside TLS, by HTTP/2 or by twisted.web's HTTP/1.1.

Which of them is settled by ALPN. Twisted's own HTTP/2 loses requests, and dig asks in HTTP/2
alone, so that goes by ``h2`` (``http2``). The same requests are answered without TLS on the API's
port, for a proxy in front (see ``api``). What must stay true: everything that bounds a request of
the API bounds one here; a client behind a proxy is never taken for the proxy where that would let
it have more.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from resolver.dns.asker import Asker
from resolver.doors.certificate import Certificate, Encryption
from resolver.doors.doh_pages import MAX_MESSAGE, Begin, answer, error_reply, too_large
from resolver.doors.http2 import Asked, Http2
from resolver.doors.http_values import HttpReply, HttpRequest
from resolver.doors.listening import tcp_socket
from resolver.doors.tls import TlsFactory
from resolver.doors.web import IDLE_TIMEOUT, LINGER, BoundedFactory, BoundedRequest

log = logging.getLogger("blockstore.resolver")

H2, HTTP_1 = b"h2", b"http/1.1"
UNITS_A_TURN = 32
"""What one HTTP/2 connection may cost before all others have their turn; see ``http2.BUDGET``."""


class HttpsRequest(BoundedRequest):
    """One request to a door that answers DNS and nothing else."""

    def too_large(self) -> HttpReply:
        return error_reply(413, str(too_large()))

    def process(self) -> None:
        asker = Asker(self.getClientAddress().host, encrypted=True)
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
class HttpsConnection(Protocol):
    """One connection: HTTP/2 or HTTP/1.1, as the handshake settles."""

    def __init__(self, channel: Any, host: str) -> None:
        self._channel = channel
        self._asker = Asker(host, encrypted=True)
        self._http2: Http2 | None = None
        self._tasks: dict[int, asyncio.Task[HttpReply]] = {}
        self._paused = False
        self._pumping: Any = None
        self._timer: Any = None
        self._settled = False

    def connectionMade(self) -> None:
        self._channel.transport = self.transport  # by which the factory drops it
        self.transport.setTcpNoDelay(True)
        self._wait(self.transport.abortConnection)

    def handshakeCompleted(self) -> None:
        self._settled = True
        if self.transport.negotiatedProtocol != H2:
            self._timer.cancel()
            self._channel.makeConnection(self.transport)
            return
        self._http2 = Http2(MAX_MESSAGE)
        self._wait(self._idle)
        self.transport.registerProducer(_Brake(self), True)
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        if self._http2 is None:
            self._channel.dataReceived(data)
            return
        self._http2.receive(data)
        if self._pumping is None:
            self._pump()

    def pause(self) -> None:
        """The peer does not read: nothing more is read from it, and nothing more answered."""
        self._paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        self._paused = False
        if self._pumping is None:
            self._pump()

    def connectionLost(self, reason: Any = None) -> None:
        for call in (self._timer, self._pumping):
            if call is not None and call.active():
                call.cancel()
        for task in self._tasks.values():
            task.cancel()
        if self._settled and self._http2 is None:
            self._channel.connectionLost(reason)
        else:
            self._channel.factory.disconnected(self._channel)

    def _pump(self) -> None:
        """Handle the frames that are here, and let others speak after ``UNITS_A_TURN``."""
        assert self._http2 is not None
        self._pumping = None
        turn_ends = self._http2.spent + UNITS_A_TURN
        while self._http2.spent < turn_ends:
            if self._paused:
                return  # and goes on when the transport says so
            events = self._http2.step()
            for event in events or ():
                if isinstance(event, Asked):
                    self._wait(self._idle)
                    self._answer(event.stream, event.request)
                elif event.stream in self._tasks:
                    self._tasks.pop(event.stream).cancel()
            self._flush()
            if events is None:
                if not self._paused:
                    self.transport.resumeProducing()
                return
        self.transport.pauseProducing()
        self._pumping = self._channel.factory.reactor.callLater(0, self._pump)

    def _answer(self, stream: int, request: HttpRequest) -> None:
        assert self._http2 is not None
        reply = answer(request, self._asker, self._channel.factory.begin)
        if isinstance(reply, HttpReply):
            self._http2.reply(stream, reply)
            return
        task = self._tasks[stream] = asyncio.ensure_future(reply)
        task.add_done_callback(lambda done: self._answered(stream, done))

    def _answered(self, stream: int, done: "asyncio.Task[HttpReply]") -> None:
        if done.cancelled() or self._tasks.pop(stream, None) is None or self._http2 is None:
            return
        self._http2.reply(stream, done.result())
        self._flush()

    def _flush(self) -> None:
        """Write what there is to write."""
        assert self._http2 is not None
        out = self._http2.take()
        if out:
            # Past the buffer that makes one TLS record of many writes: there are clients that take
            # one reply of each record they read (dnsperf).
            TLSMemoryBIOProtocol.write(self.transport, out)
            if self._http2.closing:
                self._end()

    def _idle(self) -> None:
        assert self._http2 is not None
        if (
            self._tasks and not self._paused
        ):  # we owe it replies, and each wait has an end of its own
            self._wait(self._idle)
            return
        self._http2.go_away()
        self._flush()

    def _end(self) -> None:
        """Let what is written leave; who does not read it is cut off."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._wait(self.transport.abortConnection, LINGER)

    def _wait(self, then: Callable[[], object], seconds: float = IDLE_TIMEOUT) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._channel.factory.reactor.callLater(seconds, then)


@implementer(IPushProducer)
class _Brake:
    """By which the transport says that more than its buffer is unsent, and that it is not."""

    def __init__(self, connection: HttpsConnection) -> None:
        self._connection = connection

    def pauseProducing(self) -> None:
        self._connection.pause()

    def resumeProducing(self) -> None:
        self._connection.resume()

    def stopProducing(self) -> None:
        """The transport closes."""


class HttpsFactory(BoundedFactory):
    """Connections to the HTTPS door; ``begin`` answers DNS packets."""

    def __init__(self, begin: Begin, reactor: Any, **limits: int) -> None:
        super().__init__(HttpsRequest, reactor, **limits)
        self.reactor = reactor
        self.begin = begin

    def buildProtocol(self, addr: Any) -> Any:
        channel = super().buildProtocol(addr)
        return None if channel is None else HttpsConnection(channel, addr.host)


class HttpsDoor:
    """One listening address. ``open_https`` makes it."""

    def __init__(self, port: Any, connections: HttpsFactory) -> None:
        self._listening = port
        self.connections = connections
        where = port.getHost()
        self.host: str = where.host
        self.port: int = where.port

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        stopped = self._listening.stopListening()
        self.connections.drop_all()
        if stopped is not None:
            await stopped.asFuture(asyncio.get_running_loop())


def open_https(
    reactor: Any, host: str, port: int, begin: Begin, certificate: Certificate, **limits: int
) -> HttpsDoor:
    """Listen on ``host`` (an IP address) and ``port`` (0: any); ``limits`` as BoundedFactory has.

    Raises PortUnavailable.
    """
    listening = tcp_socket(host, port, "--doh-port")
    connections = HttpsFactory(begin, reactor, **limits)
    factory = TlsFactory(Encryption(certificate, H2, HTTP_1), False, connections, reactor)
    try:
        # The reactor keeps a duplicate of the descriptor.
        adopted = reactor.adoptStreamPort(listening.fileno(), listening.family, factory)
    finally:
        listening.close()
    door = HttpsDoor(adopted, connections)
    log.info("Answering DNS over HTTPS on %s port %d.", door.host, door.port)
    return door
