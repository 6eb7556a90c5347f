"""How fast a node indexes: blocks to a name table on disk, as the follower does it.

Run from the top of the repository: ``python -m tests.benchmarks.index [--operations 100000
--blocks 2000 --others 300000 --doublings 3]``. One process writes a synthetic chain to a file;
another, which does nothing else, lets the follower index it, first as many blocks as given, then
twice as many, and so on. The clock runs from asking the node for blocks to the committed table.
Beside it in the same run, over the first blocks: only scanning them, only parsing every
transaction of them, and only writing the same rows to LevelDB; trust these ratios before figures.
"""

import argparse
import multiprocessing
import platform
import resource
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from indexer.bitcoin.blocks import parse_block, scan_block
from indexer.bitcoin.headers import HEADER_BYTES
from indexer.bitcoin.transactions import double_sha256, hash_bytes
from indexer.following.follower import Follower
from indexer.node.node import ChainInfo
from indexer.protocol.rows import read_pairs, write_pairs
from indexer.table.level import plyvel
from indexer.table.table import NameTable
from tests.benchmarks.chain import NETWORK, SyntheticChain

_FRAME = struct.Struct("<III")  # bytes of the block, bytes of its spent scripts, operations
_COIN = struct.Struct("<32sIB")  # outpoint, bytes of the script it guards
_MEGABYTE = 1e6


class ChainFile:
    """A node whose chain lies in a file; it shows as many blocks as the benchmark lets it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        genesis = hash_bytes(NETWORK.genesis_hash)
        self._places: list[tuple[int, int, int]] = [(0, 0, 0)]
        self._hashes = [genesis]
        self._heights = {genesis: 0}
        self.operations = [0]  # by height
        self.sizes = [0]
        at = 0
        while frame := self._file.read(_FRAME.size):
            block, coins, operations = _FRAME.unpack(frame)
            at += _FRAME.size
            self._places.append((at, block, coins))
            digest = double_sha256(self._file.read(HEADER_BYTES))
            self._heights[digest] = len(self._hashes)
            self._hashes.append(digest)
            self.operations.append(operations)
            self.sizes.append(block)
            at += block + coins
            self._file.seek(at)
        self.reach = self.height = len(self._hashes) - 1

    def chain_info(self) -> ChainInfo:
        return ChainInfo(NETWORK.node_chain, self.reach, self.reach, self._hashes[-1], False)

    def block_hash(self, height: int) -> bytes:
        return self._hashes[height]

    def block_hashes(self, heights: Sequence[int]) -> list[bytes]:
        return [self._hashes[height] for height in heights]

    def headers(self, hashes: Sequence[bytes]) -> None:
        """A file has no headers to show."""

    def raw_blocks(self, hashes: Sequence[bytes]) -> list[bytes]:
        return [self.raw_block(self._heights[digest]) for digest in hashes]

    def raw_block(self, height: int) -> bytes:
        at, block, _ = self._places[height]
        self._file.seek(at)
        return self._file.read(block)

    def spent_scripts(
        self, block_hash: bytes, outpoints: Sequence[tuple[bytes, int]]
    ) -> dict[tuple[bytes, int], bytes]:
        at, block, size = self._places[self._heights[block_hash]]
        self._file.seek(at + block)
        coins = self._file.read(size)
        found = {}
        at = 0
        while at < size:
            txid, index, length = _COIN.unpack_from(coins, at)
            at += _COIN.size + length
            found[txid, index] = coins[at - length : at]
        return found


# What each process does


def write_chain(chain: SyntheticChain, laps: int, blocks: Path, rows: Path) -> Counter[str]:
    """Write ``laps`` laps of ``chain`` to ``blocks``, and the rows of the first one to ``rows``."""
    counts: Counter[str] = Counter()
    with blocks.open("wb") as out, rows.open("wb") as table:
        for made, block in enumerate(chain.mine(laps), start=1):
            coins = b"".join(
                _COIN.pack(*coin, len(script)) + script for coin, script in block.spent.items()
            )
            verdicts = [verdict for _, verdict in block.outcome.verdicts]
            out.write(_FRAME.pack(len(block.raw), len(coins), len(verdicts)))
            out.write(block.raw + coins)
            counts.update(v.opcode if v.flaw is None else "refused" for v in verdicts)
            if made <= chain.blocks:
                row = write_pairs(list(block.outcome.rows.items()))
                table.write(len(row).to_bytes(4, "little") + row)
    return counts


@dataclass(frozen=True, slots=True)
class Figures:
    """What indexing the chain up to one height took, from the start or from the mark before."""

    blocks: int
    operations: int
    megabytes: float
    seconds: float
    cpu_seconds: float
    peak_megabytes: float
    names: int
    table_megabytes: float


def index_chain(blocks: Path, table: Path, marks: Sequence[int]) -> list[Figures]:
    """Let the follower index the chain, and stop for figures at the heights of ``marks``."""
    node = ChainFile(blocks)
    index = NameTable(table, NETWORK)
    follower = Follower(node, index, NETWORK, confirmations=1)
    figures = []
    height = 0
    for mark in marks:
        node.reach = mark
        began, cpu = time.perf_counter(), time.process_time()
        while follower.step():
            pass
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        assert index.tip == mark, follower.status.last_error
        part = slice(height + 1, mark + 1)
        figures.append(
            Figures(
                mark - height,
                sum(node.operations[part]),
                sum(node.sizes[part]) / _MEGABYTE,
                seconds,
                cpu,
                _peak_megabytes(),
                index.snapshot().name_count(),
                sum(f.stat().st_size for f in table.iterdir()) / _MEGABYTE,
            )
        )
        height = mark
    index.close()
    return figures


def _peak_megabytes() -> float:
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MEGABYTE


def scan_only(blocks: Path, height: int) -> float:
    """Seconds to scan the blocks up to ``height``, and nothing else."""
    node = ChainFile(blocks)
    began = time.perf_counter()
    for at in range(1, height + 1):
        scan_block(node.raw_block(at), NETWORK.magic)
    return time.perf_counter() - began


def parse_only(blocks: Path, height: int) -> float:
    """Seconds to parse every transaction up to ``height``, and nothing else."""
    node = ChainFile(blocks)
    began = time.perf_counter()
    for at in range(1, height + 1):
        parse_block(node.raw_block(at))
    return time.perf_counter() - began


def write_only(rows: Path, table: Path) -> float:
    """Seconds to write the rows of every block to LevelDB, a batch a block, and nothing else."""
    database = plyvel.DB(str(table), create_if_missing=True)
    seconds = 0.0
    with rows.open("rb") as source:
        while size := source.read(4):
            pairs = list(read_pairs(source.read(int.from_bytes(size, "little"))))
            began = time.perf_counter()
            with database.write_batch(transaction=True) as batch:
                for key, row in pairs:
                    if row is None:
                        batch.delete(key)
                    else:
                        batch.put(key, row)
            seconds += time.perf_counter() - began
    database.close()
    return seconds


# The report


def report(figures: Sequence[Figures], bare: dict[str, float], counts: Counter[str]) -> None:
    """Print what was measured, by mark and for all blocks up to it."""
    print("operations:", ", ".join(f"{n:,} {what}" for what, n in counts.most_common()))
    print(
        f"{'operations':>11} {'blocks':>8} {'MB':>7} {'seconds':>8} {'blocks/s':>9} {'ops/s':>8}"
        f" {'here ops/s':>10} {'MB/s':>6} {'peak MB':>8} {'names':>8} {'B/name':>7}"
    )
    operations = blocks = 0
    megabytes = seconds = 0.0
    for f in figures:
        operations, blocks = operations + f.operations, blocks + f.blocks
        megabytes, seconds = megabytes + f.megabytes, seconds + f.seconds
        print(
            f"{operations:11,} {blocks:8,} {megabytes:7.0f} {seconds:8.1f} {blocks / seconds:9.0f}"
            f" {operations / seconds:8.0f} {f.operations / f.seconds:10.0f}"
            f" {megabytes / seconds:6.1f} {f.peak_megabytes:8.0f} {f.names:8,}"
            f" {f.table_megabytes * _MEGABYTE / f.names:7.0f}"
        )
    print("(here: in the blocks since the line above, where the table is as large as it says)")
    first = figures[0]
    print(f"the first {first.blocks:,} blocks took {first.cpu_seconds:.1f} s of one core")
    for what, seconds in bare.items():
        print(f"{what:40} {seconds:8.2f} s   indexing / this {first.seconds / seconds:6.1f}")


def main() -> None:
    """Make the chain, index it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--blocks", type=int, default=2_000)
    parser.add_argument("--others", type=int, default=300_000, help="other transactions")
    parser.add_argument("--doublings", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to put the files (default: temporary)")
    asked = parser.parse_args()
    chain = SyntheticChain(asked.seed, asked.operations, asked.blocks, asked.others)
    marks = [asked.blocks << doubling for doubling in range(asked.doublings + 1)]
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        path = Path(folder)
        blocks, rows = path / "blocks", path / "rows"
        # Each step in a fresh process: the memory of one says nothing of another.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as steps:
            began = time.perf_counter()
            counts = steps.submit(write_chain, chain, marks[-1] // marks[0], blocks, rows).result()
            print(f"the chain was made in {time.perf_counter() - began:.0f} s")
            figures = steps.submit(index_chain, blocks, path / "index", marks).result()
            bare = {
                "only scanning the same blocks": steps.submit(scan_only, blocks, marks[0]),
                "only parsing the same transactions": steps.submit(parse_only, blocks, marks[0]),
                "only LevelDB writes of the same rows": steps.submit(
                    write_only, rows, path / "bare"
                ),
            }
            report(figures, {what: step.result() for what, step in bare.items()}, counts)


if __name__ == "__main__":
    main()
