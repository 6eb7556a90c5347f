"""A Bitcoin node: what the indexer and the registrar ask it, and what they believe of it.

What must stay true: every failure is one of our exceptions, and each reply is checked to be about
what was asked. A ``BitcoinNode`` may be shared by threads.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from indexer.bitcoin.headers import HEADER_BYTES
from indexer.bitcoin.transactions import CorruptTransaction, hash_bytes, hash_hex, parse_transaction
from indexer.node.blocks import Blocks, check_header
from indexer.node.capabilities import Capabilities, ChainInfo, ask
from indexer.node.failures import (
    NodeError,
    NodePruned,
    NodeRefused,
    NodeRpcError,
    NodeUnavailable,
)
from indexer.node.prevouts import PreviousOutputs, outputs_of
from indexer.node.rpc import Rpc, or_raise
from indexer.node.spent_outputs import Outpoint, Spending

__all__ = [
    "BitcoinNode",
    "ChainInfo",
    "NodeError",
    "NodePruned",
    "NodeRefused",
    "NodeRpcError",
    "NodeUnavailable",
]

log = logging.getLogger("blockstore.indexer")

OLD_WAIT_SECONDS = 0.8

RPC_ALREADY_KNOWN = -27
RPC_METHOD_NOT_FOUND = -32601


class BitcoinNode(Rpc):
    """One node; takes what :class:`Rpc` takes."""

    def __init__(self, url: str, **how: Any) -> None:
        super().__init__(url, **how)
        self._capabilities: Capabilities | None = None
        self._asked_at_loss = 0
        self.blocks = Blocks(self, self.capabilities)
        self._previous = PreviousOutputs(self, self.capabilities)
        self._waits_blindly = False

    def chain_info(self) -> ChainInfo:
        """Which chain the node is on and how far it is."""
        shown = self.call("getblockchaininfo")
        try:
            downloads = shown.get("initialblockdownload")
            tip_time = shown.get("time", shown.get("mediantime"))
            return ChainInfo(
                chain=str(shown["chain"]),
                blocks=int(shown["blocks"]),
                headers=int(shown.get("headers", shown["blocks"])),
                best_block_hash=hash_bytes(shown["bestblockhash"]),
                initial_block_download=None if downloads is None else bool(downloads),
                tip_time=None if tip_time is None else int(tip_time),
            )
        except (TypeError, KeyError, AttributeError, ValueError, OverflowError):
            raise self.nonsense("getblockchaininfo") from None

    def block_hash(self, height: int) -> bytes:
        """The hash of the node's block at ``height``; NodeRpcError (-8) beyond its tip."""
        return self.hash_in(self.call("getblockhash", height), "getblockhash")

    def block_hashes(self, heights: Sequence[int]) -> list[bytes]:
        """The hashes at these heights; NodeRpcError as soon as one is beyond the tip."""
        found = self.batch([("getblockhash", (height,)) for height in heights])
        return [self.hash_in(or_raise(result), "getblockhash") for result in found]

    def headers(self, hashes: Sequence[bytes]) -> list[bytes] | None:
        """The 80 raw bytes of each header, each checked to have the hash that was asked for.

        None where the node does not show them so, or not to us.
        """
        try:
            found = self.batch([("getblockheader", (hash_hex(h), False)) for h in hashes])
        except NodeRefused:
            return None
        headers = []
        for wanted, result in zip(hashes, found, strict=True):
            if isinstance(result, NodeRpcError) and result.code != RPC_METHOD_NOT_FOUND:
                raise result
            if not isinstance(result, str) or len(result) != 2 * HEADER_BYTES:
                return None
            headers.append(self.bytes_in(result, "getblockheader"))
            check_header(headers[-1], wanted, self.place)
        return headers

    def raw_blocks(self, hashes: Sequence[bytes]) -> list[bytes]:
        """The bytes of each block; its header is checked to have the hash asked for.

        NodePruned where the node has thrown one away.
        """
        return self.blocks.read(hashes)

    def raw_transaction(self, txid: bytes) -> bytes:
        """The bytes of a transaction; NodeRpcError (-5) where the node knows of none."""
        shown = self.call("getrawtransaction", hash_hex(txid), False)
        outputs_of(self, shown, txid)
        return self.bytes_in(shown, "getrawtransaction")

    def spent_scripts(
        self, block_hash: bytes, outpoints: Mapping[Outpoint, Spending]
    ) -> dict[Outpoint, bytes]:
        """The scriptPubKey of each outpoint that some transaction of this block spends.

        ``outpoints`` are keys of where they are spent. NodeError where no way leads there.
        """
        return self._previous.scripts(block_hash, outpoints)

    @property
    def offered(self) -> Capabilities | None:
        """What ``capabilities`` found last, without asking; None: it was not asked yet."""
        return self._capabilities

    def capabilities(self) -> Capabilities:
        """What the node can do; asked at the first need, and anew after it was out of reach."""
        found, losses = self._capabilities, self.losses
        if found is None or losses != self._asked_at_loss:
            found = ask(self)
            self._capabilities, self._asked_at_loss = found, losses
            log.info(
                "the node at %s %s; previous outputs are read from %s",
                self.place,
                found,
                found.spent_outputs,
            )
        return found

    def wait_for_block(self, seconds: float, known: bytes | None = None) -> bytes:
        """The hash of the node's tip, as soon as it is not ``known`` or ``seconds`` have gone by.

        Nodes before Bitcoin Core 30 cannot be told what we know, and a block that comes between
        two calls goes unheard: they are not waited for longer than OLD_WAIT_SECONDS. Only for nodes
        that offer it (``Capabilities.long_polling``). Raises what ``call`` raises.
        """
        patience = min(seconds, self._timeout / 2)
        shown: Any = None
        if known is not None and not self._waits_blindly:
            try:
                shown = self.call("waitfornewblock", int(patience * 1000) or 1, hash_hex(known))
            except NodeRpcError:
                self._waits_blindly = True
        if shown is None:
            patience = min(patience, OLD_WAIT_SECONDS) if known is not None else 0.001
            shown = self.call("waitfornewblock", int(patience * 1000) or 1)
        return self.hash_in(
            shown.get("hash") if isinstance(shown, dict) else None, "waitfornewblock"
        )

    def send_transaction(self, raw: bytes) -> bytes:
        """Hand a transaction to the node; its txid.

        Sending the same bytes again is safe and gives the same txid, also when the transaction
        is in a block by now (-27): so a send whose answer was lost is simply sent once more.
        NodeRpcError with the node's reason when it is not taken.
        """
        try:
            reply = self.call("sendrawtransaction", raw.hex())
        except NodeRpcError as failure:
            if failure.code != RPC_ALREADY_KNOWN:
                raise
            try:
                return parse_transaction(raw).txid
            except CorruptTransaction:
                raise failure from None
        return self.hash_in(reply, "sendrawtransaction")


def open_node(url: str, **how: Any) -> BitcoinNode:
    """The node at ``url``, as ``Rpc`` takes it; whoever shows it a password is told of the risk."""
    node = BitcoinNode(url, **how)
    if node.credentials.is_lasting:
        log.warning(
            "The password of the node is shown to whoever listens at %s, also while the node is"
            " down; of a node on this machine its cookie file is safer (node_cookie_file).",
            node.place,
        )
    return node
