"""The name table in LevelDB: one block is one batch, forward or back; readers hold a snapshot.

What must stay true: a batch is written whole or not at all, so after any crash the database is
the table after some block; after a write that failed nothing more is written; and readers never
see a half-done plan, for what they see is swapped by ``publish`` only.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from indexer.bitcoin.transactions import double_sha256
from indexer.networks import Network
from indexer.protocol import schema
from indexer.protocol.apply import Outcome
from indexer.protocol.rows import read_pairs
from indexer.table.level import Level, TableDamaged, TableError
from indexer.table.pages import end_of
from indexer.table.reached import Reached, read_reached, write_reached
from indexer.table.snapshot import Snapshot

log = logging.getLogger("blockstore.table")


def check_network(folder: Path, found: str, network: Network) -> None:
    """Raises ``TableError`` where the index in ``folder`` is not one of ``network``."""
    if found != network.name:
        raise TableError(
            f"the index in {folder} belongs to the network {found!r}, not {network.name!r};"
            " choose another working directory or network"
        )


class NameTable:
    """The database. One process and one writing thread; snapshots may be read from any thread."""

    def __init__(self, path: Path, network: Network) -> None:
        """Open the table in directory ``path``, or make an empty one. Raises ``TableError``."""
        self.path = path
        self.network = network
        self._level = Level(path)
        try:
            reached = read_reached(path)
            self._check_schema(reached)
            self._check_reached(reached)
            self._check_whole()
            self._current = Snapshot(self._level.frozen(), network)
        except BaseException:
            self._level.close()
            raise

    def _check_schema(self, reached: Reached | None) -> None:
        row = self._level.get(schema.SCHEMA_KEY)
        ours = {"schema": schema.SCHEMA_VERSION, "network": self.network.name}
        if row is None:
            if reached is not None:
                check_network(self.path, reached.network, self.network)
                raise self._level.damaged(f"it is empty, where it held block {reached.height}")
            if next(self._level.between(b"", None), None) is not None:
                raise self._level.damaged("it does not say of which network and version it is")
            self._level.write([(schema.SCHEMA_KEY, json.dumps(ours).encode())], sync=True)
            return
        try:
            found = json.loads(row)
            version, network = int(found["schema"]), str(found["network"])
        except (ValueError, KeyError, TypeError) as error:
            raise TableError(
                f"{self.path} holds a LevelDB database that is not a name table;"
                " choose another working directory"
            ) from error
        if version != schema.SCHEMA_VERSION:
            age = "newer" if version > schema.SCHEMA_VERSION else "older"
            raise TableError(
                f"the index in {self.path} was written by a {age} version of Blockstore (schema"
                f" {version}, this one knows {schema.SCHEMA_VERSION}); use that version, or move"
                " the directory away to index anew"
            )
        check_network(self.path, network, self.network)

    def _check_reached(self, reached: Reached | None) -> None:
        """Whether it is the index that it was, and goes as far. Raises ``TableError``."""
        self.reached = self.network.first_block - 1
        """The last block that the index is known to have had on the disk."""
        if reached is None:
            return
        check_network(self.path, reached.network, self.network)
        if reached.first_block != self.network.first_block:
            raise TableError(
                f"the index in {self.path} begins at block {reached.first_block}, and first_block"
                f" says {self.network.first_block}; set first_block to {reached.first_block}, or"
                " index anew after `blockstored reindex`"
            )
        tip, self.reached = self.tip, reached.height
        if tip is None and reached.height >= reached.first_block:
            raise self._level.damaged(f"it is empty, where it held block {reached.height}")
        if tip is not None and tip < reached.height:
            log.error(
                "The index in %s ends at block %d, where it had block %d before: after a power cut"
                " the last ones are fetched again; if there was none, check the disk.",
                self.path,
                tip,
                reached.height,
            )

    def _note_reached(self, height: int) -> None:
        self.reached = height
        reached = Reached(self.network.name, self.network.first_block, height)
        write_reached(self.path, reached)

    def _check_whole(self) -> None:
        """Whether no batch is missing: the blocks are one chain, the names as many as counted.

        Every batch but the first one is a block, so a table whose blocks lie without a gap lacks
        none that came before another. Raises ``TableDamaged``.
        """
        tip, first = self.tip, self.network.first_block
        height, parent = first - 1, b""
        for key, header in self.scan(b"B"):
            height += 1
            follows = len(header) == 80 and parent in (b"", header[4:36])
            if key != schema.header_key(height) or not follows:
                raise self._level.damaged(f"block {height} is missing, or not in its chain")
            parent = double_sha256(header)
        if height != (first - 1 if tip is None else tip):
            raise self._level.damaged(f"its last block is {height}, but it says {tip}")
        names = sum(1 for _ in self.scan(b"N"))
        if names != self.name_count:
            raise self._level.damaged(f"it holds {names} names, but says {self.name_count}")

    # --- what apply_block reads

    def get(self, key: bytes) -> bytes | None:
        """The row under ``key`` after the last block connected."""
        return self._level.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All rows whose key begins with ``prefix``, in the order of their keys."""
        return self._level.between(prefix, end_of(prefix) if prefix else None)

    @property
    def tip(self) -> int | None:
        """The last height connected; None where none is."""
        row = self.get(schema.TIP_KEY)
        return None if row is None else int.from_bytes(row, "big")

    @property
    def name_count(self) -> int:
        """How many names were ever registered or imported, up to the last height connected."""
        row = self.get(schema.NAME_COUNT_KEY)
        return 0 if row is None else int.from_bytes(row, "big")

    def block_hashes(self, heights: Iterable[int]) -> dict[int, bytes]:
        """The hashes of the blocks that the table holds at ``heights``."""
        headers = ((height, self.get(schema.header_key(height))) for height in heights)
        return {height: double_sha256(row) for height, row in headers if row is not None}

    # --- one block forward or back

    def connect(self, outcome: Outcome, *, sync: bool) -> None:
        """Write everything of one block in one batch. Raises ``TableError`` where it cannot.

        ``sync`` waits for the disk: when following the tip, not while catching up.
        """
        tip = self.tip
        expected = self.network.first_block if tip is None else tip + 1
        assert outcome.height == expected, f"block {outcome.height} does not follow {tip}"
        self._level.write(outcome.rows.items(), sync)
        if sync:
            self._note_reached(outcome.height)

    def undo_depth(self) -> int:
        """How many blocks, counted from the tip, can be taken back."""
        tip = self.tip
        if tip is None:
            return 0
        bottom = max(self.network.first_block, tip - schema.UNDO_BLOCKS + 1)
        for height in range(tip, bottom - 1, -1):
            if self.get(schema.undo_key(height)) is None:
                return tip - height
        return tip - bottom + 1

    def take_back(self) -> frozenset[str]:
        """Undo the last block in one batch; the names it had changed.

        Raises ``TableError`` where it cannot be written, or the block's undo is gone.
        """
        tip = self.tip
        undo = None if tip is None else self.get(schema.undo_key(tip))
        if tip is None or undo is None:
            raise TableError(
                f"block {tip} can no longer be taken back; run `blockstored stop`,"
                f" `blockstored reindex --from {tip}` and `blockstored start`"
            )
        self._note_reached(tip - 1)
        pairs = list(read_pairs(undo))
        self._level.write([*pairs, (schema.undo_key(tip), None)], sync=True)
        names = (schema.name_of_key(key) for key, _ in pairs if key[:1] == b"N")
        return frozenset(names)

    def check_files(self) -> None:
        """Whether the files are as long as they were written. Raises ``TableDamaged``."""
        self._level.check_sizes()

    # --- what readers see

    def publish(self) -> Snapshot:
        """Let readers see the table as it is now."""
        self._current = Snapshot(self._level.frozen(), self.network)
        return self._current

    def snapshot(self) -> Snapshot:
        """The table as it was last published."""
        return self._current

    def close(self) -> None:
        """Close the database; snapshots are of no use afterwards."""
        self._level.close()


__all__ = ["NameTable", "Snapshot", "TableDamaged", "TableError"]
