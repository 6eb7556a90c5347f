"""The UDP door: datagrams in, replies out.

What must stay true:
- one wake-up of the reactor takes at most ``BURST`` datagrams, so that UDP starves nobody;
- a reply that is at hand leaves within the wake-up that brought the question; one that waits for
  data leaves when it is there, and no more than ``max_under_way`` of those wait;
- a reply leaves from the address that was asked: each listen address has a socket of its own, and
  a socket on a wildcard address answers from the address the kernel says the question came to;
- nothing that a datagram does raises into the reactor.

The socket is read by a reader of our own, not by ``adoptDatagramPort``: with ready-made replies
the stock port does 0.76 of a bare echo loop and this does 0.85 (``tests/benchmarks/answers.py``);
the stock port also logs a traceback for whatever a datagram raises.
"""

import asyncio
import ipaddress
import logging
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from resolver.asker import Asker
from resolver.listening import udp_socket
from resolver.message import UDP_LIMIT
from resolver.resolve import Reply, Resolver

log = logging.getLogger("blockstore.resolver")

BURST = 64
MAX_QUERY = 4_096
"""Bytes read of one datagram. No question needs more; the rest of a longer one is cut off, so
that it reads as broken and is refused as such."""

_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)  # named from Python 3.12 on
_pktinfo4 = struct.Struct("=I4s4s")


@implementer(IReadDescriptor)
class UdpDoor:
    """One bound address. ``open_udp`` makes it."""

    def __init__(
        self,
        reactor: Any,
        bound: socket.socket,
        resolver: Resolver,
        *,
        max_under_way: int = 500,
    ) -> None:
        self._reactor = reactor
        self._socket = bound
        self._resolver = resolver
        self._max_under_way = max_under_way
        self._under_way: set[asyncio.Task[Reply]] = set()
        address = bound.getsockname()
        self.host: str = address[0]
        self.port: int = address[1]
        self._wildcard = (
            sys.platform == "linux"
            and ipaddress.ip_address(self.host.partition("%")[0]).is_unspecified
        )
        if self._wildcard:
            _ask_for_destination(bound)
        self.outcomes: Counter[str] = Counter()
        """"received", "sent", "unsent" (the kernel would not take the reply), "surplus"."""

    @property
    def under_way(self) -> int:
        """Questions that wait for data."""
        return len(self._under_way)

    def start(self) -> None:
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Close the door; who still waits gets nothing."""
        self._reactor.removeReader(self)
        for task in list(self._under_way):
            task.cancel()
        self._socket.close()

    # IReadDescriptor

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "dns-udp"

    def connectionLost(self, reason: object) -> None:
        """The reactor is stopping, or found the descriptor dead."""
        for task in list(self._under_way):
            task.cancel()
        self._socket.close()

    def doRead(self) -> None:
        """Take what has come, up to ``BURST`` datagrams."""
        receive = self._receive_with_destination if self._wildcard else self._receive
        for _ in range(BURST):
            try:
                packet, host, send = receive()
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for an earlier reply; the next datagram may be fine
            self.outcomes["received"] += 1
            reply = self._resolver.begin(packet, UDP_LIMIT, Asker(host))
            if reply is None:
                continue
            if isinstance(reply, bytes):
                self._send(send, reply)
            elif len(self._under_way) >= self._max_under_way:
                self.outcomes["surplus"] += 1
                reply.close()  # the client's own retry is the queue
            else:
                task = asyncio.ensure_future(reply)
                self._under_way.add(task)
                task.add_done_callback(partial(self._ended, send))

    def _receive(self) -> tuple[bytes, str, Callable[[bytes], object]]:
        packet, peer = self._socket.recvfrom(MAX_QUERY)
        return packet, peer[0], lambda reply: self._socket.sendto(reply, peer)

    def _receive_with_destination(self) -> tuple[bytes, str, Callable[[bytes], object]]:
        packet, ancillary, _, peer = self._socket.recvmsg(MAX_QUERY, 128)
        source = [_as_source(*item) for item in ancillary]
        return packet, peer[0], lambda reply: self._socket.sendmsg([reply], source, 0, peer)

    def _send(self, send: Callable[[bytes], object], reply: bytes) -> None:
        try:
            send(reply)
            self.outcomes["sent"] += 1
        except OSError:
            self.outcomes["unsent"] += 1  # full buffer or unreachable peer: UDP may lose it

    def _ended(self, send: Callable[[bytes], object], task: "asyncio.Task[Reply]") -> None:
        self._under_way.discard(task)
        if task.cancelled() or self._socket.fileno() < 0:
            return
        reply = task.result()
        if reply is not None:
            self._send(send, reply)


def open_udp(
    reactor: Any, host: str, port: int, resolver: Resolver, *, max_under_way: int = 500
) -> UdpDoor:
    """Bind ``host`` (an IP address) and ``port`` (0: any) and start to answer.

    Raises PortUnavailable.
    """
    door = UdpDoor(reactor, udp_socket(host, port), resolver, max_under_way=max_under_way)
    door.start()
    log.info("Answering DNS over UDP on %s port %d.", door.host, door.port)
    return door


def _ask_for_destination(bound: socket.socket) -> None:
    if bound.family == socket.AF_INET:
        bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)


def _as_source(level: int, kind: int, octets: bytes) -> tuple[int, int, bytes]:
    """The control message that sends from where a datagram came to (ip(7), ipv6(7))."""
    if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
        _, local, _ = _pktinfo4.unpack(octets)
        return level, kind, _pktinfo4.pack(0, local, b"\0\0\0\0")
    return level, kind, octets
