"""What of another server's reply is taken: what answers the question, in the order of its aliases.

What must stay true:
- of the answer section: the aliases from the name that was asked on, one by one, then what was
  asked for at the last name, for some clients read it in this order alone;
- of the authority section: SOA and DS at or above these names, and denials that the signer of such
  a zone has signed; NS, and additional addresses, of the servers of a delegation alone;
- a denial is good for the smaller of its SOA's TTL and MINIMUM (RFC 2308 5), and says so.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from resolver.dns.answer import Answer, unfinished_chain
from resolver.dns.chase import MAX_CHAIN
from resolver.dns.codes import AD, Rtype
from resolver.dns.lookup import RecordSet, lower
from resolver.dns.upstream_reply import Reply, denial_ttl, least_ttl
from resolver.dns.zones import Labels, name_wire
from resolver.forwarding.delegation import aliases, end_of, is_within, names_in

_SIGNER = 18  # octets of RRSIG before the signer's name (RFC 4034 3.1)
_NSEC, _NSEC3 = 47, 50
_MOST_OCTETS = 255


def as_answer(reply: Reply, *, trust_ad: bool, refers: bool = False) -> tuple[Answer, int]:
    """What an upstream said, and for how many seconds it may be kept; with ``refers`` what the
    server of a delegation did, whose word for further servers counts. A chain that does not end is
    a failure, not half an answer."""
    at = lower(reply.qname)
    names = [at]
    if reply.qtype not in (Rtype.CNAME, Rtype.ANY):
        reply = replace(reply, answer=_with_aliases(reply.answer, at))
        names += (target for _, target in aliases(reply.answer, at))
    circle = names[-1] in names[:-1]
    if circle or len(names) > MAX_CHAIN + 1:
        failure = unfinished_chain((), names[-1], circle=circle, whole=True)
        return replace(failure, forwarded=True), 0
    above = {name[cut:] for name in names for cut in range(len(name) + 1)}
    reply = replace(
        reply,
        answer=tuple(dict.fromkeys(_in_order(reply, names))),
        authority=tuple(_believed(reply.authority, above, refers)),
        additional=reply.additional if refers else (),
    )
    denied = denial_ttl(reply)
    authority = reply.authority
    if denied is not None:
        authority = tuple(replace(part, ttl=min(part.ttl, denied)) for part in authority)
    answer = Answer(
        reply.rcode,
        answer=reply.answer,
        authority=authority,
        additional=reply.additional,
        errors=reply.errors,
        authenticated=trust_ad and bool(reply.flags & AD),
        forwarded=True,
    )
    return answer, least_ttl(reply) or 0


def _with_aliases(sets: tuple[RecordSet, ...], at: Labels) -> tuple[RecordSet, ...]:
    """``sets`` with the alias that a DNAME makes of a name where it came without (RFC 6672 3.1)."""
    for _ in range(MAX_CHAIN + 1):
        at = end_of(sets, at)
        for records in sets:
            above = lower(records.owner)
            if records.rtype == Rtype.DNAME and above != at and is_within(at, above):
                break
        else:
            return sets
        for target in names_in(records.rdatas[:1]):
            made = name_wire(at[: len(at) - len(above)] + target)
            if len(made) <= _MOST_OCTETS:
                sets += (RecordSet(at, int(Rtype.CNAME), records.ttl, (made,)),)
    return sets


def kind_of(records: RecordSet) -> int:
    """The type of a set; that of what it covers where it is one of signatures."""
    if records.rtype == Rtype.RRSIG:
        return int.from_bytes(records.rdatas[0][:2], "big")
    return records.rtype


def _in_order(reply: Reply, names: list[Labels]) -> Iterator[RecordSet]:
    """The records of the answer section that lead through ``names`` and answer at the last."""
    by_owner: dict[Labels, list[RecordSet]] = defaultdict(list)
    for records in reply.answer:
        by_owner[lower(records.owner)].append(records)
    for name in names[:-1]:
        for cut in range(1, len(name) + 1):
            yield from (part for part in by_owner[name[cut:]] if kind_of(part) == Rtype.DNAME)
        yield from (part for part in by_owner[name] if kind_of(part) == Rtype.CNAME)
    for part in by_owner[names[-1]]:
        if reply.qtype in (part.rtype, kind_of(part), Rtype.ANY):
            yield part


def _believed(
    authority: tuple[RecordSet, ...], above: set[Labels], refers: bool
) -> Iterator[RecordSet]:
    """Of ``authority`` what is about ``above``, the names of the answer and those over them."""
    kinds = {int(Rtype.SOA), int(Rtype.DS)} | ({int(Rtype.NS)} if refers else set())
    signers = above & {
        signer
        for records in authority
        if records.rtype == Rtype.RRSIG
        for signer in names_in(rdata[_SIGNER:] for rdata in records.rdatas)
    }
    for records in authority:
        owner = lower(records.owner)
        if kind_of(records) in (_NSEC, _NSEC3):
            if any(owner[cut:] in signers for cut in range(len(owner) + 1)):
                yield records
        elif kind_of(records) in kinds and owner in above:
            yield records
