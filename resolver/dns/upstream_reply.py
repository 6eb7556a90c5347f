"""A reply of another server, read strictly: sections of RRsets with every name written out.

What must stay true: reading ends in a ``Reply`` or in ``BadReply``, whatever the bytes, within work
in proportion to their number; RDATA comes out uncompressed (RFC 3597 4 lists the types whose names
may be compressed), so that it can be put into another message; what has no sense behind a question
(another class, OPT, TSIG among the answers) is no part of it.
"""

import struct
from dataclasses import dataclass

from resolver.dns.answer import ExtendedError
from resolver.dns.codes import IN, META_TYPES, QR, TC, Option, Rcode, Rtype
from resolver.dns.lookup import RecordSet, lower
from resolver.dns.zones import Labels, name_wire

MAX_RECORDS = 8_192
MAX_HOPS = 128
"""Pointers followed for one name: more than a name has labels is no compression."""
MAX_ERRORS = 4
MAX_TTL = 0x7FFF_FFFF

_header = struct.Struct("!HHHHHH")
_type_class = struct.Struct("!HH")
_record = struct.Struct("!HHIH")

# Of each type with names in it: octets before them, how many, octets after (None: any number).
_NAMES: dict[int, tuple[int, int, int | None]] = {
    **dict.fromkeys((2, 3, 4, 5, 7, 8, 9, 12, 39), (0, 1, 0)),  # NS ... CNAME ... PTR, DNAME
    6: (0, 2, 20),  # SOA
    **dict.fromkeys((14, 17), (0, 2, 0)),  # MINFO, RP
    **dict.fromkeys((15, 18, 21, 36), (2, 1, 0)),  # MX, AFSDB, RT, KX
    24: (18, 1, None),  # SIG
    26: (2, 2, 0),  # PX
    30: (0, 1, None),  # NXT
    33: (6, 1, 0),  # SRV
}
_NAPTR = 35
_FIXED = {int(Rtype.A): 4, int(Rtype.AAAA): 16}


class BadReply(ValueError):
    """Bytes that are no reply; the text says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What another server said."""

    id: int
    flags: int
    rcode: int
    """Twelve bits, with those of OPT."""
    qname: Labels
    """With its case; () where there is no question."""
    qtype: int
    qclass: int
    answer: tuple[RecordSet, ...]
    authority: tuple[RecordSet, ...]
    additional: tuple[RecordSet, ...]
    errors: tuple[ExtendedError, ...]

    @property
    def truncated(self) -> bool:
        return bool(self.flags & TC)


@dataclass(frozen=True, slots=True)
class _Record:
    owner: Labels
    rtype: int
    rclass: int
    ttl: int
    rdata: bytes


def read_reply(packet: bytes) -> Reply:
    """The reply in ``packet``. Raises BadReply.

    A truncated one (TC) may break off anywhere: what is whole of it is read. Octets behind the
    last record are no part of it; some servers leave them there.
    """
    if len(packet) < _header.size:
        raise BadReply("it is shorter than a header")
    ident, flags, questions, *counts = _header.unpack_from(packet)
    if not flags & QR:
        raise BadReply("it is a question")
    if questions > 1 or sum(counts) > MAX_RECORDS:
        raise BadReply("it has more questions or records than a reply can have")
    at = _header.size
    qname: Labels = ()
    qtype = qclass = 0
    if questions:
        qname, at = read_name(packet, at)
        try:
            qtype, qclass = _type_class.unpack_from(packet, at)
        except struct.error:
            raise BadReply("the question breaks off") from None
        at += _type_class.size
    sections: list[list[_Record]] = [[], [], []]
    rcode = flags & 0xF
    errors: list[ExtendedError] = []
    try:
        for section, count in zip(sections, counts, strict=True):
            for _ in range(count):
                record, at = _read_record(packet, at)
                if record.rtype == Rtype.OPT and section is sections[2]:
                    rcode = flags & 0xF | (record.ttl >> 24) << 4
                    errors += _read_errors(record.rdata)
                else:
                    section.append(record)
    except BadReply:
        if not flags & TC:
            raise
    answer, authority, additional = (_record_sets(section) for section in sections)
    return Reply(
        ident,
        flags,
        rcode,
        qname,
        qtype,
        qclass,
        answer,
        authority,
        additional,
        tuple(errors[:MAX_ERRORS]),
    )


def read_name(packet: bytes, at: int) -> tuple[Labels, int]:
    """The name at ``at``, its pointers followed, and the offset behind it. Raises BadReply."""
    labels: list[bytes] = []
    octets = 1
    behind = -1
    lowest = at
    hops = 0
    while True:
        if at >= len(packet):
            raise BadReply("a name breaks off")
        length = packet[at]
        if length == 0:
            return tuple(labels), at + 1 if behind < 0 else behind
        if length >= 0xC0:
            if at + 2 > len(packet):
                raise BadReply("a pointer breaks off")
            target = (length & 0x3F) << 8 | packet[at + 1]
            if behind < 0:
                behind = at + 2
            hops += 1
            # Only to what was before (RFC 1035 4.1.4), so that every walk ends.
            if target >= lowest or hops > MAX_HOPS:
                raise BadReply("a pointer does not point to a prior name")
            at = lowest = target
            continue
        if length > 63:
            raise BadReply("a name has an unknown kind of label")
        label = packet[at + 1 : at + 1 + length]
        octets += 1 + length
        if len(label) != length:
            raise BadReply("a label breaks off")
        if octets > 255:
            raise BadReply("a name is longer than 255 octets")
        labels.append(label)
        at += 1 + length


def least_ttl(reply: Reply) -> int | None:
    """How long, in seconds, ``reply`` may be kept; None: not at all.

    The least TTL of the answer; of a negative one what its SOA allows (RFC 2308 5). Only NOERROR
    and NXDOMAIN are worth keeping, and no negative answer without an SOA is.
    """
    if reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN) or reply.truncated:
        return None
    ttls = [records.ttl for records in reply.answer]
    if _is_denial(reply):
        denied = denial_ttl(reply)
        return None if denied is None else min([denied, *ttls])
    return min(ttls)


def denial_ttl(reply: Reply) -> int | None:
    """How long, in seconds, what ``reply`` denies is good for; None: it denies nothing, or nobody
    vouches for it."""
    if not _is_denial(reply):
        return None
    soa = next((records for records in reply.authority if records.rtype == Rtype.SOA), None)
    return None if soa is None else min(soa.ttl, int.from_bytes(soa.rdatas[0][-4:], "big"))


def first_name(rdata: bytes) -> Labels:
    """The name that uncompressed ``rdata`` begins with (CNAME, DNAME). Raises BadReply."""
    return read_name(rdata, 0)[0]


def _is_denial(reply: Reply) -> bool:
    return reply.rcode == Rcode.NXDOMAIN or not any(
        reply.qtype in (records.rtype, Rtype.ANY) for records in reply.answer
    )


def _read_record(packet: bytes, at: int) -> tuple[_Record, int]:
    owner, at = read_name(packet, at)
    try:
        rtype, rclass, ttl, length = _record.unpack_from(packet, at)
    except struct.error:
        raise BadReply("a record breaks off") from None
    at += _record.size
    end = at + length
    if end > len(packet):
        raise BadReply("the data of a record breaks off")
    rdata = packet[at:end] if rclass != IN else _written_out(packet, at, end, rtype)
    if rtype != Rtype.OPT and ttl > MAX_TTL:
        ttl = 0  # RFC 2181 8
    return _Record(owner, rtype, rclass, ttl, rdata), end


def _written_out(packet: bytes, at: int, end: int, rtype: int) -> bytes:
    """The RDATA between ``at`` and ``end`` without compression."""
    if rtype in _FIXED and end - at != _FIXED[rtype]:
        raise BadReply("an address has the wrong length")
    if rtype == _NAPTR:
        start = at
        at += 4
        for _ in range(3):
            at += 1 + (packet[at] if at < end else 0)
        before, names, after = at - start, 1, 0
        at = start
    elif rtype in _NAMES:
        before, names, after = _NAMES[rtype]  # type: ignore[assignment]
    else:
        return packet[at:end]
    parts = [packet[at : at + before]]
    at += before
    for _ in range(names):
        labels, at = read_name(packet, at)
        parts.append(name_wire(labels))
    if at > end or (after is not None and end - at != after):
        raise BadReply(f"the data of a record of type {rtype} has the wrong length")
    parts.append(packet[at:end])
    return b"".join(parts)


def _read_errors(rdata: bytes) -> list[ExtendedError]:
    """The extended errors (RFC 8914) among the options of OPT."""
    errors: list[ExtendedError] = []
    at = 0
    while at + 4 <= len(rdata):
        code, length = _type_class.unpack_from(rdata, at)
        octets = rdata[at + 4 : at + 4 + length]
        at += 4 + length
        if code == Option.EXTENDED_ERROR and len(octets) >= 2:
            text = octets[2:].decode("utf-8", "replace")
            text = "".join(sign if sign.isprintable() else "?" for sign in text)
            errors.append(ExtendedError(int.from_bytes(octets[:2], "big"), text))
    return errors


def _record_sets(records: list[_Record]) -> tuple[RecordSet, ...]:
    """Records as RRsets, in the order of their first; signatures apart by what they cover."""
    sets: dict[tuple[Labels, int, bytes], tuple[Labels, int, list[bytes]]] = {}
    for record in records:
        if record.rclass != IN or (record.rtype in META_TYPES):
            continue
        covered = record.rdata[:2] if record.rtype == Rtype.RRSIG else b""
        key = (lower(record.owner), record.rtype, covered)
        owner, ttl, rdatas = sets.get(key, (record.owner, record.ttl, []))
        if record.rdata not in rdatas[-64:]:
            rdatas.append(record.rdata)
        sets[key] = (owner, min(ttl, record.ttl), rdatas)  # RFC 2181 5.2
    return tuple(
        RecordSet(owner, rtype, ttl, tuple(rdatas))
        for (_, rtype, _), (owner, ttl, rdatas) in sets.items()
    )
