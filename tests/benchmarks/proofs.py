"""How large a proof is and what it costs to build and check, by its distance.

Run from the top of the repository: ``python -m tests.benchmarks.proofs [BLOCKS]``. The chain is
made up: each block has 50 operations, and is hashed as a real one. A row is of distances from one
power of two up to the next; the figures are means of several proofs, the size also the largest.
"""

import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from indexer.networks import SANDBOX, Network
from indexer.protocol import consensus
from indexer.protocol.proofs import build_proof, read_proof, verify_proof, write_proof

OPERATIONS = 50  # a block
DIFFERENT = 64  # blocks of operations that are made; the chain repeats them
SAMPLES = 20


def update_text(block: int, number: int) -> str:
    """The text of an update with fields as long as real ones."""
    values = ["patrickstanley.id", "ab" * 20, "76a914" + "cd" * 20 + "88ac", "02" + "ef" * 32]
    values += ["1AmPkbTdEdTF5EoZbqgJ5u7EVpH9vMtiX1", "1", "1", "1", "1"]
    values += ["False", "+", f"{block:032x}{number:032x}", str(number), "25000", "", ""]
    values += ["12" * 16, "34" * 16]
    return "+:" + ",".join(f"{len(value)}:{value}" for value in values)


@dataclass
class LongChain:
    """A chain of ``hashes`` from the first block on, as a snapshot would give it."""

    network: Network
    texts: Sequence[tuple[str, ...]]
    ops_hashes: Sequence[bytes]
    hashes: list[bytes]

    @property
    def height(self) -> int:
        return self.network.first_block + len(self.hashes) - 1

    def operations(self, height: int) -> tuple[str, ...]:
        return self.texts[height % DIFFERENT]

    def ops_hash(self, height: int) -> bytes:
        return self.ops_hashes[height % DIFFERENT]

    def consensus_hash(self, height: int) -> bytes:
        return self.hashes[height - self.network.first_block]


def make_chain(blocks: int) -> LongChain:
    """A chain of ``blocks`` blocks."""
    texts = [tuple(update_text(b, n) for n in range(OPERATIONS)) for b in range(DIFFERENT)]
    chain = LongChain(SANDBOX, texts, [consensus.ops_hash(t) for t in texts], [])
    first = SANDBOX.first_block
    for height in range(first, first + blocks):
        ops_hash = chain.ops_hash(height)
        chain.hashes.append(consensus.consensus_hash(height, first, ops_hash, chain.consensus_hash))
    return chain


def measure(chain: LongChain, distances: range, pick: random.Random) -> tuple[float, ...]:
    """Mean hops, mean and largest bytes, seconds to build and to check, over some proofs."""
    hops, sizes, building, checking = 0, [], 0.0, 0.0
    for _ in range(SAMPLES):
        distance = pick.choice(distances)
        trusted = pick.randint(chain.network.first_block + distance, chain.height)
        height = trusted - distance
        text = pick.choice(chain.operations(height))
        began = time.perf_counter()
        proof = build_proof(chain, text, height, trusted)
        built = time.perf_counter()
        document = json.dumps(write_proof(proof), separators=(",", ":"))
        sent = time.perf_counter()
        proven = verify_proof(
            read_proof(document), trusted, chain.consensus_hash(trusted), chain.network
        )
        checked = time.perf_counter()
        assert proven.height == height
        hops += len(proof.path) - 1
        sizes.append(len(document))
        building += built - began
        checking += checked - sent
    return hops / SAMPLES, sum(sizes) / SAMPLES, max(sizes), building / SAMPLES, checking / SAMPLES


def main(blocks: int) -> int:
    """Print the figures."""
    began = time.perf_counter()
    chain = make_chain(blocks)
    made = time.perf_counter() - began
    print(f"{blocks} blocks of {OPERATIONS} operations, hashed in {made:.1f} s")
    head = ("distance", "hops", "bytes", "largest", "build ms", "check ms")
    print(" ".join(f"{word:>9}" for word in head))
    pick = random.Random(7)  # the same proofs every time
    low = 0
    while low < blocks - 1:
        distances = range(low, min(2 * low, blocks - 2) + 1)
        hops, mean, largest, building, checking = measure(chain, distances, pick)
        print(
            f"{low:9} {hops:9.1f} {mean:9.0f} {largest:9.0f}"
            f" {building * 1e3:9.2f} {checking * 1e3:9.2f}"
        )
        low = 2 * low or 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 175_000))
