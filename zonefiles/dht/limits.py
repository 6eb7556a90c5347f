"""Two counters of a source: its rate, and how long a liar is shunned; ``protocol`` says for what.

Pure: the time (seconds, any origin, never backwards) is an argument. What must stay true: the
memory is bounded however many sources there are, and forged ones push out only each other's.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Final

MAX_SOURCES: Final = 8_192


class Allowance:
    """A token bucket for each source: ``rate`` tokens a second, at most ``burst`` saved up."""

    def __init__(self, rate: float, burst: float, *, max_sources: int = MAX_SOURCES) -> None:
        self._rate = rate
        self._burst = burst
        self._max_sources = max_sources
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, source: Hashable, now: float, cost: float = 1.0) -> bool:
        """Pay ``cost`` for ``source``; False, and nothing paid, where it has not that much."""
        tokens, since = self._buckets.pop(source, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        allowed = tokens >= cost
        self._buckets[source] = (tokens - cost if allowed else tokens, now)
        if len(self._buckets) > self._max_sources:
            self._buckets.popitem(last=False)
        return allowed

    def charge(self, source: Hashable, cost: float) -> None:
        """Take ``cost`` afterwards, when only the answer showed how dear it was."""
        if source in self._buckets:
            tokens, since = self._buckets[source]
            self._buckets[source] = (tokens - cost, since)

    def __len__(self) -> int:
        return len(self._buckets)


class Shunned:
    """Sources in disgrace for a while after an offence, and how often each offended."""

    def __init__(self, seconds: float, *, max_sources: int = MAX_SOURCES) -> None:
        self._seconds = seconds
        self._max_sources = max_sources
        self._until: OrderedDict[Hashable, float] = OrderedDict()
        self._offences: Counter[Hashable] = Counter()

    def add(self, source: Hashable, now: float, *, shun: bool = True) -> bool:
        """Count an offence; True when it is the first that is remembered of ``source``.

        Without ``shun`` it is only counted: a forged sender must not get his victim shunned.
        """
        until = self._until.pop(source, now)
        self._until[source] = now + self._seconds if shun else until
        self._offences[source] += 1
        if len(self._until) > self._max_sources:
            forgotten, _ = self._until.popitem(last=False)
            del self._offences[forgotten]
        return self._offences[source] == 1

    def covers(self, source: Hashable, now: float) -> bool:
        """Whether ``source`` is still in disgrace."""
        return self._until.get(source, now) > now

    def offences(self) -> dict[Hashable, int]:
        """How often each remembered source offended."""
        return dict(self._offences)
