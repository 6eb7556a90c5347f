"""The query log: a line for every question, with who asked and what the reply is.

What must stay true: whoever does not want it pays nothing for it, and nothing that a stranger
sends makes a line of his own or ends the answering.
"""

import logging
from typing import Any

from resolver.dns.asker import UNKNOWN, Asker
from resolver.dns.codes import Rcode, Rtype
from resolver.dns.upstream_reply import BadReply, read_name
from resolver.dns.zones import name_text
from resolver.resolve import LaterReply, Reply, Resolver

log = logging.getLogger("blockstore.queries")


class LoggingResolver(Resolver):
    """A resolver that writes down what it is asked and what it says."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._unlogged, self.ready = self.ready, self._logged

    def begin(self, packet: bytes, limit: int, asker: Asker = UNKNOWN) -> Reply | LaterReply:
        """As ``Resolver.begin`` does."""
        reply = super().begin(packet, limit, asker)
        if reply is None or isinstance(reply, bytes):
            _write(packet, reply, asker.address)
            return reply
        return self._later(packet, reply, asker.address)

    async def _later(self, packet: bytes, waited_for: LaterReply, address: str) -> Reply:
        reply = await waited_for
        _write(packet, reply, address)
        return reply

    def _logged(self, packet: bytes, limit: int, address: str = "") -> bytes | None:
        """As ``Resolver.ready`` does; None says that ``begin`` will be asked."""
        reply = self._unlogged(packet, limit, address)
        if reply is not None:
            _write(packet, reply, address)
        return reply


def _write(packet: bytes, reply: Reply, address: str) -> None:
    outcome = "no reply" if reply is None else _outcome(reply)
    log.info("%s asked %s: %s", address or "somebody", question_text(packet), outcome)


def question_text(packet: bytes) -> str:
    """Name and type of the first question of a DNS message, for people."""
    try:
        labels, at = read_name(packet, 12)
    except (BadReply, IndexError):
        return f"{len(packet)} octets that hold no question"
    number = int.from_bytes(packet[at : at + 2], "big")
    return f"{name_text(labels) or '.'} {_named(Rtype, number, 'TYPE')}"


def _outcome(reply: bytes) -> str:
    cut = ", cut" if len(reply) > 2 and reply[2] & 0x02 else ""
    rcode = reply[3] & 0x0F if len(reply) > 3 else 0
    return f"{_named(Rcode, rcode, 'RCODE')}, {len(reply)} octets{cut}"


def _named(codes: Any, number: int, prefix: str) -> str:
    """A code by its name, or by its number where it has none here (RFC 3597 5)."""
    return str(codes(number).name) if number in set(codes) else f"{prefix}{number}"
