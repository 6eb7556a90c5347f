"""The UDP door: datagrams in, replies out.

What must stay true:
- one wake-up of the reactor takes at most ``BURST`` datagrams, so that UDP starves nobody;
- a reply that is at hand leaves within the wake-up that brought the question; one that waits for
  data leaves when it is there; how many may wait is the resolver's to say, and who is one too
  many hears so;
- a reply that the cache holds leaves without an object being made of its question;
- what addresses that may be forged can draw is limited: a surplus is slipped or dropped;
- a reply leaves from the address that was asked: each listen address has a socket of its own, and
  a socket on a wildcard address answers from the address the kernel says the question came to;
- nothing that a datagram does raises into the reactor.

The socket is read by a reader of our own, not by ``adoptDatagramPort``: with ready-made replies
the stock port does 0.78 of a bare echo loop and this does as much as the loop, for it takes and
sends many datagrams with one call (``tests/benchmarks/answers.py``); the stock port also logs a
traceback for whatever a datagram raises.
"""

import asyncio
import ipaddress
import logging
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from resolver.dns.asker import Asker, Network, is_within
from resolver.dns.message import UDP_LIMIT
from resolver.dns.rates import ReplyRates, Verdict
from resolver.doors.datagrams import Control, DatagramBatch, batch_over, is_link_local
from resolver.doors.listening import udp_socket
from resolver.doors.proxies import BadHeader, read_header
from resolver.resolve import LaterReply, Reply, Resolver

log = logging.getLogger("blockstore.resolver")

BURST = 64
MAX_QUERY = 4_096
"""Bytes read of one datagram. No question needs more; the rest of a longer one is cut off, so
that it reads as broken and is refused as such."""

CONTROL_OCTETS = 128

_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)  # named from Python 3.12 on
_pktinfo4 = struct.Struct("=I4s4s")


class Way(NamedTuple):
    """Whose question it is, and the way back."""

    client: str
    """The address of who asks, behind a proxy where there is one."""
    peer: tuple[Any, ...]
    """What the kernel says of the sender: the address first."""
    source: Sequence[Control] = ()
    """The control messages that say which address the reply leaves from."""


@implementer(IReadDescriptor)
class UdpDoor:
    """One bound address; ``proxies`` have to send PROXY headers. ``open_udp`` makes it."""

    def __init__(
        self,
        reactor: Any,
        bound: socket.socket,
        resolver: Resolver,
        *,
        rates: ReplyRates | None = None,
        proxies: Collection[Network] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._socket = bound
        self._resolver = resolver
        self._rates = rates
        self._proxies = proxies
        self._clock = clock
        self._under_way: set[asyncio.Task[Reply]] = set()
        address = bound.getsockname()
        self.host: str = address[0]
        self.port: int = address[1]
        self._wildcard = (
            sys.platform == "linux"
            and ipaddress.ip_address(self.host.partition("%")[0]).is_unspecified
        )
        self._control_octets = CONTROL_OCTETS if self._wildcard else 0
        if self._wildcard:
            _ask_for_destination(bound)
        self._batch = batch_over(bound, BURST, MAX_QUERY, UDP_LIMIT, destinations=self._wildcard)
        self.outcomes: Counter[str] = Counter()
        """"received", "sent", "unsent" (the kernel would not take the reply), "from memory"
        (the cache had the reply), "slipped" and "dropped" (by the rate limit)."""

    @property
    def under_way(self) -> int:
        """Questions that wait for data."""
        return len(self._under_way)

    def start(self) -> None:
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Close the door; who still waits gets nothing."""
        self._reactor.removeReader(self)
        self.connectionLost("the door is closed")

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
        if self._batch is None:
            self._read_singly()
        else:
            self._read_batch(self._batch)

    def _read_batch(self, batch: DatagramBatch) -> None:
        """All with one call of the kernel, and one more for the replies that were at hand."""
        ready, limited = self._resolver.ready, self._rates is not None
        packets = batch.receive()
        at_once = first = 0
        replies: list[bytes] = []
        try:
            for number, packet in enumerate(packets):
                client = batch.host(number)
                if self._proxies:
                    packet, client = self._behind_proxy(packet, client)
                reply = ready(packet, UDP_LIMIT, client)
                if reply is not None:
                    at_once += 1
                    if not limited or client.startswith("127."):
                        replies.append(reply)
                        continue
                # Those before it do not wait for what takes longer.
                self._send_batch(batch, first, replies)
                replies = []
                first = number + 1
                way = Way(client, batch.peer(number))
                if self._wildcard:
                    way = way._replace(source=_as_source(batch.controls(number)))
                self._answer(packet, reply, way)
        finally:
            self._send_batch(batch, first, replies)
            self.outcomes["received"] += len(packets)
            self.outcomes["from memory"] += at_once

    def _send_batch(self, batch: DatagramBatch, first: int, replies: list[bytes]) -> None:
        if replies:
            sent = batch.send(first, replies)
            self.outcomes["sent"] += sent
            self.outcomes["unsent"] += len(replies) - sent

    def _read_singly(self) -> None:
        """The same where the kernel takes no batches."""
        for _ in range(BURST):
            try:
                packet, controls, _, peer = self._socket.recvmsg(MAX_QUERY, self._control_octets)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for an earlier reply; the next may be fine
            self.outcomes["received"] += 1
            packet, client = self._behind_proxy(packet, peer[0])
            reply = self._resolver.ready(packet, UDP_LIMIT, client)
            self.outcomes["from memory"] += reply is not None
            self._answer(packet, reply, Way(client, peer, _as_source(controls)))

    def _behind_proxy(self, packet: bytes, host: str) -> tuple[bytes, str]:
        """The packet and who sent it: where ``host`` is a proxy of ours, what follows its header,
        or nothing."""
        if not self._proxies or not is_within(host, self._proxies):
            return packet, host
        try:
            header = read_header(packet)
        except BadHeader:
            header = None
        if header is None:
            return b"", host
        return packet[header.length :], header.client or host

    def _answer(self, packet: bytes, reply: Reply | LaterReply, way: Way) -> None:
        """Send what the cache had, or go the long way."""
        if reply is None:
            reply = self._resolver.begin(packet, UDP_LIMIT, Asker(way.client))
        if isinstance(reply, bytes):
            self._send_within_rate(packet, reply, way)
        elif reply is not None:
            task = asyncio.ensure_future(reply)
            self._under_way.add(task)
            task.add_done_callback(partial(self._ended, packet, way))

    def _send_within_rate(self, packet: bytes, reply: bytes, way: Way) -> None:
        """Send the reply, or what the rate limit leaves of it."""
        if self._rates is not None:
            verdict = self._rates.judge(way.client, packet, reply, self._clock())
            if verdict is not Verdict.SEND:
                instead = self._resolver.turned_away(packet, way.client)
                if instead is not None:
                    if verdict is Verdict.DROP or not instead:
                        self.outcomes["dropped"] += 1
                        return
                    self.outcomes["slipped"] += 1
                    reply = instead
        try:
            if way.source:
                self._socket.sendmsg([reply], way.source, 0, way.peer)
            else:
                self._socket.sendto(reply, way.peer)
            self.outcomes["sent"] += 1
        except OSError:
            self.outcomes["unsent"] += 1  # full buffer or unreachable peer: UDP may lose it

    def _ended(self, packet: bytes, way: Way, task: "asyncio.Task[Reply]") -> None:
        self._under_way.discard(task)
        if task.cancelled() or self._socket.fileno() < 0:
            return
        reply = task.result()
        if reply is not None:
            self._send_within_rate(packet, reply, way)


def open_udp(reactor: Any, host: str, port: int, resolver: Resolver, **more: Any) -> UdpDoor:
    """Bind ``host`` (an IP address) and ``port`` (0: any) and start to answer; ``more`` as UdpDoor
    has it. Raises PortUnavailable.
    """
    door = UdpDoor(reactor, udp_socket(host, port), resolver, **more)
    door.start()
    log.info("Answering DNS over UDP on %s port %d.", door.host, door.port)
    return door


def _ask_for_destination(bound: socket.socket) -> None:
    if bound.family == socket.AF_INET:
        bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)


def _as_source(controls: Sequence[Control]) -> list[Control]:
    """The control messages that send from where a datagram came to (ip(7), ipv6(7))."""
    return [(level, kind, _anywhere(level, kind, octets)) for level, kind, octets in controls]


def _anywhere(level: int, kind: int, octets: bytes) -> bytes:
    """What says where a datagram came to, without the interface, where it may be another."""
    if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
        return _pktinfo4.pack(0, _pktinfo4.unpack(octets)[1], b"\0\0\0\0")
    if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and not is_link_local(octets):
        return octets[:16] + bytes(4)
    return octets
