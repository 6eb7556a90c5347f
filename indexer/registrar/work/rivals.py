"""What others have sent and is not mined yet: operations in the node's mempool.

What must stay true: what is here is a warning and nothing else, for a mempool may lack anything;
looking is bounded, and where it would take too long nothing is said.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from indexer.bitcoin.transactions import (
    CorruptTransaction,
    Transaction,
    hash_bytes,
    hash_hex,
    op_return_payload,
    parse_transaction,
)
from indexer.networks import Network
from indexer.node.failures import NodeError
from indexer.protocol.operations import Malformed, Operation
from indexer.protocol.payloads import read_operation

MAX_TRANSACTIONS = 5_000
"""Of a mempool that is looked through; the main network's is often larger."""
MAX_INPUTS = 100
_AT_ONCE = 100


class Node(Protocol):
    """What is asked of a Bitcoin node."""

    def call(self, method: str, *params: object) -> Any: ...
    def batch(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class Rivals:
    """Operations of others that wait to be mined."""

    operations: tuple[Operation, ...]
    seen: bool
    """Whether the whole mempool was looked through."""


NOT_SEEN = Rivals((), False)


def waiting_operations(
    node: Node, network: Network, height: int, ours: Collection[bytes]
) -> Rivals:
    """The operations that wait in the mempool for block ``height``, without transactions of
    ``ours`` (txids). Raises NodeError."""
    listed = node.call("getrawmempool")
    if not isinstance(listed, list) or len(listed) > MAX_TRANSACTIONS:
        return NOT_SEEN
    try:
        txids = [txid for txid in map(hash_bytes, listed) if txid not in ours]
    except (TypeError, ValueError):
        return NOT_SEEN
    found: list[Operation] = []
    for begin in range(0, len(txids), _AT_ONCE):
        for transaction in _transactions(node, txids[begin : begin + _AT_ONCE]):
            if len(transaction.inputs) > MAX_INPUTS or not _is_candidate(transaction, network):
                continue
            spent = _spent_scripts(node, transaction)
            if spent is None:
                continue
            read = read_operation(transaction, 0, spent, network, network.epoch(height))
            if read is not None and not isinstance(read, Malformed):
                found.append(read)
    return Rivals(tuple(found), True)


def _transactions(node: Node, txids: Sequence[bytes]) -> list[Transaction]:
    """Those of ``txids`` that the node still has; what it cannot give is left out."""
    replies = node.batch([("getrawtransaction", (hash_hex(txid), False)) for txid in txids])
    found = []
    for reply in replies:
        if isinstance(reply, str):
            try:
                found.append(parse_transaction(bytes.fromhex(reply)))
            except (ValueError, CorruptTransaction):
                continue
    return found


def _is_candidate(transaction: Transaction, network: Network) -> bool:
    payloads = (op_return_payload(output.script) for output in transaction.outputs)
    return any(payload is not None and payload.startswith(network.magic) for payload in payloads)


def _spent_scripts(node: Node, transaction: Transaction) -> list[bytes] | None:
    """The scripts that it spends, of outputs in blocks or in the mempool; None: unknown."""
    places = [(one.previous_txid, one.previous_index) for one in transaction.inputs]
    shown = node.batch([("gettxout", (hash_hex(txid), n, False)) for txid, n in places])
    scripts = []
    for (txid, index), reply in zip(places, shown, strict=True):
        script = _script_shown(reply)
        if script is None:
            (parent,) = _transactions(node, [txid]) or (None,)
            if parent is None or index >= len(parent.outputs):
                return None
            script = parent.outputs[index].script
        scripts.append(script)
    return scripts


def _script_shown(reply: object) -> bytes | None:
    if isinstance(reply, NodeError) or not isinstance(reply, dict):
        return None
    try:
        return bytes.fromhex(reply["scriptPubKey"]["hex"])
    except (KeyError, TypeError, ValueError):
        return None
