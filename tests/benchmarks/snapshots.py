"""What a snapshot file costs: to write, to carry, and to import, beside indexing the same blocks.

    python -m tests.benchmarks.snapshots [--operations 50000 --blocks 2500 --empty 20000]

The chain is the synthetic one of ``chain.py``; ``--empty`` blocks without operations follow it,
as most blocks of a real chain are.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path

from indexer.bitcoin.blocks import scan_block
from indexer.bitcoin.transactions import double_sha256
from indexer.networks import SANDBOX
from indexer.protocol.apply import SpentCandidate, apply_block
from indexer.table.rebuild import import_snapshot, rebuild
from indexer.table.snapshot_file import write_snapshot
from indexer.table.table import NameTable
from tests.benchmarks.chain import SyntheticChain

_HEADER = (4).to_bytes(4, "little")


def empty_header(previous: bytes, height: int) -> bytes:
    """The header of a block that nothing is known of, with regtest's proof of work."""
    head = _HEADER + previous + double_sha256(height.to_bytes(8, "little"))
    head += (1_700_000_000 + height).to_bytes(4, "little") + (0x207FFFFF).to_bytes(4, "little")
    for nonce in range(1000):
        header = head + nonce.to_bytes(4, "little")
        if double_sha256(header)[31] < 0x7F:
            return header
    raise AssertionError("no proof of work found")


def main() -> None:
    """Make the chain, index it, hand it on, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--operations", type=int, default=50_000)
    parser.add_argument("--blocks", type=int, default=2_500)
    parser.add_argument("--empty", type=int, default=20_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        table = NameTable(path / "names", SANDBOX)
        applying, operations = 0.0, 0
        header = b""
        for block in SyntheticChain(1, asked.operations, asked.blocks, 0).mine(1):
            began = time.perf_counter()
            scanned = scan_block(block.raw, SANDBOX.magic)
            spent = [
                SpentCandidate(
                    c,
                    tuple(
                        block.spent[i.previous_txid, i.previous_index] for i in c.transaction.inputs
                    ),
                )
                for c in scanned.candidates
            ]
            header = scanned.header.raw
            outcome = apply_block(table, SANDBOX, block.height, header, spent)
            table.connect(outcome, sync=False)
            applying += time.perf_counter() - began
            operations += len(outcome.verdicts)
        height = table.tip or 0
        for _ in range(asked.empty):
            height += 1
            header = empty_header(double_sha256(header), height)
            began = time.perf_counter()
            table.connect(apply_block(table, SANDBOX, height, header, []), sync=False)
            applying += time.perf_counter() - began
        seen = table.publish()
        began = time.perf_counter()
        file = b"".join(write_snapshot(seen))
        writing = time.perf_counter() - began
        trusted = seen.computed_consensus_hash(height) or b""
        rows = sum(len(key) + len(row) for key, row in table.scan(b""))
        table.close()
        began = time.perf_counter()
        import_snapshot(io.BytesIO(file), path / "taken", SANDBOX, trusted)
        importing = time.perf_counter() - began
        began = time.perf_counter()
        rebuild(path / "names", SANDBOX, height)
        again = time.perf_counter() - began
    blocks = asked.blocks + asked.empty
    print(f"{operations:,} operations in {blocks:,} blocks; {rows / 1e6:.1f} MB of rows")
    print(f"the file: {len(file) / 1e6:.1f} MB, {len(file) / operations:.0f} bytes an operation")
    for what, seconds in (
        ("indexing the blocks from memory", applying),
        ("writing the file", writing),
        ("importing it", importing),
        ("making the table anew from its rows", again),
    ):
        speed = f"{operations / seconds:10,.0f} operations/s"
        print(f"{what:36} {seconds:7.1f} s {speed}   / indexing {seconds / applying:5.2f}")


if __name__ == "__main__":
    main()
