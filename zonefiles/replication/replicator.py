"""Keeps the data of live names here and in the network: fetches what is missing, publishes what is.

What must stay true: what a block announces comes before routine; a digest that no live name holds
any more is dropped; the queue, the work under way and the pace of publishing are bounded; no
failure of one record, and no bug, ends the work on the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from zonefiles.dht.messages import DHT_MAX_VALUE
from zonefiles.dht.node import DhtNode
from zonefiles.replication.schedule import Schedule

QUEUE_SIZE = 250_000
AT_ONCE = 8
BATCH = 200
FETCH_TIMEOUT = 8.0
FIRST_PAUSE = 2.0
LONGEST_PAUSE = 6 * 3600.0
REPUBLISH_INTERVAL = 24 * 3600.0
PUBLISHES_A_SECOND = 50.0
_IDLE = 60.0

_log = logging.getLogger("blockstore.zonefiles")


class Source(Protocol):
    """The members of ``zonefiles.sources.DataSource`` that are used here."""

    def peek(self, digest: bytes) -> bytes | None: ...
    def holds(self, digest: bytes) -> bool: ...
    def get(self, digest: bytes, timeout: float, *, fresh: bool = False) -> Awaitable[object]: ...


@dataclass
class ReplicatorStats:
    """Counts since the start; ``queued`` and ``failing`` are as of now."""

    queued: int = 0
    failing: int = 0
    fetched: int = 0
    missing: int = 0
    published: int = 0
    unpublished: int = 0
    too_large: int = 0
    obsolete: int = 0
    overflowed: int = 0
    errors: int = 0


class Replicator:
    """The queue of announced digests and those who work it off.

    All public methods belong to the thread of the event loop. ``is_announced`` says whether a live
    name holds a digest; times are in seconds of ``clock``.
    """

    def __init__(
        self,
        source: Source,
        dht: DhtNode | None,
        *,
        is_announced: Callable[[bytes], bool],
        clock: Callable[[], float] = time.monotonic,
        queue_size: int = QUEUE_SIZE,
        at_once: int = AT_ONCE,
        fetch_timeout: float = FETCH_TIMEOUT,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
        republish_interval: float = REPUBLISH_INTERVAL,
        publishes_a_second: float = PUBLISHES_A_SECOND,
    ) -> None:
        self._source = source
        self._dht = dht
        self._is_announced = is_announced
        self._clock = clock
        self._at_once = at_once
        self._fetch_timeout = fetch_timeout
        self._republish_interval = republish_interval
        self._between_publishes = 1.0 / publishes_a_second
        self._next_publish = clock()
        self._schedule = Schedule(
            size=queue_size, first_pause=first_pause, longest_pause=longest_pause
        )
        self._has_slot: set[bytes] = set()
        self._stats = ReplicatorStats()
        self._woken = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []

    @property
    def stats(self) -> ReplicatorStats:
        """The counts, those of the queue as of now."""
        self._stats.queued = len(self._schedule)
        self._stats.failing = self._schedule.failing
        return self._stats

    def announce(self, digests: Iterable[bytes]) -> None:
        """Take care of ``digests``, which live names hold since a new block, at once."""
        for digest in digests:
            self._note_room(self._schedule.now(digest))
        self._woken.set()

    async def take_backlog(
        self, announced: Iterator[bytes], is_stopping: Callable[[], bool]
    ) -> None:
        """Take care of all that live names hold, after a start.

        What is missing is fetched as soon as there is time, and what is there is published spread
        over the republishing interval. ``announced`` and the archive are read in threads, a batch
        at a time, and the next one when the one before is in the queue. Never raises.
        """
        try:
            while not is_stopping():
                batch = await asyncio.to_thread(self._read_backlog, announced)
                if not batch:
                    return
                self._schedule_backlog(batch)
        except Exception as error:  # noqa: BLE001 - what is left is fetched when asked for
            self._stats.errors += 1
            _log.error(
                "what live names announce was not read to its end (%s: %s); the rest is fetched"
                " when asked for",
                type(error).__name__,
                error,
            )

    def _read_backlog(self, announced: Iterator[bytes]) -> list[tuple[bytes, bool]]:
        """The next digests and whether the archive has each; in a thread."""
        return [(digest, self._source.holds(digest)) for digest in islice(announced, BATCH)]

    def _schedule_backlog(self, batch: Iterable[tuple[bytes, bool]]) -> None:
        now = self._clock()
        for digest, is_here in batch:
            if digest in self._schedule:
                continue
            spread = int.from_bytes(digest[:4], "big") / 2**32 if is_here else 0.0
            self._note_room(self._schedule.at(digest, now + spread * self._republish_interval))
        self._woken.set()

    def _note_room(self, taken: bool) -> None:
        if taken:
            return
        self._stats.overflowed += 1
        if self._stats.overflowed == 1:
            _log.warning(
                "the replication queue is full (%d): the rest is fetched when asked for",
                self._schedule.size,
            )

    async def start(self) -> None:
        """Begin to work; returns at once."""
        if not self._workers:
            self._workers = [
                asyncio.create_task(self._worker(), name=f"replicator {n}")
                for n in range(self._at_once)
            ]

    async def stop(self) -> None:
        """End the work under way; a second call does nothing. The queue is kept."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def work(self) -> None:
        """Do what is due, one after the other, until nothing is due now."""
        while (digest := self._schedule.take(self._clock())) is not None:
            await self._care_for(digest)

    async def _worker(self) -> None:
        while True:
            await self.work()
            self._woken.clear()
            pause = self._schedule.next_due(self._clock())
            pause = _IDLE if pause is None else max(0.01, min(pause, _IDLE))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()

    async def _care_for(self, digest: bytes) -> None:
        """One digest's turn: ends with it done, or due again later."""
        try:
            await self._replicate(digest)
        except asyncio.CancelledError:
            self._schedule.now(digest)
            raise
        except Exception as error:  # noqa: BLE001 - one record's trouble is not the others'
            self._note_error(digest.hex(), error)
            self._schedule.failed(digest, self._clock())

    async def _replicate(self, digest: bytes) -> None:
        if not self._is_announced(digest):
            self._stats.obsolete += 1
            self._schedule.succeeded(digest)
            self._has_slot.discard(digest)
            return
        data = self._source.peek(digest)
        if data is None:
            await self._source.get(digest, self._fetch_timeout, fresh=True)
            if self._source.peek(digest) is None:
                self._stats.missing += 1
                self._schedule.failed(digest, self._clock())
                return
            # The network has it, or we would not: publishing it is routine.
            self._stats.fetched += 1
            self._settle(digest)
            return
        if self._dht is None or len(data) > DHT_MAX_VALUE:
            self._stats.too_large += len(data) > DHT_MAX_VALUE
            self._schedule.succeeded(digest)
            return
        if not self._may_publish(digest):
            return
        if await self._dht.publish(digest, data) > 0:
            self._stats.published += 1
            self._settle(digest)
        else:
            self._stats.unpublished += 1
            self._schedule.failed(digest, self._clock())

    def _may_publish(self, digest: bytes) -> bool:
        """Whether it is this record's turn; if not, it is due again when it is."""
        if digest in self._has_slot:
            self._has_slot.remove(digest)
            return True
        now = self._clock()
        turn = max(now, self._next_publish)
        self._next_publish = turn + self._between_publishes
        if turn <= now:
            return True
        if self._schedule.at(digest, turn):
            self._has_slot.add(digest)
        return False

    def _settle(self, digest: bytes) -> None:
        self._schedule.succeeded(digest)
        spread = 0.9 + digest[0] / 1275
        self._schedule.at(digest, self._clock() + self._republish_interval * spread)

    def _note_error(self, what: str, error: Exception) -> None:
        self._stats.errors += 1
        if self._stats.errors <= 10 or self._stats.errors % 1000 == 0:
            _log.error("%s failed (%s: %s); it is tried again", what, type(error).__name__, error)
