"""A chain of names in a file, and the program that indexes it until it is done or killed.

Run as a program: ``python -m tests.indexer.following.crashing CHAIN TABLE`` says "up" when it
begins and "done" when the index has caught up.
"""

import pickle
import sys
from pathlib import Path

from indexer.following.follower import Follower
from indexer.networks import SANDBOX
from indexer.table.table import NameTable
from tests.indexer import fakes
from tests.indexer.fakes import FakeNode, Person

PAYER, REVEALER, ALICE, BOB = (Person(name) for name in ("payer", "revealer", "alice", "bob"))


class Writer:
    """Writes a chain whose every block names the consensus hash of the one before."""

    def __init__(self, path: Path) -> None:
        self.node = FakeNode(SANDBOX)
        self.table = NameTable(path, SANDBOX)
        self.follower = follower_of(self.node, self.table)

    def mine(self, *transactions: bytes, salt: int = 0) -> None:
        """One block, and index it."""
        self.node.mine(transactions, salt=salt)
        while self.follower.step():
            pass

    @property
    def consensus(self) -> bytes:
        """Of the last block."""
        found = self.table.snapshot().consensus_hash(self.table.snapshot().height)
        assert found is not None
        return found

    def open_namespace(self) -> None:
        """From preorder to ready."""
        send = self.node.send
        self.mine()
        wish = fakes.namespace_preorder(SANDBOX, "id", PAYER, REVEALER, self.consensus)
        self.mine(send(PAYER, wish))
        self.mine(send(PAYER, fakes.namespace_reveal("id", REVEALER)))
        self.mine(send(REVEALER, fakes.namespace_ready("id")))

    def live(self, blocks: int, salt: int = 0) -> None:
        """So many blocks in each of which a name is preordered, one registered, one updated."""
        ordered = ""
        for number in range(blocks):
            owner = ALICE if number % 2 else BOB
            name = f"n{salt}x{number}.id"
            wishes = [
                self.node.send(PAYER, fakes.preorder(SANDBOX, name, PAYER, owner, self.consensus))
            ]
            if ordered:
                other = BOB if number % 2 else ALICE
                digest = bytes([salt % 256, number % 256]) * 10
                wishes.append(self.node.send(PAYER, fakes.register(ordered, other, digest)))
                wishes.append(
                    self.node.send(other, fakes.update(ordered, self.consensus, digest[::-1]))
                )
            ordered = name
            self.mine(*wishes, salt=salt)

    def rows(self) -> dict[bytes, bytes]:
        """Every row of the table."""
        return dict(self.table.scan(b""))

    def save(self, path: Path) -> None:
        """Keep the chain for the program."""
        path.write_bytes(pickle.dumps((self.node.blocks, self.node.spent)))


def follower_of(node: FakeNode, table: NameTable) -> Follower:
    """A follower with its feet in this process."""
    return Follower(node, table, SANDBOX, confirmations=1)


def load(path: Path) -> FakeNode:
    """The node that gives a saved chain."""
    node = FakeNode(SANDBOX)
    node.blocks, node.spent = pickle.loads(path.read_bytes())
    return node


def main(chain: Path, path: Path) -> None:
    """Index it all."""
    node = load(chain)
    table = NameTable(path, SANDBOX)
    follower = follower_of(node, table)
    print("up", flush=True)
    while follower.step():
        pass
    print("done", flush=True)
    table.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
