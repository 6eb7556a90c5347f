"""Where our names end and ordinary DNS begins: one answer made of both, and never the wrong way.

``answering`` is a generator like ``chase``: it yields the data or the question that is wanted and
is sent what was found. What must stay true:
- a name below a served suffix is asked of ordinary DNS only where its zone is chain-first and the
  name is not registered: whatever an upstream says of a served name is cut off and answered here;
- what a zone file delegates is asked of the servers it names, for those who may recurse, and what
  they say is believed for their part alone;
- the address of such a server is found like any other answer: where its name is ours, here;
- who may not recurse gets what stands on our side alone, a referral included;
- no question takes more than ``MAX_TURNS`` changes of side.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace

from resolver.dns.answer import Answer, Basis, ExtendedError, unfinished_chain
from resolver.dns.chase import MAX_CHAIN, Chase, Delivery, Wanted
from resolver.dns.codes import ErrorCode, Rcode, Rtype
from resolver.dns.lookup import RecordSet, lower
from resolver.dns.zones import Labels
from resolver.forwarding.delegation import (
    MAX_SERVERS,
    Delegation,
    addresses_in,
    aliases,
    delegation_of,
    end_of,
    is_within,
    stranded,
    within_cut,
)
from resolver.forwarding.query import Question
from resolver.forwarding.scrub import kind_of

MAX_TURNS = MAX_CHAIN // 2 + 2
"""Each can be one alias on either side, or lead to the address of a name server."""

_NOT_FOLLOWED = (Rtype.CNAME, Rtype.ANY)

Answering = Generator[Wanted | Question, Delivery | Answer, Answer]


@dataclass(frozen=True, slots=True)
class Sides:
    """What the way to one answer leads through."""

    chase: Callable[[Labels, int], Chase]
    """Our answer to a question for a name and a type."""
    is_ours: Callable[[Labels], bool]
    turns: Iterator[int] = field(default_factory=lambda: iter(range(MAX_TURNS)))
    """Those that are left."""


def answering(question: Question, sides: Sides) -> Answering:
    """The whole answer to ``question``, beginning with ours."""
    at = question.qname
    below: Labels = ()  # what is delegated must lie below the last cut
    answer = yield from sides.chase(at, question.qtype)
    for _ in sides.turns:
        found = None
        if answer.onward is not None:
            wanted = replace(question, qname=answer.onward)
            theirs = yield wanted
            assert isinstance(theirs, Answer)
            theirs, target = cut_at_ours(theirs, wanted, sides.is_ours)
        else:
            end = end_of(answer.answer, at)
            found = delegation_of(answer, end, below)
            if found is None:
                return answer
            at, below = end, found.cut
            wanted = replace(question, qname=at, cut=below)
            theirs = yield from _of_servers(found, wanted, sides)
            theirs, target = within_cut(theirs, wanted)
        answer = _continued(answer, theirs)
        if target is None:
            if found is None:
                return answer  # it is whole: who was asked follows aliases and delegations
        elif sides.is_ours(target):
            answer = _come_back(answer, (yield from sides.chase(target, question.qtype)))
            at, below = target, ()
        else:
            answer = replace(answer, onward=target)
    if answer.onward is not None:
        return unfinished_chain((), answer.onward, whole=True)
    found = delegation_of(answer, end_of(answer.answer, at), below)
    return answer if found is None else stranded(found.cut)


def _of_servers(found: Delegation, question: Question, sides: Sides) -> Answering:
    """What the servers of a delegation say: those with an address beside their name, and the others
    where none of these answers."""
    answer = stranded(found.cut)
    if found.addresses:
        theirs = yield replace(question, servers=found.addresses)
        assert isinstance(theirs, Answer)
        answer = theirs
    if answer.rcode != Rcode.SERVFAIL or not found.nameless:
        return answer
    addresses: list[str] = []
    basis: Basis | None = Basis()
    for name in found.nameless:
        for qtype in (Rtype.A, Rtype.AAAA):
            wanted = Question(name, int(qtype), unchecked=question.unchecked)
            told = yield from answering(wanted, sides)
            here = addresses_in(told.answer, end_of(told.answer, name))
            addresses += here
            basis = _both(basis, told.basis)
            if here:
                break
    if not addresses:
        return answer
    theirs = yield replace(question, servers=tuple(addresses[:MAX_SERVERS]))
    assert isinstance(theirs, Answer)
    return replace(theirs, basis=_both(basis, theirs.basis))


def cut_at_ours(
    answer: Answer, question: Question, is_ours: Callable[[Labels], bool]
) -> tuple[Answer, Labels | None]:
    """``answer`` up to the first alias that leads to a name of ours, and that name."""
    if question.qtype in _NOT_FOLLOWED:
        return answer, None
    owners = {question.qname}
    for _, target in aliases(answer.answer, question.qname):
        if is_ours(target):
            kept = tuple(records for records in answer.answer if _said_for(records, owners))
            cut = replace(answer, rcode=Rcode.NOERROR, answer=kept, authority=())
            return replace(cut, additional=(), authenticated=False), target
        owners.add(target)
    return answer, None


def _said_for(records: RecordSet, owners: set[Labels]) -> bool:
    """Whether ``records`` lead on from one of ``owners``: an alias, or a DNAME above it."""
    if kind_of(records) == Rtype.DNAME:
        return any(is_within(owner, lower(records.owner)) for owner in owners)
    return lower(records.owner) in owners


def prohibited(address: str) -> Answer:
    """Ordinary DNS is asked for others, not for this one."""
    text = f"nothing is forwarded for {address or 'an unknown address'}"
    return Answer(Rcode.REFUSED, errors=(ExtendedError(ErrorCode.PROHIBITED, text),))


def _continued(ours: Answer, theirs: Answer) -> Answer:
    """What we said, up to the alias that leads away, and what ordinary DNS said then."""
    chain = ours.answer
    return replace(
        theirs,
        authoritative=ours.authoritative if chain else theirs.authoritative,
        answer=chain + theirs.answer,
        errors=(ours.errors if chain or ours.rcode == Rcode.NOERROR else ()) + theirs.errors,
        authenticated=theirs.authenticated and not chain,
        forwarded=True,
        # Nothing of ours stands behind one that we had refused.
        basis=_both(Basis() if ours.rcode == Rcode.REFUSED else ours.basis, theirs.basis),
    )


def _both(one: Basis | None, other: Basis | None) -> Basis | None:
    """What ends an answer that was made of both."""
    if one is None or other is None:
        return None
    until = min((at for at in (one.until, other.until) if at is not None), default=None)
    ends = (one.seconds, other.seconds)
    seconds = min((end for end in ends if end is not None), default=None)
    return Basis(one.of | other.of, until, one.at_height or other.at_height, seconds)


def _come_back(before: Answer, ours: Answer) -> Answer:
    """What was said so far, and what we say of the name of ours it led to."""
    return replace(
        ours,
        authoritative=before.authoritative,
        answer=before.answer + ours.answer,
        errors=before.errors + ours.errors,
        forwarded=True,
        basis=None,
    )


def without_going_on(first: Chase) -> Answering:
    """What stands on our side, for one who may recurse and has not asked for it (RD=0)."""
    return replace((yield from first), onward=None)
