"""The loop that keeps the table and the node together; the only file that knows both.

What must stay true: a block is judged and written only after all of it was checked (hash, proof
of work, merkle root, link to its parent), and whatever goes wrong before leaves the table as it is.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Protocol

from indexer.bitcoin.headers import parse_header
from indexer.bitcoin.transactions import hash_hex
from indexer.following.ahead import Lane, Reader
from indexer.following.chain import Connect, ForkTooDeep, Step, last_shared, plan
from indexer.following.headers import HeaderChain
from indexer.following.progress import Meter, Progress
from indexer.following.reading import BadBlock, BlockSource, ReadBlock
from indexer.networks import Network
from indexer.node.node import ChainInfo, NodeError, NodePruned
from indexer.protocol.apply import Outcome, apply_block
from indexer.protocol.rows import DamagedRow
from indexer.protocol.schema import UNDO_BLOCKS, header_key
from indexer.table.table import NameTable, Snapshot, TableError

log = logging.getLogger("blockstore.follower")

BLOCKS_A_PLAN = 2000  # readers see progress of a long catch-up after this many blocks
HEADERS_FIRST = 40  # connects: of a longer plan the headers are checked before any block is read
PROGRESS_SECONDS = 10.0  # between two lines of the log while catching up
STATUS_SECONDS = 0.2  # between two looks at how fast it goes
STOP_LOOK = 0.1  # seconds after which a pause notices that it shall end
RETRY_AFTER_STOP = 60.0  # seconds until a block that could not be used is asked for again


class Node(BlockSource, Protocol):
    """What the follower asks of a Bitcoin node."""

    def chain_info(self) -> ChainInfo: ...
    def block_hash(self, height: int) -> bytes: ...
    def block_hashes(self, heights: Sequence[int]) -> list[bytes]: ...
    def headers(self, hashes: Sequence[bytes]) -> list[bytes] | None: ...


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """How far the index is. Heights of blocks; ``last_contact`` in seconds of the clock given."""

    state: str = "starting"
    """starting, catching up, following, node unavailable, or stopped."""
    height: int = -1
    target: int | None = None
    """The height to reach, from what the node knows of the chain."""
    node_height: int | None = None
    node_lacks_blocks: bool = False
    """Whether the node is in its initial download: the chain goes on beyond what it knows."""
    caught_up: bool = False
    """Whether the index has reached the node's chain once since the start."""
    last_error: str | None = None
    last_contact: float | None = None
    stopped_at: float | None = None
    """Since when the state is ``stopped``, by the clock given; None: it is not."""
    progress: Progress | None = None
    """How fast it catches up; None while there is nothing to catch up with."""


class _Stopped(Exception):
    """Something that asking again at once will not mend."""


class Follower:
    """Follows one node; ``run`` in a thread of its own."""

    def __init__(
        self,
        node: Node,
        table: NameTable,
        network: Network,
        *,
        confirmations: int,
        poll_interval: float = 5.0,
        on_blocks: Callable[[Snapshot, frozenset[str]], None] = lambda snapshot, names: None,
        clock: Callable[[], float] = time.time,
        lanes: Callable[[], Sequence[Lane]] | None = None,
    ) -> None:
        """``on_blocks(snapshot, names)`` is called in the follower's thread after each plan, with
        what readers see from then on and the names whose records changed. ``lanes`` makes what
        reads ahead while catching up; without it blocks are read where they are applied."""
        self._node = node
        self._table = table
        self._network = network
        self._confirmations = confirmations
        self._poll_interval = poll_interval
        self._on_blocks = on_blocks
        self._clock = clock
        self._checked_chain = False
        self._headers = HeaderChain(node, network, lambda at: table.get(header_key(at)), clock)
        self._reader = Reader(node, network.magic, lanes)
        self._meter = Meter()
        self._told_progress = self._looked = 0.0
        self._wake = threading.Event()
        self._said: str | None = None  # the trouble that was logged last
        self._moved = False  # whether the table is not what readers were last given
        self._changed: set[str] = set()  # and the names that changed since then
        self.status = FollowerStatus(height=table.snapshot().height)

    def run(self, stop: threading.Event) -> None:
        """Follow until ``stop`` is set. Returns between two blocks; raises nothing."""
        try:
            while not stop.is_set():
                wait = self._round(stop)
                if wait:
                    self._pause(stop, wait)
        finally:
            self._reader.close()

    def close(self) -> None:
        """End what reads ahead; ``run`` does so by itself."""
        self._reader.close()

    def wake(self) -> None:
        """Look at the node's chain now, rather than after the poll interval. From any thread."""
        self._wake.set()

    def _pause(self, stop: threading.Event, seconds: float) -> None:
        """Wait for the time, for ``wake`` or for ``stop``, whichever comes first."""
        until = time.monotonic() + seconds
        while not stop.is_set() and (left := until - time.monotonic()) > 0:
            if self._wake.wait(min(left, STOP_LOOK)):
                break
        self._wake.clear()

    def _round(self, stop: threading.Event) -> float:
        """One round; the seconds to wait before the next."""
        try:
            return 0.0 if self.step(stop) else self._poll_interval
        except NodePruned as error:
            self._say("stopped", str(error))
            return RETRY_AFTER_STOP
        except NodeError as error:
            self._checked_chain = False  # it may come back as another node
            self._say("node unavailable", str(error))
            return self._poll_interval
        except (_Stopped, BadBlock, TableError, DamagedRow) as error:
            self._say("stopped", str(error))
            return RETRY_AFTER_STOP
        except Exception as error:  # a bug must not end the thread unseen
            log.exception("following the chain failed")
            self._say("stopped", f"{type(error).__name__}: {error}; see the log")
            return RETRY_AFTER_STOP

    def _say(self, state: str, error: str) -> None:
        if error != self._said:  # the same trouble is met again at every round
            log.error("%s: %s", state, error)
            self._said = error
        since = self.status.stopped_at
        if state == "stopped":
            since = self._clock() if since is None else since
        self.status = replace(self.status, state=state, last_error=error, stopped_at=since)

    def step(self, stop: threading.Event | None = None) -> bool:
        """Make one plan and carry it out; whether there is more to do at once.

        Raises ``NodeError``, ``TableError``, or one that says why it stopped.
        """
        self._table.check_files()
        info = self._node.chain_info()
        self._check_chain(info)
        reach = info.blocks - self._confirmations + 1
        target = max(info.blocks, info.headers) - self._confirmations + 1
        target = max(target, self._network.first_block, *self._network.known_blocks)
        self._note(info, target)
        done = False
        try:
            done = self._carry_out(self._plan(info, reach), stop)
        finally:
            # What was connected before a plan broke off is shown too, unless the plan was a
            # reorganisation that has not come as far as readers have seen.
            if self._moved and (done or self._height() >= self.status.height):
                snapshot = self._table.publish()
                touched, self._changed, self._moved = frozenset(self._changed), set(), False
                self._note(info, target, planned=done)
                self._on_blocks(snapshot, touched)
        if not done:
            return False
        self._note(info, target, planned=True)
        self._said = None
        return self.status.height < reach

    def _height(self) -> int:
        """The last block in the table, which readers may not see yet."""
        tip = self._table.tip
        return self._network.first_block - 1 if tip is None else tip

    def _note(self, info: ChainInfo, target: int, *, planned: bool = False) -> None:
        height = self._table.snapshot().height
        lacking = info.lacks_blocks(self._clock())
        if self.status.stopped_at is not None and not planned:
            # That the node answers mends nothing yet.
            self.status = replace(
                self.status,
                height=height,
                target=target,
                node_height=info.blocks,
                node_lacks_blocks=lacking,
                last_contact=self._clock(),
            )
            return
        reached = height >= target and not lacking
        caught_up = self.status.caught_up or (planned and reached)
        if caught_up and not self.status.caught_up:
            log.info("the index has caught up with the chain at block %d", height)
        self.status = FollowerStatus(
            state="following" if reached else "catching up",
            height=height,
            target=target,
            node_height=info.blocks,
            node_lacks_blocks=lacking,
            caught_up=caught_up,
            last_error=None,
            last_contact=self._clock(),
            progress=None if reached else self._progress(time.monotonic(), target),
        )
        if reached:
            self._meter.forget()
            self._told_progress = self._looked = 0.0

    def _check_chain(self, info: ChainInfo) -> None:
        """Refuse a node that follows another chain than the index, and an index gone wrong."""
        if info.chain != self._network.node_chain:
            self._checked_chain = False
            raise _Stopped(
                f"the node follows the chain {info.chain!r}, but the network {self._network.name}"
                f" lives on {self._network.node_chain!r}; change node_url or network"
            )
        if self._checked_chain:
            return
        seen = self._table.snapshot()
        for height in self._network.checkpoints:
            self._check_published(height, seen.consensus_hash(height))
        genesis = hash_hex(self._node.block_hash(0))
        if self._network.genesis_hash and genesis != self._network.genesis_hash:
            raise _Stopped(
                f"the node's first block is {genesis}, not that of {self._network.name};"
                " change node_url or network"
            )
        self._checked_chain = True

    def _plan(self, info: ChainInfo, reach: int) -> list[Step]:
        """The next steps, at most ``BLOCKS_A_PLAN`` connects."""
        first = self._network.first_block
        tip = self._table.tip
        if tip is None:
            if reach < first:
                return []
            heights = range(first, min(reach, first + BLOCKS_A_PLAN - 1) + 1)
            return plan({}, self._theirs(heights), first, UNDO_BLOCKS)
        top = min(tip, reach)
        if top < first:
            return []
        ours = self._table.block_hashes([top])
        theirs = self._theirs(range(top, min(reach, tip + BLOCKS_A_PLAN) + 1))
        undo = UNDO_BLOCKS
        if ours[top] != theirs[top]:
            self._checked_chain = False  # another node may have come in the place of ours, unseen
            self._check_chain(info)
            # Fewer where blocks were taken back before: their successors' undo reaches no deeper.
            undo = self._table.undo_depth()
            low = max(first, tip - undo)
            theirs |= self._theirs(range(low, top))
            log.warning("the node's chain parts from the index at or below block %d", top)
        else:
            low = top
        ours = self._table.block_hashes(range(low, tip + 1))
        try:
            return plan(ours, theirs, first, undo)
        except ForkTooDeep:
            fork = last_shared(self._shares, first, top)
            raise _Stopped(
                f"the node's chain parts from the index above block {fork}, and the index at block"
                f" {tip} can take back {undo} blocks; if the node is right, run"
                f" `blockstored stop`, `blockstored reindex --from {fork + 1}` and"
                " `blockstored start`"
            ) from None

    def _shares(self, height: int) -> bool:
        """Whether the node has our block at ``height``."""
        return self._table.block_hashes([height])[height] == self._node.block_hash(height)

    def _theirs(self, heights: range) -> dict[int, bytes]:
        return dict(zip(heights, self._node.block_hashes(heights), strict=True))

    def _carry_out(self, steps: Sequence[Step], stop: threading.Event | None) -> bool:
        """Take back and connect; whether the whole plan was done.

        Ends early, between two blocks, when ``stop`` is set or the chain changed under the plan.
        """
        connects = [step for step in steps if isinstance(step, Connect)]
        back = len(steps) - len(connects)
        if len(connects) >= HEADERS_FIRST and not self._headers_hold(connects):
            return False
        with contextlib.closing(self._reader.blocks(connects)) as blocks:
            # The new branch is read and checked as far as the old one goes before any of the old
            # one is given up for it.
            ready = list(islice(blocks, back))
            headers = [block.header for block in ready]
            if back and not self._headers.is_followed_by(connects[0].height, headers):
                return False
            for _ in range(back):
                height = self._height()
                self._changed |= self._table.take_back()
                self._moved = True
                log.info("took back block %d", height)
            for step, block in zip(connects, chain(ready, blocks), strict=True):
                stopped = stop is not None and stop.is_set()
                if stopped or not self._connect(step, block, last=step is connects[-1]):
                    return False
        return True

    def _headers_hold(self, connects: Sequence[Connect]) -> bool:
        """Whether the headers of these blocks are a chain that grows from our block below them.

        So a long plan begins only where it can end: not on a chain that turned round while it was
        asked for. Raises BadBlock for a header without its work. A node that shows no headers is
        believed until its blocks come.
        """
        raws = self._node.headers([step.block_hash for step in connects])
        headers = [parse_header(raw) for raw in raws or ()]
        return self._headers.is_followed_by(connects[0].height, headers)

    def _connect(self, step: Connect, block: ReadBlock, *, last: bool) -> bool:
        """Judge and write one block; False where it does not follow our last one.

        The disk is waited for at the ``last`` block of a plan only: a kill loses nothing that was
        written, and a power cut a few blocks at most, which are fetched again.
        """
        header = block.header
        if not self._headers.is_followed_by(step.height, [header]):
            return False
        outcome = apply_block(
            self._table, self._network, step.height, header.raw, list(block.candidates)
        )
        self._count(block)
        self._check_published(step.height, outcome.consensus_hash)
        self._table.connect(outcome, sync=last)
        self._changed |= outcome.touched
        self._moved = True
        if step.height - 1 == self._network.frozen_at:
            log.warning(
                "consensus: frozen at %d; names go on by their rules, but the recorded consensus"
                " hashes of later blocks do not follow from Bitcoin alone",
                self._network.frozen_at,
            )
        if log.isEnabledFor(logging.DEBUG):
            _tell(outcome)
        return True

    def _check_published(self, height: int, ours: bytes | None) -> None:
        """Stop where our hash of a block is not the published one."""
        expected = self._network.checkpoints.get(height)
        if ours is not None and expected is not None and ours != expected:
            raise _Stopped(
                f"the consensus hash of block {height} is {ours.hex()}, but {expected.hex()} is"
                " known to be right: the index is wrong and goes no further; stop blockstored, run"
                " `blockstored reindex`, and if that ends here again, please report it"
            )

    def _count(self, block: ReadBlock) -> None:
        """Take the time of a block; while catching up, say now and then how it goes."""
        now = time.monotonic()
        self._meter.count(now, block.height, block.size, block.header.time)
        target = self.status.target
        if target is None or self.status.state != "catching up":
            return
        if now - self._looked < STATUS_SECONDS:
            return
        self._looked = now
        progress = self._progress(now, target)
        self.status = replace(self.status, progress=progress)
        if now - self._told_progress >= PROGRESS_SECONDS:
            if self._told_progress:
                log.info("catching up: %s", progress, extra={"progress": progress})
            self._told_progress = now

    def _progress(self, now: float, target: int) -> Progress | None:
        return self._meter.progress(now, target, self._table.name_count)


def _tell(outcome: Outcome) -> None:
    count, known = len(outcome.verdicts), outcome.consensus_hash
    log.debug("block %d: %d operations, consensus %s", outcome.height, count, known.hex())
    for txid, verdict in outcome.verdicts:
        log.debug(
            "block %d: %s %s by transaction %s: %s",
            outcome.height,
            verdict.opcode,
            verdict.subject,
            hash_hex(txid),
            verdict.flaw or "accepted",
        )
