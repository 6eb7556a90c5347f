"""The loop that keeps the table and the node together; the only file that knows both.

What must stay true: a block is judged and written only after all of it was checked (hash, proof
of work, merkle root, link to its parent), and whatever goes wrong before leaves the table as it is.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from indexer.apply import SpentCandidate, apply_block
from indexer.chain import Connect, ForkTooDeep, Step, plan
from indexer.networks import Network
from indexer.node import ChainInfo, NodeError, NodePruned
from indexer.payloads import COINBASE_TXID
from indexer.rows import DamagedRow
from indexer.schema import UNDO_BLOCKS
from indexer.table import NameTable, Snapshot, TableError
from indexer.transactions import CorruptBlock, ScannedBlock, hash_hex, scan_block

log = logging.getLogger("blockstore.follower")

BLOCKS_A_PLAN = 2000  # readers see progress of a long catch-up after this many blocks
BYTES_A_BATCH = 8 * 1024 * 1024  # raw blocks asked of the node at once
BLOCKS_A_BATCH = 200
RETRY_AFTER_STOP = 60.0  # seconds until a block that could not be used is asked for again


class Node(Protocol):
    """What the follower asks of a Bitcoin node."""

    def chain_info(self) -> ChainInfo: ...
    def block_hash(self, height: int) -> bytes: ...
    def block_hashes(self, heights: Sequence[int]) -> list[bytes]: ...
    def raw_blocks(self, hashes: Sequence[bytes]) -> list[bytes]: ...
    def spent_scripts(
        self, block_hash: bytes, outpoints: Mapping[tuple[bytes, int], tuple[int, int]]
    ) -> dict[tuple[bytes, int], bytes]: ...


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """How far the index is. Heights of blocks; ``last_contact`` in seconds of the clock given."""

    state: str = "starting"
    """starting, catching up, following, node unavailable, or stopped."""
    height: int = -1
    target: int | None = None
    """The height to reach, from what the node knows of the chain."""
    node_height: int | None = None
    caught_up: bool = False
    """Whether the index has reached the node's chain once since the start."""
    last_error: str | None = None
    last_contact: float | None = None


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
    ) -> None:
        """``on_blocks(snapshot, names)`` is called in the follower's thread after each plan, with
        what readers see from then on and the names whose records changed."""
        self._node = node
        self._table = table
        self._network = network
        self._confirmations = confirmations
        self._poll_interval = poll_interval
        self._on_blocks = on_blocks
        self._clock = clock
        self._checked_chain = False
        self._block_bytes = 1_000_000.0
        self._moved = False  # whether the table is not what readers were last given
        self._changed: set[str] = set()  # and the names that changed since then
        self.status = FollowerStatus(height=table.snapshot().height)

    def run(self, stop: threading.Event) -> None:
        """Follow until ``stop`` is set. Returns between two blocks; raises nothing."""
        while not stop.is_set():
            wait = self._round(stop)
            if wait:
                stop.wait(wait)

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
        except (_Stopped, ForkTooDeep, TableError, DamagedRow) as error:
            self._say("stopped", str(error))
            return RETRY_AFTER_STOP
        except Exception as error:  # a bug must not end the thread unseen
            log.exception("following the chain failed")
            self._say("stopped", f"{type(error).__name__}: {error}; see the log")
            return RETRY_AFTER_STOP

    def _say(self, state: str, error: str) -> None:
        if (state, error) != (self.status.state, self.status.last_error):
            log.error("%s: %s", state, error)
        self.status = replace(self.status, state=state, last_error=error)

    def step(self, stop: threading.Event | None = None) -> bool:
        """Make one plan and carry it out; whether there is more to do at once.

        Raises ``NodeError``, ``TableError``, ``ForkTooDeep``, or one that says why it stopped.
        """
        info = self._node.chain_info()
        self._check_chain(info)
        reach = info.blocks - self._confirmations + 1
        target = max(info.blocks, info.headers) - self._confirmations + 1
        self._note(info, target)
        if not self._carry_out(self._plan(reach), stop):
            return False
        if self._moved:
            snapshot = self._table.publish()
            touched, self._changed, self._moved = frozenset(self._changed), set(), False
            self._note(info, target, planned=True)
            self._on_blocks(snapshot, touched)
        self._note(info, target, planned=True)
        return self.status.height < reach

    def _note(self, info: ChainInfo, target: int, *, planned: bool = False) -> None:
        height = self._table.snapshot().height
        reached = height >= target
        caught_up = self.status.caught_up or (planned and reached)
        if caught_up and not self.status.caught_up:
            log.info("the index has caught up with the chain at block %d", height)
        self.status = FollowerStatus(
            state="following" if reached else "catching up",
            height=height,
            target=target,
            node_height=info.blocks,
            caught_up=caught_up,
            last_error=None,
            last_contact=self._clock(),
        )

    def _check_chain(self, info: ChainInfo) -> None:
        """Refuse a node that follows another chain than the index."""
        if self._checked_chain:
            return
        if info.chain != self._network.node_chain:
            raise _Stopped(
                f"the node follows the chain {info.chain!r}, but the network {self._network.name}"
                f" lives on {self._network.node_chain!r}; change node_url or network"
            )
        genesis = hash_hex(self._node.block_hash(0))
        if self._network.genesis_hash and genesis != self._network.genesis_hash:
            raise _Stopped(
                f"the node's first block is {genesis}, not that of {self._network.name};"
                " change node_url or network"
            )
        self._checked_chain = True

    def _plan(self, reach: int) -> list[Step]:
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
        if ours[top] != theirs[top]:
            low = max(first, tip - UNDO_BLOCKS)
            theirs |= self._theirs(range(low, top))
            log.warning("the node's chain parts from the index at or below block %d", top)
        else:
            low = top
        ours = self._table.block_hashes(range(low, tip + 1))
        return plan(ours, theirs, first, UNDO_BLOCKS)

    def _theirs(self, heights: range) -> dict[int, bytes]:
        return dict(zip(heights, self._node.block_hashes(heights), strict=True))

    def _carry_out(self, steps: Sequence[Step], stop: threading.Event | None) -> bool:
        """Take back and connect; whether the whole plan was done.

        Ends early, between two blocks, when ``stop`` is set or the chain changed under the plan.
        """
        connects: list[Connect] = []
        for step in steps:
            if isinstance(step, Connect):
                connects.append(step)
                continue
            self._changed |= self._table.take_back()
            self._moved = True
            log.info("took back block %d", step.height)
        at = 0
        while at < len(connects):
            fits = int(BYTES_A_BATCH / max(self._block_bytes, 100.0))
            batch = connects[at : at + max(1, min(BLOCKS_A_BATCH, fits))]
            raws = self._node.raw_blocks([step.block_hash for step in batch])
            for step, raw in zip(batch, raws, strict=True):
                stopped = stop is not None and stop.is_set()
                if stopped or not self._connect(step, raw, last=step is connects[-1]):
                    return False
            mean = sum(map(len, raws)) / len(raws)
            self._block_bytes = max(mean, (self._block_bytes + mean) / 2)
            at += len(batch)
        return True

    def _connect(self, step: Connect, raw: bytes, *, last: bool) -> bool:
        """Check, judge and write one block; False where it does not follow our last one.

        The disk is waited for at the ``last`` block of a plan only: a kill loses nothing that was
        written, and a power cut a few blocks at most, which are fetched again.
        """
        scanned = self._scan(step, raw)
        parent = self._table.block_hashes([step.height - 1]).get(step.height - 1)
        if parent is not None and scanned.header.previous_hash != parent:
            return False
        spent = self._spent(step.block_hash, scanned)
        outcome = apply_block(self._table, self._network, step.height, scanned.header.raw, spent)
        expected = self._network.checkpoints.get(step.height)
        if expected is not None and outcome.consensus_hash != expected:
            raise _Stopped(
                f"the consensus hash of block {step.height} is {outcome.consensus_hash.hex()}, but"
                f" {expected.hex()} is known to be right: the index is wrong and goes no further;"
                " please report this"
            )
        self._table.connect(outcome, sync=last)
        self._changed |= outcome.touched
        self._moved = True
        for txid, verdict in outcome.verdicts:
            log.debug(
                "block %d: %s %s by transaction %s: %s",
                step.height,
                verdict.opcode,
                verdict.subject,
                hash_hex(txid),
                verdict.flaw or "accepted",
            )
        return True

    def _scan(self, step: Connect, raw: bytes) -> ScannedBlock:
        try:
            scanned = scan_block(raw, self._network.magic)
        except CorruptBlock as error:
            raise _Stopped(
                f"the node gave a corrupt block {step.height} ({hash_hex(step.block_hash)}):"
                f" {error}; nothing of it was used. Check the node's disk and memory"
            ) from error
        if scanned.header.hash != step.block_hash:
            raise _Stopped(
                f"the node gave another block than asked at height {step.height}:"
                f" {hash_hex(scanned.header.hash)} instead of {hash_hex(step.block_hash)};"
                " nothing of it was used. Check the node"
            )
        return scanned

    def _spent(self, block_hash: bytes, scanned: ScannedBlock) -> list[SpentCandidate]:
        """The candidates with the scripts they spend; b"" for what a coinbase makes up."""
        outpoints = {
            (spending.previous_txid, spending.previous_index): (candidate.vtxindex, place)
            for candidate in scanned.candidates
            for place, spending in enumerate(candidate.transaction.inputs)
            if spending.previous_txid != COINBASE_TXID
        }
        scripts = self._node.spent_scripts(block_hash, outpoints) if outpoints else {}
        missing = next(iter(outpoints.keys() - scripts.keys()), None)
        if missing is not None:
            raise _Stopped(
                f"the node does not know output {missing[1]} of transaction {hash_hex(missing[0])},"
                f" which block {hash_hex(block_hash)} spends; check the node"
            )
        return [
            SpentCandidate(
                candidate,
                tuple(
                    scripts.get((spending.previous_txid, spending.previous_index), b"")
                    for spending in candidate.transaction.inputs
                ),
            )
            for candidate in scanned.candidates
        ]
