"""The scripts of spent outputs out of what a node shows of a block.

What must stay true: all that was wanted is found, or the answer is None: half an answer would
make an operation look as if somebody else had sent it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from indexer.bitcoin.headers import hash_bytes
from indexer.node.spent_outputs import CorruptSpentOutputs, spent_scripts_at

Outpoint = tuple[bytes, int]


def scripts_of_spent_outputs(
    raw: bytes, places: Mapping[Outpoint, tuple[int, int]]
) -> dict[Outpoint, bytes] | None:
    """Out of the spent outputs of a block; ``places``: (transaction, input) that spends each."""
    try:
        scripts = spent_scripts_at(raw, places.values())
    except CorruptSpentOutputs:
        return None
    return {outpoint: scripts[place] for outpoint, place in places.items()}


def scripts_of_verbose_block(
    shown: Any, wanted: Sequence[Outpoint]
) -> dict[Outpoint, bytes] | None:
    """Out of ``getblock HASH 3``."""
    found: dict[Outpoint, bytes] = {}
    try:
        for transaction in shown["tx"]:
            for spending in transaction["vin"]:
                if "prevout" in spending:
                    outpoint = (hash_bytes(spending["txid"]), int(spending["vout"]))
                    found[outpoint] = bytes.fromhex(spending["prevout"]["scriptPubKey"]["hex"])
        return {outpoint: found[outpoint] for outpoint in wanted}
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
