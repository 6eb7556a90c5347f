"""The file from which a sandbox chain is rebuilt: one record after another, only ever appended.

What must stay true: whatever was flushed survives a killed process; a torn tail and a record
whose checksum is wrong are dropped, never believed; one process at a time writes.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from indexer.bitcoin.transactions import double_sha256

try:
    import fcntl
except ImportError:  # no such locks on this system: its own rules about open files apply
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("blockstore.indexer")

FILE_START = b"blockstore sandbox chain 1\n"
MAX_PAYLOAD = 4_000_000
_FRAME = 9  # kind, length, checksum


class StoreError(Exception):
    """The file cannot be used; the text says why and what to do."""


class ChainFile:
    """The records of one chain on disk. ``append`` writes; ``flush`` hands to the system."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.touch()
            self._file = path.open("r+b")
        except OSError as failure:
            raise StoreError(
                f"cannot open {path}: {failure.strerror}; choose a directory that can be written"
            ) from None
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise StoreError(
                f"{path} is in use by another process; stop it or choose another directory"
            ) from None

    def read(self) -> list[tuple[bytes, bytes]]:
        """All whole records as (kind, payload), leaving the file ready for the next one."""
        content = self._file.read()
        if not FILE_START.startswith(content[: len(FILE_START)]):
            self._file.close()
            raise StoreError(f"{self._path} is no chain of a sandbox node; move it away")
        if len(content) < len(FILE_START):
            self._file.seek(0)
            self._file.truncate()
            self._file.write(FILE_START)
            self._file.flush()
            return []
        end = len(FILE_START)
        records = []
        for kind, payload, after in self._records(content):
            end = after
            if kind:
                records.append((kind, payload))
        if end < len(content):
            log.warning("%s ends in %d torn bytes; dropped", self._path, len(content) - end)
        self._file.seek(end)
        self._file.truncate()
        return records

    def _records(self, content: bytes) -> Iterator[tuple[bytes, bytes, int]]:
        """(kind, payload, end) of each framed record; kind is empty where the sum is wrong."""
        at = len(FILE_START)
        while at + _FRAME <= len(content):
            size = int.from_bytes(content[at + 1 : at + 5], "little")
            end = at + _FRAME + size
            if size > MAX_PAYLOAD or end > len(content):
                return
            framed, checksum = content[at : end - 4], content[end - 4 : end]
            if double_sha256(framed)[:4] == checksum:
                yield content[at : at + 1], framed[5:], end
            else:
                log.warning("%s: the record at byte %d is corrupt; dropped", self._path, at)
                yield b"", b"", end
            at = end

    def append(self, kind: bytes, payload: bytes) -> None:
        """Add a record; it is safe from a kill of the process after ``flush``."""
        framed = kind + len(payload).to_bytes(4, "little") + payload
        self._file.write(framed + double_sha256(framed)[:4])

    def flush(self) -> None:
        """Hand everything appended to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and let go of the file."""
        self._file.close()
