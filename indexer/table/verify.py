"""The chain of consensus hashes computed anew from the operations that an index has stored.

Trusts nothing of what is stored but the texts of the operations, and those only if the hashes that
follow from them are the stored ones and the published ones (spec section 5, last paragraph).
"""

from collections.abc import Callable
from typing import Protocol

from indexer.networks import Network
from indexer.protocol import consensus


class Stored(Protocol):
    """What is needed of a snapshot."""

    @property
    def network(self) -> Network: ...
    @property
    def height(self) -> int: ...
    def operations(self, height: int, /) -> tuple[str, ...]: ...
    def ops_hash(self, height: int, /) -> bytes | None: ...
    def computed_consensus_hash(self, height: int, /) -> bytes | None: ...


class VerificationFailed(Exception):
    """A hash is not what it should be; ``str()`` of it says which, at which block."""


def compute_chain(
    stored: Stored, through: int, *, on_block: Callable[[int], None] = lambda height: None
) -> bytes:
    """The consensus hash of block ``through``, which must be indexed, from the operations alone.

    Every ops hash and consensus hash on the way is compared with the stored one, and where one was
    published for its height, with that. Raises ``VerificationFailed`` at the first that differs.
    """
    network = stored.network
    first = network.first_block
    hashes: list[bytes] = []
    for height in range(first, through + 1):
        try:
            ops_hash = consensus.ops_hash(stored.operations(height))
        except ValueError as error:
            raise VerificationFailed(
                f"block {height}: the stored operations cannot be read"
            ) from error
        _compare(height, "ops hash", "stored", ops_hash, stored.ops_hash(height))
        computed = consensus.consensus_hash(height, first, ops_hash, lambda h: hashes[h - first])
        kept = stored.computed_consensus_hash(height)
        _compare(height, "consensus hash", "stored", computed, kept)
        if height in network.checkpoints:
            published = network.checkpoints[height]
            _compare(height, "consensus hash", "published", computed, published)
        hashes.append(computed)
        on_block(height)
    return hashes[-1]


def _compare(height: int, what: str, which: str, computed: bytes, known: bytes | None) -> None:
    if computed != known:
        there = "none" if known is None else known.hex()
        raise VerificationFailed(
            f"block {height}: the {what} that follows from the stored operations is"
            f" {computed.hex()}, the {which} one is {there}"
        )
