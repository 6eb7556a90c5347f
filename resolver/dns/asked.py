"""One question on its way through the stages: what they tell each other of it."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple

from resolver.dns.answer import Answer
from resolver.dns.asker import Asker
from resolver.dns.outline import Outline
from resolver.dns.query import Query


class Place(NamedTuple):
    """Where a reply will be kept, and what was known when it was begun."""

    outline: Outline
    generation: int
    """Of the cache."""
    height: int
    """Of the snapshot that is asked."""


@dataclass(slots=True)
class Asked:
    """A question that can be answered, and who asks."""

    query: Query
    limit: int
    """Bytes that the door carries."""
    asker: Asker
    cookie: bytes
    """What the COOKIE option of the reply holds; empty: none was sent."""
    proven: bool
    """The address is the client's own: a stream, or a cookie that we made for it."""
    place: Place | None = None
    """None: the reply is not kept."""


Later = Callable[[], Coroutine[Any, Any, Answer | bytes]]
"""What must be awaited for an answer or a finished reply, not begun yet: who hangs up first leaves
nothing behind."""
