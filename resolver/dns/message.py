"""Packet to Query, ready-made refusal or silence; Answer to a packet that fits.

The only file that knows dnslib. What must stay true:
- dnslib never sees a packet that came from outside: what a query may contain is read here by hand,
  in one pass, without following a compression pointer;
- reading never raises, whatever the bytes; a reply is never longer than allowed;
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
from resolver.dns.codes import QUERY, Option, Rcode, Rtype
from resolver.dns.lookup import RecordSet
from resolver.dns.outline import MAX_OPTIONS, PLAIN_ROOM, lawful_cookie
from resolver.dns.zones import Labels, name_wire

UDP_LIMIT = 1_232
"""What a datagram of ours may hold (the DNS flag day 2020 size); also what OPT offers."""
PLAIN_LIMIT = PLAIN_ROOM
STREAM_LIMIT = 65_535
PADDING_BLOCK = 468

MAX_RECORDS_IN_QUERY = 16
MAX_ERROR_TEXT = 240
MAX_NAME_OCTETS = 255

_QR, _TC, _RD, _AA, _RA, _AD, _CD = 0x8000, 0x0200, 0x0100, 0x0400, 0x0080, 0x0020, 0x0010
_OPCODE = 0x7800
_DO = 0x8000

_HEADER = 12
_OPT_HEAD = 11
_SOA_NUMBERS = 20  # behind both names, the serial first (RFC 1035 3.3.13)
_BARE_OPT = b"\0\0\x29"
_header = struct.Struct("!HHHHHH")
_type_class = struct.Struct("!HH")
_record = struct.Struct("!HHIH")
_pointer = struct.Struct("!H")
_TO_QUESTION = _pointer.pack(0xC000 | _HEADER)


@dataclass(frozen=True, slots=True)
class Edns:
    """The OPT record of a query (RFC 6891 6.1)."""

    size: int
    version: int
    wants_dnssec: bool
    options: tuple[tuple[int, bytes], ...]

    def has(self, code: int) -> bool:
        return any(found == code for found, _ in self.options)

    @property
    def cookie(self) -> bytes | None:
        """What the first COOKIE option holds (RFC 7873 5.2: any other is ignored)."""
        return next((octets for code, octets in self.options if code == Option.COOKIE), None)


@dataclass(frozen=True, slots=True)
class Query:
    """A question that can be answered."""

    id: int
    flags: int
    labels: Labels
    """As sent, with their case."""
    qtype: int
    qclass: int
    edns: Edns | None
    serial: int | None = None
    """The serial of the zone that one who asks for IXFR has (RFC 1995 3)."""


@dataclass(frozen=True, slots=True)
class CookieQuery:
    """No question, only the wish for a server cookie (RFC 7873 5.4)."""

    id: int
    flags: int
    edns: Edns


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the server adds for those who ask: its name (NSID, RFC 5001; empty: none) and how
    long an idle TCP connection is kept (RFC 7828, in tenths of a second; 0: not said)."""

    nsid: bytes = b""
    keepalive: int = 0


_NO_OPTIONS = ServerOptions()


class _Unreadable(ValueError):
    """The packet breaks off or contradicts itself."""


@dataclass(slots=True)
class _Draft:
    """What was read of a packet so far, for a refusal that echoes as much as it can."""

    id: int
    flags: int
    labels: Labels = ()
    qtype: int = 0
    qclass: int = 0
    has_question: bool = False
    edns: Edns | None = None
    serial: int | None = None


def read_query(packet: bytes) -> Query | CookieQuery | bytes | None:
    """The query in ``packet``, or the finished reply that refuses it, or None for silence.

    Silence: under 12 bytes, or itself a reply (QR=1), lest two servers talk for ever. Refusals:
    NOTIMP for other opcodes; BADVERS for an EDNS version above 0; FORMERR for a count of questions
    other than one, records where a query has none, anything cut short, left over or contradictory,
    a compressed question name, two OPT records (RFC 6891 6.1.1), OPT or TSIG as question type;
    NOTIMP for the question types TKEY, MAILA and MAILB.
    """
    if len(packet) < _HEADER:
        return None
    ident, flags, questions, answers, authorities, additionals = _header.unpack_from(packet)
    if flags & _QR:
        return None
    draft = _Draft(ident, flags)
    opcode = (flags & _OPCODE) >> 11
    try:
        at = _HEADER
        if questions == 1:
            at = _read_question(packet, draft)
        elif questions:
            raise _Unreadable("a query has one question (RFC 9619)")
        # An incremental transfer is asked for with the SOA one has (RFC 1995 3).
        if opcode == QUERY and (answers or authorities > (draft.qtype == Rtype.IXFR)):
            raise _Unreadable("records where a query has none")
        _read_records(packet, at, answers + authorities, additionals, draft)
        asks_cookie = draft.edns is not None and draft.edns.cookie is not None
        if not questions and not asks_cookie:
            raise _Unreadable("nothing is asked")
    except _Unreadable:
        return _refusal(draft, Rcode.FORMERR if opcode == QUERY else Rcode.NOTIMP)
    if opcode != QUERY:
        return _refusal(draft, Rcode.NOTIMP)
    if draft.edns is not None and draft.edns.version > 0:
        return _refusal(draft, Rcode.BADVERS)
    if not questions and draft.edns is not None:
        return CookieQuery(ident, flags, draft.edns)
    if draft.qtype in (Rtype.OPT, Rtype.TSIG):
        return _refusal(draft, Rcode.FORMERR)
    if draft.qtype in (Rtype.TKEY, Rtype.MAILA, Rtype.MAILB):
        return _refusal(draft, Rcode.NOTIMP)
    it = draft
    return Query(ident, flags, it.labels, it.qtype, it.qclass, it.edns, it.serial)


def _read_question(packet: bytes, draft: _Draft) -> int:
    """Read the question into ``draft``; the offset behind it."""
    labels: list[bytes] = []
    at = _HEADER
    try:
        while length := packet[at]:
            if length > 63:
                raise _Unreadable("a pointer or an unknown kind of label")
            end = at + 1 + length
            labels.append(packet[at + 1 : end])
            at = end  # where a label broke off there is nothing to read
            if at - _HEADER >= MAX_NAME_OCTETS:
                raise _Unreadable("a name is longer than 255 octets")
        draft.qtype, draft.qclass = _type_class.unpack_from(packet, at + 1)
    except (IndexError, struct.error):
        raise _Unreadable("the question breaks off") from None
    draft.labels = tuple(labels)
    draft.has_question = True
    return at + 5


def _read_records(packet: bytes, at: int, skipped: int, additionals: int, draft: _Draft) -> None:
    """Walk the records behind the question; OPT, of which there may be one, goes into ``draft``."""
    if at == len(packet) and not skipped and not additionals:
        return
    if len(packet) == at + _OPT_HEAD and packet.startswith(_BARE_OPT, at):
        rtype, size, ttl, length = _record.unpack_from(packet, at + 1)
        if additionals == 1 and not skipped and not length:  # as nearly every query has it
            draft.edns = Edns(size, ttl >> 16 & 0xFF, bool(ttl & _DO), ())
            return
    if skipped + additionals > MAX_RECORDS_IN_QUERY:
        raise _Unreadable("more records than a query can need")
    seen_opt = False
    for number in range(skipped + additionals):
        owner_at = at
        at = _skip_name(packet, at)
        try:
            rtype, size, ttl, length = _record.unpack_from(packet, at)
        except struct.error:
            raise _Unreadable("a record breaks off") from None
        at += _record.size
        rdata = packet[at : at + length]
        at += length
        if rtype == Rtype.OPT:
            if draft.edns is None:
                # A refusal bears OPT when the query did, even one that cannot be read.
                draft.edns = Edns(size, ttl >> 16 & 0xFF, bool(ttl & _DO), ())
            if number < skipped or seen_opt or packet[owner_at] != 0 or len(rdata) != length:
                raise _Unreadable("OPT in the wrong place, twice, not at the root or cut short")
            seen_opt = True
            if not draft.edns.version:  # another version may have another form
                options = _read_options(rdata)
                draft.edns = Edns(size, 0, bool(ttl & _DO), options)
        elif len(rdata) != length:
            raise _Unreadable("a record breaks off")
        elif number < skipped and rtype == Rtype.SOA and length >= _SOA_NUMBERS:
            draft.serial = int.from_bytes(rdata[-_SOA_NUMBERS:][:4], "big")
    if at != len(packet):
        raise _Unreadable("bytes behind the last record")


def _skip_name(packet: bytes, at: int) -> int:
    """The offset behind the name at ``at``; a pointer ends it and is not followed."""
    start = at
    try:
        while length := packet[at]:
            if length >= 0xC0:
                return at + 2
            at += 1 + length
            if length > 63 or at - start >= MAX_NAME_OCTETS:
                raise _Unreadable("an unlawful name")
    except IndexError:
        raise _Unreadable("a name breaks off") from None
    return at + 1


def _read_options(rdata: bytes) -> tuple[tuple[int, bytes], ...]:
    options: list[tuple[int, bytes]] = []
    at = 0
    while at < len(rdata):
        if at + 4 > len(rdata) or len(options) == MAX_OPTIONS:
            raise _Unreadable("an option breaks off, or there are too many")
        code, length = _type_class.unpack_from(rdata, at)
        at += 4
        if at + length > len(rdata):
            raise _Unreadable("an option breaks off")
        if code == Option.COOKIE and not lawful_cookie(length):
            raise _Unreadable("no cookie has this length (RFC 7873 5.2.2)")
        options.append((code, rdata[at : at + length]))
        at += length
    return tuple(options)


def reply_limit(query: Query, limit: int) -> int:
    """How long the reply may be through a door that carries ``limit`` bytes: all of it on a
    stream, else what the client can take (RFC 6891 6.2.3; 512 without EDNS)."""
    if limit >= STREAM_LIMIT:
        return STREAM_LIMIT
    if query.edns is None:
        return min(limit, PLAIN_LIMIT)
    return min(limit, max(PLAIN_LIMIT, query.edns.size))


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
    flags = _QR | query.flags & (_OPCODE | _RD) | answer.rcode & 0xF
    flags |= _AA if answer.authoritative else 0
    flags |= _RA if asker.may_recurse else 0
    if answer.forwarded:
        flags |= query.flags & _CD  # RFC 4035 3.2.2
        wants_ad = query.flags & _AD or (query.edns is not None and query.edns.wants_dnssec)
        flags |= _AD if answer.authenticated and wants_ad else 0  # RFC 6840 5.8
    flags |= 0 if whole else _TC
    _header.pack_into(message.octets, 0, query.id, flags, 1, *counts)
    return bytes(message.octets)


def write_short(query: Query | CookieQuery, rcode: int, cookie: bytes, *, cut: bool) -> bytes:
    """A reply without records: an rcode, the cookie if there is one, TC if ``cut``."""
    question = b""
    if isinstance(query, Query):
        question = _question(query.labels, query.qtype, query.qclass)
    opt = b""
    if query.edns is not None:
        opt = _opt(query.edns.wants_dnssec, rcode)
        opt = _with_option(opt, Option.COOKIE, cookie) if cookie else opt
    flags = _QR | query.flags & (_OPCODE | _RD) | rcode & 0xF | (_TC if cut else 0)
    return _header.pack(query.id, flags, bool(question), 0, 0, bool(opt)) + question + opt


def _refusal(draft: _Draft, rcode: Rcode) -> bytes:
    """A reply with an rcode and nothing else. AD and CD are cleared in every reply: nothing here
    is validated (RFC 4035 3.1.6)."""
    flags = _QR | draft.flags & (_OPCODE | _RD) | rcode & 0xF
    question = opt = b""
    if draft.has_question:
        question = _question(draft.labels, draft.qtype, draft.qclass)
    if draft.edns is not None:
        opt = _opt(draft.edns.wants_dnssec, rcode)
    return _header.pack(draft.id, flags, bool(question), 0, 0, bool(opt)) + question + opt


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
        if start + sum([12 + len(rdata) for rdata in records.rdatas]) > room:
            return False  # each record takes two bytes of owner at the least
        for rdata in records.rdatas:
            self._write_name(records.owner)
            octets += _record.pack(records.rtype, records.rclass, records.ttl, len(rdata))
            octets += rdata
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


__all__ = [
    "STREAM_LIMIT",
    "UDP_LIMIT",
    "CookieQuery",
    "Edns",
    "Query",
    "ServerOptions",
    "read_query",
    "reply_limit",
    "write_reply",
    "write_short",
]
