"""One HTTP request at a time, bounded: what the API and DNS over HTTPS share of twisted.web.

What must stay true: bodies, lines and headers are bounded here, connections and their time by
``connections``; a body that is too long is read to its end up to a limit, so that the refusal
arrives, and then cut off; HTTP/1.1 only; no request is a line in the log.
"""

import ipaddress
import logging
from io import BytesIO
from typing import Any

from twisted.internet.protocol import Factory
from twisted.web import http

from resolver.doors.connections import Place, Places
from resolver.doors.http_values import HttpReply
from resolver.doors.proxies import client_address

log = logging.getLogger("blockstore.api")

MAX_CONNECTIONS = 200
REQUEST_TIME = 20.0
"""Seconds for a whole request to come, from the connection's start or the end of the last one."""
MAX_DISCARDED = 4 * 2**20
LINGER = 2.0


class BoundedRequest(http.Request):
    """One request. What is made of it is ``process``, and what is said to a body that never ends
    is ``too_large``."""

    max_body = 65_535
    received = 0

    @property
    def asker_address(self) -> str | None:
        """The address of who asks, behind the proxies of the settings; None: it is not known."""
        forwarded = self.requestHeaders.getRawHeaders("x-forwarded-for") or []
        return client_address(self.channel.peer, forwarded, self.channel.factory.places.proxies)

    @property
    def is_local(self) -> bool:
        """Whether it comes from this machine, as what comes over a Unix socket does."""
        client = self.asker_address
        return client is not None and ipaddress.ip_address(client.partition("%")[0]).is_loopback

    def too_large(self) -> HttpReply:
        raise NotImplementedError

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        if length is not None and length > MAX_DISCARDED:
            self._cut_off()

    def handleContentChunk(self, data: bytes) -> None:
        self.received += len(data)
        if self.received <= self.max_body:
            self.content.write(data)
        elif self.received > MAX_DISCARDED:
            self._cut_off()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        # The stock method would also parse forms, which nobody here takes.
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path
        self.args: dict[bytes, list[bytes]] = {}
        self.process()

    def send(self, reply: HttpReply) -> None:
        """End the request with ``reply``, if there is still somebody to read it."""
        if self._disconnected:
            return
        self.setResponseCode(reply.status)
        for name, value in reply.fields():
            self.setHeader(name, value)
        self.write(reply.body)  # which Twisted leaves out for HEAD
        self.finish()

    def _cut_off(self) -> None:
        self.channel.end_with(b"413 Content Too Large", self.too_large())


class BoundedChannel(http.HTTPChannel):
    """A connection. HTTP/1.1 only: Twisted's HTTP/2 is not used."""

    totalHeadersSize = 8192
    maxHeaders = 64
    place: Place
    peer = "127.0.0.1"
    """The address (text) that it comes from; over a Unix socket this machine's."""
    unreadable = HttpReply(400, "text/plain", b"This is not HTTP/1.1.\n")
    line_too_long = HttpReply(414, "text/plain", b"The request has too long a line.\n")
    _ended = _answering = _unread = False

    # Client, as its place knows it

    def is_owed(self) -> bool:
        return self._answering and not self._unread

    def time_out(self) -> None:
        self.loseConnection()

    def cut_off(self) -> None:
        self.transport.abortConnection()

    # HTTPChannel

    def allContentReceived(self) -> None:
        self._answering = True
        self.place.progress()
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        self._answering = False
        self.place.progress()
        super().requestDone(request)

    def pauseProducing(self) -> None:
        self._unread = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._unread = False
        self.place.progress()
        super().resumeProducing()

    def end_with(self, status: bytes, reply: HttpReply) -> None:
        """Answer out of turn and end, though the client may go on sending and not read.

        Inside TLS a connection that is let go waits for the other side's farewell, so it gets
        ``LINGER`` seconds to read this and say so.
        """
        if self._ended:
            return
        self._ended = True
        self.place.end_within(LINGER)
        self.transport.write(
            b"HTTP/1.1 %s\r\nContent-Type: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
            % (status, reply.content_type.encode(), len(reply.body), reply.body)
        )
        self.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            super().dataReceived(data)
        except Exception as error:  # noqa: BLE001 - the preface of HTTP/2 is one such
            log.debug("A request broke the HTTP reader: %r.", error)
            self.end_with(b"400 Bad Request", self.unreadable)

    def lineLengthExceeded(self, line: bytes) -> None:
        # The stock method leaves the channel registered as a producer, which TLS waits for.
        self.end_with(b"414 URI Too Long", self.line_too_long)

    def connectionLost(self, reason: Any) -> None:
        self.place.leave()
        super().connectionLost(reason)


class BoundedFactory(Factory):
    """Makes connections, bounded by ``limits`` as ``Places`` has them."""

    protocol = BoundedChannel
    noisy = False

    def __init__(self, request: type[BoundedRequest], reactor: Any, **limits: Any) -> None:
        self.reactor = reactor
        self._request = request
        self.places = Places(
            reactor, **{"idle": REQUEST_TIME, "max_connections": MAX_CONNECTIONS, **limits}
        )

    def buildProtocol(self, addr: Any) -> BoundedChannel | None:
        """A connection, or None to have it closed at once."""
        channel: BoundedChannel = super().buildProtocol(addr)
        if hasattr(addr, "host"):
            channel.peer = addr.host
        place = self.places.take(channel, channel.peer)
        if place is None:
            return None
        channel.place = place
        channel.requestFactory = self._request
        return channel

    def log(self, request: Any) -> None:
        """No line a request: the log is for what the operator must know."""
