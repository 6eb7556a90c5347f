"""How fast an index catches up with a node, beside only fetching the same blocks from it.

Run from the top of the repository: ``python -m tests.benchmarks.catch_up [BLOCKS] [PROCESSES]``.
The node is the sandbox's, in a process of its own, with blocks of a megabyte as full of
transactions as those of the main chain. The ratios are what to compare between machines.
"""

import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from indexer.ahead import BLOCKS_A_BATCH, BYTES_A_BATCH
from indexer.block_files import MESSAGE_START, BlockFiles
from indexer.follower import Follower
from indexer.lane_process import make_lanes
from indexer.networks import SANDBOX
from indexer.node import BitcoinNode
from indexer.table import NameTable
from tests.benchmarks.full_blocks import write_chain
from tests.conftest import ROOT

BLOCK_BYTES = 1_000_000
ROUNDS = 3


@contextlib.contextmanager
def serving(folder: Path, *ways: str) -> Iterator[BitcoinNode]:
    """A client of a sandbox node with the chain in ``folder``, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.full_blocks", str(folder), *ways],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        node = BitcoinNode(process.stdout.readline().split()[0])
        yield node
        node.close()
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def fetch_all(node: BitcoinNode) -> tuple[float, int]:
    """Seconds and bytes of asking for every block, and nothing else."""
    began = time.perf_counter()
    height = node.chain_info().blocks
    hashes = node.block_hashes(range(1, height + 1))
    size = at = 0
    many = 8
    while at < height:
        raws = node.raw_blocks(hashes[at : at + many])
        size += sum(map(len, raws))
        at += len(raws)
        many = max(1, min(BLOCKS_A_BATCH, BYTES_A_BATCH * len(raws) // max(1, sum(map(len, raws)))))
    return time.perf_counter() - began, size


def write_files(node: BitcoinNode, folder: Path) -> BlockFiles:
    """The node's blocks in a file as bitcoind keeps them, under a pattern."""
    folder.mkdir()
    start, key = MESSAGE_START["regtest"], bytes(range(1, 9))
    (folder / "xor.dat").write_bytes(key)
    hashes = node.block_hashes(range(1, node.chain_info().blocks + 1))
    with (folder / "blk00000.dat").open("wb") as file:
        for block_hash in hashes:
            raw = node.raw_block(block_hash)
            plain = start + len(raw).to_bytes(4, "little") + raw
            shift = file.tell() % 8
            pattern = (key * (len(plain) // 8 + 2))[shift : shift + len(plain)]
            number = int.from_bytes(plain, "little") ^ int.from_bytes(pattern, "little")
            file.write(number.to_bytes(len(plain), "little"))
    return BlockFiles(folder, start)


def catch_up(
    node: BitcoinNode, folder: Path, processes: int, files: BlockFiles | None = None
) -> float:
    """Seconds from an empty index to one that holds every block."""
    table = NameTable(folder, SANDBOX)
    follower = Follower(
        node,
        table,
        SANDBOX,
        confirmations=1,
        lanes=lambda: make_lanes(node, SANDBOX.magic, processes, files),
    )
    began = time.perf_counter()
    while follower.step():
        pass
    seconds = time.perf_counter() - began
    follower.close()
    table.close()
    return seconds


def main(blocks: int, processes: int) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_chain(folder / "node", blocks, BLOCK_BYTES)
        for ways in ((), ("rest",)):
            with serving(folder / "node", *ways) as node:
                fetched, size = min(fetch_all(node) for _ in range(ROUNDS))
                print(f"\n{'over REST' if ways else 'over RPC'}: {size / 1e6:.0f} MB of blocks")
                print(f"  fetched alone                {size / fetched / 1e6:7.0f} MB/s")
                for count in sorted({0, 1, processes}):
                    seconds = min(
                        catch_up(node, folder / f"{len(ways)}-{count}-{turn}", count)
                        for turn in range(ROUNDS)
                    )
                    print(
                        f"  caught up, {count} more processes  {size / seconds / 1e6:7.0f} MB/s,"
                        f" {fetched / seconds:.2f} of the fetch"
                    )
        with serving(folder / "node") as node:
            files = write_files(node, folder / "blocks")
            print("\nfrom blk*.dat, under a pattern")
            for count in sorted({0, 1, processes}):
                seconds = min(
                    catch_up(node, folder / f"files-{count}-{turn}", count, files)
                    for turn in range(ROUNDS)
                )
                print(f"  caught up, {count} more processes  {size / seconds / 1e6:7.0f} MB/s")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nmemory at most: {own:.0f} MB in the indexing process")


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    counts = given + [60, 2][len(given) :]
    main(counts[0], counts[1])
