"""What this node holds, on disk, by its hash; takes nothing whose hash is not its key.

What must stay true: a record that ``put`` has returned from, or ``keep`` is done with, survives
kill -9; after a write that failed nothing more is written; what ``get`` gives has the hash that
was asked for, whatever happened to the disk; the archive never holds more bytes than it was
allowed; no event loop waits for the disk to sync.

Rows (LevelDB): ``d`` + digest (20 bytes) -> the data; ``schema`` -> the version in ASCII;
``totals`` -> records and bytes held, two big-endian 64-bit numbers, written in the batch of
the record they count. A missing ``totals`` row is counted anew at the next opening.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from zonefiles.archive.writer import ArchiveWriter, Record
from zonefiles.text.zonefile import MAX_BYTES, value_hash

try:
    import plyvel
except ImportError:  # the same code for newer Pythons
    import plyvel_next as plyvel

SCHEMA_VERSION = 1
DIGEST_BYTES = 20

_SCHEMA_KEY = b"schema"
_TOTALS_KEY = b"totals"
_RECORD = b"d"
_TOTALS = struct.Struct(">QQ")
_OPTIONS = {
    "create_if_missing": True,
    "bloom_filter_bits": 10,
    "lru_cache_size": 16 << 20,
    "write_buffer_size": 4 << 20,
    "max_open_files": 256,
}

_log = logging.getLogger("blockstore.zonefiles")


class ArchiveError(Exception):
    """Something is wrong with the archive; str(e) is one line that says what to do."""


class WrongHash(ArchiveError):
    """The data does not have the hash it was offered under."""


class TooLarge(ArchiveError):
    """The data is larger than any record may be."""


class ArchiveFull(ArchiveError):
    """The archive holds as many bytes as it may."""


class ArchiveBusy(ArchiveError):
    """As much as may wait for the disk waits for it."""


class ArchiveInUse(ArchiveError):
    """Another process has the archive open: LevelDB takes one opener."""


class ArchiveNewer(ArchiveError):
    """The archive was written by a newer release."""


class ArchiveUnusable(ArchiveError):
    """The path cannot be opened, or does not hold an archive, or cannot be written to."""


class Archive:
    """Zone files and other records of at most 40,960 bytes by HASH160, in one LevelDB directory.

    Any thread may call it. ``max_bytes`` bounds the data held, not the space on disk, which is
    a few per cent more. ``on_kept`` is told the hashes of what was not there before and is on disk
    now, in whatever thread wrote it; it must not raise. Raises ArchiveInUse, ArchiveNewer or
    ArchiveUnusable when opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        on_kept: Callable[[Sequence[bytes]], None] | None = None,
    ) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self._on_kept = on_kept
        self._lock = threading.Lock()
        self._writer = ArchiveWriter(self.put_many)
        self._failed: str | None = None  # why nothing more is written before it is opened anew
        self._db = _open(path)
        try:
            _check_schema(self._db, path)
            self._count, self._bytes = self._read_totals()
        except plyvel.Error as error:
            self._db.close()
            raise _unusable(path, _text(error)) from None
        except ArchiveError:
            self._db.close()
            raise

    def get(self, digest: bytes) -> bytes | None:
        """The data with that hash, or None. A record that rotted on disk counts as missing."""
        try:
            data: bytes | None = self._db.get(_RECORD + digest, verify_checksums=True)
        except plyvel.CorruptionError:
            self._forget_unreadable(digest)
            return None
        except plyvel.Error as error:
            raise _unusable(self.path, _text(error)) from None
        if data is not None and value_hash(data) != digest:
            self._forget_rotten(digest, data)
            return None
        return data

    def put(self, digest: bytes, data: bytes) -> bool:
        """Keep ``data``; on disk when this returns. False when it was there already.

        Raises WrongHash, TooLarge, ArchiveFull, and ArchiveUnusable when the disk refuses.
        """
        (outcome,) = self.put_many([(digest, data)])
        if isinstance(outcome, ArchiveError):
            raise outcome
        return outcome

    def put_many(self, records: Sequence[Record]) -> list[bool | ArchiveError]:
        """``put`` for each of ``records``, with one sync; what each came to, in their order.

        Raises ArchiveUnusable where the disk refuses; then none of them is there.
        """
        outcomes: list[bool | ArchiveError] = []
        taken: dict[bytes, bytes] = {}
        with self._lock:
            held = self._bytes
            for digest, data in records:
                outcome = self._judge(digest, data, taken, held)
                if outcome is True:
                    taken[digest] = data
                    held += len(data)
                outcomes.append(outcome)
            if taken:
                self._write(taken, (), self._count + len(taken), held)
        if taken and self._on_kept is not None:
            self._on_kept(list(taken))
        return outcomes

    def keep(self, digest: bytes, data: bytes) -> asyncio.Future[bool]:
        """``put`` for the running event loop, which does not wait for the disk.

        The future is done as ``put`` would return or raise, and not before the record is on
        disk; records that come together share one sync. Raises ArchiveBusy.
        """
        kept = self._writer.submit((digest, data))
        if kept is None:
            raise ArchiveBusy(f"too much waits to be written to {self.path}: check the disk")
        return asyncio.wrap_future(kept)

    def __contains__(self, digest: object) -> bool:
        """Whether a record is there under ``digest``, without reading its data to the end."""
        if not isinstance(digest, bytes):
            return False
        try:
            return self._db.get(_RECORD + digest) is not None
        except plyvel.CorruptionError:
            return False
        except plyvel.Error as error:
            raise _unusable(self.path, _text(error)) from None

    @property
    def count(self) -> int:
        """Records held."""
        return self._count

    @property
    def bytes_held(self) -> int:
        """Bytes of data held, of ``max_bytes``."""
        return self._bytes

    def digests(self) -> Iterator[bytes]:
        """The hash of every record, in order, as they were when the iteration began."""
        return (digest for digest, _ in self._readable())

    def close(self) -> None:
        """Write what waits and close the database; a second call does nothing."""
        self._writer.close()
        self._db.close()

    def _judge(
        self, digest: bytes, data: bytes, taken: Mapping[bytes, bytes], held: int
    ) -> bool | ArchiveError:
        """True: to be written; False: there already, or ``taken`` just now; else why neither."""
        if len(data) > MAX_BYTES:
            return TooLarge(f"{len(data)} bytes are more than the {MAX_BYTES} a record may have")
        if value_hash(data) != digest:
            return WrongHash(f"{len(data)} bytes do not have the hash {digest.hex()}")
        if digest in taken or digest in self:
            return False
        if held + len(data) > self.max_bytes:
            return ArchiveFull(
                f"the archive {self.path} holds {held} of {self.max_bytes} bytes:"
                " allow it more, or move it to a larger disk"
            )
        return True

    def _write(
        self, put: Mapping[bytes, bytes], deleted: Sequence[bytes], count: int, held: int
    ) -> None:
        """Put and delete records, and write the new totals, in one synced batch."""
        with self._writing(), self._db.write_batch(transaction=True, sync=True) as batch:
            for digest, data in put.items():
                batch.put(_RECORD + digest, data)
            for digest in deleted:
                batch.delete(_RECORD + digest)
            batch.put(_TOTALS_KEY, _TOTALS.pack(count, held))
        self._count, self._bytes = count, held

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Of every batch: after one that failed there is no other. Raises ArchiveUnusable.

        LevelDB's log ends in half a batch then. Further ones would be reported as kept, though no
        later start would find them behind it.
        """
        if self._failed is not None:
            raise ArchiveUnusable(self._failed)
        try:
            yield
        except plyvel.Error as error:
            self._failed = (
                f"cannot write to {self.path}: {_text(error)}; check the disk, then restart"
            )
            raise ArchiveUnusable(self._failed) from None

    def _forget_rotten(self, digest: bytes, data: bytes) -> None:
        with self._lock:
            if self._db.get(_RECORD + digest) != data:
                return
            _log.error(
                "the archived record %s no longer has its hash (%d bytes): deleted, to be fetched"
                " again; check the disk under %s",
                digest.hex(),
                len(data),
                self.path,
            )
            count, held = max(0, self._count - 1), max(0, self._bytes - len(data))
            self._write({}, (digest,), count, held)

    def _forget_unreadable(self, digest: bytes) -> None:
        """Delete a record whose size nobody can tell any more: the totals are counted anew."""
        _log.error(
            "the archived record %s cannot be read back: deleted, to be fetched again;"
            " check the disk under %s",
            digest.hex(),
            self.path,
        )
        with (
            self._lock,
            self._writing(),
            self._db.write_batch(transaction=True, sync=True) as batch,
        ):
            batch.delete(_RECORD + digest)
            batch.delete(_TOTALS_KEY)

    def _read_totals(self) -> tuple[int, int]:
        row = self._db.get(_TOTALS_KEY)
        if row is not None and len(row) == _TOTALS.size:
            count, held = _TOTALS.unpack(row)
            return count, held
        count = held = 0
        for _, size in self._readable():
            count += 1
            held += size
        self._db.put(_TOTALS_KEY, _TOTALS.pack(count, held), sync=True)
        return count, held

    def _readable(self) -> Iterator[tuple[bytes, int]]:
        """The digest and size of each record in a part of the disk that can be read."""
        with self._db.raw_iterator(verify_checksums=True) as rows:
            with suppress(plyvel.CorruptionError):
                rows.seek(_RECORD)
            while rows.valid() and (key := rows.key())[:1] == _RECORD:
                yield key[1:], len(rows.value())
                with suppress(plyvel.CorruptionError):  # it stands behind the damage then
                    rows.next()


def _text(error: Exception) -> str:
    """What plyvel says, which it sometimes gives as bytes."""
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(error)


def _open(path: Path) -> plyvel.DB:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArchiveUnusable(
            f"{path} cannot be the folder of the archive ({error.strerror}): name another"
        ) from None
    names = {file.name for file in path.iterdir()}
    if "CURRENT" not in names and any(name.endswith((".ldb", ".log")) for name in names):
        raise _unusable(path, "its file CURRENT is missing")  # LevelDB would empty the folder
    try:
        try:
            return plyvel.DB(str(path), paranoid_checks=True, **_OPTIONS)
        except plyvel.CorruptionError as error:
            db = plyvel.DB(str(path), **_OPTIONS)
            db.delete(_TOTALS_KEY, sync=True)  # they are counted anew
            _log.error(
                "the archive %s is damaged (%s): what cannot be read is fetched again; check the"
                " disk",
                path,
                _text(error),
            )
            return db
    except plyvel.Error as error:
        if "already held by process" in _text(error) or "Resource temp" in _text(error):
            raise ArchiveInUse(
                f"the archive {path} is in use by another process: stop it first,"
                " or give this one a folder of its own"
            ) from None
        raise _unusable(path, _text(error)) from None


def _check_schema(db: plyvel.DB, path: Path) -> None:
    row = db.get(_SCHEMA_KEY)
    if row is None:
        with db.iterator(include_value=False) as keys:
            if next(keys, None) is not None:
                raise ArchiveUnusable(f"{path} holds another database: name a folder of its own")
        db.put(_SCHEMA_KEY, b"%d" % SCHEMA_VERSION, sync=True)
    elif not row.isdigit():
        raise ArchiveUnusable(f"{path} holds another database: name a folder of its own")
    elif int(row) > SCHEMA_VERSION:
        raise ArchiveNewer(
            f"the archive {path} has schema {int(row)}, this release reads up to"
            f" {SCHEMA_VERSION}: upgrade, or name an empty folder"
        )


def _unusable(path: Path, reason: str) -> ArchiveUnusable:
    return ArchiveUnusable(
        f"the archive {path} cannot be used ({reason}): check the folder's owner and the disk; if"
        " it is damaged, stop blockstored and move the folder away: what was in it is fetched again"
    )
