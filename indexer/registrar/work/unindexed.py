"""The newest blocks, which the index takes only once they have their confirmations.

What must stay true: they are read, checked and judged as the index will do it, so that what they
did to a name is known before anything is paid for it; nothing of them is written down, and where
they cannot be read the index alone is believed.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from indexer.following.chain import Connect
from indexer.following.reading import BadBlock, BlockSource, read_blocks
from indexer.node.failures import NodeError, NodeUnavailable
from indexer.protocol.apply import Outcome, apply_block
from indexer.protocol.view import BlockView, Store
from indexer.table.snapshot import Snapshot

log = logging.getLogger("blockstore.registrar")

MAX_BLOCKS = 12
"""How far ahead is looked; an index that is further behind is catching up."""


class Node(BlockSource, Protocol):
    """What is asked of a Bitcoin node."""

    def block_hashes(self, heights: Sequence[int]) -> list[bytes]: ...


@dataclass(frozen=True, slots=True)
class Ahead:
    """The table as the node's newest block leaves it."""

    store: Store
    height: int
    """Of the last block that it holds."""
    mined: Mapping[bytes, int]
    """Txids of the operations in the blocks beyond the index, with their heights."""


class Unindexed:
    """Reads the blocks between the index and the node's tip, each once. One thread at a time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._outcomes: dict[bytes, Outcome] = {}
        """By block hash, which says all that came before."""

    def look(self, snapshot: Snapshot, node_height: int) -> Ahead:
        """What the blocks after those of ``snapshot`` did. Raises NodeUnavailable."""
        heights = range(snapshot.height + 1, node_height + 1)
        if not 0 < len(heights) <= MAX_BLOCKS:
            self._outcomes.clear()
            return Ahead(snapshot, snapshot.height, {})
        outcomes: list[Outcome] = []
        try:
            hashes = self._node.block_hashes(heights)
            parent = snapshot.block_hash
            for height, block_hash in zip(heights, hashes, strict=True):
                store = _after(snapshot, outcomes)
                outcome = self._outcome(height, block_hash, parent, store, snapshot)
                if outcome is None:
                    break
                outcomes.append(outcome)
                parent = block_hash
            known = dict(zip(hashes, outcomes, strict=False))
        except NodeUnavailable:
            raise
        except NodeError as failure:
            log.info("blocks that the index has yet to take cannot be read: %s", failure)
            known = {}
            outcomes = []
        self._outcomes = known
        mined = {txid: one.height for one in outcomes for txid, _ in one.verdicts}
        return Ahead(_after(snapshot, outcomes), snapshot.height + len(outcomes), mined)

    def _outcome(
        self, height: int, block_hash: bytes, parent: bytes, store: Store, snapshot: Snapshot
    ) -> Outcome | None:
        """What one block did; None where it does not follow (the chain is turning) or is bad."""
        known = self._outcomes.get(block_hash)
        if known is not None:
            return known
        network = snapshot.network
        (block,) = read_blocks(self._node, network.magic, [Connect(height, block_hash)])
        if isinstance(block, BadBlock) or block.header.previous_hash != parent:
            return None
        return apply_block(store, network, height, block.header.raw, block.candidates)


def _after(snapshot: Snapshot, outcomes: Sequence[Outcome]) -> Store:
    """The table with the rows of some blocks upon it."""
    view = BlockView(snapshot, snapshot.network, snapshot.height)
    for outcome in outcomes:
        view.writes.update(outcome.rows)
    return view
