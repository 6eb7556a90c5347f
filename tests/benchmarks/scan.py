"""How fast blocks are scanned: MB/s, beside copying the same bytes and a full parse by embit.

Run from the top of the repository: ``python -m tests.benchmarks.scan [FOLDER OF RAW BLOCKS]``.
The ratios are what to compare between machines; each figure is the best of several rounds.
"Hashing alone" is what hashlib takes for the txids and the merkle trees: no scan that checks them
is faster, however it finds where the transactions begin and end.
"""

import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from embit import compact
from embit.transaction import Transaction

from indexer.bitcoin.blocks import parse_block, scan_block
from indexer.bitcoin.headers import double_sha256_of_all, merkle_root
from indexer.bitcoin.transactions import serialize_transaction
from indexer.networks import MAINNET
from tests.conftest import DATA

ROUNDS = 5


def best_seconds(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several rounds of ``work``."""
    fastest = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest


def copy_all(blocks: Sequence[bytes]) -> None:
    """The same bytes through memory once, and nothing else."""
    for raw in blocks:
        bytearray(raw)


def scan_all(blocks: Sequence[bytes]) -> None:
    """Every block as the follower scans it."""
    for raw in blocks:
        scan_block(raw, MAINNET.magic)


def covered(raw: bytes) -> list[bytes]:
    """What the txids of a block are hashes of."""
    return [
        serialize_transaction(one.version, one.inputs, one.outputs, one.locktime)
        for one in parse_block(raw)[1]
    ]


def hash_all(blocks: Sequence[Sequence[bytes]]) -> None:
    """Every txid and merkle tree of blocks that are cut into transactions already."""
    for transactions in blocks:
        merkle_root(double_sha256_of_all(transactions))


def parse_all(blocks: Sequence[bytes]) -> list[list[bytes]]:
    """Every transaction of every block parsed by embit; the txids, block by block."""
    txids = []
    for raw in blocks:
        stream = io.BytesIO(raw)
        stream.seek(80)
        count = compact.read_from(stream)
        txids.append([bytes(Transaction.read_from(stream).txid()) for _ in range(count)])
    return txids


def main(folder: Path) -> int:
    """Print the figures; exit code 2 where there is nothing to measure."""
    blocks = [path.read_bytes() for path in sorted(folder.glob("*.raw"))]
    if not blocks:
        print(f"no raw blocks in {folder}; name a folder that has some", file=sys.stderr)
        return 2
    megabytes = sum(map(len, blocks)) / 1e6
    leaves = parse_all(blocks)
    cut = [covered(raw) for raw in blocks]
    transactions = sum(map(len, leaves))
    figures = {
        "copy": best_seconds(lambda: copy_all(blocks)),
        "scan": best_seconds(lambda: scan_all(blocks)),
        "hashing alone": best_seconds(lambda: hash_all(cut)),
        "merkle trees alone": best_seconds(lambda: [merkle_root(row) for row in leaves]),
        "full parse by embit": best_seconds(lambda: parse_all(blocks)),
    }
    print(f"{len(blocks)} blocks, {megabytes:.1f} MB, {transactions} transactions")
    for name, seconds in figures.items():
        print(
            f"{name:20} {megabytes / seconds:9.0f} MB/s {transactions / seconds:11,.0f} tx/s"
            f"   time / scan {seconds / figures['scan']:8.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA / "blocks"))
