"""The outputs that a block spends, as Bitcoin Core shows them: in bytes over REST, or in JSON.

What must stay true: any bytes give lists or the one named error; nothing is read beyond them,
and no count is believed that they could not hold. All that was wanted is found, or the answer is
None: half an answer would make an operation look as if somebody else had sent it.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from indexer.bitcoin.shapes import spent_lists
from indexer.bitcoin.transactions import hash_bytes

Outpoint = tuple[bytes, int]
Place = tuple[int, int]
"""The place of a transaction in its block, and of an input in it."""


class Spending(NamedTuple):
    """Where an output is spent: in the transaction with this txid, and where that stands."""

    txid: bytes
    place: Place


_NO_COINBASE = "a coinbase stands first in a block, and spends nothing"
_SMALLEST_OUTPUT = 9  # an amount and an empty script


class CorruptSpentOutputs(ValueError):
    """Bytes that are no spent outputs of a block; the text says why."""


def spent_scripts_at(raw: bytes, places: Collection[Place]) -> dict[Place, bytes]:
    """The scripts spent at these places of a block, without reading all others.

    The form of ``/rest/spenttxouts/HASH.bin`` (Bitcoin Core 30, doc/REST-interface.md): a
    CompactSize of transactions, for each a CompactSize of outputs, each an amount in 8 bytes and
    a script with its length. Raises CorruptSpentOutputs, also for a place that the block does not
    have.
    """
    raw = bytes(raw)
    found: dict[Place, bytes] = {}
    inputs: dict[int, list[int]] = {}
    for transaction, number in places:
        inputs.setdefault(transaction, []).append(number)
    try:
        count, at = _count(raw, 0, 1)
        if not count or raw[at]:
            raise CorruptSpentOutputs(_NO_COINBASE)
        passed = 0
        for transaction in sorted(inputs):
            if transaction >= count:
                raise IndexError
            at = _pass_lists(raw, at, transaction - passed)
            scripts, at = _list(raw, at)
            passed = transaction + 1
            for number in inputs[transaction]:
                found[transaction, number] = scripts[number]
        at = _pass_lists(raw, at, count - passed)
    except IndexError:
        raise CorruptSpentOutputs("the spent outputs are cut short") from None
    if at != len(raw):
        raise CorruptSpentOutputs(f"{len(raw) - at} bytes follow the spent outputs")
    return found


def scripts_of_spent_outputs(
    raw: bytes, outpoints: Mapping[Outpoint, Spending]
) -> dict[Outpoint, bytes] | None:
    """Out of the spent outputs of a block, which are told apart by their places alone."""
    try:
        scripts = spent_scripts_at(raw, [spending.place for spending in outpoints.values()])
    except CorruptSpentOutputs:
        return None
    return {outpoint: scripts[spending.place] for outpoint, spending in outpoints.items()}


def scripts_of_verbose_transactions(
    shown: Iterable[Any], wanted: Collection[Outpoint]
) -> dict[Outpoint, bytes] | None:
    """Out of transactions with their previous outputs, as Bitcoin Core shows them in JSON."""
    found: dict[Outpoint, bytes] = {}
    try:
        for transaction in shown:
            for spending in transaction["vin"]:
                if "prevout" in spending:
                    outpoint = (hash_bytes(spending["txid"]), int(spending["vout"]))
                    found[outpoint] = bytes.fromhex(spending["prevout"]["scriptPubKey"]["hex"])
        return {outpoint: found[outpoint] for outpoint in wanted}
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _pass_lists(raw: bytes, at: int, count: int) -> int:
    """Where the list begins that comes after ``count`` others."""
    while count:
        for many, match in spent_lists():
            while count >= many and (run := match(raw, at)):
                at = run.end()
                count -= many
        if count:
            at = _list(raw, at)[1]
            count -= 1
    return at


def _list(raw: bytes, at: int) -> tuple[list[bytes], int]:
    """The scripts that one transaction spends, and where that ends."""
    outputs, at = _count(raw, at, _SMALLEST_OUTPUT)
    spent: list[bytes] = []
    for _ in range(outputs):
        size = raw[at + 8]
        start = at + 9
        if size > 252:
            size, start = _count(raw, at + 8, 1)
        at = start + size
        if at > len(raw):
            raise IndexError
        spent.append(raw[start:at])
    return spent, at


def _count(raw: bytes, at: int, least: int) -> tuple[int, int]:
    """The CompactSize at ``at`` and where it ends; each thing counted takes ``least`` bytes."""
    size, end = raw[at], at + 1
    if size > 252:
        end = at + 1 + (1 << (size - 252))
        if end > len(raw):
            raise IndexError
        size = int.from_bytes(raw[at + 1 : end], "little")
    if size * least > len(raw) - end:
        raise IndexError
    return size, end
