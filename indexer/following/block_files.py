"""Blocks out of the blk*.dat files of a node on the same machine, for the first synchronisation.

What must stay true: a file says where a block may be, and no more: which block follows which is
the node's word, and whatever is not found, not whole or not what its header says is asked of the
node instead. The files are only read; the index of them stays small (12 bytes a block).
"""

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from indexer.bitcoin.headers import HEADER_BYTES
from indexer.bitcoin.transactions import MAX_BLOCK_BYTES, double_sha256
from indexer.following.ahead import Batch
from indexer.following.chain import Connect
from indexer.following.reading import BadBlock, BlockSource, read_blocks
from indexer.node.spent_outputs import Outpoint, Spending

log = logging.getLogger("blockstore.indexer")

MESSAGE_START = {
    "main": bytes.fromhex("f9beb4d9"),
    "test": bytes.fromhex("0b110907"),
    "testnet4": bytes.fromhex("1c163f28"),
    "signet": bytes.fromhex("0a03cf40"),
    "regtest": bytes.fromhex("fabfb5da"),
}
"""What every block in the files begins with, by the node's name of the chain."""
XOR_NAME = "xor.dat"  # since Bitcoin Core 28
XOR_BYTES = 8
_PIECE = 1 << 16
"""Bytes without their pattern at once: as one number, whose pattern is a number that is kept."""
_FRAME = 8  # message start, length
_BUCKETS = 1 << 12
_RECORD = 4 + 8  # of the hash, and where the block is
_OFFSET_BITS = 32


class BlockFilesError(Exception):
    """The folder cannot be used; the text says why and what to do."""


class Place(NamedTuple):
    """Where a block begins: the number of the file, and the offset of the block's header."""

    file: int
    offset: int


class BlockFiles:
    """The files in one folder. ``look`` finds what is new in them; one thread looks."""

    def __init__(self, folder: Path, message_start: bytes) -> None:
        """Raises BlockFilesError where there is no such folder or its key cannot be read."""
        self.folder = folder
        self._start = message_start
        self._buckets = [bytearray() for _ in range(_BUCKETS)]
        self._file = self._offset = 0  # where to look on
        self.count = 0
        self._files = OpenFiles(folder)

    def look(self) -> int:
        """Read the headers of what was written since the last look; how many blocks came."""
        before = self.count
        while True:
            self._offset = self._look_into(self._file, self._offset)
            if not self._files.path(self._file + 1).exists():
                break
            self._file, self._offset = self._file + 1, 0
        if self.count > before:
            log.info("%d blocks were found in %s", self.count - before, self.folder)
        return self.count - before

    def places(self, block_hash: bytes) -> list[Place]:
        """Where a block with this hash may be: mostly one place or none."""
        bucket, key = self._buckets[_bucket(block_hash)], block_hash[2:6]
        found = []
        for at in range(0, len(bucket), _RECORD):
            if bucket[at : at + 4] == key:
                place = int.from_bytes(bucket[at + 4 : at + _RECORD], "little")
                found.append(Place(place >> _OFFSET_BITS, place & ((1 << _OFFSET_BITS) - 1)))
        return found

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _look_into(self, number: int, offset: int) -> int:
        """Note every whole block from ``offset`` on; where the first that is not whole begins."""
        end = self._files.size(number)
        while offset + _FRAME + HEADER_BYTES <= end:
            head = self._files.read(number, offset, _FRAME + HEADER_BYTES)
            size = int.from_bytes(head[4:8], "little")
            if head[:4] != self._start or not HEADER_BYTES < size <= MAX_BLOCK_BYTES:
                break  # room made in advance, or a block half written
            if offset + _FRAME + size > end:
                break
            block_hash = double_sha256(head[_FRAME:])
            place = (number << _OFFSET_BITS) + offset + _FRAME
            self._buckets[_bucket(block_hash)] += block_hash[2:6] + place.to_bytes(8, "little")
            self.count += 1
            offset += _FRAME + size
        return offset


class OpenFiles:
    """Reads the files of a folder, without the pattern that they are stored under."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, int] = {}
        if not self.path(0).exists():
            if next(folder.glob("blk*.dat"), None) is not None:
                raise BlockFilesError(
                    f"the node has pruned its first files away from {folder}; leave blocks_dir out,"
                    " or let the node download the chain again with prune=0"
                )
            raise BlockFilesError(
                f"{folder} holds no blk00000.dat; name the folder `blocks` of bitcoind's data"
            )
        try:
            key = (folder / XOR_NAME).read_bytes()
        except FileNotFoundError:
            key = bytes(XOR_BYTES)
        except OSError as error:
            raise BlockFilesError(
                f"cannot read {folder / XOR_NAME} ({error.strerror}); mend its permissions"
            ) from error
        if len(key) != XOR_BYTES:
            raise BlockFilesError(f"{folder / XOR_NAME} does not hold the 8 bytes of a key")
        pattern = key * (_PIECE // XOR_BYTES + 1)
        self._patterns = [
            int.from_bytes(pattern[shift : shift + _PIECE], "little")
            for shift in range(XOR_BYTES)
            if any(key)
        ]

    def path(self, number: int) -> Path:
        """The path of file ``number``."""
        return self._folder / f"blk{number:05d}.dat"

    def size(self, number: int) -> int:
        """Bytes in the file now; 0 where there is none, or it may not be read."""
        try:
            return os.fstat(self._descriptor(number)).st_size
        except OSError as error:
            log.warning("%s cannot be read: %s", self.path(number), error.strerror)
            return 0

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Up to ``size`` plain bytes at ``offset``; OSError where the file cannot be read."""
        raw = os.pread(self._descriptor(number), size, offset)
        if not self._patterns:
            return raw
        pattern = self._patterns[offset % XOR_BYTES]
        plain = []
        for at in range(0, len(raw), _PIECE):
            piece = raw[at : at + _PIECE]
            mask = pattern if len(piece) == _PIECE else pattern & ((1 << 8 * len(piece)) - 1)
            plain.append((int.from_bytes(piece, "little") ^ mask).to_bytes(len(piece), "little"))
        return b"".join(plain)

    def block(self, place: Place) -> bytes | None:
        """The block that begins there; None where it cannot be read as one."""
        try:
            size = int.from_bytes(self.read(place.file, place.offset - 4, 4), "little")
            if not HEADER_BYTES < size <= MAX_BLOCK_BYTES:
                return None
            raw = self.read(place.file, place.offset, size)
        except OSError:
            return None
        return raw if len(raw) == size else None

    def close(self) -> None:
        """Close them all."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _descriptor(self, number: int) -> int:
        found = self._open.get(number)
        if found is None:
            if len(self._open) >= 16:
                self.close()
            found = self._open[number] = os.open(self.path(number), os.O_RDONLY | os.O_CLOEXEC)
        return found


class FilesFirst:
    """A source of blocks that looks into the files before it asks the node."""

    def __init__(
        self, node: BlockSource, files: OpenFiles, known: Mapping[bytes, Sequence[Place]]
    ) -> None:
        """``known``: where the blocks that are asked for may be."""
        self._node = node
        self._files = files
        self._known = known

    def raw_blocks(self, hashes: Sequence[bytes]) -> list[bytes]:
        """The blocks, from wherever they are."""
        found = {block_hash: self._from_files(block_hash) for block_hash in hashes}
        missing = [block_hash for block_hash, raw in found.items() if raw is None]
        asked = dict(zip(missing, self._node.raw_blocks(missing), strict=True)) if missing else {}
        return [found[block_hash] or asked[block_hash] for block_hash in hashes]

    def spent_scripts(
        self, block_hash: bytes, outpoints: Mapping[Outpoint, Spending]
    ) -> dict[Outpoint, bytes]:
        """The node's word: the files do not say."""
        return self._node.spent_scripts(block_hash, outpoints)

    def _from_files(self, block_hash: bytes) -> bytes | None:
        for place in self._known.get(block_hash, ()):
            raw = self._files.block(place)
            if raw is not None and double_sha256(raw[:HEADER_BYTES]) == block_hash:
                return raw
        return None


def read_files_first(
    node: BlockSource,
    folder: Path,
    magic: bytes,
    steps: Sequence[Connect],
    known: Mapping[bytes, Sequence[Place]],
) -> Batch:
    """The blocks of ``steps``, of which ``known`` says where they may be.

    The node is asked for what is damaged there. Raises what it raises, and BlockFilesError.
    """
    with contextlib.closing(OpenFiles(folder)) as files:
        batch = read_blocks(FilesFirst(node, files, known), magic, steps)
    if batch and isinstance(batch[-1], BadBlock):
        at = len(batch) - 1
        log.info("block %d is not whole in its file; the node is asked", steps[at].height)
        batch[at:] = read_blocks(node, magic, steps[at:])
    return batch


def _bucket(block_hash: bytes) -> int:
    return int.from_bytes(block_hash[:2], "little") % _BUCKETS
