"""Ours or not? Which way a question goes: ourselves in class CH, a whole zone, a name, or nowhere.

What must stay true: the whole of one question is answered from one snapshot; who may not recurse
gets what stands on our side alone, and who is refused hears whether others would not be.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from resolver.dns.answer import Answer, ServerIdentity, chaos_answer
from resolver.dns.asked import Asked, Later
from resolver.dns.asker import Asker
from resolver.dns.chase import Chase, Facts, Freshness, StalenessLimits, TableSnapshot, chase
from resolver.dns.codes import CD, CH, IN, RD, Rcode, Rtype
from resolver.dns.lookup import TtlLimits, lower
from resolver.dns.zones import Labels, NotOurs, Zones
from resolver.forwarding.query import Question
from resolver.forwarding.recursion import Answering, Sides, answering, prohibited, without_going_on
from resolver.transfers.transfers import Transfers

_TRANSFERS = (Rtype.AXFR, Rtype.IXFR)


@dataclass(slots=True)
class Routes:
    """Finds the way of a question."""

    zones: Zones
    freshness: Callable[[], Freshness]
    staleness: StalenessLimits
    ttls: TtlLimits
    identity: ServerIdentity
    facts: Facts
    forwards: bool
    """There are those for whom ordinary DNS is asked."""
    transfers: Transfers | None
    """Without it nobody gets a whole zone."""
    outcomes: Counter[str]

    def way(self, asked: Asked, snapshot: TableSnapshot) -> Answer | Answering | Later:
        """The answer if none need be looked for, the search for it, or a zone being given."""
        query, asker = asked.query, asked.asker
        if query.qclass == CH:
            return chaos_answer(query.labels, query.qtype, self.identity)
        if query.qclass != IN:
            return Answer(Rcode.REFUSED)
        if query.qtype in _TRANSFERS:
            return self._zone(asked, snapshot)

        def ours(name: Labels, qtype: int) -> Chase:
            return chase(
                name,
                qtype,
                zones=self.zones,
                snapshot=snapshot,
                freshness=self.freshness(),
                staleness=self.staleness,
                ttls=self.ttls,
                facts=self.facts,
                whole=whole,
            )

        # A stub resolver cannot go on where an answer breaks off.
        whole = asker.may_recurse and bool(query.flags & RD)
        if not asker.may_recurse:
            return self._without_recursion(ours(query.labels, query.qtype), asker)
        if not whole:
            return without_going_on(ours(query.labels, query.qtype))
        dnssec = query.edns is not None and query.edns.wants_dnssec
        return answering(
            Question(lower(query.labels), query.qtype, dnssec, bool(query.flags & CD)),
            Sides(ours, lambda name: not isinstance(self.zones.split_qname(name), NotOurs)),
        )

    def _zone(self, asked: Asked, snapshot: TableSnapshot) -> Answer | Later:
        if self.transfers is None:
            return Answer(Rcode.REFUSED)
        given = self.transfers.begin(
            asked.query, asked.asker, snapshot, self.freshness(), self.staleness
        )
        if isinstance(given, Answer):
            return given
        self.outcomes["transfer"] += 1
        return partial(self._given, self.transfers, given)

    async def _given(self, transfers: Transfers, given: Later) -> Answer | bytes:
        last = await given()
        if transfers.left_out:
            self.outcomes["kept out of transfers"] = transfers.left_out
        return last

    def _without_recursion(self, first: Chase, asker: Asker) -> Answering:
        """What stands on our side; who is refused hears whether others would not be."""
        answer = yield from first
        if self.forwards and answer.rcode == Rcode.REFUSED:
            return prohibited(asker.address)
        return answer
