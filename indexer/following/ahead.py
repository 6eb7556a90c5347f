"""Reading ahead: some lanes read batches of blocks while one writer applies them in order.

What must stay true: blocks come out in the order asked for, whatever lane was quicker; no more
than ``AHEAD`` batches for each that a lane takes at once are under way or waiting, whatever the
chain's size; who stops taking leaves no lane behind that still works.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Protocol

from indexer.following.chain import Connect
from indexer.following.reading import BadBlock, BlockSource, ReadBlock, read_blocks

log = logging.getLogger("blockstore.follower")

BYTES_A_BATCH = 2 * 1024 * 1024  # raw blocks asked of the node at once
BLOCKS_A_BATCH = 16  # so that not too much comes where blocks grow all of a sudden
AHEAD = 2
MIN_STEPS = 40
MIN_BYTES = 4 * 2**20
"""Fewer blocks, or bytes, are read where they are applied: starting lanes would take longer, and
threads that have little to wait for stand in each other's way."""
FIRST_BLOCK_BYTES = 1_000_000.0

Batch = list[ReadBlock | BadBlock]


class Lane(Protocol):
    """Something that reads batches, in whatever process. ``close`` ends it, also while it reads."""

    at_once: int
    """How many threads may ask it at the same time."""

    def read(self, steps: Sequence[Connect]) -> Batch: ...
    def close(self) -> None: ...


class OwnLane:
    """A lane in the thread that asks it."""

    at_once = 1

    def __init__(self, source: BlockSource, magic: bytes) -> None:
        self._source = source
        self._magic = magic

    def read(self, steps: Sequence[Connect]) -> Batch:
        """Read now."""
        return read_blocks(self._source, self._magic, steps)

    def close(self) -> None:
        """Nothing of its own to end."""


class Reader:
    """Reads the blocks of a plan; one plan at a time. ``close`` when no more are wanted.

    ``lanes`` makes the lanes for a long plan when the first one comes; they are kept for the
    next and ended by ``rest``.
    """

    def __init__(
        self, source: BlockSource, magic: bytes, lanes: Callable[[], Sequence[Lane]] | None = None
    ) -> None:
        self._own = OwnLane(source, magic)
        self._make_lanes = lanes
        self._lanes: list[Lane] = []
        self._block_bytes = FIRST_BLOCK_BYTES

    def blocks(self, steps: Sequence[Connect]) -> Generator[ReadBlock, None, None]:
        """The blocks of ``steps`` in order; raises BadBlock in its place, and the node's errors."""
        little = len(steps) < MIN_STEPS or len(steps) * self._block_bytes < MIN_BYTES
        if self._make_lanes is None or little:
            self.rest()
            at = 0
            while at < len(steps):
                part = steps[at : at + self._many()]
                yield from self._good(self._own.read(part))
                at += len(part)
            return
        if not self._lanes:
            self._lanes = list(self._make_lanes())
        askers = [lane for lane in self._lanes for _ in range(lane.at_once)]
        idle: SimpleQueue[Lane] = SimpleQueue()
        for lane in askers:
            idle.put(lane)

        def read(part: Sequence[Connect]) -> Batch:
            lane = idle.get()
            try:
                return lane.read(part)
            finally:
                idle.put(lane)

        pool = ThreadPoolExecutor(len(askers), thread_name_prefix="reading ahead")
        waiting: deque[Future[Batch]] = deque()
        at, done = 0, False
        try:
            while at < len(steps) or waiting:
                while at < len(steps) and len(waiting) < AHEAD * len(askers):
                    part = steps[at : at + self._many()]
                    at += len(part)
                    waiting.append(pool.submit(read, part))
                yield from self._good(waiting.popleft().result())
            done = True
        finally:
            for left in waiting:
                left.cancel()
            if not done:
                self.rest()  # nobody waits for what they read, and one of them may be broken
            pool.shutdown()

    def rest(self) -> None:
        """End the lanes: nothing long is to be read for now."""
        lanes, self._lanes = self._lanes, []
        for lane in lanes:
            lane.close()

    close = rest

    def _many(self) -> int:
        fits = int(BYTES_A_BATCH / max(self._block_bytes, 100.0))
        return max(1, min(BLOCKS_A_BATCH, fits))

    def _good(self, batch: Batch) -> Iterator[ReadBlock]:
        sizes = [block.size for block in batch if isinstance(block, ReadBlock)]
        if sizes:
            mean = sum(sizes) / len(sizes)
            self._block_bytes = max(mean, (self._block_bytes + mean) / 2)
        for block in batch:
            if isinstance(block, BadBlock):
                raise block
            yield block
