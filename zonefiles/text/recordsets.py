"""The record sets of one zone file, served under whatever name the question asks.

What must stay true: values never change after they are built; a look-up costs a dictionary
look-up; names of the zone file's own are kept relative and get their suffix on the way out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import dns.name
import dns.rdata
import dns.rdatatype

Labels = tuple[bytes, ...]
"""Labels of a name, leftmost first, without the root label."""

MAX_NAME_OCTETS: Final = 255
MAX_RECORDS: Final = 4_096
"""Of one zone file."""
MAX_NAME_WORK: Final = 500_000
"""Sum of the squared label counts of all names of one zone file: 13,000 names of six labels."""
MAX_TTL: Final = 2**31 - 1  # RFC 2181 section 8
DEFAULT_TTL: Final = 3_600

_NO_RECORDS: Mapping[int, RRset] = MappingProxyType({})
_TARGET_AT: Mapping[int, int] = {
    dns.rdatatype.CNAME: 0,
    dns.rdatatype.DNAME: 0,
    dns.rdatatype.NS: 0,
    dns.rdatatype.PTR: 0,
    dns.rdatatype.MX: 2,
    dns.rdatatype.SVCB: 2,
    dns.rdatatype.HTTPS: 2,
    dns.rdatatype.SRV: 6,
}
"""Of each type whose records point to a name, the octets of RDATA before it."""


class Record(NamedTuple):
    """One record. ``moves``: its RDATA holds names of the zone file's own."""

    wire: bytes
    """The RDATA; of a record that moves, what stands before the suffix of the name that ends it,
    and nothing where ``rdata`` is there to write it."""
    moves: bool = False
    longest: int = 0
    """Octets of the longest of those names, without the suffix and the root label."""
    rdata: dns.rdata.Rdata | None = None

    def under(self, anchor_wire: bytes, anchor: Labels) -> bytes:
        """The uncompressed RDATA under ``anchor``, which is ``anchor_wire`` with its root label."""
        if not self.moves:
            return self.wire
        if self.rdata is None:
            return self.wire + anchor_wire
        return rdata_wire(self.rdata, dns.name.Name((*anchor, b"")))


class RRset:
    """The records of one owner and type, in the order written, each once; TTL is the least."""

    __slots__ = ("_moves", "_records", "rtype", "ttl")

    def __init__(self, rtype: int, ttl: int, records: tuple[Record, ...]) -> None:
        self.rtype = rtype
        self.ttl = ttl
        self._records = records
        self._moves = any(record.moves for record in records)

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        shown = dns.rdatatype.RdataType.to_text(self.rtype)
        return f"<RRset {shown} ttl={self.ttl} records={len(self)}>"

    def to_wire(self, anchor: Labels) -> tuple[bytes, ...]:
        """The uncompressed RDATA of each record, the zone file's own names put under ``anchor``.

        A record in which a name would outgrow 255 octets there is left out. ``anchor`` must be a
        legal name itself.
        """
        if not self._moves:
            return tuple([record.wire for record in self._records])
        wire = labels_wire(anchor) + b"\0"
        room = MAX_NAME_OCTETS - len(wire)
        return tuple(
            [record.under(wire, anchor) for record in self._records if record.longest <= room]
        )

    def targets(self, anchor: Labels) -> tuple[Labels, ...]:
        """Absolute, lower-case labels of the name that each record points to.

        Of CNAME, DNAME, NS, PTR, SRV, MX, SVCB and HTTPS records, aligned with ``to_wire``; none
        for other types. ``()`` is the root (as in a null MX).
        """
        at = _TARGET_AT.get(self.rtype)
        if at is None:
            return ()
        return tuple([_lower_labels(rdata, at) for rdata in self.to_wire(anchor)])


class Growing:
    """An RRset while its zone file is being read; ``records`` by what makes two the same."""

    __slots__ = ("records", "ttl")

    def __init__(self, ttl: int) -> None:
        self.ttl = ttl
        self.records: dict[object, Record] = {}


class Zonefile:
    """The record sets of one zone file, by owner relative to ``name``; never changes.

    ``dropped`` counts the records left out: those outside the name, those that only a whole zone
    has, ALIAS records, which have no form in DNS messages, and those whose RDATA is malformed.
    ``record_count`` counts those kept.
    """

    __slots__ = ("_existing", "_owners", "dropped", "name", "record_count")

    def __init__(self, name: str, read: Mapping[Labels, Mapping[int, Growing]], dropped: int):
        owners = {
            labels: MappingProxyType(
                {
                    rtype: RRset(rtype, growing.ttl, tuple(growing.records.values()))
                    for rtype, growing in sets.items()
                }
            )
            for labels, sets in read.items()
        }
        self.name = name
        self.dropped = dropped
        self.record_count = sum(len(rrset) for sets in owners.values() for rrset in sets.values())
        self._owners: Mapping[Labels, Mapping[int, RRset]] = owners
        self._existing = _with_ancestors(owners)

    def __repr__(self) -> str:
        return f"<Zonefile {self.name} records={self.record_count} dropped={self.dropped}>"

    def rrset(self, labels: Labels, rtype: int) -> RRset | None:
        """The set of that type at ``labels`` (lower-case, relative to the name; () = the name)."""
        return self._owners.get(labels, _NO_RECORDS).get(rtype)

    def rrsets(self, labels: Labels) -> Mapping[int, RRset]:
        """Every set at ``labels`` by type number; empty where there is none."""
        return self._owners.get(labels, _NO_RECORDS)

    def exists(self, labels: Labels) -> bool:
        """Whether ``labels`` hold records or stand above some that do (RFC 8020)."""
        return labels in self._existing

    def owners(self) -> Iterator[Labels]:
        """Every owner that holds records, in the order of their first record."""
        return iter(self._owners)


def rdata_wire(rdata: dns.rdata.Rdata, origin: dns.name.Name) -> bytes:
    wire = rdata.to_wire(origin=origin)
    assert wire is not None  # only with a file to write to is there no result
    return wire


def labels_wire(labels: Labels) -> bytes:
    """Labels as a name on the wire has them, without a root label."""
    return b"".join([bytes((len(label),)) + label for label in labels])


def _lower_labels(rdata: bytes, at: int) -> Labels:
    """The labels of the uncompressed name at this offset, in lower case."""
    labels: list[bytes] = []
    while length := rdata[at]:
        labels.append(rdata[at + 1 : at + 1 + length].lower())
        at += 1 + length
    return tuple(labels)


def _with_ancestors(owners: Mapping[Labels, object]) -> frozenset[Labels]:
    existing: set[Labels] = {()}
    for owner in owners:
        labels = owner
        while labels not in existing:
            existing.add(labels)
            labels = labels[1:]
    return frozenset(existing)
