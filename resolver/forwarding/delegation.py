"""Where a zone file hands a part of its name to other servers: whom to ask, and what to believe.

What must stay true: a server is believed for what lies at or below its cut and for nothing else;
a further delegation counts only if it leads closer to what was asked, so that following them ends;
how many servers are asked is bounded, whatever a stranger's zone file says.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from resolver.dns.answer import Answer, ExtendedError
from resolver.dns.chase import MAX_CHAIN
from resolver.dns.codes import ErrorCode, Rcode, Rtype
from resolver.dns.lookup import RecordSet, lower
from resolver.dns.upstream_reply import BadReply, first_name
from resolver.dns.zones import Labels, name_text
from resolver.forwarding.query import Question

MAX_SERVERS = 3
MAX_NAMELESS = 2
"""Name servers without an address beside them whose addresses are looked for."""

_SIZES = {int(Rtype.A): 4, int(Rtype.AAAA): 16}


@dataclass(frozen=True, slots=True)
class Delegation:
    """What a referral says."""

    cut: Labels
    addresses: tuple[str, ...]
    nameless: tuple[Labels, ...]
    """Names of servers that came without addresses."""


def delegation_of(answer: Answer, end: Labels, below: Labels) -> Delegation | None:
    """The delegation that ``answer`` ends in, if it does: it has nothing for ``end``, the last name
    of its aliases, and refers to servers of a part that ``end`` lies in, below ``below``."""
    if answer.rcode != Rcode.NOERROR or answer.onward is not None:
        return None
    if any(lower(records.owner) == end for records in answer.answer):
        return None
    for records in answer.authority:
        cut = lower(records.owner)
        if records.rtype == Rtype.NS and len(cut) > len(below) and is_within(end, cut):
            return _delegation(answer, records)
    return None


def _delegation(answer: Answer, nameservers: RecordSet) -> Delegation:
    names = list(dict.fromkeys(names_in(nameservers.rdatas)))[: MAX_SERVERS + MAX_NAMELESS]
    beside = (*answer.glue, *answer.additional)
    known = {name: addresses_in(beside, name) for name in names}
    addresses = [address for found in known.values() for address in found]
    nameless = [name for name, found in known.items() if not found]
    return Delegation(
        lower(nameservers.owner), tuple(addresses[:MAX_SERVERS]), tuple(nameless[:MAX_NAMELESS])
    )


def within_cut(answer: Answer, question: Question) -> tuple[Answer, Labels | None]:
    """``answer`` of the servers of ``question.cut`` without what is not theirs to say, and the name
    outside their part that an alias leads to, if one does."""

    def theirs(sets: tuple[RecordSet, ...]) -> tuple[RecordSet, ...]:
        return tuple(records for records in sets if is_within(records.owner, question.cut))

    kept = replace(
        answer,
        answer=theirs(answer.answer),
        authority=theirs(answer.authority),
        glue=(),
        additional=theirs(answer.additional),
        authenticated=False,
    )
    if question.qtype in (Rtype.CNAME, Rtype.ANY):
        return kept, None
    end = end_of(kept.answer, question.qname)
    if is_within(end, question.cut):
        return kept, None
    return replace(kept, rcode=Rcode.NOERROR, authority=(), additional=()), end


def end_of(sets: tuple[RecordSet, ...], at: Labels) -> Labels:
    """The last name of the aliases that begin at ``at``."""
    return [at, *(target for _, target in aliases(sets, at))][-1]


def aliases(sets: tuple[RecordSet, ...], at: Labels) -> Iterator[tuple[Labels, Labels]]:
    """Each alias of the chain that begins at ``at``, and what it leads to, all in lower case: one
    more than ``MAX_CHAIN`` at most, and no circle twice."""
    targets = {
        lower(records.owner): name
        for records in sets
        if records.rtype == Rtype.CNAME
        for name in names_in(records.rdatas[:1])
    }
    for _ in range(MAX_CHAIN + 1):
        target = targets.pop(at, None)
        if target is None:
            return
        yield at, target
        at = target


def stranded(cut: Labels) -> Answer:
    """Nobody can be asked for what was delegated."""
    text = f"no name server of {name_text(cut)} has an address that can be asked"
    error = ExtendedError(ErrorCode.NO_REACHABLE_AUTHORITY, text)
    return Answer(Rcode.SERVFAIL, errors=(error,), forwarded=True)


def is_within(name: Labels, cut: Labels) -> bool:
    """Whether ``name`` (any case) lies at or below ``cut`` (in lower case)."""
    return lower(name)[len(name) - len(cut) :] == cut if len(name) >= len(cut) else False


def names_in(rdatas: Iterable[bytes]) -> Iterator[Labels]:
    """The names, in lower case, that ``rdatas`` begin with; of those that do not, nothing."""
    for rdata in rdatas:
        with suppress(BadReply):
            yield lower(first_name(rdata))


def addresses_in(sets: tuple[RecordSet, ...], owner: Labels) -> list[str]:
    """The addresses among ``sets`` of ``owner`` (in lower case), as text."""
    return [
        str(ipaddress.ip_address(rdata))
        for records in sets
        if records.rtype in _SIZES and lower(records.owner) == owner
        for rdata in records.rdatas
        if len(rdata) == _SIZES[records.rtype]
    ]
