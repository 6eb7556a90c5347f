"""One question asked of one zone file: the algorithm of RFC 1034 4.3.2, step 3.

What must stay true:
- labels are lower-case, leftmost first and relative to the name; what comes out bears absolute
  owners under the anchor that was asked;
- a delegation hides what is below it; an empty non-terminal exists and so stops a wildcard
  (RFC 4592); a DNAME speaks only for what is below it (RFC 6672);
- the apex of a zone file is no zone cut: the served zone is the suffix, and a name's NS records
  at its own apex are data like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from resolver.dns.codes import BESIDE_CNAME, IN, Rtype
from resolver.dns.zones import Labels, name_wire
from zonefiles.text.recordsets import MAX_NAME_OCTETS, RRset, Zonefile

WILDCARD = b"*"


@dataclass(frozen=True, slots=True)
class RecordSet:
    """An RRset ready for a message: ``rdatas`` are uncompressed."""

    owner: Labels
    rtype: int
    ttl: int
    rdatas: tuple[bytes, ...]
    rclass: int = IN


@dataclass(frozen=True, slots=True)
class TtlLimits:
    """Between which bounds, in seconds, a record's own TTL is believed."""

    least: int = 60
    most: int = 86_400

    def clamp(self, ttl: int) -> int:
        return max(self.least, min(ttl, self.most))


@dataclass(frozen=True, slots=True)
class Found:
    records: RecordSet


@dataclass(frozen=True, slots=True)
class NoSuchType:
    """The node is there (perhaps only because something is below it) and has no such record."""


@dataclass(frozen=True, slots=True)
class NoSuchNode:
    """Neither the node nor a wildcard for it."""


@dataclass(frozen=True, slots=True)
class Alias:
    """The answer is at another name: a CNAME, or a DNAME with the CNAME made from it."""

    records: tuple[RecordSet, ...]
    target: Labels


@dataclass(frozen=True, slots=True)
class AliasTooLong:
    """The name a DNAME makes does not fit into 255 octets (RFC 6672 2.2: YXDOMAIN)."""

    dname: RecordSet


@dataclass(frozen=True, slots=True)
class Referral:
    """The question lies at or below a delegation.

    ``glue`` are the addresses of name servers within the delegated part, without which nobody
    can go on (RFC 9471); ``siblings`` are addresses that are only convenient.
    """

    nameservers: RecordSet
    glue: tuple[RecordSet, ...]
    siblings: tuple[RecordSet, ...]


Outcome = Found | NoSuchType | NoSuchNode | Alias | AliasTooLong | Referral


def look_up(
    zonefile: Zonefile, left: Labels, qtype: int, anchor: Labels, ttls: TtlLimits
) -> Outcome:
    """What ``zonefile`` says to a question for ``qtype`` at ``left`` below its name."""
    depth_asked = len(left)
    for depth in range(depth_asked + 1):
        node = left[depth_asked - depth :]
        here = zonefile.rrsets(node)
        at_question = depth == depth_asked
        # RFC 1034 4.3.2 3b; the DS of a delegation belongs to this side of it (RFC 4035 3.1.4.1).
        if depth and Rtype.NS in here and not (at_question and qtype == Rtype.DS):
            return _referral(zonefile, node, here[Rtype.NS], anchor, ttls)
        if at_question:
            if here or not depth or zonefile.exists(node):
                return _at_node(here, left + anchor, qtype, anchor, ttls)
        elif Rtype.DNAME in here:
            return _redirected(here[Rtype.DNAME], left, node, anchor, ttls)
        elif here or not depth or zonefile.exists(node):
            continue
        # The parent of ``node`` is the closest encloser; only its own wildcard counts
        # (RFC 4592 3.3.1).
        source = (WILDCARD, *left[depth_asked - depth + 1 :])
        if not zonefile.exists(source):
            return NoSuchNode()
        return _at_node(zonefile.rrsets(source), left + anchor, qtype, anchor, ttls)
    raise AssertionError("the last turn of the loop returns")


def _at_node(
    here: Mapping[int, RRset], owner: Labels, qtype: int, anchor: Labels, ttls: TtlLimits
) -> Outcome:
    cname = here.get(Rtype.CNAME)
    if cname is not None and qtype != Rtype.CNAME and qtype not in BESIDE_CNAME:
        records = _record_set(cname, owner, Rtype.CNAME, anchor, ttls, first_only=True)
        if qtype == Rtype.ANY or not records.rdatas:
            return _found(records)
        return Alias((records,), lower(cname.targets(anchor)[0]))
    if qtype == Rtype.ANY:
        # RFC 8482 4.1: one RRset is enough, and always the same one.
        qtype = min(here, default=qtype)
    stored = here.get(qtype)
    if stored is None:
        return NoSuchType()
    alone = qtype in (Rtype.CNAME, Rtype.DNAME)
    return _found(_record_set(stored, owner, qtype, anchor, ttls, first_only=alone))


def _found(records: RecordSet) -> Found | NoSuchType:
    """A set can be empty: a name that fits below one suffix may be too long below another."""
    return Found(records) if records.rdatas else NoSuchType()


def _redirected(
    stored: RRset, left: Labels, node: Labels, anchor: Labels, ttls: TtlLimits
) -> Outcome:
    dname = _record_set(stored, node + anchor, Rtype.DNAME, anchor, ttls, first_only=True)
    if not dname.rdatas:
        return NoSuchType()
    target = left[: len(left) - len(node)] + lower(stored.targets(anchor)[0])
    wire = name_wire(target)
    if len(wire) > MAX_NAME_OCTETS:
        return AliasTooLong(dname)
    # RFC 6672 3.1: the synthesised CNAME has the TTL of the DNAME.
    cname = RecordSet(left + anchor, Rtype.CNAME, dname.ttl, (wire,))
    return Alias((dname, cname), target)


def _referral(
    zonefile: Zonefile, node: Labels, stored: RRset, anchor: Labels, ttls: TtlLimits
) -> Referral:
    glue: list[RecordSet] = []
    siblings: list[RecordSet] = []
    for target in dict.fromkeys(lower(name) for name in stored.targets(anchor)):
        if target[-len(anchor) :] != anchor:
            continue
        inside = target[: -len(anchor)]
        here = zonefile.rrsets(inside)
        wanted = glue if inside[-len(node) :] == node else siblings
        for rtype in (Rtype.A, Rtype.AAAA):
            if rtype in here:
                wanted.append(_record_set(here[rtype], target, rtype, anchor, ttls))
    return Referral(
        _record_set(stored, node + anchor, Rtype.NS, anchor, ttls), tuple(glue), tuple(siblings)
    )


def _record_set(
    stored: RRset,
    owner: Labels,
    rtype: int,
    anchor: Labels,
    ttls: TtlLimits,
    *,
    first_only: bool = False,
) -> RecordSet:
    """``first_only``: two CNAMEs or DNAMEs at one node contradict each other (RFC 2181 10.1)."""
    rdatas = stored.to_wire(anchor)
    return RecordSet(
        owner, int(rtype), ttls.clamp(stored.ttl), rdatas[:1] if first_only else rdatas
    )


def lower(labels: Labels) -> Labels:
    """The form in which names are compared (RFC 4343)."""
    return tuple(label.lower() for label in labels)
