"""The one sequence every door calls: a packet in, a packet or silence out; no sockets.

What must stay true:
- a question whose data is in memory or in the archive is answered without awaiting anything, so a
  door can answer it at once (``begin``); only data that must come over the network is awaited;
- no more questions than ``max_waiting`` wait for data; the surplus hears SERVFAIL, it is not
  queued (that one digest is looked for once, however many wait for it, is the source's promise);
- what comes from the cache is what would have been made anew, and is kept only while the index is
  ready and fresh, which is looked at once a second and after every block;
- work for one network is rationed; who is over the budget is asked to prove the address (TC), and
  who has proved it hears SERVFAIL;
- whatever goes wrong inside is SERVFAIL to the one who asked and a counted, rate-bounded line in
  the log, never an exception in a door.
"""

import asyncio
import logging
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from resolver.dns.answer import Answer, Basis, NameData, ServerIdentity, chaos_answer, overloaded
from resolver.dns.asker import UNKNOWN, Asker
from resolver.dns.cache import ReplyCache
from resolver.dns.chase import (
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
from resolver.dns.codes import CH, IN, Rcode, Rtype
from resolver.dns.contents import Contents
from resolver.dns.cookies import CLIENT_SIZE, ServerCookies
from resolver.dns.lookup import TtlLimits, lower
from resolver.dns.message import (
    STREAM_LIMIT,
    UDP_LIMIT,
    CookieQuery,
    Query,
    ServerOptions,
    read_query,
    write_reply,
    write_short,
)
from resolver.dns.meta import NodeStatus
from resolver.dns.outline import PLAIN_ROOM, Outline, outline
from resolver.dns.rates import Cost, Rates, WorkBudget
from resolver.dns.reply import CD, RA, RD
from resolver.dns.zones import Labels, NotOurs, Zones, name_text
from resolver.forwarding.onward import (
    Answering,
    Sides,
    answering,
    prohibited,
    without_going_on,
)
from resolver.forwarding.query import Question
from resolver.transfers.transfers import Transfers
from zonefiles.sources import Found, Missing, MissingReason

log = logging.getLogger("blockstore.resolver")

MAX_NSID_BYTES = 200  # with the longest question it still fits 512 bytes
LOG_ONE_KIND_EVERY = 60.0
MAX_AGE = 300
"""Seconds that a reply without any TTL is kept."""
FORWARDED_FLAGS = tuple(bytes((number,)) for number in range(256))
"""Behind the key of a reply for those whom ordinary DNS is asked for: it bears RA, and what it says
may follow from RD, AD and CD."""
MAX_TOLD = 4_096
MAX_TOLD_QUERY = 128
"""Replies of one second kept by the very bytes that asked, and how long those may be."""
MAX_ORIGINS = 1_024
"""Data whose source is remembered, for those who ask for it."""
MAX_MISSED = 16_384
"""Data of which somebody was told that it is missing, so that its coming ends what was said."""

_TRANSFERS = (Rtype.AXFR, Rtype.IXFR)

_RCODE_NAMES = {int(rcode): rcode.name for rcode in Rcode}

Reply = bytes | None
LaterReply = Coroutine[Any, Any, Reply]


class Forwarding(Protocol):
    """Ordinary DNS, for those it is for; no answer of it raises."""

    def allows(self, address: str) -> bool: ...
    def at_hand(self, question: Question) -> Answer | None: ...
    async def answer(self, question: Question) -> Answer: ...
    def is_spent(self) -> bool: ...


class Source(Protocol):
    """Where data comes from; nothing it hands out has another hash than was asked for."""

    def peek(self, digest: bytes) -> bytes | None: ...
    async def get(self, digest: bytes, timeout: float) -> Found | Missing: ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question on its way."""

    query: Query
    limit: int
    asker: Asker
    cookie: bytes = b""
    """What the COOKIE option of the reply holds; empty: none was sent."""
    proven: bool = False
    """The address is the client's own: a stream, or a cookie that we made for it."""
    outline: Outline | None = None
    """What the reply is kept under; None: it is not kept."""
    generation: int = 0
    height: int = 0


class Resolver:
    """Answers packets.

    ``table`` gives the current snapshot; ``freshness`` is asked for each question and must be
    cheap. ``fetch_timeout`` is in seconds. ``nsid`` and ``identity`` are what the server says of
    itself, nothing if empty. ``keepalive`` is the TCP door's idle timeout in seconds. ``status``
    says how the node stands, for those who ask ``_status.SUFFIX``. Without ``cache`` every reply
    is made anew. Without ``forwarder`` what is not ours is refused, without ``transfers`` whole
    zones are. ``clock`` is in seconds and never goes back, ``unix_clock`` is for cookies.
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
        cache: ReplyCache | None = None,
        cookies: ServerCookies | None = None,
        work: WorkBudget | None = None,
        forwarder: Forwarding | None = None,
        transfers: Transfers | None = None,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
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
        self._missed: OrderedDict[bytes, bool] = OrderedDict()
        self._cache = ReplyCache(0) if cache is None else cache
        self._caching = cache is not None
        self._cache.height = table().height
        self._cookies = cookies or ServerCookies(secrets.token_bytes)
        self._work = work or WorkBudget(Rates(computed=0, fetched=0))
        self._forwarder = forwarder
        self._transfers = transfers
        self._clock = clock
        self._unix_clock = unix_clock
        self._second = -1
        self._second_ends = float("-inf")
        self._told: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
        self._fresh = False
        self._waiters: set[asyncio.Task[Any]] = set()
        self._last_logged: dict[str, float] = {}
        self.outcomes: Counter[str] = Counter()
        """How many packets ended how: an rcode's name, "silent", "refused unread" (a ready-made
        refusal), "failed" (an error of ours), "overloaded", "from memory" (the cache), "cookie"
        (only a cookie was asked), "over budget", "transfer"; also "kept out of transfers" (records
        that some server does not take)."""

    @property
    def cache(self) -> ReplyCache:
        """The replies kept."""
        return self._cache

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
        asked: _Asked | None = None
        try:
            if self._forwarder is not None and self._forwarder.allows(asker.address):
                asker = asker._replace(may_recurse=True)
            found = self._outlined(packet, limit, asker)
            if isinstance(found, bytes):
                return found
            query = read_query(packet)
            if query is None:
                self.outcomes["silent"] += 1
                return None
            if isinstance(query, bytes):
                self.outcomes["refused unread"] += 1
                return _offering(query, asker)
            if isinstance(query, CookieQuery):
                return _offering(self._only_a_cookie(query, asker), asker)
            snapshot = self._table()
            asked = self._asked(query, limit, asker, found, snapshot.height)
        except Exception as error:  # noqa: BLE001 - the last line of defence before the door
            self._failed(error, None)
            return None
        try:
            if self._is_beyond_share(asked):
                self.outcomes["over budget"] += 1
                short = write_short(query, Rcode.SERVFAIL, asked.cookie, cut=False)
                return _offering(short, asked.asker)
            if not self._admits(asked, Cost.COMPUTED):
                return self._over_budget(asked)
            if self._transfers is not None and query.qclass == IN and query.qtype in _TRANSFERS:
                at = self._freshness()
                given = self._transfers.begin(query, asker, snapshot, at, self._staleness)
                if isinstance(given, Answer):
                    return self._finish(asked, given)
                return self._transferred(asked, given)
            started = self._start(asked, snapshot)
            if isinstance(started, Answer):
                return self._finish(asked, started)
            wanted = self._advance(started, None)
            if isinstance(wanted, Answer):
                return self._finish(asked, wanted)
            if isinstance(wanted, Wanted) and not self._admits(asked, Cost.FETCHED):
                started.close()
                return self._over_budget(asked)
            return self._continue(asked, started, wanted)
        except Exception as error:  # noqa: BLE001
            return self._failed(error, asked)

    def ready(self, packet: bytes, limit: int, address: str = "") -> bytes | None:
        """The reply to a datagram from ``address`` if the cache has it: the short way for a door.
        Never raises."""
        if not self._caching:
            return None
        may_recurse = self._forwarder is not None and self._forwarder.allows(address)
        told = self._told[may_recurse]
        now = self._clock()
        if now < self._second_ends:
            # Within one second and without a block the same bytes get the same reply.
            rest = told.get(packet[2:])
            if rest is not None and limit == UDP_LIMIT:
                return packet[:2] + rest
        else:
            self._look_at_the_clock(int(now))
        asked = outline(packet, limit, stream=False, keeps_connection=False)
        if asked is None or not self._fresh:
            return None
        if may_recurse:
            asked = _for_one_who_may_recurse(asked, packet)
        if asked.cookie is not None:
            cookie, _ = self._cookies.reply(asked.cookie, address, self._unix_clock())
            return self._cache.find(packet, asked, self._second, cookie)
        reply = self._cache.find(packet, asked, self._second, None)
        if reply is not None and limit == UDP_LIMIT and len(packet) <= MAX_TOLD_QUERY:
            if len(told) >= MAX_TOLD:
                told.clear()
            told[packet[2:]] = reply[2:]
        return reply

    def turned_away(self, packet: bytes, address: str) -> bytes | None:
        """What to say to a datagram that came too often: TC, or BADCOOKIE to those who know
        cookies; None if its cookie proves the address, which then is not turned away."""
        query = read_query(packet)
        if query is None or isinstance(query, bytes):
            return query or b""
        option = None if query.edns is None else query.edns.cookie
        if option is None:
            return write_short(query, Rcode.NOERROR, b"", cut=True)
        cookie, proven = self._cookies.reply(option, address, self._unix_clock())
        return None if proven else write_short(query, Rcode.BADCOOKIE, cookie, cut=False)

    def blocks_came(self, height: int, names: Iterable[str], *, everything: bool = False) -> None:
        """The table has moved to ``height``; ``names`` are those whose records changed.
        ``everything``: the rules for all names did, by an epoch or a namespace."""
        self._cache.block(height, names, everything=everything)
        self._look_again()

    def data_came(self, digests: Iterable[bytes]) -> None:
        """The archive has this data now: whoever was told that it is missing may ask again."""
        missed = [digest for digest in digests if self._missed.pop(digest, False)]
        if missed:
            self._cache.touch(missed)
            self._look_again()

    async def close(self) -> None:
        """Give up the questions that wait; whoever runs them sees them cancelled."""
        waiters = list(self._waiters)
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)

    def _outlined(self, packet: bytes, limit: int, asker: Asker) -> Outline | bytes | None:
        """The reply if the cache has it, else what it would be kept under."""
        if not self._caching:
            return None
        stream = limit >= STREAM_LIMIT
        asked = outline(packet, limit, stream=stream, keeps_connection=asker.keeps_connection)
        if asked is None:
            return None
        if asker.may_recurse:
            asked = _for_one_who_may_recurse(asked, packet)
        if self._clock() >= self._second_ends:
            self._look_at_the_clock(int(self._clock()))
        if not self._fresh:
            return None
        cookie: bytes | None = None
        if asked.cookie is not None:
            cookie, _ = self._cookies.reply(asked.cookie, asker.address, self._unix_clock())
        reply = self._cache.find(packet, asked, self._second, cookie)
        if reply is None:
            return asked
        self.outcomes["from memory"] += 1
        return reply

    def _look_at_the_clock(self, now: int) -> None:
        """Whether what the cache holds may be said, and kept."""
        at = self._freshness()
        self._fresh = at.ready and not self._staleness.mark(at)
        self._second = now
        self._second_ends = now + 1
        for told in self._told:
            told.clear()

    def _look_again(self) -> None:
        """What was told within this second is not to be told again unseen."""
        self._second_ends = float("-inf")

    def _asked(
        self, query: Query, limit: int, asker: Asker, kept_as: Outline | None, height: int
    ) -> _Asked:
        stream = limit >= STREAM_LIMIT
        option = None if query.edns is None else query.edns.cookie
        cookie, proven = b"", stream
        if option is not None:
            cookie, valid = self._cookies.reply(option, asker.address, self._unix_clock())
            proven = stream or valid
        generation = self._cache.generation
        return _Asked(query, limit, asker, cookie, proven, kept_as, generation, height)

    def _only_a_cookie(self, query: CookieQuery, asker: Asker) -> bytes:
        """RFC 7873 5.4: a client cookie alone is answered with NOERROR, a server cookie that is
        not good with BADCOOKIE."""
        self.outcomes["cookie"] += 1
        option = query.edns.cookie or b""
        cookie, valid = self._cookies.reply(option, asker.address, self._unix_clock())
        good = valid or len(option) == CLIENT_SIZE
        return write_short(query, Rcode.NOERROR if good else Rcode.BADCOOKIE, cookie, cut=False)

    def _admits(self, asked: _Asked, cost: Cost) -> bool:
        return self._work.admits(asked.asker.address, cost, asked.proven, self._clock())

    def _is_beyond_share(self, asked: _Asked) -> bool:
        """Whether only others can answer, of whom no more can be asked at the moment."""
        return (
            self._forwarder is not None
            and self._forwarder.is_spent()
            and asked.asker.may_recurse
            and isinstance(self._zones.split_qname(asked.query.labels), NotOurs)
        )

    def _over_budget(self, asked: _Asked) -> bytes:
        self.outcomes["over budget"] += 1
        if asked.proven:
            return self._finish(asked, overloaded())
        cut = write_short(asked.query, Rcode.NOERROR, asked.cookie, cut=True)
        return _offering(cut, asked.asker)

    def _start(self, asked: _Asked, snapshot: TableSnapshot) -> Answer | Answering:
        query, asker = asked.query, asked.asker
        if query.qclass == CH:
            return chaos_answer(query.labels, query.qtype, self._identity)
        if query.qclass != IN or query.qtype in _TRANSFERS:
            return Answer(Rcode.REFUSED)
        if not asker.may_recurse or not query.flags & RD:
            first = self._chase(query.labels, query.qtype, snapshot, whole=False)
            recurses = asker.may_recurse
            return without_going_on(first) if recurses else self._without_recursion(first, asker)
        dnssec = query.edns is not None and query.edns.wants_dnssec
        unchecked = bool(query.flags & CD)
        return answering(
            Question(lower(query.labels), query.qtype, dnssec, unchecked),
            Sides(
                lambda name, qtype: self._chase(name, qtype, snapshot, whole=True),
                lambda name: not isinstance(self._zones.split_qname(name), NotOurs),
            ),
        )

    def _chase(self, labels: Labels, qtype: int, snapshot: TableSnapshot, *, whole: bool) -> Chase:
        return chase(
            labels,
            qtype,
            zones=self._zones,
            snapshot=snapshot,
            freshness=self._freshness(),
            staleness=self._staleness,
            ttls=self._ttls,
            facts=self._facts,
            whole=whole,
        )

    def _without_recursion(self, first: Chase, asker: Asker) -> Answering:
        """What stands on our side; who is refused hears whether others would not be."""
        answer = yield from first
        if self._forwarder is not None and answer.rcode == Rcode.REFUSED:
            return prohibited(asker.address)
        return answer

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

    def _advance(
        self, chased: Answering, delivery: Delivery | Answer | None
    ) -> Answer | Wanted | Question:
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

    def _at_hand(self, wanted: Wanted | Question) -> NameData | Answer | None:
        if isinstance(wanted, Question):
            return None if self._forwarder is None else self._forwarder.at_hand(wanted)
        held = self._contents.get(wanted.digest, wanted.chain_name)
        if held is not None:
            return held
        data = self._source.peek(wanted.digest)
        if data is None:
            return None
        return self._contents.add(wanted.digest, wanted.chain_name, data)

    async def _continue(self, asked: _Asked, chased: Answering, wanted: Wanted | Question) -> Reply:
        try:
            step: Answer | Wanted | Question = wanted
            while not isinstance(step, Answer):
                step = self._advance(chased, await self._fetched(step))
            return self._finish(asked, step)
        except Exception as error:  # noqa: BLE001
            return self._failed(error, asked)

    async def _transferred(self, asked: _Asked, given: Coroutine[Any, Any, bytes]) -> Reply:
        self.outcomes["transfer"] += 1
        try:
            reply = await given
            if self._transfers is not None and self._transfers.left_out:
                self.outcomes["kept out of transfers"] = self._transfers.left_out
            return reply
        except Exception as error:  # noqa: BLE001
            return self._failed(error, asked)

    async def _fetched(self, wanted: Wanted | Question) -> Delivery | Answer:
        waiter = asyncio.current_task()
        if waiter is None or len(self._waiters) >= self._max_waiting:
            self.outcomes["overloaded"] += 1
            return overloaded() if isinstance(wanted, Question) else Overloaded()
        self._waiters.add(waiter)
        try:
            if isinstance(wanted, Question):
                assert self._forwarder is not None
                return await self._forwarder.answer(wanted)
            found = await self._source.get(wanted.digest, self._fetch_timeout)
        finally:
            self._waiters.discard(waiter)
        if isinstance(found, Missing):
            data = self._source.peek(wanted.digest)
            if data is not None:  # somebody brought it meanwhile
                return self._contents.add(wanted.digest, wanted.chain_name, data)
            self._missed[wanted.digest] = True
            if len(self._missed) > MAX_MISSED:
                self._missed.popitem(last=False)
        if isinstance(found, Found):
            self._origins[wanted.digest] = found.source
            if len(self._origins) > MAX_ORIGINS:
                self._origins.popitem(last=False)
            return self._contents.add(wanted.digest, wanted.chain_name, found.data)
        if found.busy:
            self.outcomes["overloaded"] += 1
            return Overloaded()
        return Unavailable(found.asked, only_wrong=found.reason is MissingReason.MISMATCH)

    def _finish(self, asked: _Asked, answer: Answer) -> bytes:
        self.outcomes[_RCODE_NAMES[answer.rcode]] += 1
        if asked.outline is not None and answer.basis is not None and self._fresh:
            kept = self._keep(asked, asked.outline, answer)
            if kept is not None:
                return kept
        return self._written(asked, answer)

    def _written(self, asked: _Asked, answer: Answer) -> bytes:
        return write_reply(
            asked.query, answer, asked.limit, self._options, asked.asker, cookie=asked.cookie
        )

    def _keep(self, asked: _Asked, kept_as: Outline, answer: Answer) -> bytes | None:
        """Keep the reply as whoever has the most room gets it; the reply itself if it is the
        same for this one, who may have less room."""
        query, limit = asked.query, asked.limit
        most = limit
        if limit < STREAM_LIMIT:
            most = min(limit, PLAIN_ROOM if query.edns is None else UDP_LIMIT)
        reply = write_reply(query, answer, limit, self._options, asked.asker, room=most)
        now = int(self._clock())
        basis = answer.basis or Basis()
        seconds = min((part.ttl for part in (*answer.answer, *answer.authority)), default=MAX_AGE)
        if basis.seconds is not None:
            seconds = min(seconds, basis.seconds)
        self._cache.keep(
            kept_as,
            reply,
            most,
            answer.rcode,
            basis,
            asked.generation,
            asked.height,
            seconds,
            now,
        )
        return reply if len(reply) <= kept_as.room and not asked.cookie else None

    def _failed(self, error: Exception, asked: _Asked | None) -> Reply:
        """Count and, once in a while, log an error of ours; the one who asked gets SERVFAIL."""
        self.outcomes["failed"] += 1
        kind = type(error).__name__
        now = self._clock()
        if now - self._last_logged.get(kind, float("-inf")) >= LOG_ONE_KIND_EVERY:
            self._last_logged[kind] = now
            what = "a packet"
            if asked is not None:
                what = f"{name_text(asked.query.labels)} {asked.query.qtype}"
            log.error("Answering %s failed: %s: %s. SERVFAIL was sent.", what, kind, error)
            log.debug("The failure came from here.", exc_info=error)
        if asked is None:
            return None
        return self._written(asked, Answer(Rcode.SERVFAIL))


def _offering(reply: bytes, asker: Asker) -> bytes:
    """``reply`` with RA for whom it is: a refusal is no reason to look for another resolver."""
    return reply[:3] + bytes((reply[3] | RA,)) + reply[4:] if asker.may_recurse else reply


def _for_one_who_may_recurse(asked: Outline, packet: bytes) -> Outline:
    """The outline with RD, AD and CD in its key."""
    flags = FORWARDED_FLAGS[packet[2] & 0x01 | packet[3] & 0x30]
    return Outline(asked.key + flags, asked.name_end, asked.room, asked.cookie)
