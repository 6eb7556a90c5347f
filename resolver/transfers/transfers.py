"""Who may have a whole zone, and how many at once: transfers as they are asked for and given.

What must stay true: only addresses in ``allow`` get one, over a stream of their own (RFC 5936 4);
no more than ``MAX_AT_ONCE`` are under way; a zone is given only while the index may be answered
from; between two pieces everybody else has a turn, and nothing is made that is not read.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from resolver.dns import answer as say
from resolver.dns.answer import Answer, NameData
from resolver.dns.asked import Later
from resolver.dns.asker import Asker, Network, is_within
from resolver.dns.chase import Freshness, StalenessLimits, TableSnapshot
from resolver.dns.codes import Rcode, Rtype
from resolver.dns.contents import read_data
from resolver.dns.lookup import RecordSet, TtlLimits
from resolver.dns.message import STREAM_LIMIT, write_reply
from resolver.dns.query import Query
from resolver.dns.zones import ZoneApex, Zones, name_text
from resolver.transfers.messages import messages_of
from zonefiles.text.rdata import is_loaded_everywhere

log = logging.getLogger("blockstore.resolver")

MAX_AT_ONCE = 2


class Transfers:
    """Gives the zones to those in ``allow``; ``peek`` is the data at hand by its hash."""

    def __init__(
        self,
        zones: Zones,
        allow: Sequence[Network],
        peek: Callable[[bytes], bytes | None],
        ttls: TtlLimits,
    ) -> None:
        self._zones = zones
        self._allow = tuple(allow)
        self._peek = peek
        self._ttls = ttls
        self.under_way = 0
        self.left_out = 0
        """Records of all transfers that were left out because some server does not take them."""

    def begin(
        self,
        query: Query,
        asker: Asker,
        table: TableSnapshot,
        freshness: Freshness,
        staleness: StalenessLimits,
    ) -> Answer | Later:
        """What is said to an AXFR or IXFR question: the reason why not, or its last message to
        come, before which the others go to ``asker.more``.

        To IXFR the whole zone is given, as RFC 1995 4 allows; the SOA alone to who has this
        version already, and over UDP, where the asker sees by it whether it is worth a connection
        (RFC 1995 2).
        """
        if not is_within(asker.address, self._allow):
            return Answer(Rcode.REFUSED)
        place = self._zones.split_qname(query.labels)
        if not isinstance(place, ZoneApex):
            return Answer(Rcode.NOTAUTH)
        if not freshness.ready:
            return say.not_ready(freshness.height, freshness.target)
        if freshness.silent_for >= staleness.refuse_after:
            return say.too_stale(freshness.height, freshness.silent_for)
        if asker.more is None:
            if query.qtype == Rtype.IXFR:
                return say.apex_answer(place.zone, Rtype.SOA, table.height)
            return Answer(Rcode.REFUSED)
        held = query.serial if query.qtype == Rtype.IXFR else None
        if held is not None and not _is_newer(table.height, held):
            return say.apex_answer(place.zone, Rtype.SOA, table.height)

        def write(sets: tuple[RecordSet, ...]) -> bytes:
            return write_reply(query, Answer(Rcode.NOERROR, True, sets), STREAM_LIMIT, asker=asker)

        messages = messages_of(place.zone, table, self._read, self._ttls, write, self._is_taken)
        what = f"{name_text(place.zone.suffix)} at block {table.height}"
        refusal = write_reply(query, say.overloaded(), STREAM_LIMIT, asker=asker)
        return partial(self._give, messages, asker, what, refusal)

    async def _give(self, messages: Any, asker: Asker, what: str, refusal: bytes) -> bytes:
        assert asker.more is not None
        # Here and not in ``begin``: many may be asked for before the first of them begins.
        if self.under_way >= MAX_AT_ONCE:
            return refusal
        self.under_way += 1
        try:
            last = b""
            count = 0
            before = self.left_out
            for message in messages:
                if message is None:
                    await asyncio.sleep(0)
                    continue
                if last:
                    await asker.more(last)
                last = message
                count += 1
            log.info("The zone %s was given to %s in %d messages.", what, asker.address, count)
            if self.left_out > before:
                log.info("Some servers do not take %d of its records.", self.left_out - before)
            return last
        finally:
            self.under_way -= 1

    def _is_taken(self, rtype: int, rdata: bytes) -> bool:
        taken = is_loaded_everywhere(rtype, rdata)
        self.left_out += not taken
        return taken

    def _read(self, digest: bytes, name: str) -> NameData | None:
        """Not by way of what is kept read: a whole zone would push out what is asked for."""
        data = self._peek(digest)
        return None if data is None else read_data(data, name)


def _is_newer(serial: int, than: int) -> bool:
    """Serial number arithmetic (RFC 1982 3.2)."""
    return 0 < (serial - than) % 2**32 < 2**31
