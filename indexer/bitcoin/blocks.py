"""Raw blocks to values: the fast scan for the few transactions that matter, or all of them.

What must stay true: any bytes give a value or CorruptBlock; a block is believed only when its
merkle root covers every transaction read from it; the scan parses nothing but candidates in full.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from indexer.bitcoin.headers import (
    HEADER_BYTES,
    CorruptBlock,
    Header,
    meets_target,
    merkle_root_and_doubt,
    parse_header,
)
from indexer.bitcoin.transactions import (
    MAX_BLOCK_BYTES,
    Transaction,
    hash_hex,
    is_coinbase_input,
    op_return_payload,
    read_transaction,
)
from indexer.bitcoin.walk import transaction_count, walk


@dataclass(frozen=True, slots=True)
class Candidate:
    """A transaction that may carry an operation, with its place in the block (coinbase: 0)."""

    vtxindex: int
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class ScannedBlock:
    """What the scan of one block found."""

    header: Header
    transaction_count: int
    candidates: tuple[Candidate, ...]


def scan_block(raw: bytes, magic: bytes) -> ScannedBlock:
    """Check a raw block against its own header and pick the candidates out of it.

    A candidate has an output whose script is OP_RETURN and one push of at least 3 bytes that
    begin with ``magic`` (protocol spec section 1.2). Raises CorruptBlock: truncated, trailing
    bytes, proof of work missing, merkle root wrong or ambiguous, no coinbase in front,
    absurd counts. Witnesses are skipped over; the merkle root does not cover them.
    """
    raw = bytes(raw)
    if not magic:
        raise ValueError("the magic of a network has at least one byte")
    header = _proven_header(raw)
    with _corrupt_by_its_transactions():
        txids, suspects = walk(raw, magic)
        read = [(vtxindex, read_transaction(raw, at)[0]) for vtxindex, at in suspects]
    _check_root(header, txids)
    candidates = (
        Candidate(vtxindex, transaction)
        for vtxindex, transaction in read
        if any(_carries(output.script, magic) for output in transaction.outputs)
    )
    return ScannedBlock(header, len(txids), tuple(candidates))


def parse_block(raw: bytes) -> tuple[Header, tuple[Transaction, ...]]:
    """Every transaction of a raw block, under the same checks as :func:`scan_block`.

    Several times slower than the scan: for whoever needs them all. Raises CorruptBlock.
    """
    raw = bytes(raw)
    header = _proven_header(raw)
    transactions = []
    with _corrupt_by_its_transactions():
        count, at = transaction_count(raw)
        for _ in range(count):
            transaction, at = read_transaction(raw, at)
            transactions.append(transaction)
    if at != len(raw):
        raise CorruptBlock(f"{len(raw) - at} bytes follow the last transaction of the block")
    first = transactions[0].inputs
    if len(first) != 1 or not is_coinbase_input(first[0]):
        raise CorruptBlock("the first transaction of the block is no coinbase")
    _check_root(header, [transaction.txid for transaction in transactions])
    return header, tuple(transactions)


@contextmanager
def _corrupt_by_its_transactions() -> Iterator[None]:
    try:
        yield
    except IndexError:
        raise CorruptBlock("the block is cut short inside a transaction") from None
    except CorruptBlock:
        raise
    except ValueError as flaw:
        raise CorruptBlock(f"the block holds a transaction that is none: {flaw}") from None


def _proven_header(raw: bytes) -> Header:
    if len(raw) > MAX_BLOCK_BYTES:
        raise CorruptBlock(f"{len(raw)} bytes are more than a block can have")
    if len(raw) < HEADER_BYTES:
        raise CorruptBlock(f"the block is cut short: {len(raw)} bytes do not hold a header")
    header = parse_header(raw[:HEADER_BYTES])
    if not meets_target(header):
        raise CorruptBlock(f"block {hash_hex(header.hash)} shows no proof of work")
    return header


def _check_root(header: Header, txids: list[bytes]) -> None:
    root, ambiguous = merkle_root_and_doubt(txids)
    if root != header.merkle_root:
        raise CorruptBlock(
            f"the transactions of block {hash_hex(header.hash)} hash to the merkle root "
            f"{hash_hex(root)}; its header commits to {hash_hex(header.merkle_root)}"
        )
    if ambiguous:
        raise CorruptBlock(f"block {hash_hex(header.hash)} repeats transactions (CVE-2012-2459)")


def _carries(script: bytes, magic: bytes) -> bool:
    payload = op_return_payload(script)
    return payload is not None and len(payload) >= 3 and payload.startswith(magic)
