"""What is to be done about which digest, and when next: a bounded queue with back-off.

Pure: the time (seconds, any origin, never backwards) is an argument. What must stay true: a
digest is in here at most once; what is new is done before what is routine; each failure in a
row doubles the pause, up to a bound.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from itertools import count


class Schedule:
    """Digests and the time each is due; ``first_pause`` and ``longest_pause`` are in seconds."""

    def __init__(self, *, size: int, first_pause: float, longest_pause: float) -> None:
        self.size = size
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        # Not a dict: finding its first entry walks over all that were taken out before it.
        self._urgent: OrderedDict[bytes, None] = OrderedDict()
        self._due: dict[bytes, float] = {}
        self._heap: list[tuple[float, int, bytes]] = []
        self._order = count()
        self._failures: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._urgent) + len(self._due)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._urgent or digest in self._due

    @property
    def failing(self) -> int:
        """Digests whose last attempt failed."""
        return len(self._failures)

    def now(self, digest: bytes) -> bool:
        """Do ``digest`` next, after what was asked for before; False when there is no room."""
        if digest in self._urgent:
            return True
        if digest not in self._due and len(self) >= self.size:
            return False
        self._due.pop(digest, None)
        self._urgent[digest] = None
        return True

    def at(self, digest: bytes, due: float) -> bool:
        """Do ``digest`` at the time ``due``; False when there is no room."""
        if digest not in self and len(self) >= self.size:
            return False
        self._urgent.pop(digest, None)
        self._due[digest] = due
        heapq.heappush(self._heap, (due, next(self._order), digest))
        if len(self._heap) > 2 * len(self._due) + 64:  # mostly entries that were moved since
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        return True

    def failed(self, digest: bytes, time: float) -> bool:
        """Try ``digest`` again after its pause; False when there is no room."""
        failures = self._failures.get(digest, 0)
        pause = min(self._longest_pause, self._first_pause * 2.0 ** min(failures, 64))
        # A spread by the digest itself: what failed together need not be tried together.
        if not self.at(digest, time + pause * (0.75 + digest[-1] / 510)):
            self._failures.pop(digest, None)
            return False
        self._failures[digest] = failures + 1
        return True

    def succeeded(self, digest: bytes) -> None:
        """Forget the failures of ``digest``."""
        self._failures.pop(digest, None)

    def take(self, time: float) -> bytes | None:
        """Take out what is to be done next at ``time``: new ones first; None if nothing is due."""
        if self._urgent:
            return self._urgent.popitem(last=False)[0]
        self._drop_moved()
        if not self._heap or self._heap[0][0] > time:
            return None
        digest = heapq.heappop(self._heap)[2]
        del self._due[digest]
        return digest

    def next_due(self, time: float) -> float | None:
        """Seconds from ``time`` until something is due: 0 at once, None when nothing is in here."""
        if self._urgent:
            return 0.0
        self._drop_moved()
        return max(0.0, self._heap[0][0] - time) if self._heap else None

    def _drop_moved(self) -> None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
