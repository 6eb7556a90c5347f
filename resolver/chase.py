"""From a question to its answer, name by name, asking for data by yielding.

``chase`` is a generator and does no I/O: it yields each piece of data it needs and is sent what
was held or why nothing was. Whoever drives it may look into a database or wait for a network.
What must stay true:
- the whole of one question is answered from one snapshot of the name table;
- no question takes more than ``MAX_STEPS`` aliases, whatever strangers' zone files say;
- the order of the refusals: not served, not ready, too stale, then the name's own state.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from indexer.records import NameRecord, NameStatus, Phase
from resolver import answer as say
from resolver.answer import Answer, ExtendedError, NameData
from resolver.codes import Rcode
from resolver.lookup import Alias, NoSuchNode, NoSuchType, Outcome, RecordSet, TtlLimits, lower
from resolver.zones import AtName, Labels, NeverAName, NotOurs, ZoneApex, Zones

MAX_STEPS = 8
"""Aliases followed for one question; a resolver that wants more asks for the last target."""


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


@dataclass(frozen=True, slots=True)
class StalenessLimits:
    """From when on an answer carries the stale mark, and from when on there is none; seconds."""

    mark_after: float = 7_200.0
    refuse_after: float = 86_400.0


class ChainClock(Protocol):
    """What is asked of a network's parameters."""

    @property
    def target_spacing(self) -> float: ...


class PastOperation(Protocol):
    """What is asked of the verdict on an operation."""

    @property
    def height(self) -> int: ...


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
) -> Chase:
    """Answer the question for ``labels`` (any case) and ``qtype`` in class IN."""
    place = zones.split_qname(labels)
    if isinstance(place, NotOurs):
        return say.not_served()
    if not freshness.ready:
        return say.not_ready(freshness.height, freshness.target)
    if freshness.silent_for >= staleness.refuse_after:
        return say.too_stale(freshness.height, freshness.silent_for)
    remarks: tuple[ExtendedError, ...] = ()
    if freshness.silent_for >= staleness.mark_after:
        remarks = (say.stale(freshness.height, freshness.silent_for),)

    height = snapshot.height
    chain: tuple[RecordSet, ...] = ()
    seen = {lower(labels)}
    for step in range(MAX_STEPS + 1):
        match place:
            case NotOurs():
                # RFC 1034 4.3.2 3a: from here on it is the resolver's to go on.
                return Answer(Rcode.NOERROR, True, chain, errors=remarks)
            case ZoneApex(zone):
                return say.apex_answer(zone, qtype, height, chain).with_errors(remarks)
            case NeverAName(zone):
                remarks += (say.not_registered(height),)
                return say.negative(Rcode.NXDOMAIN, zone, height, chain, remarks)
            case AtName():
                pass
        outcome, more = yield from _at_name(place, qtype, snapshot, ttls)
        if isinstance(outcome, Answer):
            return outcome.with_errors(remarks)
        remarks += tuple(remark for remark in more if remark not in remarks)
        if not isinstance(outcome, Alias):
            return say.final_answer(outcome, place.zone, height, chain, remarks)
        chain += outcome.records
        target = outcome.target
        if target in seen or step == MAX_STEPS:
            return say.unfinished_chain(chain, target, target in seen).with_errors(remarks)
        seen.add(target)
        place = zones.split_qname(target)
    raise AssertionError("the last turn of the loop returns")


def _at_name(
    place: AtName,
    qtype: int,
    snapshot: TableSnapshot,
    ttls: TtlLimits,
) -> Generator[Wanted, Delivery, tuple[Outcome | Answer, tuple[ExtendedError, ...]]]:
    """What one name says, and the remarks that go with it; an Answer is final as it is."""
    known = snapshot.name_status(place.chain_name)
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
    if status.phase is Phase.GRACE and status.gone_at is not None:
        remarks = (
            say.expires_soon(
                status.gone_at,
                snapshot.height,
                snapshot.block_time,
                snapshot.network.target_spacing,
            ),
        )
    if record.value_hash is None:
        nothing: Outcome = NoSuchNode() if place.left else NoSuchType()
        return nothing, (*remarks, say.no_data_yet(place.chain_name))
    delivered = yield Wanted(record.value_hash, place.chain_name)
    if isinstance(delivered, Unavailable):
        if delivered.only_wrong:
            return say.data_mismatch(), ()
        return say.data_unavailable(record.value_hash, place.chain_name, delivered.asked), ()
    if isinstance(delivered, Overloaded):
        return say.overloaded(), ()
    outcome = say.answer_from_data(delivered, place.left, qtype, place.anchor, ttls)
    if delivered.zonefile is None and isinstance(outcome, NoSuchType):
        remarks += (say.not_a_zonefile(place.chain_name, delivered.flaw),)
    return outcome, remarks


__all__ = [
    "MAX_STEPS",
    "Chase",
    "Delivery",
    "Freshness",
    "Overloaded",
    "StalenessLimits",
    "TableSnapshot",
    "Unavailable",
    "Wanted",
    "chase",
]
