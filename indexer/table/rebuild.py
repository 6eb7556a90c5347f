"""A table made anew beside the old one, from a snapshot file or from its own rows, and the swap.

What must stay true: every block goes through the same ``apply_block`` as one of a node; the table
at its place is whole at every moment, the old one or the new one, whenever the process is killed;
and what fails leaves nothing behind.
"""

import contextlib
import hmac
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

from indexer.bitcoin.blocks import Candidate
from indexer.bitcoin.transactions import hash_hex
from indexer.networks import Network
from indexer.protocol import schema
from indexer.protocol.apply import Outcome, SpentCandidate, apply_block
from indexer.protocol.carried import Carried, read_carried
from indexer.protocol.rows import DamagedRow
from indexer.table.reached import read_reached
from indexer.table.snapshot import Snapshot
from indexer.table.snapshot_file import (
    BadSnapshot,
    CarriedBlock,
    Head,
    Stream,
    read_blocks,
    read_head,
)
from indexer.table.table import NameTable, TableError, check_network

log = logging.getLogger("blockstore.table")

OnBlock = Callable[[int, int], None]
"""Called after each block with its height and the last height to come."""


class RebuildFailed(Exception):
    """The table stays as it was; ``str()`` of it says why and what to do."""


def no_progress(height: int, last: int) -> None:
    """Says nothing."""


# --- the swap


def mend(folder: Path) -> None:
    """Finish or clear away what a killed process left beside the table in ``folder``.

    To be called by whoever is about to open the table, and has the working directory to itself.
    """
    building, complete, old = _beside(folder)
    _remove(building)
    if complete.exists():
        if folder.exists():
            _remove(old)
            folder.rename(old)
        complete.rename(folder)
        _sync(folder.parent)
    _remove(old)


@contextlib.contextmanager
def _replacement(folder: Path, network: Network) -> Iterator[NameTable]:
    """A new table, which ``mend`` puts in the place of ``folder`` if all ends well here."""
    building, complete, _ = _beside(folder)
    try:
        table = NameTable(building, network)
        try:
            yield table
        finally:
            table.close()
        building.rename(complete)
        _sync(folder.parent)
    except BaseException:
        _remove(building)
        raise


def start_over(folder: Path, network: Network) -> None:
    """Remove the table in ``folder``; a kill leaves the whole of it or nothing of it there.

    Raises ``TableError`` where it is known to be of another network.
    """
    mend(folder)
    reached = read_reached(folder)
    if reached is not None:
        check_network(folder, reached.network, network)
    old = _beside(folder)[2]
    if folder.exists():
        folder.rename(old)
        _sync(folder.parent)
    _remove(old)


def _beside(folder: Path) -> tuple[Path, Path, Path]:
    names = (f"{folder.name}.{word}" for word in ("building", "complete", "old"))
    building, complete, old = (folder.with_name(name) for name in names)
    return building, complete, old


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _sync(folder: Path) -> None:
    if os.name == "posix":
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


# --- from a snapshot file


def import_snapshot(
    stream: Stream,
    folder: Path,
    network: Network,
    trusted: bytes,
    height: int | None = None,
    on_block: OnBlock = no_progress,
) -> Head:
    """Make the table in ``folder``, which holds no block yet, from a snapshot file.

    ``trusted`` is the consensus hash of block ``height``, of the file's last block where that is
    None; blocks above it are not looked at. Whatever the file says is judged again by the rules,
    and kept only if it ends in this hash. Raises ``BadSnapshot``, ``TableError`` and
    ``RebuildFailed``.
    """
    head = read_head(stream)
    last = head.height if height is None else height
    _check_head(head, network, trusted, last)
    _require_empty(folder, network)
    with _replacement(folder, network) as table:
        computed = b""
        for block in read_blocks(stream, head, network):
            outcome = _judged(table, network, block)
            computed = outcome.consensus_hash
            if block.height == last:
                _check_trusted(last, computed, trusted)
                outcome.rows[schema.BEGAN_KEY] = schema.height_bytes(last)
            table.connect(outcome, sync=block.height == last)
            on_block(block.height, last)
            if block.height == last != head.height:
                break
    mend(folder)
    return head


def _check_head(head: Head, network: Network, trusted: bytes, last: int) -> None:
    if head.network != network.name:
        raise BadSnapshot(
            f"it is of the network {head.network[:40]!r}, not of {network.name!r};"
            " choose another with --network"
        )
    if head.first_block != network.first_block or not head.first_block <= head.height < 2**32 - 1:
        raise BadSnapshot(f"its blocks {head.first_block} to {head.height} are not of this network")
    if not head.first_block <= last <= head.height:
        raise BadSnapshot(
            f"block {last} is not in it; it goes from block {head.first_block} to {head.height}"
        )
    if last == head.height and head.consensus_hash != trusted.hex():
        raise BadSnapshot(_differs(last, head.consensus_hash, trusted))


def _check_trusted(height: int, computed: bytes, trusted: bytes) -> None:
    if not hmac.compare_digest(computed, trusted):
        raise BadSnapshot(_differs(height, computed.hex(), trusted))


def _differs(height: int, said: str, trusted: bytes) -> str:
    return f"the consensus hash of its block {height} is {said[:64]}, not {trusted.hex()}"


def _require_empty(folder: Path, network: Network) -> None:
    mend(folder)
    if not folder.exists():
        return
    table = NameTable(folder, network)
    tip = table.tip
    table.close()
    if tip is not None:
        raise RebuildFailed(
            f"{folder} holds an index up to block {tip}; import into another --working-dir, or"
            " give it up first with `blockstored reindex`"
        )


def _judged(table: NameTable, network: Network, block: CarriedBlock) -> Outcome:
    outcome = _applied(table, block.height, block.header.raw, block.operations)
    # What has no effect is in no hash, so nobody could vouch for it.
    idle = {o.transaction.txid for o in block.operations} - {
        txid for txid, verdict in outcome.verdicts if verdict.flaw is None
    }
    if idle:
        raise BadSnapshot(
            f"transaction {hash_hex(min(idle))} has no effect in block {block.height}, where it is"
            " said to have one"
        )
    if len(outcome.serialized) != len(block.operations):
        raise BadSnapshot(f"block {block.height} holds what is in no consensus hash")
    published = network.checkpoints.get(block.height)
    if published is not None:
        _check_trusted(block.height, outcome.consensus_hash, published)
    return outcome


# --- from its own rows


def take_back_to(table: NameTable, last: int, on_block: OnBlock = no_progress) -> None:
    """Take blocks back until ``last`` is the tip. Raises ``TableError``."""
    while (tip := table.tip) is not None and tip > last:
        table.take_back()
        on_block(tip, last)


def rebuild(folder: Path, network: Network, last: int, on_block: OnBlock = no_progress) -> None:
    """Make the table in ``folder`` anew from its own blocks up to ``last``, without a node.

    Raises ``RebuildFailed`` where its rows do not give the hashes that it holds; ``TableError``.
    """
    mend(folder)
    with (
        contextlib.closing(NameTable(folder, network)) as old,
        _replacement(folder, network) as table,
    ):
        _make_again(old.snapshot(), table, last, on_block)
    mend(folder)


def compare_rows(table: NameTable, on_block: OnBlock = no_progress) -> None:
    """Make every row anew from the blocks in ``table``, beside it, and compare them all.

    What blocks need to be taken back is left out: a table that took some back has less of it.
    Raises ``RebuildFailed`` for the first row that differs; ``TableError``.
    """
    seen = table.snapshot()
    building = _beside(table.path)[0]
    try:
        with contextlib.closing(NameTable(building, table.network)) as anew:
            _make_again(seen, anew, seen.height, on_block)
            pairs = zip_longest(_answering(anew), _answering(table), fillvalue=(b"", b""))
            for (key, row), (found, held) in pairs:
                if (key, row) != (found, held):
                    which = schema.describe(min(key or found, found or key))
                    raise RebuildFailed(
                        f"the index is damaged: its row {which} does not follow from its blocks;"
                        " run `blockstored reindex`"
                    )
    finally:
        _remove(building)


def _answering(table: NameTable) -> Iterator[tuple[bytes, bytes]]:
    return (pair for pair in table.scan(b"") if pair[0][:1] != b"U")


def _make_again(seen: Snapshot, table: NameTable, last: int, on_block: OnBlock) -> None:
    """Connect to ``table``, which is empty, the blocks that ``seen`` holds up to ``last``."""
    for height in range(table.network.first_block, last + 1):
        try:
            operations = read_carried(seen.carried(height))
            header = seen.header(height)
        except DamagedRow as error:
            raise RebuildFailed(_damaged(height, str(error))) from error
        outcome = _applied(table, height, header, operations)
        hashes = (outcome.ops_hash, outcome.consensus_hash)
        if hashes != (seen.ops_hash(height), seen.computed_consensus_hash(height)):
            raise RebuildFailed(
                _damaged(height, "its operations do not give the hashes that are stored")
            )
        if height == last and seen.began_at is not None:
            outcome.rows[schema.BEGAN_KEY] = schema.height_bytes(min(seen.began_at, last))
        table.connect(outcome, sync=height == last)
        on_block(height, last)


def _applied(
    table: NameTable, height: int, header: bytes, operations: Iterable[Carried]
) -> Outcome:
    spent = [
        SpentCandidate(Candidate(o.vtxindex, o.transaction), o.spent_scripts) for o in operations
    ]
    return apply_block(table, table.network, height, header, spent)


def _damaged(height: int, why: str) -> str:
    return (
        f"the index is damaged at block {height}: {why}; keep what is below it with"
        f" `blockstored reindex --from {height}`, or start over with `blockstored reindex`"
    )


__all__ = [
    "BadSnapshot",
    "RebuildFailed",
    "TableError",
    "compare_rows",
    "import_snapshot",
    "mend",
    "rebuild",
    "start_over",
    "take_back_to",
]
