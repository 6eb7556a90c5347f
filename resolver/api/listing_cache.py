"""Long walks through the name table, each made once a block: where numbered pages begin, counts.

What must stay true: a page that is asked for after the one before it costs one page, however deep
it lies; nothing that was learned of one block is said of another; no more is kept than ``MOST``
walks. One thread at a time.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from indexer.protocol.records import NameRecord, NameStatus, Phase
from indexer.table.pages import PAGE, Page
from indexer.table.snapshot import Snapshot

T = TypeVar("T")

Step = Callable[[str, int], Page[str]]
"""A listing: so many entries behind a place, fewer where a walk took long, and where to go on."""

MOST = 64


@dataclass(frozen=True, slots=True, order=True)
class Ending:
    """A name that is somebody's and will not be for ever, the first to expire first."""

    expires_at: int
    gone_at: int
    name: str


class ListingCache:
    """What was learned on the way through a table, by the listing and its block."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._marks: OrderedDict[Hashable, list[str | None]] = OrderedDict()
        self._endings: tuple[object, tuple[Ending, ...]] = (None, ())

    def page(self, key: Hashable, step: Step, number: int) -> Page[str]:
        """Page ``number`` (from 0) of a listing, ``PAGE`` entries but for the last one.

        ``key`` names the listing and the block. Empty behind the last page; ``next`` is "" there.
        """
        marks = self._walk(key, step, number)
        begin = marks[number] if number < len(marks) else None
        if begin is None:
            return Page((), "")
        found = fill(step, begin)
        if number + 1 == len(marks):
            marks.append(found.next or None)
        return found

    def count(self, key: Hashable, step: Step) -> int:
        """How many entries a listing has."""
        marks = self._walk(key, step, None)
        begin = marks[-2]
        assert begin is not None, "only the last mark says that there is no more"
        return (len(marks) - 2) * PAGE + len(fill(step, begin).entries)

    def _walk(self, key: Hashable, step: Step, number: int | None) -> list[str | None]:
        """Where each page begins: up to page ``number``, or all of them, and then None."""
        marks = self._marks.pop(key, [""])
        self._marks[key] = marks
        while len(self._marks) > self._most:
            self._marks.popitem(last=False)
        while number is None or len(marks) <= number:
            begin = marks[-1]
            if begin is None:
                break
            marks.append(fill(step, begin).next or None)
        return marks

    def endings(self, seen: Snapshot) -> tuple[Ending, ...]:
        """Every name that is somebody's now and ends at some height, in the order of ending."""
        block = (seen.height, seen.block_hash)
        if self._endings[0] != block:
            every = (ending(record, status) for record, status in seen.standings())
            self._endings = (block, tuple(sorted(e for e in every if e is not None)))
        return self._endings[1]


def ending(record: NameRecord, status: NameStatus) -> Ending | None:
    """When a name ends; None where it has ended, was revoked, or never will."""
    if status.phase not in (Phase.LIVE, Phase.GRACE) or status.expires_at is None:
        return None
    gone_at = status.expires_at if status.gone_at is None else status.gone_at
    return Ending(status.expires_at, gone_at, record.name)


def fill(step: Step, after: str) -> Page[str]:
    """One whole page of a listing, whose steps may each give less."""
    entries: list[str] = []
    while True:
        found = step(after, PAGE - len(entries))
        entries += found.entries
        after = found.next
        if not after or len(entries) >= PAGE:
            return Page(tuple(entries), after)
