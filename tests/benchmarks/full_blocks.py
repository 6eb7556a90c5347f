"""A sandbox chain of full blocks, made without signatures, for a node that trusts its own file.

Run as a program it is that node: ``python -m tests.benchmarks.full_blocks FOLDER [rest] [ready]``
prints its address and ends when its input ends; with ``rest`` it offers REST, with ``ready`` it has
the replies ready, and with ``ready=MS`` waits so many milliseconds for a megabyte of blocks.
"""

import json
import sys
import threading
import time
from collections.abc import Collection, Iterator
from hashlib import sha256
from pathlib import Path

from indexer.bitcoin.transactions import (
    TxIn,
    TxOut,
    double_sha256,
    hash_bytes,
    hash_hex,
    p2pkh_script,
    serialize_transaction,
)
from indexer.networks import SANDBOX
from indexer.node.node import BitcoinNode
from indexer.sandbox.blocks import coinbase, mine, subsidy
from indexer.sandbox.chain import BLOCK
from indexer.sandbox.coins import COINBASE_MATURITY
from indexer.sandbox.node import CHAIN_FILE, SandboxNode, Switches
from indexer.sandbox.store import ChainFile

START = 1_600_000_000
SPACING = 600
CANDIDATES = 20
"""Transactions a block that look like operations, so that what they spend is asked for."""


def write_chain(folder: Path, full: int, block_bytes: int) -> None:
    """A chain of ``full`` blocks of about ``block_bytes``, after those that give the coins."""
    folder.mkdir(parents=True, exist_ok=True)
    file = ChainFile(folder / CHAIN_FILE)
    file.read()
    for raw in _blocks(full, block_bytes):
        file.append(BLOCK, raw)
    file.close()


def _blocks(full: int, block_bytes: int) -> Iterator[bytes]:
    previous, height = hash_bytes(SANDBOX.genesis_hash), 0
    coins: list[tuple[bytes, int]] = []

    def next_block(transactions: list[bytes]) -> bytes:
        nonlocal previous, height
        height += 1
        first = coinbase(height, height, subsidy(height), p2pkh_script(bytes(20)))
        coins.append((double_sha256(first), subsidy(height)))
        raw = mine(previous, START + height * SPACING, [first, *transactions])
        previous = double_sha256(raw[:80])
        return raw

    for _ in range(full + COINBASE_MATURITY):
        yield next_block([])
    for number in range(full):
        yield next_block(_transactions(*coins[number], block_bytes, number))


def _transactions(txid: bytes, value: int, block_bytes: int, salt: int) -> list[bytes]:
    """One coin handed on and on, in transactions as long as those of the main chain: 556 bytes."""
    coins, size, made = [(txid, 0)], 0, []
    while size < block_bytes - 1000:
        digest = sha256(salt.to_bytes(4, "big") + len(made).to_bytes(4, "big")).digest()
        script_sig = b"\x47" + (digest * 3)[:71] + b"\x21\x02" + digest
        value -= 1000
        outputs = [TxOut(value - 546 * 2, p2pkh_script(digest[:20]))]
        outputs += [TxOut(546, p2pkh_script(digest[n : n + 20])) for n in (5, 10)]
        inputs = [TxIn(*coin, script_sig, 0xFFFFFFFF) for coin in coins]
        if len(made) < CANDIDATES:
            outputs.append(TxOut(0, b"\x6a\x17id;" + digest[:20]))
        raw = serialize_transaction(1, inputs, outputs, 0)
        made.append(raw)
        size += len(raw)
        txid = double_sha256(raw)
        coins = [(txid, n) for n in range(3)]
    return made


class ReadyNode(SandboxNode):
    """A node whose raw blocks wait as replies: fetching from it takes hardly any of its time."""

    pause = 0.0
    """Seconds to wait before a megabyte of blocks, one after the other: the time of a node that is
    on a machine of its own, and takes none of ours."""
    _ready: dict[str, bytes] | None = None
    _one_by_one = threading.Lock()

    def reply_to(self, body: bytes, wallet: str | None = None) -> tuple[int, bytes]:
        """A batch of raw blocks from what is ready; anything else as ever."""
        if self._ready is None:
            return super().reply_to(body, wallet)
        calls = json.loads(body)
        if not isinstance(calls, list) or any(
            call["method"] != "getblock" or call["params"][1:] != [0] for call in calls
        ):
            return super().reply_to(body, wallet)
        if self.pause:
            size = sum(len(self._ready[call["params"][0]]) for call in calls) / 2e6
            with self._one_by_one:
                time.sleep(size * self.pause)
        parts = [b"["]
        for call in calls:
            parts += (
                b'{"result":"' if len(parts) == 1 else b',{"result":"',
                self._ready[call["params"][0]],
                b'","error":null,"id":%d}' % call["id"],
            )
        return 200, b"".join([*parts, b"]\n"])

    def make_ready(self) -> None:
        """Write out every block."""
        client = BitcoinNode(self.url)
        hashes = client.block_hashes(range(self.height + 1))
        self._ready = {hash_hex(h): client.raw_blocks([h])[0].hex().encode() for h in hashes}
        client.close()


def main(folder: Path, ways: Collection[str]) -> None:
    """Serve the chain until nobody holds our input open."""
    # A node's threads do not wait for each other; those of Python do, by default for 5 ms.
    sys.setswitchinterval(0.0005)
    switches = Switches(rest="rest" in ways)
    with ReadyNode(folder, user="b", password="b", switches=switches) as node:
        for way in ways:
            if way.startswith("ready"):
                node.make_ready()
                node.pause = float(way.partition("=")[2] or 0) / 1000
        print(node.url, node.height, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
