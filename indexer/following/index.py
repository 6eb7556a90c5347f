"""The index of one network: the name table, and what keeps it with the chain of a node.

What must stay true: the table is closed only when nothing writes to it any more; how old an index
is told to be rests on what is known and not on when this process began.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from indexer.bitcoin.work import MAX_FUTURE
from indexer.following.block_files import MESSAGE_START, BlockFiles, BlockFilesError
from indexer.following.follower import Follower
from indexer.following.lane_process import make_lanes
from indexer.networks import Network
from indexer.node.announcements import Announcements
from indexer.node.capabilities import Capabilities
from indexer.node.node import BitcoinNode, NodeError
from indexer.protocol.records import Phase
from indexer.table.rebuild import mend
from indexer.table.table import NameTable, Snapshot, TableError

log = logging.getLogger("blockstore.follower")

STOP_SECONDS = 5.0
MAX_BEHIND = 144
"""Blocks: an index further behind than this speaks of another day, and so of no name at all."""


@dataclass(frozen=True, slots=True)
class News:
    """What blocks brought: up to which height, which names changed, the hashes of the data that
    the live ones among them have, and whether the rules of the names that are served changed."""

    height: int
    names: frozenset[str]
    digests: Sequence[bytes]
    rules_changed: bool


class Standing(NamedTuple):
    """How far behind the chain the index is; the fields of ``resolver.dns.chase.Freshness``."""

    ready: bool
    height: int
    target: int
    silent_for: float
    stopped: bool


def meet(node: Any, network: Network) -> None:
    """See that the node is there and on the chain of ``network``. Raises NodeError."""
    try:
        info = node.chain_info()
    except NodeError as error:
        raise NodeError(f"{error}; or give --wait-for-node") from error
    if info.chain != network.node_chain:
        raise NodeError(
            f"the node follows the chain {info.chain!r}, but the network {network.name}"
            f" lives on {network.node_chain!r}; change node_url or network"
        )


class Index:
    """Opened when it is made, kept with the chain of the node of ``attach`` from ``start`` to
    ``stop``."""

    def __init__(
        self, folder: Path, network: Network, *, clock: Callable[[], float] = time.time
    ) -> None:
        """``folder`` is the table's. Raises TableError."""
        self.network = network
        self.follower: Follower
        self._clock = clock
        self._began = clock()
        self._last_block_came = 0.0
        self._answers_alone = False
        self._confirmations = 1
        self._node: Any = None
        self._rules: object = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            mend(folder)  # what a killed import or reindex left beside it
        except OSError as error:
            raise TableError(f"{error.filename}: {error.strerror}; mend its permissions") from error
        self.table = NameTable(folder, network)
        self.snapshot = self.table.snapshot

    def attach(
        self,
        node: Any,
        *,
        confirmations: int,
        poll_interval: float,
        processes: int = 0,
        blocks_dir: Path | None = None,
        served: Sequence[str] = (),
        tell: Callable[[News], None] = lambda news: None,
    ) -> None:
        """Say whose chain is followed; ``tell`` hears what came, in the thread of ``start``.

        ``served`` are the namespaces whose rules matter; ``processes`` and ``blocks_dir`` are for
        reading ahead while catching up. Raises BlockFilesError.
        """
        self._node, self._confirmations = node, confirmations
        magic, files = self.network.magic, None
        if blocks_dir is not None:
            try:
                files = BlockFiles(blocks_dir, MESSAGE_START[self.network.node_chain])
            except BlockFilesError as error:
                raise BlockFilesError(f"blocks_dir: {error}") from error

        def on_blocks(snapshot: Snapshot, names: frozenset[str]) -> None:
            if self.follower.status.caught_up:
                self._last_block_came = self._clock()
            # What every name's end depends on, beside its own record.
            spaces = [snapshot.namespace(space) for space in served]
            rules = (self.network.epoch(snapshot.height), spaces)
            changed, self._rules = rules != self._rules, rules
            tell(News(snapshot.height, names, list(_digests_of(snapshot, names)), changed))

        self.follower = Follower(
            node,
            self.table,
            self.network,
            confirmations=confirmations,
            poll_interval=poll_interval,
            on_blocks=on_blocks,
            clock=self._clock,
            lanes=partial(make_lanes, node, magic, processes, files),
        )

    def start(self) -> None:
        """Follow, in threads, until ``stop``."""
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()
        if isinstance(self._node, BitcoinNode):
            listen = partial(Announcements(self._node, self.follower.wake).run, self._stopping)
            threading.Thread(target=listen, name="announcements", daemon=True).start()

    def _run(self) -> None:
        self.follower.run(self._stopping)
        self._node.close()

    def stop(self) -> None:
        """End the following between two blocks; waits for it, but not for a node that is silent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def close(self) -> None:
        """Close the table, when nobody reads it any more."""
        if self._thread is not None and self._thread.is_alive():
            # Closing the table under its writer would be worse than not closing it: what is
            # written is whole batches, and the next start finds them.
            log.warning("The node does not answer; the index is left as a kill would leave it.")
        else:
            self.table.close()

    @property
    def node_offers(self) -> Capabilities | None:
        """What the node was found to offer; None before it was asked."""
        return self._node.offered if isinstance(self._node, BitcoinNode) else None

    def is_announced(self, digest: bytes) -> bool:
        """Whether a live name holds this hash."""
        return self.snapshot().is_announced(digest)

    def standing(self) -> Standing:
        """How far behind the chain the index is, now."""
        status, seen, now = self.follower.status, self.snapshot(), self._clock()
        depth = (self._confirmations - 1) * self.network.target_spacing
        block_is_from = seen.block_time + depth if seen.block_time else 0.0
        silent_for = now - (status.last_contact or block_is_from or self._began)
        if status.stopped_at is not None:
            silent_for = max(silent_for, now - status.stopped_at)
        if self.network.node_chain != "regtest" and seen.block_time:
            # Test chains have no rhythm. On the others the last indexed block is as old as its
            # confirmations, and only blocks that came while we looked are of a known age.
            silent_for = max(silent_for, now - max(block_is_from, self._last_block_came))
        if seen.block_time - now > MAX_FUTURE and self.network.node_chain != "regtest":
            # By this clock nothing has an age, and no new block would be taken.
            silent_for = max(silent_for, seen.block_time - now)
        says_nothing = status.target is None and status.state == "node unavailable"
        if says_nothing or (status.node_lacks_blocks and seen.height >= (status.target or 0)):
            # Nobody says how far the chain is: what was there before this start is still true
            # of its height, and its age is told. Not where blocks were lost: of those it is known
            # that there was more.
            self._answers_alone = seen.height >= max(self.network.first_block, self.table.reached)
        target = self.table.reached if status.target is None else status.target
        ready = status.caught_up or self._answers_alone
        return Standing(
            ready and target - seen.height <= MAX_BEHIND,
            seen.height,
            target,
            max(0.0, silent_for),
            status.stopped_at is not None,
        )


def _digests_of(snapshot: Snapshot, names: frozenset[str]) -> Iterator[bytes]:
    """What the live ones of ``names`` announce."""
    for name in names:
        found = snapshot.name_status(name)
        if found is not None and found[1].phase in (Phase.LIVE, Phase.GRACE):
            digest = found[0].value_hash
            if digest is not None:
                yield digest
