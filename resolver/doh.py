"""The HTTPS door: DNS over HTTPS by twisted.web's HTTP/1.1, inside TLS.

The same requests are answered without TLS on the API's port, for a proxy in front (see ``api``).
What must stay true: everything that bounds a request of the API bounds one here; a client behind a
proxy is never taken for the proxy where that would let it have more.
"""

import asyncio
import ipaddress
import logging
from typing import Any

from resolver.asker import UNKNOWN, Asker
from resolver.certificate import Certificate, Encryption
from resolver.doh_pages import Begin, answer, error_reply, too_large
from resolver.http_values import HttpReply, HttpRequest
from resolver.listening import tcp_socket
from resolver.tls import TlsFactory
from resolver.web import BoundedFactory, BoundedRequest

log = logging.getLogger("blockstore.resolver")

ALPN = b"http/1.1"


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


def asker_behind(request: BoundedRequest) -> Asker:
    """Who asks on a door without TLS: the peer, or whom a proxy of this machine speaks for.

    Of ``X-Forwarded-For`` the last entry counts, the one that the proxy itself wrote.
    """
    peer = request.getClientAddress().host
    forwarded = request.requestHeaders.getRawHeaders("x-forwarded-for")
    if not forwarded:
        return Asker(peer)
    try:
        return Asker(str(ipaddress.ip_address(forwarded[-1].rpartition(",")[2].strip())))
    except ValueError:
        return UNKNOWN


class HttpsFactory(BoundedFactory):
    """Connections to the HTTPS door; ``begin`` answers DNS packets."""

    def __init__(self, begin: Begin, reactor: Any, **limits: int) -> None:
        super().__init__(HttpsRequest, reactor, **limits)
        self.begin = begin


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
    factory = TlsFactory(Encryption(certificate, ALPN), False, connections, reactor)
    try:
        # The reactor keeps a duplicate of the descriptor.
        adopted = reactor.adoptStreamPort(listening.fileno(), listening.family, factory)
    finally:
        listening.close()
    door = HttpsDoor(adopted, connections)
    log.info("Answering DNS over HTTPS on %s port %d.", door.host, door.port)
    return door
