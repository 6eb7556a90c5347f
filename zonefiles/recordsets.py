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

_NO_RECORDS: Mapping[int, RRset] = MappingProxyType({})
_TARGET_FIELD = {
    dns.rdatatype.CNAME: "target",
    dns.rdatatype.DNAME: "target",
    dns.rdatatype.NS: "target",
    dns.rdatatype.PTR: "target",
    dns.rdatatype.SRV: "target",
    dns.rdatatype.SVCB: "target",
    dns.rdatatype.HTTPS: "target",
    dns.rdatatype.MX: "exchange",
}


class Record(NamedTuple):
    rdata: dns.rdata.Rdata
    wire: bytes | None  # the RDATA where it holds no name of the zone file's own
    longest: int  # octets of the longest relative name in the RDATA, without a root label


class RRset:
    """The records of one owner and type, in the order written, each once; TTL is the least."""

    __slots__ = ("_records", "rtype", "ttl")

    def __init__(self, rtype: int, ttl: int, records: tuple[Record, ...]) -> None:
        self.rtype = rtype
        self.ttl = ttl
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        shown = dns.rdatatype.RdataType.to_text(self.rtype)
        return f"<RRset {shown} ttl={self.ttl} records={len(self)}>"

    def to_wire(self, anchor: Labels) -> tuple[bytes, ...]:
        """The uncompressed RDATA of each record, the zone file's own names put under ``anchor``.

        A record in which a name would outgrow 255 octets there is left out. ``anchor`` must be a
        legal name itself (ValueError otherwise).
        """
        origin = dns.name.Name((*anchor, b""))
        room = MAX_NAME_OCTETS - octets(origin.labels)
        return tuple(
            record.wire if record.wire is not None else rdata_wire(record.rdata, origin)
            for record in self._records
            if record.longest <= room
        )

    def targets(self, anchor: Labels) -> tuple[Labels, ...]:
        """Absolute, lower-case labels of the name that each record points to.

        Of CNAME, DNAME, NS, PTR, SRV, MX, SVCB and HTTPS records, aligned with ``to_wire``; none
        for other types. ``()`` is the root (as in a null MX).
        """
        field = _TARGET_FIELD.get(dns.rdatatype.RdataType(self.rtype))
        if field is None:
            return ()
        room = MAX_NAME_OCTETS - 1 - sum(len(label) + 1 for label in anchor)
        found: list[Labels] = []
        for record in self._records:
            target = getattr(record.rdata, field, None)
            if record.longest > room or not isinstance(target, dns.name.Name):
                continue
            labels = target.labels[:-1] if target.is_absolute() else (*target.labels, *anchor)
            found.append(tuple(label.lower() for label in labels))
        return tuple(found)


class Zonefile:
    """The record sets of one zone file, by owner relative to ``name``; never changes.

    ``dropped`` counts the records left out: those outside the name, and ALIAS records, which
    have no form in DNS messages. ``record_count`` counts those kept.
    """

    __slots__ = ("_existing", "_owners", "dropped", "name", "record_count")

    def __init__(self, name: str, owners: Mapping[Labels, Mapping[int, RRset]], dropped: int):
        self.name = name
        self.dropped = dropped
        self.record_count = sum(len(rrset) for sets in owners.values() for rrset in sets.values())
        self._owners = owners
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


def octets(labels: Labels) -> int:
    return sum(len(label) + 1 for label in labels)


def _with_ancestors(owners: Mapping[Labels, object]) -> frozenset[Labels]:
    existing: set[Labels] = {()}
    for owner in owners:
        labels = owner
        while labels not in existing:
            existing.add(labels)
            labels = labels[1:]
    return frozenset(existing)
