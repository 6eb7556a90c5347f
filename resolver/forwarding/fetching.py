"""What does it say? What a question still wants, from whoever has it: archive, network, upstreams.

What must stay true:
- what is in memory or in the archive is given without awaiting anything; only what must come over
  the network is awaited;
- no more than ``max_waiting`` questions wait; the surplus hears SERVFAIL, it is not queued (that
  one digest is looked for once, however many wait for it, is the source's promise).
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from resolver.dns.answer import Answer, NameData, overloaded
from resolver.dns.asked import Asked, Later
from resolver.dns.chase import Delivery, Overloaded, Unavailable, Wanted
from resolver.dns.contents import Contents
from resolver.dns.rates import Cost
from resolver.forwarding.query import Question
from resolver.forwarding.recursion import Answering
from zonefiles.sources import Found, Missing, MissingReason

MAX_ORIGINS = 1_024
"""Data whose source is remembered, for those who ask for it."""


class Forwarding(Protocol):
    """Ordinary DNS, for those it is for; no answer of it raises."""

    def allows(self, address: str) -> bool: ...
    def at_hand(self, question: Question) -> Answer | None: ...
    async def answer(self, question: Question) -> Answer: ...
    def is_spent(self) -> bool: ...


class Source(Protocol):
    """Where data comes from; nothing it hands out has another hash than was asked for."""

    def peek(self, digest: bytes) -> bytes | None: ...
    async def get(self, digest: bytes, timeout: float) -> Found | Missing: ...


@dataclass(slots=True)
class Fetching:
    """Drives the search for an answer."""

    source: Source
    contents: Contents
    forwarder: Forwarding | None
    timeout: float
    """Seconds to wait for data."""
    max_waiting: int
    over_budget: Callable[[Asked, Cost], Answer | bytes | None]
    """What is told to one who may not have data looked for."""
    missed: Callable[[bytes], None]
    """Hears of data not to be had."""
    outcomes: Counter[str]
    waiters: set[asyncio.Task[Any]] = field(default_factory=set)
    origins: OrderedDict[bytes, str] = field(default_factory=OrderedDict)

    def begin(self, asked: Asked, search: Answering) -> Answer | bytes | Later:
        """The answer, or what is said instead, if it can be given at once."""
        step = self._advance(search, None)
        if isinstance(step, Answer):
            return step
        if isinstance(step, Wanted):
            refused = self.over_budget(asked, Cost.FETCHED)
            if refused is not None:
                search.close()
                return refused
        return partial(self._go_on, search, step)

    def data_from(self, digest: bytes) -> str:
        """Where the data with this hash came from, or lies, in words."""
        if self.source.peek(digest) is None:
            return "nobody"
        first = self.origins.get(digest)
        return "archive" if first is None else f"archive, fetched from {first}"

    async def close(self) -> None:
        """Give up the questions that wait; whoever runs them sees them cancelled."""
        waiters = list(self.waiters)
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)

    async def _go_on(self, search: Answering, step: Wanted | Question | Answer) -> Answer:
        while not isinstance(step, Answer):
            step = self._advance(search, await self._fetched(step))
        return step

    def _advance(
        self, search: Answering, delivery: Delivery | Answer | None
    ) -> Answer | Wanted | Question:
        """Go on with what is at hand until there is an answer or something must be fetched."""
        try:
            wanted = next(search) if delivery is None else search.send(delivery)
            while True:
                held = self._at_hand(wanted)
                if held is None:
                    return wanted
                wanted = search.send(held)
        except StopIteration as done:
            answer: Answer = done.value
            return answer

    def _at_hand(self, wanted: Wanted | Question) -> NameData | Answer | None:
        if isinstance(wanted, Question):
            return None if self.forwarder is None else self.forwarder.at_hand(wanted)
        held = self.contents.get(wanted.digest, wanted.chain_name)
        if held is not None:
            return held
        data = self.source.peek(wanted.digest)
        if data is None:
            return None
        return self.contents.add(wanted.digest, wanted.chain_name, data)

    async def _fetched(self, wanted: Wanted | Question) -> Delivery | Answer:
        waiter = asyncio.current_task()
        if waiter is None or len(self.waiters) >= self.max_waiting:
            self.outcomes["overloaded"] += 1
            return overloaded() if isinstance(wanted, Question) else Overloaded()
        self.waiters.add(waiter)
        try:
            if isinstance(wanted, Question):
                assert self.forwarder is not None
                return await self.forwarder.answer(wanted)
            found = await self.source.get(wanted.digest, self.timeout)
        finally:
            self.waiters.discard(waiter)
        if isinstance(found, Missing):
            data = self.source.peek(wanted.digest)
            if data is None:
                self.missed(wanted.digest)
                if found.busy:
                    self.outcomes["overloaded"] += 1
                    return Overloaded()
                only_wrong = found.reason is MissingReason.MISMATCH
                return Unavailable(found.asked, only_wrong=only_wrong)
        else:
            data = found.data
            self.origins[wanted.digest] = found.source
            if len(self.origins) > MAX_ORIGINS:
                self.origins.popitem(last=False)
        # Where it was missing somebody may have brought it meanwhile.
        return self.contents.add(wanted.digest, wanted.chain_name, data)
