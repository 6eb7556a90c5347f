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
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from resolver.dns.asker import Asker
from resolver.dns.message import UDP_LIMIT
from resolver.dns.rates import ReplyRates, Verdict
from resolver.doors.datagrams import DatagramBatch, batch_over, is_link_local
from resolver.doors.listening import udp_socket
from resolver.resolve import Reply, Resolver

log = logging.getLogger("blockstore.resolver")

BURST = 64
MAX_QUERY = 4_096
"""Bytes read of one datagram. No question needs more; the rest of a longer one is cut off, so
that it reads as broken and is refused as such."""

Peer = tuple[Any, ...]
"""What the kernel says of the sender: the address first."""
Source = list[tuple[int, int, bytes]] | None
"""The control messages that say which address a reply leaves from."""

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
        rates: ReplyRates | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._socket = bound
        self._resolver = resolver
        self._rates = rates
        self._clock = clock
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
        if self._batch is not None:
            self._read_batch(self._batch)
        elif self._wildcard:
            self._read_with_destination()
        else:
            self._read_one_by_one()

    def _read_batch(self, batch: DatagramBatch) -> None:
        """All with one call of the kernel, and one more for the replies that were at hand."""
        ready, limited = self._resolver.ready, self._rates is not None
        packets = batch.receive()
        at_once = first = 0
        replies: list[bytes] = []
        try:
            for number, packet in enumerate(packets):
                host = batch.host(number)
                reply = ready(packet, UDP_LIMIT, host)
                if reply is not None:
                    at_once += 1
                    if not limited or host.startswith("127."):
                        replies.append(reply)
                        continue
                # Those before it do not wait for what takes longer.
                self._send_batch(batch, first, replies)
                replies = []
                first = number + 1
                peer, source = batch.peer(number), None
                if self._wildcard:
                    source = [_as_source(*item) for item in batch.controls(number)]
                if reply is None:
                    self._answer(packet, peer, source)
                else:
                    self._send_within_rate(packet, reply, peer, source)
        finally:
            self._send_batch(batch, first, replies)
            self.outcomes["received"] += len(packets)
            self.outcomes["from memory"] += at_once

    def _send_batch(self, batch: DatagramBatch, first: int, replies: list[bytes]) -> None:
        if replies:
            sent = batch.send(first, replies)
            self.outcomes["sent"] += sent
            self.outcomes["unsent"] += len(replies) - sent

    def _read_one_by_one(self) -> None:
        """The same where the kernel has no such call."""
        receive, send, ready = self._socket.recvfrom, self._socket.sendto, self._resolver.ready
        limited = self._rates is not None
        received = at_once = sent = 0
        try:
            for _ in range(BURST):
                try:
                    packet, peer = receive(MAX_QUERY)
                except BlockingIOError:
                    return
                except OSError:
                    continue  # an ICMP error for an earlier reply; the next may be fine
                received += 1
                reply = ready(packet, UDP_LIMIT, peer[0])
                if reply is None:
                    self._answer(packet, peer, None)
                    continue
                at_once += 1
                if limited and not peer[0].startswith("127."):
                    self._send_within_rate(packet, reply, peer, None)
                    continue
                try:
                    send(reply, peer)
                    sent += 1
                except OSError:
                    self.outcomes["unsent"] += 1
        finally:
            outcomes = self.outcomes
            outcomes["received"] += received
            outcomes["from memory"] += at_once
            outcomes["sent"] += sent

    def _read_with_destination(self) -> None:
        """The same where each reply must be told which address to leave from."""
        for _ in range(BURST):
            try:
                packet, ancillary, _, peer = self._socket.recvmsg(MAX_QUERY, 128)
            except BlockingIOError:
                return
            except OSError:
                continue
            self.outcomes["received"] += 1
            source = [_as_source(*item) for item in ancillary]
            reply = self._resolver.ready(packet, UDP_LIMIT, peer[0])
            if reply is None:
                self._answer(packet, peer, source)
            else:
                self.outcomes["from memory"] += 1
                self._send_within_rate(packet, reply, peer, source)

    def _answer(self, packet: bytes, peer: Peer, source: Source) -> None:
        """The long way: what the cache does not have."""
        reply = self._resolver.begin(packet, UDP_LIMIT, Asker(peer[0]))
        if reply is None:
            return
        if isinstance(reply, bytes):
            self._send_within_rate(packet, reply, peer, source)
        else:
            task = asyncio.ensure_future(reply)
            self._under_way.add(task)
            task.add_done_callback(partial(self._ended, packet, peer, source))

    def _send_within_rate(self, packet: bytes, reply: bytes, peer: Peer, source: Source) -> None:
        """Send the reply, or what the rate limit leaves of it."""
        if self._rates is not None:
            verdict = self._rates.judge(peer[0], packet, reply, self._clock())
            if verdict is not Verdict.SEND:
                instead = self._resolver.turned_away(packet, peer[0])
                if instead is not None:
                    if verdict is Verdict.DROP or not instead:
                        self.outcomes["dropped"] += 1
                        return
                    self.outcomes["slipped"] += 1
                    reply = instead
        self._send(reply, peer, source)

    def _send(self, reply: bytes, peer: Peer, source: Source) -> None:
        try:
            if source is None:
                self._socket.sendto(reply, peer)
            else:
                self._socket.sendmsg([reply], source, 0, peer)
            self.outcomes["sent"] += 1
        except OSError:
            self.outcomes["unsent"] += 1  # full buffer or unreachable peer: UDP may lose it

    def _ended(
        self, packet: bytes, peer: Peer, source: Source, task: "asyncio.Task[Reply]"
    ) -> None:
        self._under_way.discard(task)
        if task.cancelled() or self._socket.fileno() < 0:
            return
        reply = task.result()
        if reply is not None:
            self._send_within_rate(packet, reply, peer, source)


def open_udp(
    reactor: Any,
    host: str,
    port: int,
    resolver: Resolver,
    *,
    rates: ReplyRates | None = None,
) -> UdpDoor:
    """Bind ``host`` (an IP address) and ``port`` (0: any) and start to answer.

    Raises PortUnavailable.
    """
    door = UdpDoor(reactor, udp_socket(host, port), resolver, rates=rates)
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
    if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and not is_link_local(octets):
        return level, kind, octets[:16] + bytes(4)
    return level, kind, octets
