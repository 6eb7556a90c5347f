"""Which upstream is asked first, and for how long: their past, with time as an argument.

What must stay true: who answers is asked in the order of the settings; who fails stands at the
end for a time that doubles, and is still asked when nobody else is left; how long to wait follows
from how long that upstream has taken, within bounds.
"""

from dataclasses import dataclass

LEAST_WAIT = 0.2
MOST_WAIT = 1.5
"""Seconds for the first try at an upstream; later tries at it double."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


@dataclass(slots=True)
class _Upstream:
    smoothed: float | None = None  # seconds, and their mean deviation (RFC 6298 2)
    deviation: float = 0.0
    failures: int = 0
    paused_until: float = 0.0


class Health:
    """The past of ``count`` upstreams, known by their number. ``now`` is any growing clock."""

    def __init__(self, count: int) -> None:
        self._upstreams = [_Upstream() for _ in range(count)]

    def order(self, now: float) -> list[int]:
        """Whom to ask, best first: those not paused, then those whose pause ends soonest."""
        return sorted(
            range(len(self._upstreams)),
            key=lambda number: (max(0.0, self._upstreams[number].paused_until - now), number),
        )

    def wait(self, number: int, tries: int = 0) -> float:
        """Seconds to wait for a reply, before which it was tried ``tries`` times."""
        upstream = self._upstreams[number]
        if upstream.smoothed is None:
            first = MOST_WAIT / 2
        else:
            first = upstream.smoothed + 4 * upstream.deviation
        return float(min(max(first, LEAST_WAIT) * 2**tries, MOST_WAIT * 2))

    def answered(self, number: int, took: float) -> None:
        """It answered after ``took`` seconds."""
        upstream = self._upstreams[number]
        if upstream.smoothed is None:
            upstream.smoothed, upstream.deviation = took, took / 2
        else:
            off = abs(upstream.smoothed - took)
            upstream.deviation += (off - upstream.deviation) / 4
            upstream.smoothed += (took - upstream.smoothed) / 8
        upstream.failures = 0
        upstream.paused_until = 0.0

    def failed(self, number: int, now: float) -> None:
        """It did not answer, or not in a way that is of use."""
        upstream = self._upstreams[number]
        pause = min(FIRST_PAUSE * 2 ** min(upstream.failures, 10), LONGEST_PAUSE)
        upstream.failures += 1
        upstream.paused_until = now + pause

    def healthy(self) -> int:
        """How many answered when they were asked last, or were never asked."""
        return sum(not upstream.failures for upstream in self._upstreams)
