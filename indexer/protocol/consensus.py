"""From the texts of accepted operations to the ops hash, from there to the consensus hash.

Two nodes with the same name table have the same consensus hash (protocol spec sections 4.1 to 4.4).
"""

from collections.abc import Callable, Iterable, Sequence

from embit.hashes import hash160

from indexer.bitcoin.transactions import double_sha256

CONSENSUS_HASH_BYTES = 16


def _merkle_root(leaves: Iterable[bytes]) -> bytes:
    """The Merkle root over ``leaves`` in display order, sorted as their hex strings sort."""
    # Hex keeps the order of bytes, and a prefix sorts before what it begins, in both forms.
    row = [leaf[::-1] for leaf in sorted(leaves)]
    while len(row) > 1:
        if len(row) % 2:
            row.append(row[-1])
        row = [double_sha256(row[i] + row[i + 1]) for i in range(0, len(row), 2)]
    return row[0][::-1]


def ops_hash(serialized: Sequence[str]) -> bytes:
    """The 32-byte hash of a block's accepted operations, in any order (spec section 4.4)."""
    return _merkle_root([double_sha256(text.encode("ascii")) for text in serialized or ("",)])


def skip_heights(height: int, first_block: int) -> list[int]:
    """The earlier heights whose consensus hashes enter the one of ``height``: B-1, B-3, B-7, …"""
    heights = []
    step = 1
    while height - step >= first_block:
        heights.append(height - step)
        step = step * 2 + 1
    return heights


def consensus_hash(
    height: int, first_block: int, block_ops_hash: bytes, earlier: Callable[[int], bytes]
) -> bytes:
    """The 16-byte consensus hash of ``height``; ``earlier(h)`` is that of an earlier height."""
    leaves = [earlier(h) for h in skip_heights(height, first_block)]
    root = _merkle_root([block_ops_hash, *leaves])
    digest: bytes = hash160(root)
    return digest[:CONSENSUS_HASH_BYTES]
