"""LevelDB of which every octet is checked: opened whole or refused, read by checksum or not at all.

What must stay true: what was damaged on disk is never given to anybody, neither as a row nor as
the absence of one, and once damage was met nothing is read any more; a batch is written whole or
not at all; after a write that failed nothing more is written; a table that was there is never
taken for a new one. What a power cut left half-written is cut off: it was never said to be kept.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from indexer.table.log_file import DamagedLog, torn_at

try:
    import plyvel
except ImportError:  # the same code for newer Pythons
    import plyvel_next as plyvel

log = logging.getLogger("blockstore.table")

# No filters: LevelDB checks them once, when it maps their file, and damage there hides rows.
_OPTIONS = {
    "paranoid_checks": True,
    # The system keeps the files' pages as well, for as long as it has room.
    "lru_cache_size": 24 * 1024 * 1024,
    # Rows are small and many; a large buffer and large files are merged far less often, which
    # costs up to a second core while catching up. There are two of them while one is written out,
    # and all of this together must fit into what the daemon may take.
    "write_buffer_size": 36 * 1024 * 1024,
    "max_file_size": 16 * 1024 * 1024,
}
_REMEMBERED_ROWS = 4096
_REMEMBERED_BYTES = 512  # of one row: those of names have about 150
_PASSING = ("Too many open files", "Cannot allocate memory")
"""What keeps a whole file from being read."""


class TableError(Exception):
    """The database cannot be used; ``str()`` of it is one line: why, and what to do."""


class TableDamaged(TableError):
    """What is on the disk is not what was written there. Nothing is to be said from it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"the index in {path} is damaged ({reason}) and nothing is answered from it; check the"
            " disk, run `blockstored stop` and `blockstored reindex`; then `blockstored start`"
            " makes it anew from the node, or `blockstored snapshot import` from a snapshot file"
        )


class _Health:
    """What is known of the files of one database."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reason: str | None = None

    @property
    def damage(self) -> TableDamaged | None:
        """What to raise; a new one each time, for one raised again keeps every frame it left."""
        return None if self._reason is None else TableDamaged(self.path, self._reason)

    def judge(self, error: Exception) -> TableError:
        """What a read that failed means; damage is remembered, and logged once."""
        reason = _text(error)
        if any(passing in reason for passing in _PASSING):
            return TableError(f"cannot read {self.path}: {reason}; allow more and restart")
        return self.damaged(reason)

    def damaged(self, reason: str) -> TableDamaged:
        """From now on nothing is read."""
        if self._reason is None:
            self._reason = reason
            log.error("%s", self.damage)
        return TableDamaged(self.path, self._reason)


class Rows:
    """The rows of a database, or as they were at one moment."""

    def __init__(self, source: Any, health: _Health) -> None:
        self._source = source
        self._health = health

    def get(self, key: bytes, /) -> bytes | None:
        """The row under ``key``. Raises ``TableDamaged`` where that cannot be known."""
        if self._health.damage is not None:
            raise self._health.damage
        try:
            row: bytes | None = self._source.get(key, verify_checksums=True)
        except plyvel.Error as error:
            raise self._health.judge(error) from None
        return row

    def between(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The rows from key ``start`` up to and without ``stop``, in the order of their keys.

        Raises ``TableDamaged`` where they cannot be known.
        """
        if self._health.damage is not None:
            raise self._health.damage
        # plyvel's other iterator takes an error behind which no row follows for the end.
        with self._source.raw_iterator(verify_checksums=True) as rows:
            try:
                if not reverse:
                    rows.seek(start)
                    while rows.valid() and (stop is None or rows.key() < stop):
                        yield rows.item()
                        rows.next()
                    return
                if stop is not None:
                    rows.seek(stop)
                if stop is not None and rows.valid():
                    rows.prev()
                else:
                    rows.seek_to_last()
                while rows.valid() and rows.key() >= start:
                    yield rows.item()
                    rows.prev()
            except plyvel.Error as error:
                raise self._health.judge(error) from None


class _Frozen(Rows):
    """The rows as they were at one moment; those read last are remembered, verified as they are.

    That pays for the checksums: a row in memory costs a twentieth of one that LevelDB looks up.
    """

    def __init__(self, source: Any, health: _Health) -> None:
        super().__init__(source, health)
        self._read: dict[bytes, bytes | None] = {}

    def get(self, key: bytes, /) -> bytes | None:
        read = self._read  # another thread may begin a new one
        if key in read and self._health.damage is None:
            return read[key]
        row = super().get(key)
        if len(self._read) >= _REMEMBERED_ROWS:
            self._read = {}
        if row is None or len(row) <= _REMEMBERED_BYTES:
            self._read[key] = row
        return row

    def __del__(self) -> None:
        # plyvel lets go of a snapshot through its database, also where the collector has taken
        # the two apart already: that reads through None and ends the process (Python 3.13).
        # Finalizers run before anything is taken apart.
        self._source = None


class Level(Rows):
    """The database in directory ``path``, made where there is none. Raises ``TableError``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._failed: str | None = None  # why nothing more is written before it is opened anew
        try:
            path.mkdir(parents=True, exist_ok=True)
            torn = _inspect(path)
            self._db = _open(path, torn)
        except (plyvel.Error, OSError) as error:
            raise _why_not_opened(path, error) from None
        super().__init__(self._db, _Health(path))
        try:
            self.check_sizes()
        except BaseException:
            self._db.close()
            raise

    def check_sizes(self) -> None:
        """Whether each file is as long as it was written: the rest of it is checked when read.

        LevelDB maps its files, and the system ends a process that reads where a file was cut. So
        a cut is to be met here. Raises ``TableDamaged``.
        """
        if self._health.damage is not None:
            raise self._health.damage
        for number, size in self._files():
            found = [
                file.stat().st_size
                for ending in ("ldb", "sst")
                if (file := self.path / f"{number:06}.{ending}").exists()
            ]
            if found != [size] and (number, size) in self._files():  # it was not merged just now
                raise self._health.damaged(
                    f"the file {number:06}.ldb has {found[0] if found else 'no'} bytes of {size}"
                )

    def _files(self) -> list[tuple[int, int]]:
        listing = self._db.get_property(b"leveldb.sstables") or b""
        return [(int(n), int(size)) for n, size in re.findall(rb"(?m)^ (\d+):(\d+)\[", listing)]

    def damaged(self, reason: str) -> TableDamaged:
        """The exception to raise where the rows contradict each other; ends all reading."""
        return self._health.damaged(reason)

    def frozen(self) -> Rows:
        """The rows as they are now, for as long as that is held."""
        return _Frozen(self._db.snapshot(), self._health)

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], sync: bool) -> None:
        """Put and delete (None) rows in one batch; ``sync``: on disk when this returns.

        Raises ``TableError``, and from then on always: LevelDB's log ends in half a batch, and
        further ones behind it would be reported as kept, though no reader of the log finds them.
        """
        if self._failed is not None:
            raise TableError(self._failed)
        if self._health.damage is not None:
            raise self._health.damage
        try:
            with self._db.write_batch(transaction=True, sync=sync) as batch:
                for key, row in rows:
                    if row is None:
                        batch.delete(key)
                    else:
                        batch.put(key, row)
        except plyvel.CorruptionError as error:
            raise self._health.judge(error) from None
        except (plyvel.Error, OSError) as error:
            self._failed = (
                f"cannot write to {self.path}: {_text(error)}; make room on the disk or mend its"
                " permissions, then restart"
            )
            raise TableError(self._failed) from error

    def close(self) -> None:
        """Close the database; nothing can be read afterwards."""
        self._db.close()


def _inspect(path: Path) -> dict[Path, int]:
    """The logs that a power cut tore, and where. Raises ``TableDamaged`` for what LevelDB would
    take for a new or a shorter database; changes nothing."""
    names = {file.name for file in path.iterdir()}
    logs = sorted(name for name in names if name.endswith(".log"))
    if "CURRENT" not in names:
        if logs or any(name.endswith((".ldb", ".sst")) for name in names):
            raise TableDamaged(path, "its file CURRENT is missing")
        return {}
    manifest = (path / "CURRENT").read_bytes().decode("ascii", "replace").strip()
    if manifest not in names:
        raise TableDamaged(path, "the file MANIFEST that its file CURRENT names is missing")
    if not logs and manifest != "MANIFEST-000001":  # as it is made, before its first log
        raise TableDamaged(path, "its log is missing")
    torn = {}
    for name in (manifest, *logs):
        file = path / name
        try:
            at = torn_at(file.read_bytes())
        except DamagedLog as error:
            raise TableDamaged(path, f"{name}: {error}") from None
        if at is not None:
            torn[file] = at
    return torn


def _open(path: Path, torn: dict[Path, int]) -> Any:
    """The database. Torn logs are cut only where it is known that nobody has it open."""
    try:
        opened = plyvel.DB(str(path), create_if_missing=True, **_OPTIONS)
    except plyvel.CorruptionError:
        if not torn:
            raise
        for file, at in torn.items():
            with file.open("r+b") as stream:
                stream.truncate(at)
                os.fsync(stream.fileno())
        opened = plyvel.DB(str(path), create_if_missing=True, **_OPTIONS)
    for file in torn:
        log.warning("%s ends in half a write, as after a power cut; what it was comes again", file)
    return opened


def _text(error: Exception) -> str:
    """What plyvel says, which it sometimes gives as bytes."""
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(error)


def _why_not_opened(path: Path, error: Exception) -> TableError:
    reason = _text(error)
    if "already held by process" in reason or "Resource temporarily unavailable" in reason:
        return TableError(f"the index in {path} is in use by another process; stop that one first")
    if "Permission denied" in reason or "Read-only" in reason:
        return TableError(
            f"no permission to write the index in {path}; mend its permissions or choose another"
        )
    if isinstance(error, plyvel.Error) and not any(passing in reason for passing in _PASSING):
        return TableDamaged(path, reason)
    return TableError(f"cannot open the index in {path} ({reason}); check the folder and the disk")
