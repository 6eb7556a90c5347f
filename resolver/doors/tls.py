"""The TLS door: the TCP door's protocol inside TLS 1.2 or later (RFC 7858).

What must stay true: everything that bounds a TCP connection bounds one of these, from its first
byte on, so that an unfinished handshake is an idle connection; replies are padded for those who
pad (RFC 8467), because nobody else can read their length.
"""

import logging
from typing import Any

from twisted.protocols.tls import TLSMemoryBIOFactory

from resolver.doors.certificate import Certificate, Encryption
from resolver.doors.connections import StreamDoor
from resolver.doors.tcp import DnsConnections
from resolver.resolve import Resolver

log = logging.getLogger("blockstore.resolver")

ALPN = b"dot"


class TlsFactory(TLSMemoryBIOFactory):
    """TLS around the connections of another factory, which may refuse one."""

    def buildProtocol(self, addr: Any) -> Any:
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else self.protocol(self, inner)


def open_tls(
    reactor: Any, host: str, port: int, resolver: Resolver, certificate: Certificate, **limits: Any
) -> StreamDoor:
    """Listen on ``host`` (an IP address) and ``port`` (0: any); ``limits`` as DnsConnections has.

    Raises PortUnavailable.
    """
    inner = DnsConnections(reactor, resolver, encrypted=True, **limits)
    factory = TlsFactory(Encryption(certificate, ALPN), False, inner, reactor)
    door = StreamDoor(reactor, host, port, factory, inner.places, "--dot-port")
    log.info("Answering DNS over TLS on %s port %d.", door.host, door.port)
    return door
