"""A served zone from end to end, as messages for who may have all of it (RFC 5936); no sockets.

What must stay true:
- the whole is of one snapshot, between two equal SOA records; making it is cut into pieces, so that
  whoever drives it can let others have their turn;
- a server that was given the zone answers as we do for every name whose data is here. What it
  cannot answer it must not deny: a name whose data is missing, or holds more in one place than
  every server takes, is delegated back to us, one without data stays a node by the server's own
  record below it;
- one stranger's record must not cost a server the whole zone: what not every server takes is left
  out, and the number of such records told;
- what would be read otherwise in one zone than in many is left out: NS at the very name, which is
  data here and a zone cut there, and what lies hidden by an alias, a DNAME or a delegation.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from indexer.protocol.records import Phase
from resolver.dns import meta
from resolver.dns.answer import DATA_TTL, NameData, apex_answer, character_strings
from resolver.dns.chase import TableSnapshot
from resolver.dns.codes import Rtype
from resolver.dns.lookup import WILDCARD, RecordSet, TtlLimits, lower
from resolver.dns.zones import APEX_TTL, Labels, Zone, name_wire

NAMES_A_PIECE = 8
MESSAGE_OCTETS = 16_000
"""About how much a message holds: as far as a compression pointer reaches (RFC 5936 3.4)."""

MAX_TOGETHER = 100
"""Records of an RRset, and RRsets of a node: BIND refuses a zone with more in one place."""

_ADDRESSES = (int(Rtype.A), int(Rtype.AAAA))


Read = Callable[[bytes, str], NameData | None]
"""The data with this hash, read for this name, if it is at hand."""
Takes = Callable[[int, bytes], bool]
"""Whether every server takes a record of this type with this RDATA."""


def messages_of(
    zone: Zone,
    table: TableSnapshot,
    read: Read,
    ttls: TtlLimits,
    write: Callable[[tuple[RecordSet, ...]], bytes],
    takes: Takes,
) -> Iterator[bytes | None]:
    """The messages of a transfer, each made by ``write``; None now and then in between."""
    begin = apex_answer(zone, Rtype.SOA, table.height).answer
    held: list[RecordSet] = [*begin, *apex_answer(zone, Rtype.NS, table.height).answer]
    size = 0
    for number, sets in enumerate(_names(zone, table, read, ttls, takes)):
        for records in sets:
            owner = len(name_wire(records.owner))
            for rdata in records.rdatas:  # in a transfer an RRset need not be in one message
                size += owner + 10 + len(rdata)
                if size > MESSAGE_OCTETS:
                    yield write(tuple(held))
                    held, size = [], owner + 10 + len(rdata)
                held.append(RecordSet(records.owner, records.rtype, records.ttl, (rdata,)))
        if number % NAMES_A_PIECE == NAMES_A_PIECE - 1:
            yield None
    yield write((*held, *begin))


def _names(
    zone: Zone, table: TableSnapshot, read: Read, ttls: TtlLimits, takes: Takes
) -> Iterator[list[RecordSet]]:
    """What each live name adds to the zone."""
    spacing = table.network.target_spacing
    after = ""
    while True:
        page = table.names_in(zone.namespace, after)
        for name in page.entries:
            known = table.name_status(name)
            label = name.rpartition(".")[0].encode()
            if known is None or len(label) > 63 or known[1].phase not in (Phase.LIVE, Phase.GRACE):
                continue
            anchor = (label, *zone.suffix)
            record, status = known
            if record.value_hash is None:
                owner = (meta.ABOUT_NAME, *anchor)
                yield [meta.about_record(owner, record, status, table, spacing, "nobody")]
                continue
            data = read(record.value_hash, name)
            sets = [] if data is None else sets_of(data, anchor, ttls, takes)
            yield sets if sets and _are_few(sets) else [_back_to_us(zone, anchor)]
        if not page.next:
            return
        after = page.next


def sets_of(held: NameData, anchor: Labels, ttls: TtlLimits, takes: Takes) -> list[RecordSet]:
    """What the data of the name ``anchor`` adds to its zone."""
    text = RecordSet(anchor, int(Rtype.TXT), ttls.clamp(DATA_TTL), (character_strings(held.data),))
    zonefile = held.zonefile
    if zonefile is None:
        return [text]
    owners = list(zonefile.owners())
    cuts = {
        owner for owner in owners if _is_below(owner) and int(Rtype.NS) in zonefile.rrsets(owner)
    }
    redirected = {owner for owner in owners if int(Rtype.DNAME) in zonefile.rrsets(owner)}
    glue = {
        lower(target)[: -len(anchor)]
        for cut in cuts
        for target in zonefile.rrsets(cut)[int(Rtype.NS)].targets(anchor)
        if lower(target)[-len(anchor) :] == anchor
    }
    sets: list[RecordSet] = []
    for owner in owners:
        here = zonefile.rrsets(owner)
        above = [owner[number:] for number in range(1, len(owner) + 1)]
        types: tuple[int, ...]
        if any(name in cuts for name in above):
            types = _ADDRESSES if owner in glue else ()
        elif any(name in redirected for name in above):
            types = ()
        elif owner in cuts:
            types = (int(Rtype.NS), int(Rtype.DS), *(_ADDRESSES if owner in glue else ()))
        elif int(Rtype.CNAME) in here:
            types = (int(Rtype.CNAME),)
        else:
            types = tuple(rtype for rtype in here if _is_data(owner, rtype))
        for rtype in types:
            if rtype in here:
                alone = rtype in (Rtype.CNAME, Rtype.DNAME)
                rdatas = here[rtype].to_wire(anchor)[: 1 if alone else None]
                rdatas = tuple(rdata for rdata in rdatas if takes(rtype, rdata))
                if rdatas:
                    sets.append(
                        RecordSet(owner + anchor, rtype, ttls.clamp(here[rtype].ttl), rdatas)
                    )
    apex = zonefile.rrsets(())
    if int(Rtype.TXT) not in apex and int(Rtype.CNAME) not in apex:
        sets.append(text)
    return sets


def _are_few(sets: list[RecordSet]) -> bool:
    """Whether no RRset and no node is larger than every server takes."""
    types = Counter(records.owner for records in sets)
    most = max(len(records.rdatas) for records in sets)
    return max(most, *types.values()) <= MAX_TOGETHER


def _is_below(owner: Labels) -> bool:
    """Whether NS records at ``owner`` are a delegation: neither at the very name nor made from a
    wildcard."""
    return bool(owner) and owner[0] != WILDCARD


def _is_data(owner: Labels, rtype: int) -> bool:
    """Whether a set can be in the zone where it is in the zone file."""
    if rtype == Rtype.NS:
        return False
    if rtype == Rtype.TXT and owner == (meta.ABOUT_NAME,):
        return False  # the server's own word, which no zone file can forge
    return rtype != Rtype.DNAME or owner[:1] != (WILDCARD,)


def _back_to_us(zone: Zone, anchor: Labels) -> RecordSet:
    """A delegation of one name to the servers of the zone, of which we are one."""
    return RecordSet(
        anchor, int(Rtype.NS), APEX_TTL, tuple(name_wire(server) for server in zone.nameservers)
    )
