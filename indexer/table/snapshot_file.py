"""A snapshot file: one line that says what it is, then every block's operations, compressed.

    {"blockstore_snapshot": 1, "schema": 1, "network": ..., "first_block": ..., "height": ...,
     "block_hash": ..., "consensus_hash": ...}\\n
    one xz stream of: the hash before the first block (32 bytes), then for each block its header
    without that link (48 bytes) and the length and the row of ``carried`` of what was accepted

Only what a consensus hash covers is in it: operations that were refused are not, and no row of
the table is. What must stay true: any bytes give blocks or ``BadSnapshot``; memory is bounded
whatever the bytes say, and nothing behind the block that is asked for is read.
"""

import json
import lzma
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

from indexer.bitcoin.headers import Header, meets_target, parse_header, target_of_bits
from indexer.bitcoin.transactions import hash_hex
from indexer.networks import Network
from indexer.protocol.carried import Carried, read_carried, write_carried
from indexer.protocol.rows import DamagedRow, write_number
from indexer.protocol.schema import SCHEMA_VERSION

FORMAT = 1
MAX_LINE = 1024
MAX_ROW = 4 * 1024 * 1024
"""Bytes of one block's operations; those that were accepted spend short scripts only."""
PRESET = 3
"""Of xz. On operations as they are on the chain (2 GHz core): presets 0, 3 and 6 leave 59, 56 and
55 % at 2.1, 1.3 and 1.1 MB/s, zlib leaves 65 % at any level, bz2 63 %: most of it is hashes, keys
and signatures. It is written once and sent to many, and xz is in Python and checks itself."""
MAX_DECODER_BYTES = 64 * 1024 * 1024
PIECE = 64 * 1024

_LINK, _REST = 32, 48


class BadSnapshot(ValueError):
    """A file that cannot be believed; ``str()`` of it says why."""


class Stream(Protocol):
    """Bytes in order."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self, size: int, /) -> bytes: ...


class Table(Protocol):
    """What is needed of a snapshot of the name table."""

    @property
    def network(self) -> Network: ...
    @property
    def height(self) -> int: ...
    @property
    def block_hash(self) -> bytes: ...
    def header(self, height: int, /) -> bytes: ...
    def carried(self, height: int, /) -> bytes: ...
    def computed_consensus_hash(self, height: int, /) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Head:
    """The first line. Hashes as people write them: the block's reversed, the other one as is."""

    blockstore_snapshot: int
    schema: int
    network: str
    first_block: int
    height: int
    block_hash: str
    consensus_hash: str


@dataclass(frozen=True, slots=True)
class CarriedBlock:
    """One block of the file, not judged yet."""

    height: int
    header: Header
    operations: tuple[Carried, ...]


def write_snapshot(table: Table) -> Iterator[bytes]:
    """The file of ``table``, in pieces of about ``PIECE`` bytes; the table holds a block at least.

    Raises ``DamagedRow`` where a row of the table is, or has more than ``MAX_ROW`` bytes.
    """
    consensus_hash = table.computed_consensus_hash(table.height)
    if consensus_hash is None:
        raise ValueError("an empty table has no snapshot")
    first = table.network.first_block
    head = Head(
        FORMAT,
        SCHEMA_VERSION,
        table.network.name,
        first,
        table.height,
        hash_hex(table.block_hash),
        consensus_hash.hex(),
    )
    compressor = lzma.LZMACompressor(preset=PRESET)
    made = [json.dumps(asdict(head)).encode("ascii") + b"\n"]
    made.append(compressor.compress(table.header(first)[4 : 4 + _LINK]))
    for height in range(first, table.height + 1):
        header = table.header(height)
        row = write_carried(o for o in read_carried(table.carried(height)) if o.counted)
        if len(row) > MAX_ROW:
            raise DamagedRow(f"block {height} has more than {MAX_ROW} bytes of operations")
        frame = header[:4] + header[4 + _LINK :] + write_number(len(row)) + row
        made.append(compressor.compress(frame))
        if sum(map(len, made)) >= PIECE:
            yield b"".join(made)
            made.clear()
        elif len(made) > 1000:
            made = [b"".join(made)]
    yield b"".join([*made, compressor.flush()])


def read_head(stream: Stream) -> Head:
    """The first line. Raises ``BadSnapshot``."""
    line = stream.readline(MAX_LINE)
    kinds = Head.__annotations__
    try:
        said = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or type(said.get("blockstore_snapshot")) is not int:
        raise BadSnapshot("it is not a snapshot of Blockstore")
    for what, known in (("blockstore_snapshot", FORMAT), ("schema", SCHEMA_VERSION)):
        version = said.get(what)
        if type(version) is int and version != known:
            age = "a newer" if version > known else "an older"
            raise BadSnapshot(
                f"it was written by {age} version of Blockstore ({what} {version}, this one knows"
                f" {known}); import it with that version"
            )
    if said.keys() != kinds.keys() or any(type(said[k]) is not kinds[k] for k in kinds):
        raise BadSnapshot("its first line is damaged")
    return Head(**said)


def read_blocks(stream: Stream, head: Head, network: Network) -> Iterator[CarriedBlock]:
    """The blocks behind the first line, linked and with proof of work. Raises ``BadSnapshot``.

    The end of the file is looked at once the last block was taken.
    """
    unpacked = _Unpacked(stream)
    previous = unpacked.take(_LINK)
    hardest = target_of_bits(network.easiest_bits)
    for height in range(head.first_block, head.height + 1):
        rest = unpacked.take(_REST)
        header = parse_header(rest[:4] + previous + rest[4:])
        if target_of_bits(header.bits) > hardest or not meets_target(header):
            raise BadSnapshot(f"the header of block {height} has no proof of work")
        row = unpacked.take(unpacked.take_number())
        try:
            operations = read_carried(row)
        except DamagedRow as error:
            raise BadSnapshot(f"the operations of block {height} are damaged: {error}") from None
        if write_carried(operations) != row or not all(o.counted for o in operations):
            raise BadSnapshot(f"the operations of block {height} are not written as they must be")
        yield CarriedBlock(height, header, operations)
        previous = header.hash
    if hash_hex(previous) != head.block_hash:
        raise BadSnapshot(f"block {head.height} is {hash_hex(previous)}, not {head.block_hash}")
    unpacked.finish()


class _Unpacked:
    """What an xz stream holds, a little at a time."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._xz = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DECODER_BYTES)
        self._held = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        while len(self._held) - self._at < size:
            more = self._more()
            if not more:
                raise BadSnapshot("it is cut short")
            self._held, self._at = self._held[self._at :] + more, 0
        taken = self._held[self._at : self._at + size]
        self._at += size
        return taken

    def take_number(self) -> int:
        """The length of a row."""
        number = shift = 0
        while True:
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << shift
            shift += 7
            if number > MAX_ROW or shift > 28:
                raise BadSnapshot(f"a block has more than {MAX_ROW} bytes of operations")
            if byte < 0x80:
                return number

    def finish(self) -> None:
        """Make sure that this was all, and that its checksum is right."""
        if self._at < len(self._held) or self._more():
            raise BadSnapshot("something follows its last block")
        if self._xz.unused_data or self._stream.read(1):
            raise BadSnapshot("something follows its end")

    def _more(self) -> bytes:
        """Some bytes; none at the end, which is there."""
        try:
            while not self._xz.eof:
                packed = self._stream.read(PIECE) if self._xz.needs_input else b""
                if self._xz.needs_input and not packed:
                    raise BadSnapshot("it is cut short")
                unpacked = self._xz.decompress(packed, PIECE)
                if unpacked:
                    return unpacked
        except lzma.LZMAError as error:
            raise BadSnapshot(f"its compressed part is damaged: {error}") from None
        return b""
