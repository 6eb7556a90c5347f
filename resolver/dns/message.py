"""An answer as bytes that fit: sections, truncation, our OPT (NSID, keepalive, padding).

The only file that knows dnslib, which no packet from outside reaches. What must stay true:
- a reply is never longer than allowed;
- a reply is cut only between RRsets, and then says so (TC); the question and OPT are always kept;
- the question comes back with its own upper and lower case.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache

from dnslib.dns import EDNS0, EDNSOption
from dnslib.label import DNSBuffer

from resolver.dns.answer import Answer, ExtendedError
from resolver.dns.asker import UNKNOWN, Asker
from resolver.dns.codes import AA, AD, CD, QR, RA, RD, TC, Option
from resolver.dns.lookup import RecordSet
from resolver.dns.outline import PLAIN_ROOM
from resolver.dns.query import Query, Short
from resolver.dns.upstream_reply import read_name
from resolver.dns.zones import Labels, name_wire

UDP_LIMIT = 1_232
"""What a datagram of ours may hold (the DNS flag day 2020 size); also what OPT offers."""
STREAM_LIMIT = 65_535
PADDING_BLOCK = 468

MAX_ERROR_TEXT = 240

_OPCODE = 0x7800

_HEADER = 12
_OPT_HEAD = 11
_header = struct.Struct("!HHHHHH")
_type_class = struct.Struct("!HH")
_record = struct.Struct("!HHIH")
_pointer = _length = struct.Struct("!H")
# Where the name is that ends the RDATA, and that may be compressed (RFC 3597 4).
_NAME_AT = {2: 0, 5: 0, 12: 0, 15: 2}  # NS, CNAME, PTR, MX
_TO_QUESTION = _pointer.pack(0xC000 | _HEADER)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the server adds for those who ask: its name (NSID, RFC 5001; empty: none) and how
    long an idle TCP connection is kept (RFC 7828, in tenths of a second; 0: not said)."""

    nsid: bytes = b""
    keepalive: int = 0


_NO_OPTIONS = ServerOptions()


def reply_limit(query: Query, limit: int) -> int:
    """How long the reply may be through a door that carries ``limit`` bytes: all of it on a
    stream, else what the client can take (RFC 6891 6.2.3; 512 without EDNS)."""
    if limit >= STREAM_LIMIT:
        return STREAM_LIMIT
    if query.edns is None:
        return min(limit, PLAIN_ROOM)
    return min(limit, max(PLAIN_ROOM, query.edns.size))


def write_reply(
    query: Query,
    answer: Answer,
    limit: int,
    options: ServerOptions = _NO_OPTIONS,
    asker: Asker = UNKNOWN,
    *,
    cookie: bytes = b"",
    room: int | None = None,
) -> bytes:
    """The reply to ``query`` in at most ``reply_limit(query, limit)`` bytes, or ``room``.

    ``cookie`` is what its COOKIE option holds; none if empty.

    When it is too long, there go in this order: additional records, the text of extended errors,
    the extended errors, and then whole RRsets from the end, with TC set (RFC 2181 9). The glue of
    a referral is no mere addition: without it TC is set too (RFC 9471 3). What leaves encrypted
    is padded if the query was (RFC 7830 6), to a multiple of ``PADDING_BLOCK`` (RFC 8467 4.1).
    """
    room = reply_limit(query, limit) if room is None else room
    if cookie:
        room -= 4 + len(cookie)
    opts = _opt_versions(query, answer, options, asker)
    message = _Message(query.labels, query.qtype, query.qclass)

    counts = [0, 0, 0]
    whole = True
    needed = ((0, answer.answer), (1, answer.authority), (2, answer.glue))
    for section, record_sets in needed:
        for records in record_sets:
            whole = whole and message.add(records, room - len(opts[-1]))
            if whole:
                counts[section] += len(records.rdatas)
    length = len(message.octets)
    opt = next((opt for opt in opts if length + len(opt) <= room), opts[-1])
    if whole:
        for records in answer.additional:
            if message.add(records, room - len(opt)):
                counts[2] += len(records.rdatas)
    if opt:
        if cookie:
            opt = _with_option(opt, Option.COOKIE, cookie)
            room += 4 + len(cookie)
        if asker.encrypted and query.edns is not None and query.edns.has(Option.PADDING):
            opt = _padded(opt, len(message.octets), room)
        message.octets += opt
        counts[2] += 1
    flags = QR | query.flags & (_OPCODE | RD) | answer.rcode & 0xF
    flags |= AA if answer.authoritative else 0
    flags |= RA if asker.may_recurse else 0
    if answer.forwarded:
        flags |= query.flags & CD  # RFC 4035 3.2.2
        wants_ad = query.flags & AD or (query.edns is not None and query.edns.wants_dnssec)
        flags |= AD if answer.authenticated and wants_ad else 0  # RFC 6840 5.8
    flags |= 0 if whole else TC
    _header.pack_into(message.octets, 0, query.id, flags, 1, *counts)
    return bytes(message.octets)


def write_short(
    query: Query | Short, rcode: int, cookie: bytes = b"", *, cut: bool = False
) -> bytes:
    """A reply without records: an rcode, the cookie if there is one, TC if ``cut``. AD and CD are
    cleared in every reply of ours: nothing here is validated (RFC 4035 3.1.6)."""
    question = opt = b""
    if isinstance(query, Query) or query.has_question:
        question = _question(query.labels, query.qtype, query.qclass)
    if query.edns is not None:
        opt = _opt(query.edns.wants_dnssec, rcode)
        opt = _with_option(opt, Option.COOKIE, cookie) if cookie else opt
    flags = QR | query.flags & (_OPCODE | RD) | rcode & 0xF | (TC if cut else 0)
    return _header.pack(query.id, flags, bool(question), 0, 0, bool(opt)) + question + opt


def _question(labels: Labels, qtype: int, qclass: int) -> bytes:
    return name_wire(labels) + _type_class.pack(qtype, qclass)


@lru_cache(maxsize=128)
def _opt(wants_dnssec: bool, rcode: int, *options: tuple[int, bytes]) -> bytes:
    """Our OPT: version 0, our size, DO as in the query (RFC 3225 3), no other flag."""
    opt = EDNS0(
        "",
        ext_rcode=rcode >> 4,
        version=0,
        flags="do" if wants_dnssec else "",
        udp_len=UDP_LIMIT,
        opts=[EDNSOption(code, octets) for code, octets in options],
    )
    buffer = DNSBuffer()
    opt.pack(buffer)
    return bytes(buffer.data)


def _opt_versions(
    query: Query, answer: Answer, options: ServerOptions, asker: Asker
) -> list[bytes]:
    """OPT from the fullest to the barest: with error texts, with error codes, without errors; no
    bytes where the query had none."""
    edns = query.edns
    if edns is None:
        return [b""]
    if not edns.options and not answer.errors:
        return [_opt(edns.wants_dnssec, answer.rcode)]
    asked: list[tuple[int, bytes]] = []
    if options.nsid and edns.has(Option.NSID):
        asked.append((int(Option.NSID), options.nsid))
    if asker.keeps_connection and options.keepalive and edns.has(Option.TCP_KEEPALIVE):
        asked.append((int(Option.TCP_KEEPALIVE), struct.pack("!H", options.keepalive)))
    versions: list[list[tuple[int, bytes]]] = [[]]
    if answer.errors:
        full = [_error_option(error, error.text) for error in answer.errors]
        codes = [_error_option(error, "") for error in answer.errors]
        versions = [full, codes, []]
    return [_opt(edns.wants_dnssec, answer.rcode, *asked, *extra) for extra in versions]


def _padded(opt: bytes, length: int, room: int) -> bytes:
    """``opt`` with an option of zeros, so that the ``length`` bytes before it and it together are
    a whole number of blocks, or fill the ``room`` there is."""
    bare = length + len(opt) + 4
    whole = min(-(-bare // PADDING_BLOCK) * PADDING_BLOCK, room)
    if whole < bare:
        return opt
    return _with_option(opt, Option.PADDING, bytes(whole - bare))


def _with_option(opt: bytes, code: Option, octets: bytes) -> bytes:
    """``opt`` with one more option."""
    options = opt[_OPT_HEAD:] + _type_class.pack(code, len(octets)) + octets
    return opt[: _OPT_HEAD - 2] + struct.pack("!H", len(options)) + options


def _error_option(error: ExtendedError, text: str) -> tuple[int, bytes]:
    octets = text.encode("utf-8", "replace")[:MAX_ERROR_TEXT]
    octets = octets.decode("utf-8", "ignore").encode()  # no character is cut in two
    return int(Option.EXTENDED_ERROR), struct.pack("!H", error.code) + octets


class _Message:
    """A reply in the making: names are compressed regardless of case and only to where a pointer
    can reach, RRsets are added whole or not at all."""

    __slots__ = ("_asked", "_names", "octets")

    def __init__(self, labels: Labels, qtype: int, qclass: int) -> None:
        self._asked = labels
        self._names: dict[Labels, int] | None = None
        self.octets = bytearray(_HEADER)
        self.octets += _question(labels, qtype, qclass)

    def add(self, records: RecordSet, room: int) -> bool:
        """Append the RRset unless the packet would then be longer than ``room``."""
        octets = self.octets
        start = len(octets)
        name_at = _NAME_AT.get(records.rtype)
        least = sum([12 + (len(rdata) if name_at is None else 2) for rdata in records.rdatas])
        if start + least > room:
            return False  # each name takes two bytes at the least
        for rdata in records.rdatas:
            self._write_name(records.owner)
            octets += _record.pack(records.rtype, records.rclass, records.ttl, len(rdata))
            if name_at is None:
                octets += rdata
                continue
            at = len(octets)
            octets += rdata[:name_at]
            self._write_name(read_name(rdata, name_at)[0])
            _length.pack_into(octets, at - 2, len(octets) - at)
        if len(octets) <= room:
            return True
        del octets[start:]
        if self._names is not None:
            self._names = {name: at for name, at in self._names.items() if at < start}
        return False

    def _write_name(self, labels: Labels) -> None:
        octets = self.octets
        if labels == self._asked and labels:
            octets += _TO_QUESTION
            return
        if self._names is None:
            self._names = {}
            self._note(self._asked, _HEADER)
        lowered = tuple([label.lower() for label in labels])
        for number in range(len(labels)):
            known = self._names.get(lowered[number:])
            if known is not None:
                self._note(labels[:number], len(octets), lowered[number:])
                octets += name_wire(labels[:number])[:-1] + _pointer.pack(0xC000 | known)
                return
        self._note(labels, len(octets))
        octets += name_wire(labels)

    def _note(self, labels: Labels, at: int, behind: Labels = ()) -> None:
        """Remember where the name ``labels`` begins, which ``behind`` follows, and each of its
        ends."""
        assert self._names is not None
        lowered = (*[label.lower() for label in labels], *behind)
        for number, label in enumerate(labels):
            if at >= 0x4000:
                return
            self._names[lowered[number:]] = at
            at += 1 + len(label)
