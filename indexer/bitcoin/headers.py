"""Block headers with their proof of work, and merkle trees.

What must stay true: a header's hash is that of its own 80 bytes; a merkle tree that two different
blocks can have is told as such.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from operator import add, eq

from indexer.bitcoin.transactions import double_sha256

HEADER_BYTES = 80

_digest = type(sha256()).digest


class CorruptBlock(ValueError):
    """Bytes that are no block, or no block that its own header commits to; the text says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """The 80 bytes that a block's hash is the hash of."""

    version: int
    previous_hash: bytes
    merkle_root: bytes
    time: int
    bits: int
    nonce: int
    hash: bytes
    raw: bytes


def double_sha256_of_all(pieces: Iterable[bytes]) -> list[bytes]:
    """:func:`double_sha256` of each: a block has thousands, and this loop runs in C."""
    return list(map(_digest, map(sha256, map(_digest, map(sha256, pieces)))))


def parse_header(raw: bytes) -> Header:
    """The header in exactly 80 bytes; CorruptBlock for any other length."""
    if len(raw) != HEADER_BYTES:
        raise CorruptBlock(f"a block header has 80 bytes, not {len(raw)}")
    number = int.from_bytes
    return Header(
        version=number(raw[:4], "little", signed=True),
        previous_hash=raw[4:36],
        merkle_root=raw[36:68],
        time=number(raw[68:72], "little"),
        bits=number(raw[72:76], "little"),
        nonce=number(raw[76:80], "little"),
        hash=double_sha256(raw),
        raw=bytes(raw),
    )


def target_of_bits(bits: int) -> int:
    """The number that a header hash may not exceed; 0 for bits that are negative or overflow."""
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    target = mantissa << 8 * (exponent - 3) if exponent >= 3 else mantissa >> 8 * (3 - exponent)
    if bits & 0x800000 or target >> 256:
        return 0
    return target


def meets_target(header: Header) -> bool:
    """Whether the header's hash proves the work that its own bits ask for."""
    return int.from_bytes(header.hash, "little") <= target_of_bits(header.bits)


def merkle_root(txids: Sequence[bytes]) -> bytes:
    """The merkle root over ``txids`` in block order; ValueError when there are none."""
    if not txids:
        raise ValueError("a merkle tree has at least one leaf")
    return merkle_root_and_doubt(list(txids))[0]


def merkle_root_and_doubt(row: list[bytes]) -> tuple[bytes, bool]:
    """Root, and whether some pair of equal nodes makes the tree ambiguous (CVE-2012-2459)."""
    ambiguous = False
    while len(row) > 1:
        left, right = row[::2], row[1::2]
        ambiguous = ambiguous or any(map(eq, left, right))
        if len(left) > len(right):
            right.append(left[-1])
        row = double_sha256_of_all(map(add, left, right))
    return row[0], ambiguous
