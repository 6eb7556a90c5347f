"""The name table in LevelDB: one block is one batch, forward or back; readers hold a snapshot.

What must stay true: a batch is written whole or not at all, so after any crash the database is
the table after some block; after a write that failed nothing more is written; and readers never
see a half-done plan, for what they see is swapped by ``publish`` only.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import plyvel

from indexer.bitcoin.transactions import double_sha256
from indexer.networks import Network
from indexer.protocol import schema
from indexer.protocol.apply import Outcome
from indexer.protocol.rows import read_pairs
from indexer.table.snapshot import Snapshot

log = logging.getLogger("blockstore.table")

_OPTIONS = {
    "bloom_filter_bits": 10,
    # The system keeps the files' pages as well, for as long as it has room.
    "lru_cache_size": 24 * 1024 * 1024,
    # Rows are small and many; a large buffer and large files are merged far less often, which
    # costs up to a second core while catching up. There are two of them while one is written out,
    # and all of this together must fit into what the daemon may take.
    "write_buffer_size": 36 * 1024 * 1024,
    "max_file_size": 16 * 1024 * 1024,
}


class TableError(Exception):
    """The database cannot be used; ``str()`` of it says why and what to do."""


class NameTable:
    """The database. One process and one writing thread; snapshots may be read from any thread."""

    def __init__(self, path: Path, network: Network) -> None:
        """Open the table in directory ``path``, or make an empty one. Raises ``TableError``."""
        self.path = path
        self.network = network
        self._failed: str | None = None  # why nothing more is written before it is opened anew
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._db = plyvel.DB(str(path), create_if_missing=True, **_OPTIONS)
        except (plyvel.Error, OSError) as error:
            raise TableError(_why_not_opened(path, error)) from error
        try:
            self._check_schema()
            self._current = Snapshot(_LevelRows(self._db.snapshot()), network)
        except BaseException:
            self._db.close()
            raise

    def _check_schema(self) -> None:
        row = self._db.get(schema.SCHEMA_KEY)
        ours = {"schema": schema.SCHEMA_VERSION, "network": self.network.name}
        if row is None:
            self._db.put(schema.SCHEMA_KEY, json.dumps(ours).encode(), sync=True)
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
        if network != self.network.name:
            raise TableError(
                f"the index in {self.path} belongs to the network {network!r}, not"
                f" {self.network.name!r}; choose another working directory or network"
            )

    # --- what apply_block reads

    def get(self, key: bytes) -> bytes | None:
        """The row under ``key`` after the last block connected."""
        row: bytes | None = self._db.get(key)
        return row

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All rows whose key begins with ``prefix``, in the order of their keys."""
        with self._db.iterator(prefix=prefix) as rows:
            yield from rows

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
        self._write(outcome.rows.items(), sync)

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
        pairs = list(read_pairs(undo))
        self._write([*pairs, (schema.undo_key(tip), None)], sync=True)
        names = (schema.name_of_key(key) for key, _ in pairs if key[:1] == b"N")
        return frozenset(names)

    def _write(self, rows: Iterable[tuple[bytes, bytes | None]], sync: bool) -> None:
        if self._failed is not None:
            raise TableError(self._failed)
        try:
            with self._db.write_batch(transaction=True, sync=sync) as batch:
                for key, row in rows:
                    if row is None:
                        batch.delete(key)
                    else:
                        batch.put(key, row)
        except (plyvel.Error, OSError) as error:
            # LevelDB's log ends in half a batch now. Further ones would be written behind it and
            # reported as kept, though a reader of the log never comes past the half one.
            self._failed = (
                f"cannot write to {self.path}: {_text(error)}; make room on the disk or mend its"
                " permissions, then restart"
            )
            raise TableError(self._failed) from error

    # --- what readers see

    def publish(self) -> Snapshot:
        """Let readers see the table as it is now."""
        self._current = Snapshot(_LevelRows(self._db.snapshot()), self.network)
        return self._current

    def snapshot(self) -> Snapshot:
        """The table as it was last published."""
        return self._current

    def close(self) -> None:
        """Close the database; snapshots are of no use afterwards."""
        self._db.close()


class _LevelRows:
    """A snapshot of LevelDB, read as ``Snapshot`` reads."""

    def __init__(self, level: "plyvel.Snapshot") -> None:
        self._level = level

    def get(self, key: bytes) -> bytes | None:
        row: bytes | None = self._level.get(key)
        return row

    def between(
        self, start: bytes, stop: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        with self._level.iterator(start=start, stop=stop, reverse=reverse) as rows:
            yield from rows


def _text(error: Exception) -> str:
    """What plyvel says, which it sometimes gives as bytes."""
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(error)


def _why_not_opened(path: Path, error: Exception) -> str:
    reason = _text(error)
    if "already held by process" in reason or "Resource temporarily unavailable" in reason:
        return f"the index in {path} is in use by another process; stop that one first"
    if "Permission denied" in reason or "Read-only" in reason:
        return f"no permission to write the index in {path}; mend its permissions or choose another"
    return (
        f"cannot open the index in {path} ({reason}); check the disk, or run"
        " `blockstored reindex` to index anew"
    )
