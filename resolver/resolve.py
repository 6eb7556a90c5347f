"""The one sequence every door calls: a packet in, a packet or silence out; no sockets.

What must stay true:
- a question whose data is in memory or in the archive is answered without awaiting anything, so a
  door can answer it at once (``begin``); only data that must come over the network is awaited;
- no more questions than ``max_waiting`` wait for data; the surplus hears SERVFAIL, it is not
  queued (that one digest is looked for once, however many wait for it, is the source's promise);
- whatever goes wrong inside is SERVFAIL to the one who asked and a counted, rate-bounded line in
  the log, never an exception in a door.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from resolver.answer import Answer, NameData, ServerIdentity, chaos_answer
from resolver.asker import UNKNOWN, Asker
from resolver.chase import (
    Chase,
    Delivery,
    Facts,
    Freshness,
    Overloaded,
    StalenessLimits,
    TableSnapshot,
    Unavailable,
    Wanted,
    chase,
)
from resolver.codes import CH, IN, Rcode, Rtype
from resolver.contents import Contents
from resolver.lookup import TtlLimits
from resolver.message import Query, ServerOptions, read_query, write_reply
from resolver.meta import NodeStatus
from resolver.zones import Zones, name_text
from zonefiles.sources import Found, Missing, MissingReason

log = logging.getLogger("blockstore.resolver")

MAX_NSID_BYTES = 200  # with the longest question it still fits 512 bytes
LOG_ONE_KIND_EVERY = 60.0
MAX_ORIGINS = 1_024
"""Data whose source is remembered, for those who ask for it."""

Reply = bytes | None
LaterReply = Coroutine[Any, Any, Reply]


class Source(Protocol):
    """Where data comes from; nothing it hands out has another hash than was asked for."""

    def peek(self, digest: bytes) -> bytes | None: ...
    async def get(self, digest: bytes, timeout: float) -> Found | Missing: ...


class Resolver:
    """Answers packets.

    ``table`` gives the current snapshot; ``freshness`` is asked for each question and must be
    cheap. ``fetch_timeout`` is in seconds. ``nsid`` and ``identity`` are what the server says of
    itself, nothing if empty. ``keepalive`` is the TCP door's idle timeout in seconds. ``status``
    says how the node stands, for those who ask ``_status.SUFFIX``.
    """

    def __init__(
        self,
        *,
        zones: Zones,
        table: Callable[[], TableSnapshot],
        source: Source,
        freshness: Callable[[], Freshness],
        fetch_timeout: float = 3.0,
        ttls: TtlLimits | None = None,
        staleness: StalenessLimits | None = None,
        identity: ServerIdentity | None = None,
        nsid: bytes = b"",
        keepalive: float = 10.0,
        max_waiting: int = 1_000,
        contents: Contents | None = None,
        status: Callable[[], NodeStatus] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if len(nsid) > MAX_NSID_BYTES:
            raise ValueError(f"an NSID of {len(nsid)} bytes is longer than {MAX_NSID_BYTES}")
        self._zones = zones
        self._table = table
        self._source = source
        self._freshness = freshness
        self._fetch_timeout = fetch_timeout
        self._ttls = ttls or TtlLimits()
        self._staleness = staleness or StalenessLimits()
        self._identity = identity or ServerIdentity()
        self._options = ServerOptions(nsid, min(int(keepalive * 10), 0xFFFF))
        self._max_waiting = max_waiting
        self._contents = Contents() if contents is None else contents
        self._facts = Facts(status or self._own_status, self._data_from)
        self._origins: OrderedDict[bytes, str] = OrderedDict()
        self._clock = clock
        self._waiters: set[asyncio.Task[Any]] = set()
        self._last_logged: dict[str, float] = {}
        self.outcomes: Counter[str] = Counter()
        """How many packets ended how: an rcode's name, "silent", "refused unread" (a ready-made
        refusal), "failed" (an error of ours), "overloaded"."""

    @property
    def waiting(self) -> int:
        """Questions that wait for data now."""
        return len(self._waiters)

    async def reply_to(self, packet: bytes, limit: int, asker: Asker = UNKNOWN) -> Reply:
        """The reply to ``packet`` through a door that carries ``limit`` bytes; None is silence."""
        reply = self.begin(packet, limit, asker)
        if reply is None or isinstance(reply, bytes):
            return reply
        return await reply

    def begin(self, packet: bytes, limit: int, asker: Asker = UNKNOWN) -> Reply | LaterReply:
        """The reply if it can be given at once; else a coroutine that gives it, to be run.

        Never raises, nor does the coroutine (but for its own cancellation).
        """
        try:
            query = read_query(packet)
            if query is None:
                self.outcomes["silent"] += 1
                return None
            if isinstance(query, bytes):
                self.outcomes["refused unread"] += 1
                return query
        except Exception as error:  # noqa: BLE001 - the last line of defence before the door
            self._failed(error, None, limit, asker)
            return None
        try:
            started = self._start(query)
            if isinstance(started, Answer):
                return self._finish(query, started, limit, asker)
            wanted = self._advance(started, None)
            if isinstance(wanted, Answer):
                return self._finish(query, wanted, limit, asker)
            return self._continue(query, started, wanted, limit, asker)
        except Exception as error:  # noqa: BLE001
            return self._failed(error, query, limit, asker)

    async def close(self) -> None:
        """Give up the questions that wait; whoever runs them sees them cancelled."""
        waiters = list(self._waiters)
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)

    def _start(self, query: Query) -> Answer | Chase:
        if query.qclass == CH:
            return chaos_answer(query.labels, query.qtype, self._identity)
        if query.qclass != IN or query.qtype in (Rtype.AXFR, Rtype.IXFR):
            return Answer(Rcode.REFUSED)
        return chase(
            query.labels,
            query.qtype,
            zones=self._zones,
            snapshot=self._table(),
            freshness=self._freshness(),
            staleness=self._staleness,
            ttls=self._ttls,
            facts=self._facts,
        )

    def _own_status(self) -> NodeStatus:
        """How the node stands as far as the freshness tells."""
        at = self._freshness()
        state = "following" if at.ready else "catching up"
        return NodeStatus("unknown", state, at.height, at.target, 0, at.silent_for)

    def _data_from(self, digest: bytes) -> str:
        """Where the data with this hash came from, or lies, in words."""
        if self._source.peek(digest) is None:
            return "nobody"
        first = self._origins.get(digest)
        return "archive" if first is None else f"archive, fetched from {first}"

    def _advance(self, chased: Chase, delivery: Delivery | None) -> Answer | Wanted:
        """Go on with what is at hand until there is an answer or something must be fetched."""
        try:
            wanted = next(chased) if delivery is None else chased.send(delivery)
            while True:
                held = self._at_hand(wanted)
                if held is None:
                    return wanted
                wanted = chased.send(held)
        except StopIteration as done:
            answer: Answer = done.value
            return answer

    def _at_hand(self, wanted: Wanted) -> NameData | None:
        held = self._contents.get(wanted.digest, wanted.chain_name)
        if held is not None:
            return held
        data = self._source.peek(wanted.digest)
        if data is None:
            return None
        return self._contents.add(wanted.digest, wanted.chain_name, data)

    async def _continue(
        self, query: Query, chased: Chase, wanted: Wanted, limit: int, asker: Asker
    ) -> Reply:
        try:
            step: Answer | Wanted = wanted
            while isinstance(step, Wanted):
                step = self._advance(chased, await self._fetched(step))
            return self._finish(query, step, limit, asker)
        except Exception as error:  # noqa: BLE001
            return self._failed(error, query, limit, asker)

    async def _fetched(self, wanted: Wanted) -> Delivery:
        waiter = asyncio.current_task()
        if waiter is None or len(self._waiters) >= self._max_waiting:
            self.outcomes["overloaded"] += 1
            return Overloaded()
        self._waiters.add(waiter)
        try:
            found = await self._source.get(wanted.digest, self._fetch_timeout)
        finally:
            self._waiters.discard(waiter)
        if isinstance(found, Found):
            self._origins[wanted.digest] = found.source
            if len(self._origins) > MAX_ORIGINS:
                self._origins.popitem(last=False)
            return self._contents.add(wanted.digest, wanted.chain_name, found.data)
        return Unavailable(found.asked, only_wrong=found.reason is MissingReason.MISMATCH)

    def _finish(self, query: Query, answer: Answer, limit: int, asker: Asker) -> bytes:
        reply = write_reply(query, answer, limit, self._options, asker)
        self.outcomes[Rcode(answer.rcode).name] += 1
        return reply

    def _failed(self, error: Exception, query: Query | None, limit: int, asker: Asker) -> Reply:
        """Count and, once in a while, log an error of ours; the one who asked gets SERVFAIL."""
        self.outcomes["failed"] += 1
        kind = type(error).__name__
        now = self._clock()
        if now - self._last_logged.get(kind, float("-inf")) >= LOG_ONE_KIND_EVERY:
            self._last_logged[kind] = now
            asked = "a packet" if query is None else f"{name_text(query.labels)} {query.qtype}"
            log.error("Answering %s failed: %s: %s. SERVFAIL was sent.", asked, kind, error)
            log.debug("The failure came from here.", exc_info=error)
        if query is None:
            return None
        return write_reply(query, Answer(Rcode.SERVFAIL), limit, self._options, asker)
