"""The datagrams of our Kademlia node: the kademlia package's protocol with every door guarded.

It speaks the package's wire format, so its stock nodes can be neighbours. What must stay true:
``datagram_received`` never raises and starts no task; a request changes nothing but the contacts
and, when it stores what may be stored, the storage; a reply is heard only from the address that
was asked; a store is acknowledged when the record is on disk; no source gets more than its
allowance of work and of bytes; an address that has not shown that packets reach it, and may be
forged, gets at most three octets for each that came from it (as RFC 9000 section 8.1 has it).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kademlia.node import Node
from kademlia.protocol import KademliaProtocol

from zonefiles.dht.contacts import Contacts
from zonefiles.dht.limits import Allowance
from zonefiles.dht.messages import (
    DHT_MAX_VALUE,
    HEADER,
    Contact,
    Datagram,
    Request,
    contact_rows,
    read_datagram,
    read_id,
    read_request,
    write_reply,
    write_request,
)

REPLY_TIMEOUT = 0.8
"""Seconds to wait for a reply, twice: a lost datagram is asked for once more."""

MAX_OUTSTANDING = 256
REQUESTS_A_SECOND = 2_000.0
"""What one node may ask of us, once it has shown that packets to its address reach it."""

_BURST_SECONDS = 4.0
_UNPROVEN_COST = 32.0
_MAX_PROVEN = 8_192
_MAX_PROBES = 1_024
_MAX_HELD = 8  # requests of one address that wait for its proof
_UNPROVEN_FACTOR = 3
_PING = 50  # octets of the ping that each request of an unproven address draws
_DATAGRAM = 1_200  # bytes of reply that cost a source one token

Address = tuple[str, int]

_log = logging.getLogger("blockstore.zonefiles")


@dataclass
class DhtStats:
    """Counts since the start; nothing in here is ever reset."""

    requests: int = 0
    malformed: int = 0
    unexpected: int = 0
    rate_limited: int = 0
    stored: int = 0
    stores_refused: int = 0
    wrong_values: int = 0
    asked: int = 0
    unanswered: int = 0
    failures: int = 0


class GuardedProtocol(KademliaProtocol):
    """One UDP socket's worth of the network.

    ``fetch_local(key)`` gives the value held under a key or None; ``store_local(key, value,
    address)`` gives None if it may not be kept, else a future: done when it is held for good, or
    with the exception that says why it is not.
    """

    def __init__(
        self,
        own_id: bytes,
        fetch_local: Callable[[bytes], bytes | None],
        store_local: Callable[[bytes, bytes, Address], asyncio.Future[bool] | None],
        stats: DhtStats,
        *,
        reply_timeout: float = REPLY_TIMEOUT,
        requests_a_second: float = REQUESTS_A_SECOND,
    ) -> None:
        super().__init__(Node(own_id), None, Contacts(own_id).ksize)
        self.router = Contacts(own_id)
        self.stats = stats
        self.closed = asyncio.Event()
        self._wait_timeout = reply_timeout
        self._fetch_local = fetch_local
        self._store_local = store_local
        self._allowance = Allowance(requests_a_second, requests_a_second * _BURST_SECONDS)
        self._lines = Allowance(rate=0.2, burst=5.0)
        self._proven: OrderedDict[Address, None] = OrderedDict()
        self._probes: OrderedDict[bytes, Contact] = OrderedDict()
        self._held: OrderedDict[Address, list[tuple[bytes, Request]]] = OrderedDict()
        self._slots = asyncio.Semaphore(MAX_OUTSTANDING)
        self._loop = asyncio.get_running_loop()

    # What the transport calls.

    def datagram_received(self, data: bytes, addr: Address) -> None:
        try:
            datagram = read_datagram(data)
            if datagram is None or not 0 < addr[1] < 65_536:
                self.stats.malformed += 1
            elif datagram.is_request:
                self._hear_request(datagram, addr)
            else:
                self._hear_reply(datagram, addr)
        except Exception as error:  # noqa: BLE001 - an exception out of here closes the socket
            self.stats.failures += 1
            if self._lines.take("failures", self._loop.time()):
                kind = type(error).__name__
                _log.error("a datagram could not be dealt with (%s: %s)", kind, error)

    def error_received(self, exc: Exception) -> None:
        """An ICMP error of some earlier datagram: the wait for its reply will tell."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self.abandon()

    # What our own node calls.

    async def ask(self, address: Address, function: str, *arguments: bytes) -> bytes | None:
        """The body of the reply of ``address``, or None: never raises but when cancelled."""
        async with self._slots:
            message_id = os.urandom(20)
            packet = write_request(message_id, function, *arguments)
            reply: asyncio.Future[bytes | None] = self._loop.create_future()
            self._outstanding[message_id] = (reply, address)
            self.stats.asked += 1
            try:
                for _ in range(2):
                    if not self.send(packet, address):
                        break
                    await asyncio.wait([reply], timeout=self._wait_timeout)
                    if reply.done():
                        return reply.result()
            finally:
                del self._outstanding[message_id]
                reply.cancel()
            self.stats.unanswered += 1
            return None

    def send(self, packet: bytes, address: Address) -> bool:
        """Send if there is a socket to send by; a datagram may always get lost."""
        if self.transport is None or self.transport.is_closing():
            return False
        try:
            self.transport.sendto(packet, address)
        except (OSError, OverflowError, ValueError) as error:
            _log.info("no datagram could be sent to %s:%s (%s)", *address, error)
            return False
        return True

    def abandon(self) -> None:
        """Let every question under way end at once, unanswered."""
        for reply, _ in self._outstanding.values():
            if not reply.done():
                reply.set_result(None)

    # The functions of the wire.

    def rpc_stun(self, sender: Address) -> list[object]:
        return list(sender)

    def rpc_ping(self, sender: Address, nodeid: bytes) -> bytes:
        self.welcome_if_new(Node(nodeid, *sender))
        return self.source_node.id

    def rpc_store(
        self, sender: Address, nodeid: bytes, key: bytes, value: bytes
    ) -> asyncio.Future[bool] | bool:
        self.welcome_if_new(Node(nodeid, *sender))
        kept = self._store_local(key, value, sender)
        if kept is None:
            self.stats.stores_refused += 1
            return False
        return kept

    def rpc_find_node(self, sender: Address, nodeid: bytes, key: bytes) -> list[list[object]]:
        self.welcome_if_new(Node(nodeid, *sender))
        return contact_rows(self.router.nearest(key, without=nodeid))

    def rpc_find_value(
        self, sender: Address, nodeid: bytes, key: bytes
    ) -> list[list[object]] | dict[str, bytes]:
        value = self._fetch_local(key)
        if value is None or len(value) > DHT_MAX_VALUE:
            return self.rpc_find_node(sender, nodeid, key)
        self.welcome_if_new(Node(nodeid, *sender))
        return {"value": value}

    def welcome_if_new(self, node: Node) -> None:
        """Know ``node``, once its address is proven; the package would also send it our store.

        A forged sender can so neither fill the table with the dead nor draw more than a ping.
        """
        contact = Contact(node.id, node.ip, node.port)
        if contact.address in self._proven:
            self.router.add(contact)
            return
        message_id = os.urandom(20)
        self._probes[message_id] = contact
        if len(self._probes) > _MAX_PROBES:
            self._probes.popitem(last=False)
        self.send(write_request(message_id, "ping", self.source_node.id), contact.address)

    def _hear_request(self, datagram: Datagram, address: Address) -> None:
        cost = 1.0 if address in self._proven else _UNPROVEN_COST
        if not self._allowance.take(_source(address), self._loop.time(), cost):
            self.stats.rate_limited += 1
            return
        request = read_request(datagram.body)
        if request is None:
            self.stats.malformed += 1
            return
        self.stats.requests += 1
        self._serve(datagram.message_id, request, address, HEADER + len(datagram.body))

    def _serve(self, message_id: bytes, request: Request, address: Address, came: int) -> None:
        """Answer, or hold the request until ``address`` is proven: ``came`` octets came from it."""
        answer = self._answer(request, address)
        if isinstance(answer, asyncio.Future):
            answer.add_done_callback(partial(self._stored, message_id, address))
            return
        reply = write_reply(message_id, answer)
        proven = address in self._proven
        drawn = len(reply) + (_PING if request.sender_id else 0)
        if not proven and drawn > _UNPROVEN_FACTOR * came:
            self._hold(message_id, request, address)
            return
        cost = 1.0 if proven else _UNPROVEN_COST
        self._allowance.charge(_source(address), cost * (len(reply) // _DATAGRAM))
        self.send(reply, address)

    def _hold(self, message_id: bytes, request: Request, address: Address) -> None:
        """Keep a request whose reply may not go out yet; the ping that proves is on its way."""
        waiting = self._held.setdefault(address, [])
        waiting.append((message_id, request))
        del waiting[:-_MAX_HELD]
        self._held.move_to_end(address)
        if len(self._held) > _MAX_PROBES:
            self._held.popitem(last=False)

    def _stored(self, message_id: bytes, address: Address, kept: asyncio.Future[bool]) -> None:
        """Acknowledge a store, now that the record is on disk, or will not be."""
        error = asyncio.CancelledError() if kept.cancelled() else kept.exception()
        if error is None:
            self.stats.stored += 1
        else:
            self.stats.stores_refused += 1
            _log.debug("a record of %s:%d was not stored: %s", *address, error)
        self.send(write_reply(message_id, error is None), address)

    def _answer(self, request: Request, address: Address) -> object:
        if request.function == "ping":
            return self.rpc_ping(address, request.sender_id)
        if request.function == "store":
            return self.rpc_store(address, request.sender_id, request.key, request.value)
        if request.function == "find_node":
            return self.rpc_find_node(address, request.sender_id, request.key)
        if request.function == "find_value":
            return self.rpc_find_value(address, request.sender_id, request.key)
        return self.rpc_stun(address)

    def _hear_reply(self, datagram: Datagram, address: Address) -> None:
        probed = self._probes.pop(datagram.message_id, None)
        if probed is not None:
            if probed.address == address and read_id(datagram.body) == probed.id:
                self.router.add(probed)
                self._prove(address)
            return
        reply, asked = self._outstanding.get(datagram.message_id, (None, None))
        if reply is None or asked != address or reply.done():
            self.stats.unexpected += 1
            return
        reply.set_result(datagram.body)
        self._prove(address)

    def _prove(self, address: Address) -> None:
        """Packets reach ``address``: answer what waited for that."""
        self._proven.pop(address, None)
        self._proven[address] = None
        if len(self._proven) > _MAX_PROVEN:
            self._proven.popitem(last=False)
        for message_id, request in self._held.pop(address, ()):
            self._serve(message_id, request, address, 0)


def _source(address: Address) -> Address | str:
    """Behind one loopback address there are many nodes; elsewhere an address is a source."""
    return address if address[0].startswith("127.") else address[0]
