"""A Kademlia node that trusts nobody: publishes and fetches records by their hash.

The key of a record on the wire is its 20-byte digest itself, here and nowhere else chosen. What
must stay true: nothing is stored whose hash is not its key, that no live name announces, or that
the archive has no room for; nothing is returned whose hash was not asked for; no peer, whatever
it sends, ends a task of ours or closes our socket.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zonefiles.archive.archive import Archive, ArchiveError
from zonefiles.dht.limits import Allowance, Shunned
from zonefiles.dht.lookup import Found, Reply, look_up
from zonefiles.dht.messages import (
    DHT_MAX_VALUE,
    ID_BYTES,
    Contact,
    is_reachable,
    read_found,
    read_id,
    read_stored,
)
from zonefiles.dht.protocol import REPLY_TIMEOUT, REQUESTS_A_SECOND, DhtStats, GuardedProtocol
from zonefiles.dht.state import DhtState, read_state, write_state
from zonefiles.text.zonefile import value_hash

REFRESH_INTERVAL = 600.0
_LONELY_PAUSES = (2.0, 5.0, 15.0, 60.0, 300.0)
_LOOKUP_DEADLINE = 10.0
_RESOLVE_DEADLINE = 5.0
_STORES_AT_ONCE = 8
_BUCKETS_AT_ONCE = 3
_SHUN_SECONDS = 600.0
_MAX_NEIGHBOURS = 50
_RECEIVE_BUFFER = 1 << 20

Address = tuple[str, int]

_log = logging.getLogger("blockstore.zonefiles")


class DhtError(Exception):
    """The DHT cannot do this; str(e) is one line that says what to do."""


class TooLargeForDht(DhtError):
    """The record does not fit a datagram; it is served from the archives that have it."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the network said. ``data`` is None where no node gave data with the right hash.

    ``source`` is "ip:port" of the node that gave it; ``asked`` nodes were asked, ``wrong`` of
    them gave data with another hash, ``silent`` gave no usable answer.
    """

    data: bytes | None
    source: str | None
    asked: int
    wrong: int
    silent: int


class DhtNode:
    """One node on IPv4 address ``host`` and UDP ``port`` (0: any free one, see ``port``).

    ``is_announced(digest)`` says whether a live name holds it; ``bootstrap`` are (host, port) of
    nodes to begin with; ``state_file`` keeps our id and neighbours (None: nothing is kept). All
    methods belong to the thread of the event loop that ``start`` ran in.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        archive: Archive,
        is_announced: Callable[[bytes], bool],
        bootstrap: Sequence[Address] = (),
        state_file: Path | None = None,
        reply_timeout: float = REPLY_TIMEOUT,
        refresh_interval: float = REFRESH_INTERVAL,
        requests_a_second: float = REQUESTS_A_SECOND,
    ) -> None:
        self.host = host
        self.stats = DhtStats()
        self._port = port
        self._archive = archive
        self._is_announced = is_announced
        self._seeds = list(bootstrap)
        self._state_file = state_file
        self._reply_timeout = reply_timeout
        self._refresh_interval = refresh_interval
        self._requests_a_second = requests_a_second
        self._neighbours: list[Address] = []
        self._id = b""
        self._protocol: GuardedProtocol | None = None
        self._upkeep: asyncio.Task[None] | None = None
        self._liars = Shunned(_SHUN_SECONDS)
        self._lines = Allowance(rate=1.0, burst=50.0)  # log lines that strangers can cause

    @property
    def node_id(self) -> bytes:
        """Our 20-byte id, once started."""
        return self._id

    @property
    def port(self) -> int:
        """The port that is bound (or was asked for, before the start)."""
        return self._port

    @property
    def peers(self) -> int:
        """Nodes in the routing table."""
        return 0 if self._protocol is None else len(self._protocol.router)

    @property
    def wrong_by_source(self) -> dict[str, int]:
        """How often each source ("ip:port") gave data with a wrong hash, or offered it."""
        return {str(source): count for source, count in self._liars.offences().items()}

    async def start(self) -> None:
        """Bind and begin; joining the network goes on in the background.

        Raises DhtError when the address cannot be bound.
        """
        if self._upkeep is not None:
            raise DhtError("this DHT node runs already")
        state = read_state(self._state_file)
        self._id = state.node_id
        self._neighbours = list(state.neighbours)
        self._protocol = await self._bind()
        self._upkeep = asyncio.create_task(self._keep_up(), name="dht upkeep")
        _log.info("DHT node %s listens on %s:%d", self._id.hex(), self.host, self.port)

    async def stop(self) -> None:
        """End every task, close the socket and keep the neighbours; a second call does nothing."""
        upkeep, self._upkeep = self._upkeep, None
        if upkeep is not None:
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)
            self._save_state()
        protocol, self._protocol = self._protocol, None
        if protocol is not None and protocol.transport is not None:
            protocol.abandon()
            protocol.transport.close()
            await protocol.closed.wait()

    async def bootstrap(self) -> int:
        """Ping seeds and old neighbours, then look for our own surroundings; gives ``peers``."""
        addresses = dict.fromkeys([*await self._resolve_seeds(), *self._neighbours])
        pings = [self._ping(address) for address in list(addresses)[: 2 * _MAX_NEIGHBOURS]]
        await asyncio.gather(*pings)
        if self.peers:
            await self._look_up(self._id, "find_node", _LOOKUP_DEADLINE)
        return self.peers

    async def publish(self, digest: bytes, data: bytes) -> int:
        """Offer ``data`` to the K nodes nearest to its digest; how many acknowledged it.

        Raises TooLargeForDht above DHT_MAX_VALUE bytes and DhtError where the hash is wrong.
        """
        if value_hash(data) != digest:
            raise DhtError(f"data that does not have the hash {digest.hex()} is not published")
        if len(data) > DHT_MAX_VALUE:
            raise TooLargeForDht(
                f"{len(data)} bytes do not fit the DHT (at most {DHT_MAX_VALUE}):"
                " they are served from the archive of the nodes that have them"
            )
        found = await self._look_up(digest, "find_node", _LOOKUP_DEADLINE)
        turn = asyncio.Semaphore(_STORES_AT_ONCE)

        async def store(contact: Contact) -> bool:
            async with turn:
                return await self._store(contact, digest, data)

        return sum(await asyncio.gather(*(store(contact) for contact in found.nearest)))

    async def fetch(self, digest: bytes, deadline: float) -> Fetched:
        """Ask the network for the data with that hash, for at most ``deadline`` seconds."""

        def is_right(value: bytes) -> bool:
            return value_hash(value) == digest

        found = await self._look_up(digest, "find_value", deadline, is_right)
        for liar in found.liars:
            self._note_wrong(liar.address, digest, shun=True)
        source = found.source
        return Fetched(
            found.value,
            None if source is None else _source(source.address),
            found.asked,
            len(found.liars),
            found.silent,
        )

    async def _bind(self) -> GuardedProtocol:
        loop = asyncio.get_running_loop()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.setblocking(False)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            udp.bind((self.host, self._port))
            _, protocol = await loop.create_datagram_endpoint(self._new_protocol, sock=udp)
        except (OSError, OverflowError) as error:
            udp.close()
            reason = getattr(error, "strerror", None) or str(error)
            raise DhtError(
                f"the DHT cannot listen on {self.host}:{self._port} ({reason}):"
                " stop what uses that port, or give another one with --dht-port"
            ) from None
        self._port = udp.getsockname()[1]
        return protocol

    def _new_protocol(self) -> GuardedProtocol:
        return GuardedProtocol(
            self._id,
            self._archive.get,
            self._keep,
            self.stats,
            reply_timeout=self._reply_timeout,
            requests_a_second=self._requests_a_second,
        )

    def _keep(self, key: bytes, value: bytes, address: Address) -> asyncio.Future[bool] | None:
        """Put what a peer offers in the archive, if it may go there; None: it may not."""
        if value_hash(value) != key:
            self._note_wrong(address, key, shun=False)  # the sender's address may be forged
            return None
        if not self._is_announced(key):
            return None
        try:
            return self._archive.keep(key, value)
        except ArchiveError as error:
            _log.debug("a record of %s:%d was not stored: %s", *address, error)
            return None

    def _note_wrong(self, address: Address, digest: bytes, *, shun: bool) -> None:
        """Count wrong data against its source, and say so the first time.

        Liars are asked last for a while, not never: whose only peer lied once may still get
        all the rest from him.
        """
        self.stats.wrong_values += 1
        source = _source(address)
        now = asyncio.get_running_loop().time()
        is_first = self._liars.add(source, now, shun=shun)
        if is_first and self._lines.take("wrong", now):
            _log.warning(
                "data from %s does not have its hash %s: refused; said once per source",
                source,
                digest.hex(),
            )

    async def _look_up(
        self,
        target: bytes,
        function: str,
        deadline: float,
        is_valid: Callable[[bytes], bool] | None = None,
    ) -> Found:
        if self._protocol is None:
            return Found()

        async def ask(contact: Contact) -> Reply:
            return await self._find(contact, function, target)

        def is_suspect(contact: Contact) -> bool:
            return self._liars.covers(_source(contact.address), loop.time())

        loop = asyncio.get_running_loop()
        start = self._protocol.router.nearest(target)
        return await look_up(
            target,
            start,
            ask,
            own_id=self._id,
            deadline=deadline,
            is_valid=is_valid,
            is_suspect=is_suspect,
        )

    async def _find(self, contact: Contact, function: str, target: bytes) -> Reply:
        body = await self._ask(contact, function, self._id, target)
        reply = None if body is None else read_found(body, contact.ip)
        if reply is None or (function == "find_node" and isinstance(reply, bytes)):
            self._lose(contact)
            return None
        self._welcome(contact)
        return reply

    async def _store(self, contact: Contact, digest: bytes, data: bytes) -> bool:
        body = await self._ask(contact, "store", self._id, digest, data)
        return body is not None and read_stored(body)

    async def _ping(self, address: Address) -> None:
        """Take the node at ``address`` among our contacts, under the id it gives itself."""
        body = await self._ask(Contact(b"", *address), "ping", self._id)
        node_id = None if body is None else read_id(body)
        if node_id is not None:
            self._welcome(Contact(node_id, *address))

    async def _ask(self, contact: Contact, function: str, *arguments: bytes) -> bytes | None:
        if self._protocol is None:
            return None
        return await self._protocol.ask(contact.address, function, *arguments)

    def _welcome(self, contact: Contact) -> None:
        if self._protocol is not None:
            self._protocol.router.add(contact)

    def _lose(self, contact: Contact) -> None:
        if self._protocol is not None:
            self._protocol.router.remove(contact)

    async def _resolve_seeds(self) -> list[Address]:
        """The seeds as addresses; names are resolved anew each time, without blocking anybody."""
        loop = asyncio.get_running_loop()
        found: list[Address] = []
        for host, port in self._seeds:
            try:
                async with asyncio.timeout(_RESOLVE_DEADLINE):
                    answers = await loop.getaddrinfo(
                        host, port, family=socket.AF_INET, type=socket.SOCK_DGRAM
                    )
            except (OSError, TimeoutError, OverflowError, UnicodeError) as error:
                _log.warning("the DHT seed %s:%s cannot be resolved (%s)", host, port, error)
                continue
            found.extend((str(answer[4][0]), int(answer[4][1])) for answer in answers[:4])
        return [a for a in found if is_reachable(a[0], a[0]) and 0 < a[1] < 65_536]

    async def _keep_up(self) -> None:
        """Join, and join again for ever: seeds come back, networks part, contacts die."""
        lonely = 0
        while True:
            try:
                await self._rebind_if_lost()
                await self.bootstrap()
                await self._refresh_buckets()
                self._save_state()
            except Exception as error:  # noqa: BLE001 - upkeep that ends is a node that fades away
                self.stats.failures += 1
                _log.error("DHT upkeep failed (%s: %s); it goes on", type(error).__name__, error)
            pause = self._refresh_interval
            if self.peers:
                lonely = 0
            elif self._seeds or self._neighbours:
                pause = min(pause, _LONELY_PAUSES[min(lonely, len(_LONELY_PAUSES) - 1)])
                lonely += 1
                if lonely == 1:
                    _log.warning("no DHT node answers; asking again every few seconds to minutes")
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load

    async def _rebind_if_lost(self) -> None:
        protocol = self._protocol
        if protocol is not None and protocol.closed.is_set():
            _log.error("the DHT socket was closed by the system; opening it again")
            self._protocol = await self._bind()
            self._protocol.router = protocol.router

    async def _refresh_buckets(self) -> None:
        """Look for an id in each bucket of an hour ago, a few at a time (Kademlia, section 2.3)."""
        if self._protocol is None:
            return
        for bucket in self._protocol.router.lonely_buckets()[:_BUCKETS_AT_ONCE]:
            bucket.touch_last_updated()
            target = random.randint(*bucket.range)  # noqa: S311 - any id in the range will do
            await self._look_up(target.to_bytes(ID_BYTES, "big"), "find_node", _LOOKUP_DEADLINE)

    def _save_state(self) -> None:
        if self._protocol is not None and self.peers:
            nearest = self._protocol.router.nearest(self._id, _MAX_NEIGHBOURS)
            self._neighbours = [contact.address for contact in nearest]
        write_state(self._state_file, DhtState(self._id, tuple(self._neighbours)))


def _source(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
