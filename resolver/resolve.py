"""The one sequence every door calls: a packet in, a packet or silence out; no sockets.

``Resolver.begin`` is the list of its stages; each has one question and a file of its own. What must
stay true:
- a question whose data is in memory or in the archive is answered without awaiting anything, so a
  door can answer it at once (``begin``); only what must come over the network is awaited;
- a packet goes in once and comes out once, on whatever stage;
- whatever goes wrong inside is SERVFAIL to the one who asked and a counted, rate-bounded line in
  the log, never an exception in a door; damage on disk is no answer, and says what it is.
"""

import ipaddress
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any

from indexer.protocol.rows import DamagedRow
from indexer.table.level import TableDamaged
from resolver.dns.admission import Admission
from resolver.dns.answer import Answer, ServerIdentity, damaged
from resolver.dns.asked import Asked, Later
from resolver.dns.asker import UNKNOWN, Asker
from resolver.dns.cache import ReplyCache
from resolver.dns.chase import Facts, Freshness, StalenessLimits, TableSnapshot
from resolver.dns.codes import Rcode
from resolver.dns.contents import Contents
from resolver.dns.cookies import ServerCookies
from resolver.dns.lookup import TtlLimits
from resolver.dns.memory import Memory
from resolver.dns.message import ServerOptions
from resolver.dns.meta import NodeStatus
from resolver.dns.rates import Cost, Rates, WorkBudget
from resolver.dns.writing import Writing
from resolver.dns.zones import Zones, name_text
from resolver.forwarding.fetching import Fetching, Forwarding, Source
from resolver.forwarding.routes import Routes
from resolver.transfers.transfers import Transfers

log = logging.getLogger("blockstore.resolver")

MAX_NSID_BYTES = 200  # with the longest question it still fits 512 bytes
LOG_ONE_KIND_EVERY = 60.0

Reply = bytes | None
LaterReply = Coroutine[Any, Any, Reply]


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
        self._table = table
        self._freshness = freshness
        self._may_recurse = None if forwarder is None else forwarder.allows
        self._clock = clock
        self._last_logged: dict[str, float] = {}
        self.outcomes: Counter[str] = Counter()
        """How many packets ended how: an rcode's name, "silent", "refused unread" (a ready-made
        refusal), "failed" (an error of ours), "overloaded", "from memory" (the cache), "cookie"
        (only a cookie was asked), "over budget", "transfer"; also "kept out of transfers" (records
        that some server does not take)."""
        staleness = staleness or StalenessLimits()
        cookies = cookies or ServerCookies(secrets.token_bytes)
        self.cache = ReplyCache(0) if cache is None else cache
        self.cache.height = table().height
        self._memory = Memory(
            self.cache,
            freshness,
            staleness,
            cookies,
            self._may_recurse,
            clock,
            unix_clock,
            self.outcomes,
        )
        work = work or WorkBudget(Rates(computed=0, fetched=0))
        self._is_spent = (lambda: False) if forwarder is None else forwarder.is_spent
        self._admission = Admission(
            cookies, work, clock, unix_clock, self.outcomes, zones, self._is_spent
        )
        self._fetching = Fetching(
            source,
            Contents() if contents is None else contents,
            forwarder,
            fetch_timeout,
            max_waiting,
            self._admission.over_budget,
            self._memory.missed,
            self.outcomes,
        )
        self._routes = Routes(
            zones,
            freshness,
            staleness,
            ttls or TtlLimits(),
            identity or ServerIdentity(),
            Facts(status or self._own_status, self._fetching.data_from),
            forwarder is not None,
            transfers,
            self.outcomes,
        )
        options = ServerOptions(nsid, min(int(keepalive * 10), 0xFFFF))
        self._writing = Writing(options, self._memory, self.outcomes)
        # What doors and the chain tell one stage alone goes straight there.
        self.ready = self._memory.ready if forwarder is None else self._ready
        self.blocks_came = self._memory.blocks_came
        self.data_came = self._memory.data_came
        self.turned_away = self._admission.turned_away
        self.close = self._fetching.close

    @property
    def waiting(self) -> int:
        """Questions that wait for data now."""
        return len(self._fetching.waiters)

    def _ready(self, packet: bytes, limit: int, address: str = "") -> bytes | None:
        """As ``Memory.ready``; also what others would be asked for and cannot be for the moment is
        told by the short way, so that a flood of other names takes less of the time of ours."""
        reply = self._memory.ready(packet, limit, address)
        if reply is not None or not self._is_spent():
            return reply
        if self._may_recurse is None or not self._may_recurse(address):
            return None
        read = self._admission.read(packet, limit, Asker(address, may_recurse=True))
        return self._admission.beyond_share(read) if isinstance(read, Asked) else None

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
        asked: Asked | None = None
        try:
            if self._may_recurse is not None and self._may_recurse(asker.address):
                asker = asker._replace(may_recurse=True)
            known = self._memory.known(packet, limit, asker)  # known already?
            if isinstance(known, bytes):
                return known
            read = self._admission.read(packet, limit, asker)  # turned away?
            if not isinstance(read, Asked):
                return read
            asked = read
            said: Any = self._admission.over_budget(asked, Cost.COMPUTED)
            if said is None:
                snapshot = self._table()
                asked.place = self._memory.place(known, snapshot.height)
                said = self._routes.way(asked, snapshot)  # ours or not?
            if isinstance(said, Generator):
                said = self._fetching.begin(asked, said)  # what does it say?
            if isinstance(said, Answer | bytes):
                return self._writing.finish(asked, said)  # how is it written?
            return self._awaited(asked, said)
        except Exception as error:  # noqa: BLE001 - the last line of defence before the door
            return self._failed(error, asked)

    async def _awaited(self, asked: Asked, said: Later) -> Reply:
        try:
            return self._writing.finish(asked, await said())
        except Exception as error:  # noqa: BLE001
            return self._failed(error, asked)

    def _own_status(self) -> NodeStatus:
        """How the node stands as far as the freshness tells."""
        at = self._freshness()
        state = "following" if at.ready else "catching up"
        return NodeStatus("unknown", state, at.height, at.target, 0, at.silent_for)

    def _failed(self, error: Exception, asked: Asked | None) -> Reply:
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
        on_disk = isinstance(error, TableDamaged | DamagedRow)
        return self._writing.write(asked, damaged() if on_disk else Answer(Rcode.SERVFAIL))


def open_resolver(
    kind: "type[Resolver]",
    *,
    zones: Mapping[str, str],
    nameserver: str,
    hostmaster: str,
    chain_first: Sequence[str],
    ttls: tuple[int, int],
    transfer_to: Sequence[str],
    version_text: str,
    hostname: str,
    nsid: str,
    zone_cache_entries: int,
    reply_cache_bytes: int,
    cookie_secrets: tuple[bytes, ...],
    rates: Rates,
    source: Source,
    **others: Any,
) -> Resolver:
    """A resolver of this ``kind`` with all that belongs to it, from values as settings have them.

    ``others`` are handed to it as they are.
    """
    served = Zones.from_settings(
        zones, nameservers=(nameserver,), hostmaster=hostmaster, chain_first=chain_first
    )
    limits = TtlLimits(*ttls)
    may_transfer = [ipaddress.ip_network(prefix) for prefix in transfer_to]
    return kind(
        zones=served,
        source=source,
        ttls=limits,
        transfers=Transfers(served, may_transfer, source.peek, limits),
        identity=ServerIdentity(version_text, hostname),
        nsid=nsid.encode("utf-8"),
        contents=Contents(max_entries=zone_cache_entries),
        cache=ReplyCache(reply_cache_bytes),
        cookies=ServerCookies(secrets.token_bytes, cookie_secrets),
        work=WorkBudget(rates),
        **others,
    )
