"""The transactions of one block's operations, with all that judging them again takes.

A row holds, for each operation in block order: its place in the block, whether its text is in the
block's ops hash, its transaction without witness, and the script that each input spends, where it
is p2pkh or p2sh. So a table can be made anew from its own rows, and a snapshot file needs nothing
but these. Reading is the inverse of writing; whatever else the bytes are raises ``DamagedRow``.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from indexer.bitcoin.transactions import (
    CorruptTransaction,
    Transaction,
    is_p2pkh,
    is_p2sh,
    parse_transaction,
    serialize_transaction,
)
from indexer.protocol.rows import DamagedRow, read_bytes, read_number, write_bytes, write_number

MAX_INPUTS = 100_000
"""More than a transaction that fits a block can have: each takes 41 bytes."""


class Carried(NamedTuple):
    """One operation as it came: where, in what, and signed by whom."""

    vtxindex: int
    counted: bool
    """Whether its text is in the ops hash: it was accepted, and is no announcement."""
    transaction: Transaction
    spent_scripts: tuple[bytes, ...]


def write_carried(operations: Iterable[Carried]) -> bytes:
    """The row of one block's operations."""
    return b"".join(part for operation in operations for part in _parts(operation))


def _parts(operation: Carried) -> Iterator[bytes]:
    tx = operation.transaction
    yield write_number(operation.vtxindex << 1 | operation.counted)
    yield write_bytes(serialize_transaction(tx.version, tx.inputs, tx.outputs, tx.locktime))
    yield write_number(len(operation.spent_scripts))
    before: bytes | None = None
    for spent in operation.spent_scripts:
        # Only these two kinds are ever accepted; of any other it is enough that there is one.
        script = spent if is_p2pkh(spent) or is_p2sh(spent) else b""
        yield write_bytes(None if script == before else script)  # mostly one payer, many coins
        before = script


def read_carried(row: bytes) -> tuple[Carried, ...]:
    """The operations of a row. Raises ``DamagedRow``."""
    at, last = 0, -1
    operations = []
    while at < len(row):
        number, at = read_number(row, at)
        raw, at = read_bytes(row, at)
        count, at = read_number(row, at)
        if count > min(MAX_INPUTS, len(row) - at):
            raise DamagedRow(f"{count} scripts are more than a transaction can spend")
        scripts: list[bytes] = []
        for _ in range(count):
            script, at = read_bytes(row, at)
            if script is None:
                if not scripts:
                    raise DamagedRow("the first script is said to be the one before it")
                script = scripts[-1]
            scripts.append(script)
        if number >> 1 <= last:
            raise DamagedRow("operations are not in block order")
        last = number >> 1
        try:
            transaction = parse_transaction(raw or b"")
        except CorruptTransaction as error:
            raise DamagedRow(str(error)) from None
        operations.append(Carried(last, bool(number & 1), transaction, tuple(scripts)))
    return tuple(operations)
