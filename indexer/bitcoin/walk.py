"""From one end of a raw block to the other: the txid of every transaction in it, quickly.

What must stay true: every byte of the block is accounted for, and whatever is laid out in another
way than a block is gives one of the named errors; a transaction that could carry an operation is
always told of.
"""

from typing import NamedTuple

from indexer.bitcoin.headers import HEADER_BYTES, CorruptBlock, double_sha256_of_all
from indexer.bitcoin.shapes import LONGEST_USUAL, Runs, Shapes, shapes
from indexer.bitcoin.transactions import double_sha256, size_at

MAX_BASE_BYTES = 1_000_000
SMALLEST_TRANSACTION = 60  # one input with an empty script and one output with an empty script
WINDOW = 16_384
"""Bytes in which transactions are looked for at once. What is left of them is copied each time."""

_SINGLY = 4  # passed over one by one before runs are tried again
_OP_RETURN = 0x6A
_COINBASE_OUTPOINT = bytes(32) + b"\xff\xff\xff\xff"


class Suspect(NamedTuple):
    """A transaction that may be a candidate: its place in the block, and where it begins."""

    vtxindex: int
    start: int


def transaction_count(raw: bytes) -> tuple[int, int]:
    """How many transactions the block says it has, and where the first one begins."""
    count, at = size_at(raw, HEADER_BYTES)
    if not 0 < count <= MAX_BASE_BYTES // SMALLEST_TRANSACTION:
        raise CorruptBlock(f"a block cannot hold {count} transactions")
    return count, at


def walk(raw: bytes, magic: bytes) -> tuple[list[bytes], list[Suspect]]:
    """The txids in order, and the transactions with an output that may be an operation's.

    Raises CorruptBlock; IndexError where the block is cut short; ValueError for a length that is
    not in its shortest form.
    """
    usual = shapes(magic)
    length = len(raw)
    count, at = transaction_count(raw)
    _, inputs, first = _head(raw, at, 0)
    # Only a coinbase here keeps inner nodes of the merkle tree, 64 bytes each, from being passed
    # off as the transactions (CVE-2017-12842).
    if inputs != 1 or raw[first : first + 36] != _COINBASE_OUTPOINT:
        raise CorruptBlock("the first transaction of the block is no coinbase")
    txids: list[bytes] = []
    suspects: list[Suspect] = []
    while len(txids) < count:
        if at >= length:
            raise IndexError
        end = min(at + WINDOW, length)
        found = usual.transactions(raw, at, end)
        left = len(found[-1][-1])
        if left:
            found.pop()
        if found:
            txids += double_sha256_of_all(map(b"".join, found))
            at = end - left
            if left <= LONGEST_USUAL or len(txids) >= count:
                continue  # the end of the window may have cut the next one short
        covered, after, suspected = _pass(raw, at, len(txids), usual)
        if suspected:
            suspects.append(Suspect(len(txids), at))
        txids.append(double_sha256(covered))
        at = after
    if len(txids) > count:
        raise CorruptBlock(f"other transactions follow the {count} that the block says it has")
    if at != length:
        raise CorruptBlock(f"{length - at} bytes follow the last transaction of the block")
    return txids, suspects


def _head(raw: bytes, start: int, vtxindex: int) -> tuple[int, int, int]:
    """Where the number of inputs stands, how many they are, and where the first one begins."""
    body = start + 4
    if raw[body] == 0:
        body += 2
        if raw[body - 1] != 1:
            raise CorruptBlock(f"transaction {vtxindex} has no inputs or an unknown form")
    inputs, first = size_at(raw, body)
    if not inputs:
        raise CorruptBlock(f"transaction {vtxindex} has no inputs")
    return body, inputs, first


def _pass(raw: bytes, start: int, vtxindex: int, usual: Shapes) -> tuple[bytes, int, bool]:
    """Any transaction: what its txid covers, where it ends, and whether it is suspect."""
    body, inputs, at = _head(raw, start, vtxindex)
    at = _pass_inputs(raw, at, inputs, usual.inputs)
    outputs, at = size_at(raw, at)
    at, suspected = _pass_outputs(raw, at, outputs, usual.outputs)
    end = at
    if body > start + 4:
        at = _pass_witnesses(raw, at, inputs, usual.witnesses)
    after = at + 4
    if after > len(raw):
        raise IndexError
    if body == start + 4:
        return raw[start:after], after, suspected
    return raw[start : start + 4] + raw[body:end] + raw[at:after], after, suspected


def _pass_runs(raw: bytes, at: int, count: int, runs: Runs) -> tuple[int, int]:
    """Over as many as are laid out as usual; where that ends, and how many are left."""
    for many, match in runs:
        while count >= many and (found := match(raw, at)):
            at = found.end()
            count -= many
    return at, count


def _pass_inputs(raw: bytes, at: int, count: int, runs: Runs) -> int:
    while count:
        at, count = _pass_runs(raw, at, count, runs)
        for _ in range(min(count, _SINGLY)):
            size, at = size_at(raw, at + 36)
            at += size + 4
            count -= 1
    return at


def _pass_outputs(raw: bytes, at: int, count: int, runs: Runs) -> tuple[int, bool]:
    suspected = False
    while count:
        at, count = _pass_runs(raw, at, count, runs)
        for _ in range(min(count, _SINGLY)):
            size, at = size_at(raw, at + 8)
            suspected = suspected or (size > 0 and raw[at] == _OP_RETURN)
            at += size
            count -= 1
    return at, suspected


def _pass_witnesses(raw: bytes, at: int, count: int, runs: Runs) -> int:
    while count:
        at, count = _pass_runs(raw, at, count, runs)
        for _ in range(min(count, _SINGLY)):
            items, at = size_at(raw, at)
            for _ in range(items):
                size = raw[at]
                if size < 253:
                    at += size + 1
                else:
                    size, at = size_at(raw, at)
                    at += size
            count -= 1
    return at
