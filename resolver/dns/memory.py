"""Known already? Replies given before, to those who ask the same.

What must stay true:
- what comes from here is what would have been made anew, and is kept only while the index is ready
  and fresh, which is looked at once a second and after every block;
- within one second and without a block the same bytes get the same reply, so that the short way
  costs a look into one dictionary.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from resolver.dns.answer import Answer, Basis
from resolver.dns.asked import Place
from resolver.dns.asker import Asker
from resolver.dns.cache import ReplyCache
from resolver.dns.chase import Freshness, StalenessLimits
from resolver.dns.cookies import ServerCookies
from resolver.dns.message import STREAM_LIMIT, UDP_LIMIT
from resolver.dns.outline import Outline, outline

MAX_AGE = 300
"""Seconds that a reply without any TTL is kept."""
FORWARDED_FLAGS = tuple(bytes((number,)) for number in range(256))
"""Behind the key of a reply for those whom ordinary DNS is asked for: it bears RA, and what it says
may follow from RD, AD and CD."""
MAX_TOLD = 4_096
MAX_TOLD_QUERY = 128
"""Replies of one second kept by the very bytes that asked, and how long those may be."""
MAX_MISSED = 16_384
"""Data of which somebody was told that it is missing, so that its coming ends what was said."""


@dataclass(slots=True)
class Memory:
    """The replies in ``cache``, of which there may be none. Times are in seconds."""

    cache: ReplyCache
    freshness: Callable[[], Freshness]
    staleness: StalenessLimits
    cookies: ServerCookies
    may_recurse: Callable[[str], bool] | None
    """For whom ordinary DNS is asked; None: nobody."""
    clock: Callable[[], float]
    """Never goes back."""
    unix_clock: Callable[[], float]
    """For cookies."""
    outcomes: Counter[str]
    _fresh: bool = False
    _second: int = -1
    _second_ends: float = float("-inf")
    _told: tuple[dict[bytes, bytes], dict[bytes, bytes]] = field(default_factory=lambda: ({}, {}))
    _missed: OrderedDict[bytes, bool] = field(default_factory=OrderedDict)

    def ready(self, packet: bytes, limit: int, address: str = "") -> bytes | None:
        """The reply to a datagram from ``address`` if it is known: the short way for a door.
        Never raises."""
        if not self.cache.max_bytes:
            return None
        may_recurse = self.may_recurse is not None and self.may_recurse(address)
        told = self._told[may_recurse]
        now = self.clock()
        if now < self._second_ends:
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
            cookie, _ = self.cookies.reply(asked.cookie, address, self.unix_clock())
            return self.cache.find(packet, asked, self._second, cookie)
        reply = self.cache.find(packet, asked, self._second, None)
        if reply is not None and limit == UDP_LIMIT and len(packet) <= MAX_TOLD_QUERY:
            if len(told) >= MAX_TOLD:
                told.clear()
            told[packet[2:]] = reply[2:]
        return reply

    def known(self, packet: bytes, limit: int, asker: Asker) -> Outline | bytes | None:
        """The reply through any door if it is known, else what it would be kept under."""
        if not self.cache.max_bytes:
            return None
        stream = limit >= STREAM_LIMIT
        asked = outline(packet, limit, stream=stream, keeps_connection=asker.keeps_connection)
        if asked is None:
            return None
        if asker.may_recurse:
            asked = _for_one_who_may_recurse(asked, packet)
        if self.clock() >= self._second_ends:
            self._look_at_the_clock(int(self.clock()))
        if not self._fresh:
            return None
        cookie: bytes | None = None
        if asked.cookie is not None:
            cookie, _ = self.cookies.reply(asked.cookie, asker.address, self.unix_clock())
        reply = self.cache.find(packet, asked, self._second, cookie)
        if reply is None:
            return asked
        self.outcomes["from memory"] += 1
        return reply

    def place(self, known: Outline | None, height: int) -> Place | None:
        """Where the reply goes that is begun now from a snapshot at ``height``."""
        return None if known is None else Place(known, self.cache.generation, height)

    def keeps(self, answer: Answer) -> bool:
        """Whether the reply to ``answer`` may be kept."""
        return answer.basis is not None and self._fresh

    def keep(self, place: Place, reply: bytes, made_for: int, answer: Answer) -> None:
        """Keep ``reply``, which says ``answer`` in at most ``made_for`` bytes without a cookie."""
        basis = answer.basis or Basis()
        seconds = min((part.ttl for part in (*answer.answer, *answer.authority)), default=MAX_AGE)
        if basis.seconds is not None:
            seconds = min(seconds, basis.seconds)
        self.cache.keep(place, reply, made_for, answer.rcode, basis, seconds, int(self.clock()))

    def missed(self, digest: bytes) -> None:
        """Somebody was told that this data is not to be had."""
        self._missed[digest] = True
        if len(self._missed) > MAX_MISSED:
            self._missed.popitem(last=False)

    def blocks_came(self, height: int, names: Iterable[str], *, everything: bool = False) -> None:
        """The table has moved to ``height``; ``names`` are those whose records changed.
        ``everything``: the rules for all names did, by an epoch or a namespace."""
        self.cache.block(height, names, everything=everything)
        self._look_again()

    def data_came(self, digests: Iterable[bytes]) -> None:
        """The archive has this data now: whoever was told that it is missing may ask again."""
        missed = [digest for digest in digests if self._missed.pop(digest, False)]
        if missed:
            self.cache.touch(missed)
            self._look_again()

    def _look_at_the_clock(self, now: int) -> None:
        """Whether what the cache holds may be said, and kept."""
        at = self.freshness()
        self._fresh = at.ready and not self.staleness.mark(at)
        self._second = now
        self._second_ends = now + 1
        for told in self._told:
            told.clear()

    def _look_again(self) -> None:
        """What was told within this second is not to be told again unseen."""
        self._second_ends = float("-inf")


def _for_one_who_may_recurse(asked: Outline, packet: bytes) -> Outline:
    """The outline with RD, AD and CD in its key."""
    flags = FORWARDED_FLAGS[packet[2] & 0x01 | packet[3] & 0x30]
    return Outline(asked.key + flags, asked.name_end, asked.room, asked.cookie)
