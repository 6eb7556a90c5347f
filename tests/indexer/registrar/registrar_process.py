"""A registrar in a process of its own, to be killed.

Run as a program: ``python -m tests.indexer.registrar.registrar_process PORT FOLDER`` says "up"
when it begins, and "done" when no job is open any more. The folder holds the node's chain with
its cookie, the index and the journal.
"""

import sys
import time
from pathlib import Path

from indexer.following.follower import Follower
from indexer.networks import SANDBOX
from indexer.node.node import BitcoinNode
from indexer.registrar.work.journal import Journal
from indexer.registrar.work.runner import Runner
from indexer.table.table import NameTable
from indexer.wallet.key_signers import KeyFile
from indexer.wallet.keys import KeyRing
from indexer.wallet.node_coins import NodeCoins
from tests.indexer.registrar.fakes import person_key

PAUSE = 0.005


def main(port: int, folder: Path) -> None:
    """Carry all jobs on until none is open."""
    node = BitcoinNode(
        f"http://127.0.0.1:{port}", cookie_file=folder / "chain" / ".cookie", timeout=10
    )
    table = NameTable(folder / "index", SANDBOX)
    follower = Follower(node, table, SANDBOX, confirmations=1)
    ring = KeyRing([person_key("payer")])

    def publish(digest: bytes, content: bytes) -> int:
        (folder / digest.hex()).write_bytes(content)
        return 1

    def verify(name: str, digest: bytes | None) -> bool:
        record = table.snapshot().name(name)
        return record is not None and record.value_hash == digest

    with Journal(folder / "journal", SANDBOX) as journal:
        signer = KeyFile(ring, node, SANDBOX, NodeCoins(node))
        runner = Runner(
            journal,
            node,
            table.snapshot,
            SANDBOX,
            {"purse": signer},
            publish=publish,
            verify=verify,
            zones={"bs": "id"},
        )
        print("up", flush=True)
        while runner.books.pending():
            while follower.step():
                pass
            runner.turn()
            time.sleep(PAUSE)
    print("done", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
