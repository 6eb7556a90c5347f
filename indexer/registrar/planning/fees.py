"""What miners ask for at present, as the node knows it, and how much more a replacement must pay.

What must stay true: where the node cannot tell, the answer says so and is what the node asks for
itself, but never below a floor; no answer is below what the node would relay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from indexer.node.failures import NodeRpcError

TARGET_BLOCKS = 6
FLOOR = 5.0
"""Satoshis a byte where no node tells more; what is enough in most blocks without haste."""
_LEAST_STEP = 1.0


class Node(Protocol):
    """What is asked of a Bitcoin node."""

    def batch(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any | NodeRpcError]: ...


@dataclass(frozen=True, slots=True)
class FeeRate:
    """Satoshis a virtual byte."""

    rate: float
    relay_step: float
    """By how much a replacement's rate must be higher (BIP 125, rule 4)."""
    estimated: bool
    says: str
    """Where the rate comes from, for people."""
    max_datacarrier: int | None = None
    """The most bytes of OP_RETURN scripts that the node passes on; None: it does not tell."""


def ask_fee_rate(node: Node, blocks: int = TARGET_BLOCKS) -> FeeRate:
    """The rate at which a transaction is expected within ``blocks``. Raises NodeError."""
    estimate, mempool, network = node.batch(
        [("estimatesmartfee", (blocks,)), ("getmempoolinfo", ()), ("getnetworkinfo", ())]
    )
    relay = max(
        _rate(mempool, "mempoolminfee"), _rate(mempool, "minrelaytxfee"), _rate(network, "relayfee")
    )
    step = max(_LEAST_STEP, _rate(mempool, "incrementalrelayfee"), _rate(network, "incrementalfee"))
    carried = mempool.get("maxdatacarriersize") if isinstance(mempool, Mapping) else None
    carried = carried if type(carried) is int else None
    found = _rate(estimate, "feerate") or _rate(estimate, "fee")
    if found:
        says = f"the node's estimate for {blocks} blocks"
        return FeeRate(max(found, relay), step, True, says, carried)
    rate = max(FLOOR, 2 * relay)
    says = (
        f"the node has no estimate; {rate:g} satoshis a byte are paid, and more when that proves"
        " too little"
    )
    return FeeRate(rate, step, False, says, carried)


def _rate(reply: object, member: str) -> float:
    """A rate of a reply, told in bitcoin for 1000 bytes; 0.0 where it tells none."""
    try:
        rate = float(reply[member]) * 1e5  # type: ignore[index]
    except (TypeError, KeyError, ValueError, OverflowError):
        return 0.0
    return rate if 0 < rate < 1e7 else 0.0
