"""Packet to question, to what is refused unread, or to silence.

What must stay true:
- what a query may contain is read here by hand, in one pass, without following a compression
  pointer: no library sees a packet that came from outside;
- reading never raises, whatever the bytes.
"""

import struct
from dataclasses import dataclass

from resolver.dns.codes import QR, QUERY, Option, Rcode, Rtype
from resolver.dns.outline import MAX_OPTIONS, lawful_cookie
from resolver.dns.zones import Labels
from zonefiles.text.recordsets import MAX_NAME_OCTETS

MAX_RECORDS_IN_QUERY = 16

_OPCODE, _DO = 0x7800, 0x8000

_HEADER = 12
_OPT_HEAD = 11
_SOA_NUMBERS = 20  # behind both names, the serial first (RFC 1035 3.3.13)
_BARE_OPT = b"\0\0\x29"
_header = struct.Struct("!HHHHHH")
_type_class = struct.Struct("!HH")
_record = struct.Struct("!HHIH")

_REFUSED_TYPES = {
    int(Rtype.OPT): Rcode.FORMERR,
    int(Rtype.TSIG): Rcode.FORMERR,
    **dict.fromkeys((int(Rtype.TKEY), int(Rtype.MAILA), int(Rtype.MAILB)), Rcode.NOTIMP),
}


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


@dataclass(slots=True)
class Short:
    """A packet that gets a reply without records: as much of it as could be read."""

    id: int
    flags: int
    labels: Labels = ()
    qtype: int = 0
    qclass: int = 0
    has_question: bool = False
    edns: Edns | None = None
    serial: int | None = None
    rcode: Rcode = Rcode.NOERROR
    """Why it is refused; NOERROR where nothing but a server cookie is wanted (RFC 7873 5.4)."""


class _Unreadable(ValueError):
    """The packet breaks off or contradicts itself."""


def read_query(packet: bytes) -> Query | Short | None:
    """The query in ``packet``, or what gets a short reply, or None for silence.

    Silence: under 12 bytes, or itself a reply (QR=1), lest two servers talk for ever. Short:
    NOERROR for the wish of a server cookie without a question (RFC 7873 5.4); NOTIMP for other
    opcodes; BADVERS for an EDNS version above 0; FORMERR for a count of questions other than one,
    records where a query has none, anything cut short, left over or contradictory, a compressed
    question name, two OPT records (RFC 6891 6.1.1), OPT or TSIG as question type; NOTIMP for the
    question types TKEY, MAILA and MAILB.
    """
    if len(packet) < _HEADER:
        return None
    ident, flags, questions, answers, authorities, additionals = _header.unpack_from(packet)
    if flags & QR:
        return None
    draft = Short(ident, flags)
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
        draft.rcode = Rcode.FORMERR
    if opcode != QUERY:
        draft.rcode = Rcode.NOTIMP
    elif draft.rcode == Rcode.NOERROR:
        if draft.edns is not None and draft.edns.version > 0:
            draft.rcode = Rcode.BADVERS
        elif questions:
            refused = _REFUSED_TYPES.get(draft.qtype)
            if refused is None:
                it = draft
                return Query(ident, flags, it.labels, it.qtype, it.qclass, it.edns, it.serial)
            draft.rcode = refused
    return draft


def _read_question(packet: bytes, draft: Short) -> int:
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


def _read_records(packet: bytes, at: int, skipped: int, additionals: int, draft: Short) -> None:
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
