"""Raw Bitcoin blocks and transactions to values, and the fast scan for the few that matter.

What must stay true: any bytes give a value or one of the two named errors; a block is
believed only when its merkle root covers every transaction read from it; nothing but
candidates is ever parsed in full. Headers, hashes and scripts have files of their own and
are named here again, for whoever reads blocks needs them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from indexer.bitcoin.headers import (
    HEADER_BYTES,
    CorruptBlock,
    Header,
    double_sha256,
    hash_bytes,
    hash_hex,
    meets_target,
    merkle_root,
    merkle_root_and_doubt,
    parse_header,
    target_of_bits,
)
from indexer.bitcoin.scripts import (
    address_script,
    is_p2pkh,
    is_p2sh,
    op_return_payload,
    p2pkh_script,
    p2sh_script,
    script_address,
)
from indexer.bitcoin.walk import size_at, transaction_count, walk

__all__ = [
    "HEADER_BYTES",
    "MAX_BLOCK_BYTES",
    "NULL_HASH",
    "Candidate",
    "CorruptBlock",
    "CorruptTransaction",
    "Header",
    "ScannedBlock",
    "Transaction",
    "TxIn",
    "TxOut",
    "address_script",
    "compact_size",
    "double_sha256",
    "hash_bytes",
    "hash_hex",
    "is_coinbase_input",
    "is_p2pkh",
    "is_p2sh",
    "meets_target",
    "merkle_root",
    "op_return_payload",
    "p2pkh_script",
    "p2sh_script",
    "parse_block",
    "parse_header",
    "parse_transaction",
    "scan_block",
    "script_address",
    "serialize_transaction",
    "target_of_bits",
]

MAX_BLOCK_BYTES = 4_000_000
"""BIP 141: a block weighs at most 4,000,000, and a byte weighs at least one."""
NULL_HASH = bytes(32)


class CorruptTransaction(ValueError):
    """Bytes that are no transaction; the text says why, for people."""


class TxIn(NamedTuple):
    """One input: the outpoint it spends and what it shows to be allowed to."""

    previous_txid: bytes
    previous_index: int
    script_sig: bytes
    sequence: int


class TxOut(NamedTuple):
    """One output: satoshis and the scriptPubKey that guards them."""

    value: int
    script: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction without its witness; the txid does not cover a witness either."""

    txid: bytes
    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    locktime: int


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


# Transactions


def compact_size(number: int) -> bytes:
    """``number`` as CompactSize (0 .. 2**64-1)."""
    if number < 253:
        return bytes((number,))
    if number < 1 << 16:
        return b"\xfd" + number.to_bytes(2, "little")
    if number < 1 << 32:
        return b"\xfe" + number.to_bytes(4, "little")
    return b"\xff" + number.to_bytes(8, "little")


def parse_transaction(raw: bytes) -> Transaction:
    """The one transaction that ``raw`` is, with or without witness (BIP 144).

    Raises CorruptTransaction: truncated, trailing bytes, no inputs, a witness form without
    any witness, lengths not in their shortest form, more than a block could hold.
    """
    raw = bytes(raw)
    if len(raw) > MAX_BLOCK_BYTES:
        raise CorruptTransaction(f"{len(raw)} bytes are more than a block can hold")
    try:
        transaction, end = _read_transaction(raw, 0)
    except IndexError:
        raise CorruptTransaction("the transaction is cut short") from None
    except CorruptTransaction:
        raise
    except ValueError as flaw:
        raise CorruptTransaction(str(flaw)) from None
    if end != len(raw):
        raise CorruptTransaction(f"{len(raw) - end} bytes follow the end of the transaction")
    return transaction


def _read_transaction(raw: bytes, start: int) -> tuple[Transaction, int]:
    """The transaction that begins at ``start`` and where it ends; IndexError when cut short."""
    number = int.from_bytes
    length = len(raw)
    at = start + 4
    witness = raw[at] == 0
    if witness:
        if raw[at + 1] == 0:
            raise CorruptTransaction("the transaction has no inputs")
        if raw[at + 1] != 1:
            raise CorruptTransaction(f"unknown transaction form (flag {raw[at + 1]})")
        at += 2
    body = at
    count, at = size_at(raw, at)
    if count == 0:
        raise CorruptTransaction("the transaction has no inputs")
    inputs = []
    for _ in range(count):
        size, script = size_at(raw, at + 36)
        end = script + size
        if end + 4 > length:
            raise IndexError
        inputs.append(
            TxIn(
                raw[at : at + 32],
                number(raw[at + 32 : at + 36], "little"),
                raw[script:end],
                number(raw[end : end + 4], "little"),
            )
        )
        at = end + 4
    count, at = size_at(raw, at)
    outputs = []
    for _ in range(count):
        size, script = size_at(raw, at + 8)
        end = script + size
        if end > length:
            raise IndexError
        outputs.append(TxOut(number(raw[at : at + 8], "little"), raw[script:end]))
        at = end
    body_end = at
    if witness:
        shown = 0
        for _ in inputs:
            items, at = size_at(raw, at)
            shown += items
            for _ in range(items):
                size, at = size_at(raw, at)
                at += size
        if not shown:
            raise CorruptTransaction("the transaction has the form of one with a witness, and none")
    if at + 4 > length:
        raise IndexError
    version, locktime = raw[start : start + 4], raw[at : at + 4]
    txid = double_sha256(version + raw[body:body_end] + locktime)
    return (
        Transaction(
            txid,
            number(version, "little"),
            tuple(inputs),
            tuple(outputs),
            number(locktime, "little"),
        ),
        at + 4,
    )


def serialize_transaction(
    version: int, inputs: Sequence[TxIn], outputs: Sequence[TxOut], locktime: int
) -> bytes:
    """The bytes of a transaction, without witness; ValueError where a field does not fit.

    A transaction without inputs is refused: its bytes would read as the witness form.
    """
    if not inputs:
        raise ValueError("a transaction needs an input")
    try:
        parts = [version.to_bytes(4, "little"), compact_size(len(inputs))]
        for previous_txid, previous_index, script_sig, sequence in inputs:
            if len(previous_txid) != 32:
                raise ValueError(f"a txid has 32 bytes, not {len(previous_txid)}")
            parts += (
                previous_txid,
                previous_index.to_bytes(4, "little"),
                compact_size(len(script_sig)),
                script_sig,
                sequence.to_bytes(4, "little"),
            )
        parts.append(compact_size(len(outputs)))
        for value, script in outputs:
            parts += (value.to_bytes(8, "little"), compact_size(len(script)), script)
        parts.append(locktime.to_bytes(4, "little"))
    except OverflowError:
        raise ValueError("a number of the transaction does not fit its field") from None
    return b"".join(parts)


# Whole blocks


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
    try:
        txids, suspects = walk(raw, magic)
        read = [(vtxindex, _read_transaction(raw, at)[0]) for vtxindex, at in suspects]
    except IndexError:
        raise CorruptBlock("the block is cut short inside a transaction") from None
    except CorruptBlock:
        raise
    except ValueError as flaw:
        raise CorruptBlock(f"the block holds a transaction that is none: {flaw}") from None
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
    try:
        count, at = transaction_count(raw)
        for _ in range(count):
            transaction, at = _read_transaction(raw, at)
            transactions.append(transaction)
    except IndexError:
        raise CorruptBlock("the block is cut short inside a transaction") from None
    except CorruptBlock:
        raise
    except ValueError as flaw:
        raise CorruptBlock(f"the block holds a transaction that is none: {flaw}") from None
    if at != len(raw):
        raise CorruptBlock(f"{len(raw) - at} bytes follow the last transaction of the block")
    first = transactions[0].inputs
    if len(first) != 1 or not is_coinbase_input(first[0]):
        raise CorruptBlock("the first transaction of the block is no coinbase")
    _check_root(header, [transaction.txid for transaction in transactions])
    return header, tuple(transactions)


def is_coinbase_input(spent: TxIn) -> bool:
    """Whether the input spends nothing, as only that of a coinbase may."""
    return spent.previous_index == 0xFFFFFFFF and spent.previous_txid == NULL_HASH


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
