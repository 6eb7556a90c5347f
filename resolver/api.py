"""The HTTP door: twisted.web's HTTP/1.1 around the pages, and everything that bounds a stranger.

What must stay true: a request is answered only under a host name of this server (so that no web
page reaches it by DNS rebinding); a page of another origin may read and never write; bodies,
lines, headers, connections and idle time are bounded; an error is JSON like everything else.
"""

import asyncio
import ipaddress
import json
import logging
from collections.abc import Iterable
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.protocol import Protocol
from twisted.web import http

from resolver.pages import MAX_BODY, Page, Pages, refusal_page
from resolver.refusals import Refusal, Refused

log = logging.getLogger("blockstore.api")

IDLE_TIMEOUT = 30
MAX_CONNECTIONS = 200
MAX_DISCARDED = 4 * 2**20
"""A body too large is read to its end up to here, so that the refusal arrives; then cut off."""


class HostNames:
    """Which Host header names this server."""

    def __init__(self, host: str, names: Iterable[str] = ()) -> None:
        address = ipaddress.ip_address(host)
        self._address = address
        self._any_address = address.is_unspecified
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}

    def allows(self, header: str) -> bool:
        """Whether ``header`` (HOST or HOST:PORT) is ours.

        An address cannot be rebound: a server on all addresses answers to any.
        """
        try:
            host = urlsplit(f"//{header}").hostname or ""
            _ = urlsplit(f"//{header}").port
        except ValueError:
            return False
        if any(sign in header for sign in "/@?#\\ "):
            return False
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host.rstrip(".") in self._names
        return self._any_address or address.is_loopback or address == self._address


class _Request(http.Request):
    """One request; its page is made by the factory's ``pages``."""

    received = 0

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        if length is not None and length > MAX_DISCARDED:
            self._cut_off()

    def handleContentChunk(self, data: bytes) -> None:
        self.received += len(data)
        if self.received <= MAX_BODY:
            self.content.write(data)
        elif self.received > MAX_DISCARDED:
            self._cut_off()

    def _cut_off(self) -> None:
        body = _encoded(_too_large())
        self.channel.transport.write(
            b"HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        self.channel.loseConnection()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        # The stock method would also parse forms, which no page takes.
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path
        self.args: dict[bytes, list[bytes]] = {}
        self.process()

    def process(self) -> None:
        method = self.method.decode("latin-1")
        refused = self._unwelcome(method)
        if refused is not None:
            self._send(refusal_page(refused))
            return
        path = self.uri.decode("latin-1")
        task = asyncio.ensure_future(
            self.channel.factory.pages.reply(method, path, self.content.getvalue())
        )
        self.notifyFinish().addErrback(lambda _reason: task.cancel())
        task.add_done_callback(self._finished)

    def _unwelcome(self, method: str) -> Refused | None:
        hosts: HostNames = self.channel.factory.hosts
        headers = self.requestHeaders.getRawHeaders("host") or []
        if len(headers) != 1:
            return Refused(Refusal.BAD_REQUEST, "the request must have one Host header")
        if not hosts.allows(headers[0]):
            return Refused(Refusal.FORBIDDEN, f"{headers[0][:100]!r} is not a name of this server")
        origin = self.getHeader("origin")
        if method not in ("GET", "HEAD", "OPTIONS") and origin is not None:
            own = origin.partition("://")[2]
            if not own or not hosts.allows(own):
                return Refused(
                    Refusal.FORBIDDEN, f"a page of {origin[:100]!r} may read here and not write"
                )
        if self.received > MAX_BODY:
            return _too_large_refusal()
        return None

    def _finished(self, task: "asyncio.Task[Page]") -> None:
        if task.cancelled():
            return
        if task.exception() is not None:  # Pages never raises; if it does, the client still hears
            log.error("Answering a request to the API failed.", exc_info=task.exception())
            self._send(refusal_page(Refused(Refusal.BROKEN, "the request could not be answered")))
            return
        self._send(task.result())

    def _send(self, page: Page) -> None:
        if self._disconnected:
            return
        body = _encoded(page)
        self.setResponseCode(page.status)
        self.setHeader("Content-Type", "application/json")
        self.setHeader("Content-Length", str(len(body)))
        self.setHeader("X-Content-Type-Options", "nosniff")
        self.setHeader("Cache-Control", "no-store")
        if self.method in (b"GET", b"HEAD", b"OPTIONS"):
            self.setHeader("Access-Control-Allow-Origin", "*")
        for name, value in page.headers.items():
            self.setHeader(name, value)
        self.write(body)  # which Twisted leaves out for HEAD
        self.finish()


class _Channel(http.HTTPChannel):
    """A connection. HTTP/1.1 only: Twisted's HTTP/2 is not used."""

    requestFactory = _Request
    totalHeadersSize = 8192
    maxHeaders = 64

    def connectionLost(self, reason: Any) -> None:
        self.factory.connections.discard(self)
        super().connectionLost(reason)


class ApiFactory(http.HTTPFactory):
    """Makes connections; what they may ask is in ``pages``, under which names in ``hosts``."""

    protocol = _Channel

    def __init__(self, pages: Pages, hosts: HostNames, reactor: Any = None) -> None:
        super().__init__(timeout=IDLE_TIMEOUT, reactor=reactor)
        self.pages = pages
        self.hosts = hosts
        self.connections: set[Protocol] = set()

    def buildProtocol(self, addr: Any) -> Protocol | None:
        if len(self.connections) >= MAX_CONNECTIONS:
            return None
        channel = super().buildProtocol(addr)
        self.connections.add(channel)
        return channel

    def startFactory(self) -> None:
        """No access log, so none of the stock clock for its lines."""

    def stopFactory(self) -> None:
        """As above."""

    def log(self, request: Any) -> None:
        """No line a request: the log is for what the operator must know."""


class ApiDoor:
    """The API on one address and TCP port."""

    def __init__(self, pages: Pages, host: str, port: int, names: Iterable[str] = ()) -> None:
        self.host = host
        self._wanted_port = port
        self._pages = pages
        self._names = tuple(names)
        self._listening: Any = None
        self._factory: ApiFactory | None = None

    @property
    def port(self) -> int:
        """The bound port."""
        port: int = self._listening.getHost().port
        return port

    def start(self) -> None:
        """Listen. Raises OSError or twisted's CannotListenError."""
        from twisted.internet import reactor

        self._factory = ApiFactory(self._pages, HostNames(self.host, self._names), reactor)
        self._listening = reactor.listenTCP(self._wanted_port, self._factory, interface=self.host)

    async def stop(self) -> None:
        """Close the door and what is still connected."""
        if self._listening is None:
            return
        closing = self._listening.stopListening()
        if closing is not None:
            await closing.asFuture(asyncio.get_running_loop())
        self._listening = None
        if self._factory is not None:
            for channel in list(self._factory.connections):
                channel.transport.abortConnection()


def _too_large_refusal() -> Refused:
    return Refused(Refusal.TOO_LARGE, f"the body has more than {MAX_BODY} bytes")


def _too_large() -> Page:
    return refusal_page(_too_large_refusal())


def _encoded(page: Page) -> bytes:
    return json.dumps(page.body, sort_keys=True).encode("ascii") + b"\n"
