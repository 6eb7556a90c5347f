"""How is it written? An answer as the reply to the one who asked, and as others will get it."""

from collections import Counter
from dataclasses import dataclass

from resolver.dns.answer import Answer
from resolver.dns.asked import Asked, Place
from resolver.dns.codes import Rcode
from resolver.dns.memory import Memory
from resolver.dns.message import STREAM_LIMIT, UDP_LIMIT, ServerOptions, write_reply
from resolver.dns.outline import PLAIN_ROOM

_RCODE_NAMES = {int(rcode): rcode.name for rcode in Rcode}


@dataclass(slots=True)
class Writing:
    """Writes replies with ``options``, and has them kept in ``memory``."""

    options: ServerOptions
    memory: Memory
    outcomes: Counter[str]

    def finish(self, asked: Asked, said: Answer | bytes) -> bytes:
        """The reply that says ``said``, counted, and kept if it may be."""
        if isinstance(said, bytes):
            return said
        self.outcomes[_RCODE_NAMES[said.rcode]] += 1
        if asked.place is not None and self.memory.keeps(said):
            kept = self._keep(asked, asked.place, said)
            if kept is not None:
                return kept
        return self.write(asked, said)

    def write(self, asked: Asked, answer: Answer) -> bytes:
        """The reply for this one alone."""
        return write_reply(
            asked.query, answer, asked.limit, self.options, asked.asker, cookie=asked.cookie
        )

    def _keep(self, asked: Asked, place: Place, answer: Answer) -> bytes | None:
        """Keep the reply as whoever has the most room gets it; the reply itself if it is the
        same for this one, who may have less room."""
        query, limit = asked.query, asked.limit
        most = limit
        if limit < STREAM_LIMIT:
            most = min(limit, PLAIN_ROOM if query.edns is None else UDP_LIMIT)
        reply = write_reply(query, answer, limit, self.options, asked.asker, room=most)
        self.memory.keep(place, reply, most, answer)
        return reply if len(reply) <= place.outline.room and not asked.cookie else None
