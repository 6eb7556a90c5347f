"""A chain in memory over JSON-RPC, and what its client has asked of it."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from indexer.bitcoin.transactions import hash_hex
from indexer.networks import SANDBOX
from tests.indexer.node.fakes import ErrorReply, FakeNode

DEADLINE = 60.0


class Block(Protocol):
    """What is served of a block; ``spent``: the scripts of what it spends, by (txid, index)."""

    @property
    def height(self) -> int: ...
    @property
    def hash(self) -> bytes: ...
    @property
    def raw(self) -> bytes: ...
    @property
    def spent(self) -> dict[tuple[bytes, int], bytes]: ...


class ServedChain(FakeNode):
    """A chain over JSON-RPC that tells what its client has asked for.

    ``began_at``: the first block whose hash it wanted, which is the last one of its index, or the
    first of all; ``highest``: the highest block that was read.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.top = blocks[-1].height
        self._blocks = blocks
        self._by_hash = {hash_hex(block.hash): block for block in blocks}
        self._turn = threading.Condition()
        self.began_at: int | None = None
        self.highest = 0
        self.answers = {
            "getblockchaininfo": self._info,
            "getindexinfo": {},  # so that what a block spends is read out of the block
            "getblockhash": self._hash,
            "getblock": self._block,
        }

    @property
    def place(self) -> str:
        """The address with user and password."""
        return self.url.replace("//", f"//{self.credentials}@")

    def wait(self, what: Callable[[], bool]) -> bool:
        """Until ``what()`` is true of what was asked; whether it came to that in time."""
        with self._turn:
            return self._turn.wait_for(what, DEADLINE)

    def _info(self) -> dict[str, Any]:
        best = hash_hex(self._blocks[-1].hash)
        return {"chain": "regtest", "blocks": self.top, "headers": self.top, "bestblockhash": best}

    def _hash(self, height: int) -> str | ErrorReply:
        if height > self.top:
            return ErrorReply(-8, "Block height out of range")
        if height == 0:
            return SANDBOX.genesis_hash
        with self._turn:
            if self.began_at is None:
                self.began_at = height
                self._turn.notify_all()
        return hash_hex(self._blocks[height - 1].hash)

    def _block(self, wanted: str, verbosity: int) -> object:
        block = self._by_hash[wanted]
        if verbosity == 0:
            with self._turn:
                self.highest = max(self.highest, block.height)
                self._turn.notify_all()
            return block.raw.hex()
        return {
            "tx": [
                {
                    "vin": [
                        {
                            "txid": hash_hex(txid),
                            "vout": index,
                            "prevout": {"scriptPubKey": {"hex": script.hex()}},
                        }
                        for (txid, index), script in block.spent.items()
                    ]
                }
            ]
        }
