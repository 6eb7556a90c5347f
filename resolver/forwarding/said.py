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
from resolver.dns.reply import BadReply, Reply, denial_ttl, first_name
from resolver.dns.zones import Labels
from resolver.forwarding.delegation import aliases

_SIGNER = 18  # octets of RRSIG before the signer's name (RFC 4034 3.1)
_NSEC, _NSEC3 = 47, 50


def as_answer(reply: Reply, *, trust_ad: bool, refers: bool = False) -> Answer:
    """What an upstream said; with ``refers`` what the server of a delegation did, whose word for
    further servers counts. A chain that does not end is a failure, not half an answer."""
    at = lower(reply.qname)
    names = [at]
    if reply.qtype not in (Rtype.CNAME, Rtype.ANY):
        names += (target for _, target in aliases(reply.answer, at))
    if len(names) > MAX_CHAIN or names[-1] in names[:-1]:
        circle = names[-1] in names[:-1]
        return replace(unfinished_chain((), names[-1], circle=circle, whole=True), forwarded=True)
    answer = tuple(dict.fromkeys(_in_order(reply, names)))
    above = {name[cut:] for name in names for cut in range(len(name) + 1)}
    authority = tuple(_believed(reply.authority, above, refers))
    denied = denial_ttl(reply)
    if denied is not None:
        authority = tuple(replace(part, ttl=min(part.ttl, denied)) for part in authority)
    return Answer(
        reply.rcode,
        answer=answer,
        authority=authority,
        additional=reply.additional if refers else (),
        errors=reply.errors,
        authenticated=trust_ad and bool(reply.flags & AD),
        forwarded=True,
    )


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
        for signer in _signers(records)
    }
    for records in authority:
        owner = lower(records.owner)
        if kind_of(records) in (_NSEC, _NSEC3):
            if any(owner[cut:] in signers for cut in range(len(owner) + 1)):
                yield records
        elif kind_of(records) in kinds and owner in above:
            yield records


def _signers(records: RecordSet) -> Iterator[Labels]:
    for rdata in records.rdatas:
        try:
            yield lower(first_name(rdata[_SIGNER:]))
        except BadReply:
            continue
