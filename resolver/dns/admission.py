"""Turned away? What is refused unread, what is over its budget, and who has proved an address.

What must stay true: work for one network is rationed; who is over the budget is asked to prove the
address (TC), and who has proved it hears SERVFAIL.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from resolver.dns.answer import Answer, overloaded
from resolver.dns.asked import Asked
from resolver.dns.asker import Asker
from resolver.dns.codes import RA, Rcode
from resolver.dns.cookies import CLIENT_SIZE, ServerCookies
from resolver.dns.message import STREAM_LIMIT, write_short
from resolver.dns.query import Short, read_query
from resolver.dns.rates import Cost, WorkBudget
from resolver.dns.zones import NotOurs, Zones


@dataclass(slots=True)
class Admission:
    """Lets questions in."""

    cookies: ServerCookies
    work: WorkBudget
    clock: Callable[[], float]
    """In seconds, and never goes back."""
    unix_clock: Callable[[], float]
    outcomes: Counter[str]
    zones: Zones
    is_spent: Callable[[], bool]
    """Whether no more can be asked of ordinary DNS at the moment."""

    def read(self, packet: bytes, limit: int, asker: Asker) -> Asked | bytes | None:
        """The question in ``packet``; else the reply that refuses it, or None for silence."""
        query = read_query(packet)
        if query is None:
            self.outcomes["silent"] += 1
            return None
        cookie, valid = b"", False
        option = None if query.edns is None else query.edns.cookie
        if option is not None:
            cookie, valid = self.cookies.reply(option, asker.address, self.unix_clock())
        if not isinstance(query, Short):
            return Asked(query, limit, asker, cookie, valid or limit >= STREAM_LIMIT)
        if query.rcode != Rcode.NOERROR:
            self.outcomes["refused unread"] += 1
            return _offering(write_short(query, query.rcode), asker)
        # RFC 7873 5.4: a client cookie alone is answered with NOERROR, a server cookie that is not
        # good with BADCOOKIE.
        self.outcomes["cookie"] += 1
        good = valid or len(option or b"") == CLIENT_SIZE
        rcode = Rcode.NOERROR if good else Rcode.BADCOOKIE
        return _offering(write_short(query, rcode, cookie), asker)

    def over_budget(self, asked: Asked, cost: Cost) -> Answer | bytes | None:
        """What is said to one whose network has drawn too much work of this kind already; None if
        it has not."""
        beyond = self.beyond_share(asked) if cost is Cost.COMPUTED else None
        if beyond is not None:
            return beyond
        if self.work.admits(asked.asker.address, cost, asked.proven, self.clock()):
            return None
        self.outcomes["over budget"] += 1
        if asked.proven:
            return overloaded()
        cut = write_short(asked.query, Rcode.NOERROR, asked.cookie, cut=True)
        return _offering(cut, asked.asker)

    def beyond_share(self, asked: Asked) -> bytes | None:
        """What is said where only others can answer, of whom no more can be asked at the moment."""
        if not self.is_spent() or not asked.asker.may_recurse:
            return None
        if not isinstance(self.zones.split_qname(asked.query.labels), NotOurs):
            return None
        self.outcomes["over budget"] += 1
        return _offering(write_short(asked.query, Rcode.SERVFAIL, asked.cookie), asked.asker)

    def turned_away(self, packet: bytes, address: str) -> bytes | None:
        """What to say to a datagram that came too often: TC, or BADCOOKIE to those who know
        cookies; None if its cookie proves the address, which then is not turned away."""
        query = read_query(packet)
        if query is None:
            return b""
        option = None if query.edns is None else query.edns.cookie
        if isinstance(query, Short) and (query.rcode != Rcode.NOERROR or option is None):
            return write_short(query, query.rcode)
        if option is None:
            return write_short(query, Rcode.NOERROR, cut=True)
        cookie, proven = self.cookies.reply(option, address, self.unix_clock())
        return None if proven else write_short(query, Rcode.BADCOOKIE, cookie)


def _offering(reply: bytes, asker: Asker) -> bytes:
    """``reply`` with RA for whom it is: a refusal is no reason to look for another resolver."""
    return reply[:3] + bytes((reply[3] | RA,)) + reply[4:] if asker.may_recurse else reply
