"""The blocks of the regtest chain: its genesis, its subsidy, mining a new one, and judging any.

What must stay true: every block made here is one that Bitcoin Core's regtest rules take
(real work at bits 207fffff, height in the coinbase as in BIP 34). No clock, no chance:
the time and the number that tells apart two coinbases of one height are arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from indexer.bitcoin.headers import HEADER_BYTES, Header, merkle_root
from indexer.bitcoin.transactions import (
    Transaction,
    compact_size,
    double_sha256,
    is_coinbase_input,
    serialize_transaction,
)
from indexer.bitcoin.witness import RESERVED, commitment_script, has_witness, split, stripped
from indexer.sandbox.coins import Coin
from indexer.sandbox.policy import Rejected, check_transaction, is_final

REGTEST_BITS = 0x207FFFFF
REGTEST_WORK = 2
"""What one block adds to the work of its chain."""
HALVING_INTERVAL = 150
COIN = 100_000_000
BLOCK_VERSION = 0x20000000
MAX_BLOCK_SIZE = 1_000_000
MEDIAN_SPAN = 11
MAX_FUTURE_SECONDS = 7200

GENESIS_BLOCK = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b"
    "12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4adae5494dffff7f2002000000"
    "01"
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d"
    "04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f"
    "6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2"
    "052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649"
    "f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000"
)


class BlockRejected(Exception):
    """A block that was not taken; the text is Bitcoin Core's name for the reason."""


@dataclass(slots=True, eq=False)
class BlockNode:
    """A block with its place in the tree of all blocks."""

    header: Header
    raw: bytes
    transactions: tuple[Transaction, ...]
    raws: Sequence[bytes]
    """The bytes of each transaction, with its witness."""
    previous: "BlockNode | None"
    height: int
    work: int
    arrival: int
    times: tuple[int, ...]
    """Of this block and the ten before it."""
    failed: bool = False
    undo: list[list[Coin]] = field(default_factory=list)

    @property
    def median_time(self) -> int:
        """The median time past (BIP 113)."""
        return sorted(self.times)[len(self.times) // 2]

    def raw_of(self, transaction: Transaction) -> bytes:
        """The bytes of one of its transactions, with its witness."""
        return self.raws[self.transactions.index(transaction)]

    @property
    def hash(self) -> bytes:
        """The block's hash in internal order."""
        return self.header.hash


def subsidy(height: int) -> int:
    """Satoshis that a block at ``height`` may create; nothing after 33 halvings."""
    halvings = height // HALVING_INTERVAL
    return 50 * COIN >> halvings if halvings < 64 else 0


def height_push(height: int) -> bytes:
    """The push of ``height`` that begins the coinbase's scriptSig (BIP 34)."""
    if height == 0:
        return b"\x00"
    if height <= 16:
        return bytes((0x50 + height,))
    number = height.to_bytes((height.bit_length() + 8) // 8, "little")
    return bytes((len(number),)) + number


def coinbase(
    height: int, extra: int, value: int, script: bytes, others: Sequence[bytes] = ()
) -> bytes:
    """A coinbase paying ``value`` to ``script``; ``extra`` makes it unlike others of the height.

    ``others``: the raw transactions of its block, whose witnesses it commits to, where there are
    any (BIP 141).
    """
    tag = height_push(height) + b"\x08" + extra.to_bytes(8, "little")
    marker = outputs = witness = b""
    count = 1
    if any(map(has_witness, others)):
        committed = commitment_script(_wtxid_root(others))
        marker, count = b"\x00\x01", 2
        outputs = bytes(8) + compact_size(len(committed)) + committed
        witness = b"\x01" + compact_size(len(RESERVED)) + RESERVED
    return (
        b"\x01\x00\x00\x00"
        + marker
        + b"\x01"
        + bytes(32)
        + b"\xff\xff\xff\xff"
        + bytes((len(tag),))
        + tag
        + b"\xff\xff\xff\xff"
        + bytes((count,))
        + value.to_bytes(8, "little")
        + compact_size(len(script))
        + script
        + outputs
        + witness
        + bytes(4)
    )


def _wtxid_root(others: Sequence[bytes]) -> bytes:
    """The root over the hashes of all but the coinbase, with their witnesses; its own is 0."""
    return merkle_root([bytes(32), *map(double_sha256, others)])


def mine(previous_hash: bytes, time: int, raws: Sequence[bytes]) -> bytes:
    """A raw block of these transactions, with its proof of work."""
    start = (
        BLOCK_VERSION.to_bytes(4, "little")
        + previous_hash
        + merkle_root([double_sha256(stripped(raw)) for raw in raws])
        + time.to_bytes(4, "little")
        + REGTEST_BITS.to_bytes(4, "little")
    )
    for nonce in range(1 << 32):
        header = start + nonce.to_bytes(4, "little")
        digest = sha256(sha256(header).digest()).digest()
        if digest[31] < 0x7F:  # a shade stricter than the target, and quicker to see
            return header + compact_size(len(raws)) + b"".join(raws)
    raise AssertionError("no nonce of four thousand million shows work at one chance in two")


def serialize(transaction: Transaction) -> bytes:
    """The bytes of a transaction, without its witness."""
    return serialize_transaction(
        transaction.version, transaction.inputs, transaction.outputs, transaction.locktime
    )


def place_block(
    header: Header,
    transactions: tuple[Transaction, ...],
    raw: bytes,
    previous: BlockNode,
    arrival: int,
    now: float | None,
) -> BlockNode:
    """The node of a block after every check that needs no coins; raises BlockRejected."""
    if previous.failed:
        raise BlockRejected("bad-prevblk")
    if header.bits != REGTEST_BITS:
        raise BlockRejected("bad-diffbits")
    if header.version < 4:
        raise BlockRejected(f"bad-version(0x{header.version & 0xFFFFFFFF:08x})")
    if header.time <= previous.median_time:
        raise BlockRejected("time-too-old")
    if now is not None and header.time > now + MAX_FUTURE_SECONDS:
        raise BlockRejected("time-too-new")
    if len(raw) > MAX_BLOCK_SIZE:
        raise BlockRejected("bad-blk-length")
    height = previous.height + 1
    if not transactions[0].inputs[0].script_sig.startswith(height_push(height)):
        raise BlockRejected("bad-cb-height")
    for place, transaction in enumerate(transactions):
        try:
            check_transaction(transaction)
        except Rejected as refusal:
            raise BlockRejected(refusal.message) from None
        if place and is_coinbase_input(transaction.inputs[0]):
            raise BlockRejected("bad-cb-multiple")
        if not is_final(transaction, height, previous.median_time):
            raise BlockRejected("bad-txns-nonfinal")
    raws = raws_of(raw, transactions)
    if any(map(has_witness, raws)):
        committed = commitment_script(_wtxid_root(raws[1:]))
        scripts = [output.script for output in transactions[0].outputs]
        if committed not in scripts:
            expected = any(script[:6] == committed[:6] for script in scripts)
            raise BlockRejected("bad-witness-merkle-match" if expected else "unexpected-witness")
    times = (*previous.times, header.time)[-MEDIAN_SPAN:]
    work = previous.work + REGTEST_WORK
    return BlockNode(header, raw, transactions, raws, previous, height, work, arrival, times)


def raws_of(block: bytes, transactions: Sequence[Transaction]) -> Sequence[bytes]:
    """The bytes of each transaction of a raw block, with its witness."""
    start = HEADER_BYTES + len(compact_size(len(transactions)))
    if len(transactions) == 1:
        return [block[start:]]
    plain = [serialize(transaction) for transaction in transactions]
    if start + sum(map(len, plain)) == len(block):
        return plain
    return split(block[start:], len(transactions))
