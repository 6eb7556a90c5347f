"""What a Bitcoin node can do for us, found by asking it, and the rights that takes.

What must stay true: a node that knows none of the questions, or lets us ask none of them, is
still followed by the oldest ways; nothing is guessed from a version where asking tells.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from indexer.node.failures import NodeRefused, NodeRpcError, NodeUnavailable
from indexer.node.spent_outputs import CorruptSpentOutputs, spent_scripts_at

RPC_METHODS = (
    "getblock",
    "getblockchaininfo",
    "getblockhash",
    "getblockheader",
    "getindexinfo",
    "getnetworkinfo",
    "getrawtransaction",
    "getzmqnotifications",
    "sendrawtransaction",
    "waitfornewblock",
)
"""Everything that is ever asked of a node while following it and sending to it: the line
``rpcwhitelist`` of bitcoind's settings needs these and no others."""

MAX_TIP_AGE = 24 * 3600
"""Seconds; also Bitcoin Core takes its initial download for over when its tip is younger."""


class Prevouts(Enum):
    """Where the outputs that a block spends are read. The value is for people."""

    REST = "the node's REST interface (spenttxouts)"
    TRANSACTIONS = "the previous transactions (getrawtransaction, in batches)"
    SPENDING = "the transactions that spend them (getrawtransaction with verbosity 2)"
    BLOCK = "the blocks that spend them (getblock with verbosity 3)"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was found. ``prevouts``: the ways worth trying, the fastest first; which of SPENDING
    and BLOCK that is depends on the block."""

    prevouts: tuple[Prevouts, ...]
    txindex: bool | None
    """Whether the node has an index of all transactions; None where it does not say."""
    rest: bool
    """Whether blocks can be had over REST, in bytes."""
    prune_height: int | None
    """The first block that the node still holds; None where it holds all."""
    version: int | None
    """As Bitcoin Core counts: 300100 is 30.1."""
    announcements: str | None
    """The ZeroMQ address on which the node announces block hashes."""
    long_polling: bool
    """Whether the node answers ``waitfornewblock``."""

    @property
    def spent_outputs(self) -> str:
        """Where the outputs that blocks spend are read, for people."""
        first = self.prevouts[0].value
        if self.prevouts[0] is not Prevouts.SPENDING:
            return first
        return f"{first}, or from {Prevouts.BLOCK.value} where that costs less"

    @property
    def faster(self) -> str | None:
        """What to set at the node so that it is read faster; None: nothing much would help."""
        if self.prevouts[0] is not Prevouts.SPENDING:
            return None
        return "rest=1 (Bitcoin Core 30 or later) or txindex=1 in bitcoin.conf"

    def __str__(self) -> str:
        index = {True: "has an", False: "has no", None: "does not say whether it has an"}[
            self.txindex
        ]
        parts = [f"{index} index of all transactions"]
        if self.prune_height is not None:
            parts.append(f"keeps the blocks from {self.prune_height} on")
        if self.rest:
            parts.append("gives blocks over REST")
        if self.announcements:
            parts.append(f"announces blocks at {self.announcements}")
        elif self.long_polling:
            parts.append("lets us wait for blocks")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class ChainInfo:
    """What the node says about its chain; None where it does not say."""

    chain: str
    blocks: int
    headers: int
    best_block_hash: bytes
    initial_block_download: bool | None
    tip_time: int | None = None
    """Unix time in seconds of the last block, or the median of the last eleven."""

    def lacks_blocks(self, now: float) -> bool:
        """Whether the chain may go on far beyond what the node knows of it at unix time ``now``.

        A node without headers yet knows of no block that it lacks. So it has to say that its
        initial download is over, or its last block has to be young. On regtest blocks come when
        somebody wants one, and no node there is behind.
        """
        if self.chain == "regtest" or self.initial_block_download is False:
            return False
        return self.tip_time is None or now - self.tip_time > MAX_TIP_AGE


class Asked(Protocol):
    """What is needed of a node to ask it."""

    def call(self, method: str, *params: object) -> Any: ...
    def rest(self, path: str) -> bytes | None: ...


def ask(node: Asked) -> Capabilities:
    """Ask ``node`` what it can do. Raises NodeUnavailable, and NodeError where no node answers."""
    chain = _optional(lambda: node.call("getblockchaininfo"))
    best = str(chain.get("bestblockhash", ""))[:64] if isinstance(chain, dict) else ""
    pruned = isinstance(chain, dict) and bool(chain.get("pruned"))
    indexes = _optional(lambda: node.call("getindexinfo"))
    network = _optional(lambda: node.call("getnetworkinfo"))
    txindex = None if not isinstance(indexes, dict) else _is_synced(indexes.get("txindex"))
    with_rest = bool(best) and _shows_spent_outputs(node, best)
    ways = [Prevouts.REST] if with_rest else []
    if txindex is not False:
        ways.append(Prevouts.TRANSACTIONS)
    ways += (Prevouts.SPENDING, Prevouts.BLOCK)
    return Capabilities(
        prevouts=tuple(ways),
        txindex=txindex,
        rest=with_rest or (bool(best) and _gives_blocks(node, best)),
        prune_height=(_whole(chain.get("pruneheight")) or 0) if pruned else None,
        version=_whole(network.get("version")) if isinstance(network, dict) else None,
        announcements=_hashblock(_optional(lambda: node.call("getzmqnotifications"))),
        long_polling=_optional(lambda: node.call("waitfornewblock", 1)) is not None,
    )


def _optional(question: Callable[[], Any]) -> Any:
    """The answer; None where the node does not know the question or does not let us ask it."""
    try:
        return question()
    except NodeUnavailable:
        raise
    except (NodeRpcError, NodeRefused):
        return None


def _shows_spent_outputs(node: Asked, best: str) -> bool:
    raw = node.rest(f"spenttxouts/{best}.bin")
    try:
        return raw is not None and not spent_scripts_at(raw, ())
    except CorruptSpentOutputs:
        return False


def _gives_blocks(node: Asked, best: str) -> bool:
    raw = node.rest(f"block/{best}.bin")
    return raw is not None and len(raw) > 80


def _is_synced(index: object) -> bool:
    return isinstance(index, dict) and bool(index.get("synced"))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _hashblock(offered: object) -> str | None:
    for entry in offered if isinstance(offered, list) else []:
        if isinstance(entry, dict) and entry.get("type") == "pubhashblock":
            return str(entry.get("address", ""))[:200] or None
    return None
