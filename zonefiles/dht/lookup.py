"""The iterative look-up of Kademlia: ask the nearest known nodes for nearer ones until none is.

It knows no sockets: ``ask`` is an argument. What must stay true: the first value that passes
``is_valid`` wins; a node that lies, keeps silent or names nodes that do not exist delays the
look-up, and never decides it; the number of questions, those under way at once and the time are
bounded whatever the nodes answer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from zonefiles.dht.messages import Contact, K

ALPHA: Final = 4
"""Questions under way at once."""

MAX_QUESTIONS: Final = 200
_TRUST_STEP = 3  # bad introductions that cost an introducer's other contacts one rank
_MAX_KNOWN = 2_000
_PER_HOST = 8  # ports of one host that one look-up asks (loopback apart)

Reply = bytes | list[Contact] | None
"""A value, contacts nearer to the target, or None: silence, or an answer that is none."""

Ask = Callable[[Contact], Awaitable[Reply]]


@dataclass
class Found:
    """What a look-up came to.

    ``value`` and ``source`` are None where no valid value was met. ``nearest`` are the nodes
    that answered, nearest to the target first, at most K. ``liars`` gave a value that is not
    the one asked for.
    """

    value: bytes | None = None
    source: Contact | None = None
    nearest: list[Contact] = field(default_factory=list)
    asked: int = 0
    silent: int = 0
    liars: list[Contact] = field(default_factory=list)


def distance(one: bytes, other: bytes) -> int:
    """The XOR distance between two ids of equal length."""
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")


async def look_up(
    target: bytes,
    start: Sequence[Contact],
    ask: Ask,
    *,
    own_id: bytes,
    deadline: float,
    is_valid: Callable[[bytes], bool] | None = None,
    is_suspect: Callable[[Contact], bool] = lambda contact: False,
) -> Found:
    """Look for a value (with ``is_valid``) or for the K nodes nearest to ``target``.

    ``deadline`` is in seconds from now; what was learned until then is returned. Contacts that
    are suspect are asked when nobody else is left. ``ask`` must not raise. Nothing that was
    started is still under way when this returns.
    """
    search = _Search(target, own_id, is_valid, is_suspect)
    search.learn(start, None)
    under_way: dict[asyncio.Future[Reply], Contact] = {}
    ends = asyncio.get_running_loop().time() + deadline
    try:
        while search.found.value is None:
            while len(under_way) < ALPHA and (contact := search.next()) is not None:
                under_way[asyncio.ensure_future(ask(contact))] = contact
            left = ends - asyncio.get_running_loop().time()
            if not under_way or left <= 0:
                break
            done, _ = await asyncio.wait(
                under_way, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            for answered in done:
                search.take(under_way.pop(answered), answered.result())
    finally:
        for question in under_way:
            question.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
    search.found.nearest = search.nearest()
    return search.found


class _Search:
    """Who is known, who was asked, who answered: the state of one look-up."""

    def __init__(
        self,
        target: bytes,
        own_id: bytes,
        is_valid: Callable[[bytes], bool] | None,
        is_suspect: Callable[[Contact], bool],
    ) -> None:
        self.found = Found()
        self._target = target
        self._own_id = own_id
        self._is_valid = is_valid
        self._is_suspect = is_suspect
        self._waiting: list[Contact] = []
        self._suspects: set[tuple[str, int]] = set()
        self._answered: list[Contact] = []
        self._introducer: dict[tuple[str, int], Contact | None] = {}
        self._bad_introductions: Counter[tuple[str, int]] = Counter()
        self._ports: Counter[str] = Counter()

    def learn(self, contacts: Sequence[Contact], introducer: Contact | None) -> None:
        for contact in contacts:
            if contact.id == self._own_id or contact.address in self._introducer:
                continue
            if len(self._introducer) >= _MAX_KNOWN:
                return
            if not contact.is_loopback and self._ports[contact.ip] >= _PER_HOST:
                continue
            self._ports[contact.ip] += 1
            self._introducer[contact.address] = introducer
            self._waiting.append(contact)
            if self._is_suspect(contact):
                self._suspects.add(contact.address)

    def next(self) -> Contact | None:
        """The best contact not yet asked, if it can still better what is known."""
        if not self._waiting or self.found.asked >= MAX_QUESTIONS:
            return None
        best = min(self._waiting, key=self._rank)
        if len(self._answered) >= K and self._is_farther_than_the_nearest(best):
            return None
        self._waiting.remove(best)
        self.found.asked += 1
        return best

    def take(self, contact: Contact, reply: Reply) -> None:
        if reply is None:
            self.found.silent += 1
            self._blame(contact)
        elif isinstance(reply, list):
            self._answered.append(contact)
            self.learn(reply, contact)
        elif self._is_valid is None:
            self._answered.append(contact)
        elif self._is_valid(reply):
            if self.found.value is None:
                self.found.value, self.found.source = reply, contact
        else:
            self.found.liars.append(contact)
            self._blame(contact)

    def nearest(self) -> list[Contact]:
        return sorted(self._answered, key=lambda c: distance(c.id, self._target))[:K]

    def _rank(self, contact: Contact) -> tuple[bool, int, int]:
        # Whoever names many dead nodes close to the target would hold the look-up up for
        # minutes, if distance alone decided whom to ask next.
        introducer = self._introducer[contact.address]
        bad = 0 if introducer is None else self._bad_introductions[introducer.address]
        suspect = contact.address in self._suspects
        return (suspect, bad // _TRUST_STEP, distance(contact.id, self._target))

    def _blame(self, contact: Contact) -> None:
        introducer = self._introducer[contact.address]
        if introducer is not None:
            self._bad_introductions[introducer.address] += 1

    def _is_farther_than_the_nearest(self, contact: Contact) -> bool:
        farthest = distance(self.nearest()[-1].id, self._target)
        return distance(contact.id, self._target) > farthest
