"""Blocks of a Bitcoin node in bytes: over REST where they are large, by the hundred where not."""

from collections.abc import Callable, Sequence

from indexer.bitcoin.headers import HEADER_BYTES, CorruptBlock, parse_header
from indexer.bitcoin.transactions import hash_hex
from indexer.node.capabilities import Capabilities
from indexer.node.failures import NodeError, NodePruned, NodeRefused, NodeRpcError, NodeUnavailable
from indexer.node.replies import read_hex_results
from indexer.node.rpc import MAX_CALLS, Rpc, or_raise
from indexer.node.wire import Call

MAX_EXPECTED_BYTES = 8_000_000
BLOCK_REPLY_BYTES = 4_000_000
"""What a block is expected to take in a reply: hexadecimal doubles it."""

REST_BLOCK_BYTES = 20_000
"""Blocks that are larger than this on average are read over REST where it is offered: half the
bytes and no text to decode. Smaller ones come faster by the hundred in one batch."""

RPC_MISC, RPC_NOT_FOUND = -1, -5


class Blocks:
    """Reads blocks off one node, each checked to have the hash that was asked for."""

    def __init__(self, rpc: Rpc, capabilities: Callable[[], Capabilities]) -> None:
        self._rpc = rpc
        self._capabilities = capabilities
        self.mean_bytes = 0.0
        """Of a block of those that were read last; 0: not known."""

    def read(self, hashes: Sequence[bytes]) -> list[bytes]:
        """The bytes of each block. Raises NodePruned, and what ``Rpc.call`` raises."""
        mean, self.mean_bytes = self.mean_bytes, 0.0
        blocks = self._blocks_over_rest(hashes, mean)
        if blocks is None:
            try:
                blocks = self._blocks_over_rpc(hashes, mean)
            except (NodeUnavailable, NodeRefused, NodePruned):
                raise
            except NodeError:
                if not mean:
                    raise
                # The blocks may have grown all of a sudden, so that one reply could not hold them.
                blocks = self._blocks_over_rpc(hashes, 0.0)
        for wanted, raw in zip(hashes, blocks, strict=True):
            check_header(raw[:HEADER_BYTES], wanted, self._rpc.place)
        if blocks:
            self.mean_bytes = sum(map(len, blocks)) / len(blocks)
        return blocks

    def _blocks_over_rest(self, hashes: Sequence[bytes], mean: float) -> list[bytes] | None:
        if mean < REST_BLOCK_BYTES or not self._capabilities().rest:
            return None
        blocks = []
        for block_hash in hashes:
            raw = self._rpc.rest(_block_path(block_hash))
            if raw is None:
                return None
            blocks.append(raw)
        return blocks

    def _blocks_over_rpc(self, hashes: Sequence[bytes], mean: float) -> list[bytes]:
        calls: list[Call] = [("getblock", (hash_hex(h), 0)) for h in hashes]
        small = 0 < mean < REST_BLOCK_BYTES
        many = MAX_CALLS if small else max(1, MAX_EXPECTED_BYTES // BLOCK_REPLY_BYTES)
        at_most = MAX_EXPECTED_BYTES if small else None
        found = self._rpc.batch(calls, many, at_most, read_hex_results)
        blocks = []
        for wanted, result in zip(hashes, found, strict=True):
            if isinstance(result, NodeRpcError) and result.code != RPC_NOT_FOUND:
                if result.code == RPC_MISC and "pruned" in result.message:
                    raise self._pruned(wanted)
                # Some nodes want a truth value where Bitcoin Core wants a number.
                result = self._rpc.call("getblock", hash_hex(wanted), False)
            blocks.append(self._rpc.bytes_in(or_raise(result), "getblock"))
        return blocks

    def _pruned(self, block_hash: bytes) -> NodePruned:
        self._rpc.losses += 1  # the height below which nothing is left grows
        keeps = self._capabilities().prune_height
        since = "" if keeps is None else f" (it keeps those from {keeps} on)"
        return NodePruned(
            f"the node at {self._rpc.place} has pruned block {hash_hex(block_hash)}{since}, which "
            "the index needs; let it download the chain again with prune=0, or use another node"
        )


def check_header(raw: bytes, wanted: bytes, place: str) -> None:
    """Raises NodeError where these are not the bytes of the header that was asked for."""
    try:
        same = parse_header(raw).hash == wanted
    except CorruptBlock:
        same = False
    if not same:
        raise NodeError(
            f"asked for block {hash_hex(wanted)}, the node at {place} gave another; "
            "check the node's disk and its log"
        )


def _block_path(block_hash: bytes) -> str:
    return f"block/{hash_hex(block_hash)}.bin"
