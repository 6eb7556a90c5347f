"""One HTTP request at a time, bounded: what the API and DNS over HTTPS share of twisted.web.

What must stay true: bodies, lines, headers, connections (in all and of one address) and idle time
are bounded; a body that is too long is read to its end up to a limit, so that the refusal arrives,
and then cut off; HTTP/1.1 only; no request is a line in the log.
"""

import ipaddress
import logging
from collections import Counter
from collections.abc import Collection
from io import BytesIO
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.web import http

from resolver.dns.asker import Network, is_within
from resolver.doors.forwarded_for import client_address
from resolver.doors.http_values import HttpReply
from resolver.doors.tcp import peer_key

log = logging.getLogger("blockstore.api")

MAX_CONNECTIONS = 200
IDLE_TIMEOUT = 30
REQUEST_TIMEOUT = 60.0
"""Seconds for a whole request to come, from the end of the one before."""
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
        peer = getattr(self.getClientAddress(), "host", "127.0.0.1")  # or a Unix socket
        forwarded = self.requestHeaders.getRawHeaders("x-forwarded-for") or []
        return client_address(peer, forwarded, self.channel.factory.proxies)

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
    counted_as = ""
    unreadable = HttpReply(400, "text/plain", b"This is not HTTP/1.1.\n")
    line_too_long = HttpReply(414, "text/plain", b"The request has too long a line.\n")

    def __init__(self) -> None:
        super().__init__()
        self._ending: Any = None
        self._deadline: Any = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._await_request()

    def _await_request(self) -> None:
        """Give the next request, and the reading of the last reply, their time: the idle time alone
        begins anew with each octet."""
        self._end_deadline()
        self._deadline = self.callLater(REQUEST_TIMEOUT, self.transport.abortConnection)

    def _end_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def allContentReceived(self) -> None:
        self._end_deadline()
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        self._await_request()
        super().requestDone(request)

    def end_with(self, status: bytes, reply: HttpReply) -> None:
        """Answer out of turn and end, though the client may go on sending and not read.

        Inside TLS a connection that is let go waits for the other side's farewell, so it gets
        ``LINGER`` seconds to read this and say so.
        """
        if self._ending is not None:
            return
        self._ending = self.callLater(LINGER, self.transport.abortConnection)
        self.transport.write(
            b"HTTP/1.1 %s\r\nContent-Type: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
            % (status, reply.content_type.encode(), len(reply.body), reply.body)
        )
        self.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._ending is not None:
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
        if self._ending is not None and self._ending.active():
            self._ending.cancel()
        self._end_deadline()
        self.factory.disconnected(self)
        super().connectionLost(reason)


class BoundedFactory(http.HTTPFactory):
    """Makes connections, up to so many in all and of one address."""

    protocol = BoundedChannel
    proxies: Collection[Network] = ()
    """Whose word is taken for who asks."""

    def __init__(
        self,
        request: type[BoundedRequest],
        reactor: Any = None,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_per_address: int = MAX_CONNECTIONS,
        max_per_loopback: int | None = None,
    ) -> None:
        super().__init__(timeout=IDLE_TIMEOUT, reactor=reactor)
        self._request = request
        self._max_connections = max_connections
        self._max_per_address = max_per_address
        self._max_per_loopback = max_connections if max_per_loopback is None else max_per_loopback
        self._per_address: Counter[str] = Counter()
        self.connections: set[Protocol] = set()

    def buildProtocol(self, addr: Any) -> Protocol | None:
        """A connection, or None to have it closed at once."""
        # Who comes over a Unix socket has no address, and is of this machine.
        address, loopback = peer_key(addr.host) if hasattr(addr, "host") else ("", True)
        most = self._max_per_loopback if loopback else self._max_per_address
        if hasattr(addr, "host") and is_within(addr.host, self.proxies):
            most = self._max_connections  # it speaks for many
        if len(self.connections) >= self._max_connections or self._per_address[address] >= most:
            return None
        channel = super().buildProtocol(addr)
        channel.requestFactory = self._request
        channel.counted_as = address
        self._per_address[address] += 1
        self.connections.add(channel)
        return channel

    def disconnected(self, channel: BoundedChannel) -> None:
        if channel not in self.connections:
            return
        self.connections.discard(channel)
        self._per_address[channel.counted_as] -= 1
        if not self._per_address[channel.counted_as]:
            del self._per_address[channel.counted_as]

    def drop_all(self) -> None:
        """End every connection."""
        for channel in list(self.connections):
            channel.transport.abortConnection()

    def startFactory(self) -> None:
        """No access log, so none of the stock clock for its lines."""

    def stopFactory(self) -> None:
        """As above."""

    def log(self, request: Any) -> None:
        """No line a request: the log is for what the operator must know."""
