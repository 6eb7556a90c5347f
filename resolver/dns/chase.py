"""From a question to its answer, name by name, asking for data by yielding.

``chase`` is a generator and does no I/O: it yields each piece of data it needs and is sent what
was held or why nothing was. Whoever drives it may look into a database or wait for a network.
What must stay true:
- the whole of one question is answered from one snapshot of the name table;
- no question takes more than ``MAX_STEPS`` aliases, or ``MAX_CHAIN`` for who cannot go on by
  themselves, whatever strangers' zone files say;
- an answer that may be kept says what it was made of: every name that was asked on the way to it,
  and the first height at which one of them changes its phase;
- the order of the refusals: not served, not ready, too stale, then the name's own state.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Protocol

from indexer.protocol.records import NameRecord, NameStatus, Phase
from resolver.dns import answer as say
from resolver.dns import meta
from resolver.dns.answer import Answer, ExtendedError, NameData
from resolver.dns.codes import Rcode, Rtype
from resolver.dns.lookup import (
    Alias,
    Found,
    NoSuchNode,
    NoSuchType,
    Outcome,
    RecordSet,
    TtlLimits,
    lower,
)
from resolver.dns.zones import AtName, Labels, NeverAName, NotOurs, ZoneApex, Zones

MAX_STEPS = 8
"""Aliases followed for one question; a resolver that wants more asks for the last target."""
MAX_CHAIN = 16
"""Aliases followed for one who relies on us for the whole answer."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far behind the chain the index is."""

    ready: bool
    """Whether it has once caught up with the node since the start."""
    height: int
    target: int
    """The height the node speaks of; ``height`` where it says nothing."""
    silent_for: float
    """Seconds since the node last answered or since the last block came, whichever is more."""
    stopped: bool = False
    """Whether the index has stopped following, and only an operator can mend it."""


@dataclass(frozen=True, slots=True)
class StalenessLimits:
    """From when on an answer carries the stale mark, and from when on there is none; seconds."""

    mark_after: float = 7_200.0
    refuse_after: float = 86_400.0

    def mark(self, freshness: "Freshness") -> bool:
        """Whether an answer carries the stale mark: at once where the index has stopped."""
        return freshness.stopped or freshness.silent_for >= self.mark_after


class ChainClock(Protocol):
    """What is asked of a network's parameters."""

    @property
    def target_spacing(self) -> float: ...


class PastOperation(Protocol):
    """What is asked of the verdict on an operation."""

    @property
    def height(self) -> int: ...


class NamePage(Protocol):
    """Some names, and what to ask for to go on ("" at the end)."""

    @property
    def entries(self) -> tuple[str, ...]: ...
    @property
    def next(self) -> str: ...


class TableSnapshot(Protocol):
    """What is asked of a snapshot of the name table."""

    @property
    def height(self) -> int: ...
    @property
    def block_time(self) -> int: ...
    @property
    def network(self) -> ChainClock: ...
    def name_status(self, name: str, /) -> tuple[NameRecord, NameStatus] | None: ...
    def verdict(self, txid: bytes, /) -> PastOperation | None: ...
    def consensus_hash(self, height: int, /) -> bytes | None: ...
    def names_in(self, namespace_id: str, after: str = "", /) -> NamePage: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """Data that the chase needs before it can go on."""

    digest: bytes
    chain_name: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No source had the data in time. ``wrong``: of those asked, how many gave other data, and
    nothing else was offered."""

    asked: int
    only_wrong: bool = False


@dataclass(frozen=True, slots=True)
class Overloaded:
    """Too many questions wait for data already."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the server's own records are made of: how the node stands, and where this node has
    the data with a hash from, in words. Both are asked only when somebody asks for them."""

    status: Callable[[], meta.NodeStatus]
    data_from: Callable[[bytes], str]


Delivery = NameData | Unavailable | Overloaded
Chase = Generator[Wanted, Delivery, Answer]


def chase(
    labels: Labels,
    qtype: int,
    *,
    zones: Zones,
    snapshot: TableSnapshot,
    freshness: Freshness,
    staleness: StalenessLimits,
    ttls: TtlLimits,
    facts: Facts,
    whole: bool = False,
) -> Chase:
    """Answer the question for ``labels`` (any case) and ``qtype`` in class IN. ``whole``: for a
    stub resolver, which cannot go on where the answer breaks off."""
    place = zones.split_qname(labels)
    if isinstance(place, NotOurs):
        return replace(say.not_served(), onward=lower(labels))
    if isinstance(place, AtName) and meta.is_status(place) and qtype in (Rtype.TXT, Rtype.ANY):
        # How the node stands is said above all when it does not stand well.
        record = meta.status_record(place.anchor, facts.status())
        return Answer(Rcode.NOERROR, True, (record,))
    if not freshness.ready:
        return say.not_ready(freshness.height, freshness.target)
    if freshness.silent_for >= staleness.refuse_after:
        return say.too_stale(freshness.height, freshness.silent_for)
    remarks: tuple[ExtendedError, ...] = ()
    if staleness.mark(freshness):
        remarks = (say.stale(freshness.height, freshness.silent_for, freshness.stopped),)

    height = snapshot.height
    chain: tuple[RecordSet, ...] = ()
    target = lower(labels)
    seen = {target}
    made_of: set[str | bytes] = set()
    until: int | None = None

    def finished(answer: Answer) -> Answer:
        marked = answer.with_errors(remarks) if remarks else answer
        return marked.made_of(frozenset(made_of), until)

    most = MAX_CHAIN if whole else MAX_STEPS
    for step in range(most + 1):
        match place:
            case NotOurs():
                # RFC 1034 4.3.2 3a: from here on it is the resolver's to go on.
                return finished(Answer(Rcode.NOERROR, True, chain, onward=target))
            case ZoneApex(zone):
                return finished(say.apex_answer(zone, qtype, height, chain))
            case NeverAName(zone):
                remarks += (say.not_registered(height),)
                missing = finished(say.negative(Rcode.NXDOMAIN, zone, height, chain))
                return replace(missing, onward=target) if zone.chain_first else missing
            case AtName():
                pass
        made_of.add(place.chain_name)
        known = snapshot.name_status(place.chain_name)
        if known is not None:
            until = _sooner(until, known[1], height)
        outcome, more = yield from _at_name(place, qtype, known, snapshot, ttls, facts)
        if isinstance(outcome, Answer):
            if outcome.basis is not None:
                made_of |= outcome.basis.of
                return finished(outcome)
            return outcome.with_errors(remarks)
        remarks += tuple(remark for remark in more if remark not in remarks)
        if isinstance(outcome, NoSuchNode) and meta.is_status(place):
            # It has the server's TXT, whoever registered a name like it, and so nothing is amiss.
            outcome = NoSuchType()
            remarks = tuple(remark for remark in remarks if remark not in more)
        if not isinstance(outcome, Alias):
            answer = finished(say.final_answer(outcome, place.zone, height, chain))
            gone = answer.rcode == Rcode.NXDOMAIN and _is_unregistered(known)
            if gone and place.zone.chain_first:
                answer = replace(answer, onward=target)
            # The server's own records change without a block.
            return replace(answer, basis=None) if meta.is_about(place.left) else answer
        chain += outcome.records
        if qtype == Rtype.CNAME:  # made from a DNAME, it is what was asked for
            return finished(Answer(Rcode.NOERROR, True, chain))
        target = outcome.target
        circle = target in seen
        if circle or step == most:
            return finished(say.unfinished_chain(chain, target, circle=circle, whole=whole))
        seen.add(target)
        place = zones.split_qname(target)
    raise AssertionError("the last turn of the loop returns")


def _is_unregistered(known: tuple[NameRecord, NameStatus] | None) -> bool:
    """Nobody has the name: it never was registered, or is no more. A revoked name is somebody's."""
    return known is None or known[1].phase is Phase.EXPIRED


def _sooner(until: int | None, status: NameStatus, height: int) -> int | None:
    """The first height above ``height`` at which a phase ends, of those known so far and these."""
    ends = (until, status.expires_at, status.gone_at)
    return min((end for end in ends if end is not None and end > height), default=None)


def _at_name(
    place: AtName,
    qtype: int,
    known: tuple[NameRecord, NameStatus] | None,
    snapshot: TableSnapshot,
    ttls: TtlLimits,
    facts: Facts,
) -> Generator[Wanted, Delivery, tuple[Outcome | Answer, tuple[ExtendedError, ...]]]:
    """What one name says, and the remarks that go with it; an Answer is final as it is."""
    if known is None:
        return NoSuchNode(), (say.not_registered(snapshot.height),)
    record, status = known
    remarks: tuple[ExtendedError, ...] = ()
    if status.phase is Phase.EXPIRED:
        gone = snapshot.height if status.gone_at is None else status.gone_at
        return NoSuchNode(), (say.expired(gone),)
    if status.phase is Phase.REVOKED:
        # Nothing can be done to a revoked name, so its last operation is the revocation.
        last = snapshot.verdict(record.txid)
        return NoSuchNode(), (say.revoked(snapshot.height if last is None else last.height),)
    spacing = snapshot.network.target_spacing
    if status.phase is Phase.GRACE and status.gone_at is not None:
        remarks = (say.expires_soon(status.gone_at, snapshot.height, snapshot.block_time, spacing),)
    if place.left == (meta.ABOUT_NAME,) and qtype in (Rtype.TXT, Rtype.ANY):
        data_from = "nobody" if record.value_hash is None else facts.data_from(record.value_hash)
        owner = place.left + place.anchor
        told = meta.about_record(owner, record, status, snapshot, spacing, data_from)
        return Found(told), remarks
    if record.value_hash is None:
        here = not place.left or place.left == (meta.ABOUT_NAME,)
        nothing: Outcome = NoSuchType() if here else NoSuchNode()
        return nothing, (*remarks, say.no_data_yet(place.chain_name))
    delivered = yield Wanted(record.value_hash, place.chain_name)
    if isinstance(delivered, Unavailable):
        lost = say.data_unavailable(record.value_hash, place.chain_name, delivered.asked)
        failed = say.data_mismatch() if delivered.only_wrong else lost
        return failed.made_of(frozenset((record.value_hash,)), None), ()
    if isinstance(delivered, Overloaded):
        return say.overloaded(), ()
    zonefile = delivered.zonefile
    if meta.is_about(place.left) and zonefile and not zonefile.exists((meta.ABOUT_NAME,)):
        # The server's record is there, so nothing else is (RFC 4592 2.2.1).
        return (NoSuchType() if len(place.left) == 1 else NoSuchNode()), remarks
    outcome = say.answer_from_data(delivered, place.left, qtype, place.anchor, ttls)
    if zonefile is None and isinstance(outcome, NoSuchType):
        remarks += (say.not_a_zonefile(place.chain_name, delivered.flaw),)
    return outcome, remarks
