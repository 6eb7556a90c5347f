"""Finished replies by question; a block forgets exactly the names it touched.

A reply is kept as it was sent, without its ID and question, and is put together again for whoever
asks the same: ID, RD and the case of the question are the asker's own, the TTLs have counted down,
and a cookie is added at the end. What must stay true:
- what comes out is, but for the TTLs, what would have been made anew;
- an entry says what it was made of, and is looked through when a block or data has come since:
  forgetting costs nothing but a note of what was touched, however many replies there are;
- memory is bounded, in bytes; negative and failed answers have a share of their own, so that no
  flood of junk pushes out what is asked in earnest;
- no clock: ``now`` is whole seconds of a clock that never goes back.
"""

import struct
import sys
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from resolver.dns.answer import Basis
from resolver.dns.asked import Place
from resolver.dns.codes import Option, Rcode, Rtype
from resolver.dns.outline import COOKIE_OPTION_SIZE, Outline

NEGATIVE_SHARE = 4
"""Of the bytes, one part in so many may be answers that say no."""
FAILURE_SECONDS = 2
"""How long SERVFAIL is kept: long enough to bear a storm of retries, short for a person."""
MAX_SECONDS = 86_400
MAX_REPLY = 8_192
"""Bytes; longer replies are rare, and few would fill the cache."""
MAX_TOUCHED = 100_000
"""Touched names remembered one by one; beyond that everything is forgotten at once."""

_NEVER = sys.maxsize
_HEADER = 12
_u16 = struct.Struct("!H")
_u32 = struct.Struct("!I")
_COOKIE_HEAD = struct.pack("!HH", Option.COOKIE, COOKIE_OPTION_SIZE - 4)

# Measured: an entry's object, its tuples and integers, its places in the dictionaries.
_ENTRY_OVERHEAD = 780


@dataclass(slots=True)
class _Entry:
    """One reply."""

    heads: tuple[bytes, bytes]
    """Bytes 2 to 12 of the reply without and with RD."""
    tail: bytes
    """What stands behind the name of the question, TTLs as they are at ``second``."""
    ttls: tuple[tuple[int, int], ...]
    """(offset in the tail, TTL when it was born)."""
    opt_length_at: int
    """Offset in the tail of OPT's length of options; -1 without OPT."""
    made_for: int
    """Bytes it was allowed to have."""
    of: tuple[str | bytes, ...]
    generation: int
    until: int
    born: int
    expires: int
    second: int
    size: int


class _Pool(OrderedDict[bytes, _Entry]):
    """Entries within ``most`` bytes; the least recently asked goes first."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.held = 0

    def put(self, key: bytes, entry: _Entry) -> None:
        self[key] = entry
        self.held += entry.size
        while self.held > self.most:
            self.held -= self.popitem(last=False)[1].size

    def drop(self, key: bytes) -> None:
        entry = self.pop(key, None)
        if entry is not None:
            self.held -= entry.size


class ReplyCache:
    """Replies within ``max_bytes`` of memory, about; 0 keeps none."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._negative = _Pool(max_bytes // NEGATIVE_SHARE)
        self._good = _Pool(max_bytes - self._negative.most)
        self._touched: dict[str | bytes, int] = {}
        self.generation = 0
        """Grows whenever something was touched; take it before an answer is begun."""
        self.height = -1
        """Of the last block that was told."""

    def __len__(self) -> int:
        return len(self._good) + len(self._negative)

    @property
    def bytes_held(self) -> int:
        return self._good.held + self._negative.held

    def find(self, packet: bytes, asked: Outline, now: int, cookie: bytes | None) -> bytes | None:
        """The reply to ``packet``, whose outline is ``asked``; ``cookie`` is what the COOKIE
        option of the reply holds. None if there is none, or none that fits."""
        key = asked.key
        pool = self._good
        entry = pool.get(key)
        if entry is None:
            pool = self._negative
            entry = pool.get(key)
            if entry is None:
                return None
        if now >= entry.expires or self.height >= entry.until or not self._untouched(entry):
            pool.drop(key)
            return None
        name_end = asked.name_end
        length = name_end + len(entry.tail)
        # What was cut at one length is cut otherwise at a greater one, and what fits a greater
        # one and is no longer than this is the same here.
        if not length <= asked.room <= entry.made_for:
            return None
        pool.move_to_end(key)
        if entry.second != now:
            self._count_down(entry, now)
        tail = entry.tail if cookie is None else _with_cookie(entry, cookie)
        return b"".join((packet[:2], entry.heads[packet[2]], packet[12:name_end], tail))

    def keep(
        self,
        place: Place,
        reply: bytes,
        made_for: int,
        rcode: int,
        basis: Basis,
        seconds: int,
        now: int,
    ) -> None:
        """Keep ``reply`` (without a cookie) in its ``place``; it was allowed ``made_for`` bytes and
        made of ``basis``, and is good for at most ``seconds``.

        What was made before the last touch, or of a block not told yet, is not kept.
        """
        asked, generation, height = place
        if generation != self.generation or height != self.height or len(reply) > MAX_REPLY:
            return
        ttls, opt_length_at, empty = _places(reply, asked.name_end)
        if rcode == Rcode.SERVFAIL:
            seconds = min(seconds, FAILURE_SECONDS)
        lasts = min((ttl for _, ttl in ttls), default=seconds)
        lasts = min(lasts, seconds, MAX_SECONDS)
        if lasts <= 0:
            return
        flags = reply[2] & 0xFE
        tail = reply[asked.name_end :]
        entry = _Entry(
            heads=(bytes((flags,)) + reply[3:12], bytes((flags | 1,)) + reply[3:12]),
            tail=tail,
            ttls=ttls,
            opt_length_at=opt_length_at,
            made_for=made_for,
            of=tuple(basis.of),
            generation=generation,
            until=height + 1 if basis.at_height else (basis.until or _NEVER),
            born=now,
            expires=now + lasts,
            second=now,
            size=len(asked.key) + len(tail) + _ENTRY_OVERHEAD + 64 * len(ttls),
        )
        for pool in (self._good, self._negative):
            pool.drop(asked.key)
        says_no = rcode != Rcode.NOERROR or (empty and not reply[2] & 0x02)
        (self._negative if says_no else self._good).put(asked.key, entry)

    def touch(self, things: Iterable[str | bytes]) -> None:
        """Forget what was made of these: names whose records changed, hashes whose data came."""
        self.generation += 1
        for thing in things:
            self._touched[thing] = self.generation
        if len(self._touched) > MAX_TOUCHED:
            self.forget_all()

    def block(self, height: int, names: Iterable[str], *, everything: bool = False) -> None:
        """A block has come, or several: ``names`` are those whose records changed. After a
        reorganisation, or when the rules changed (``everything``), nothing is kept."""
        if everything or height <= self.height:
            self.forget_all()
        self.touch(names)
        self.height = height

    def forget_all(self) -> None:
        self.generation += 1
        self._touched.clear()
        for pool in (self._good, self._negative):
            pool.clear()
            pool.held = 0

    def _untouched(self, entry: _Entry) -> bool:
        if entry.generation != self.generation:
            touched = self._touched
            if touched and any(touched.get(it, 0) > entry.generation for it in entry.of):
                return False
            entry.generation = self.generation
        return True

    @staticmethod
    def _count_down(entry: _Entry, now: int) -> None:
        if entry.ttls:
            age = now - entry.born
            octets = bytearray(entry.tail)
            for at, ttl in entry.ttls:
                _u32.pack_into(octets, at, ttl - age)
            entry.tail = bytes(octets)
        entry.second = now


def _with_cookie(entry: _Entry, cookie: bytes) -> bytes:
    """The tail with a COOKIE option behind the other options; OPT is the last record."""
    at = entry.opt_length_at
    tail = entry.tail
    (length,) = _u16.unpack_from(tail, at)
    longer = _u16.pack(length + COOKIE_OPTION_SIZE)
    return b"".join((tail[:at], longer, tail[at + 2 :], _COOKIE_HEAD, cookie))


def _places(reply: bytes, name_end: int) -> tuple[tuple[tuple[int, int], ...], int, bool]:
    """Where the TTLs of a reply of ours are (with their values) and the length of OPT, counted
    from ``name_end``; and whether it answers nothing: no records in answer, no referral."""
    answers, authorities, additionals = struct.unpack_from("!HHH", reply, 6)
    at = name_end + 5
    ttls: list[tuple[int, int]] = []
    opt_length_at = -1
    empty = not answers
    for number in range(answers + authorities + additionals):
        while 0 < reply[at] < 0xC0:
            at += 1 + reply[at]
        at += 2 if reply[at] else 1
        rtype, _, ttl, length = struct.unpack_from("!HHIH", reply, at)
        if rtype == Rtype.OPT:
            opt_length_at = at + 8 - name_end
        else:
            ttls.append((at + 4 - name_end, ttl))
            if rtype == Rtype.NS and answers <= number < answers + authorities:
                empty = False
        at += 10 + length
    return tuple(ttls), opt_length_at, empty
