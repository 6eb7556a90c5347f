"""The scripts that the transactions of a block spend, by the fastest way that the node offers."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from indexer.bitcoin.transactions import CorruptTransaction, TxOut, hash_hex, parse_transaction
from indexer.node.capabilities import Capabilities, Prevouts
from indexer.node.costs import Costs
from indexer.node.failures import NodeError, NodeRefused, NodeRpcError
from indexer.node.rpc import Rpc
from indexer.node.spent_outputs import (
    Outpoint,
    Spending,
    scripts_of_spent_outputs,
    scripts_of_verbose_transactions,
)
from indexer.node.wire import Call

log = logging.getLogger("blockstore.indexer")


class PreviousOutputs:
    """Reads them off one node. ``clock``: seconds, for measuring how long each way takes."""

    def __init__(
        self,
        rpc: Rpc,
        capabilities: Callable[[], Capabilities],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rpc = rpc
        self._capabilities = capabilities
        self._clock = clock
        self._offered: Capabilities | None = None
        self._failed: set[Prevouts] = set()
        self.costs = Costs()

    def scripts(
        self, block_hash: bytes, outpoints: Mapping[Outpoint, Spending]
    ) -> dict[Outpoint, bytes]:
        """The scriptPubKey of each outpoint that some transaction of this block spends.

        ``outpoints`` are keys of where they are spent. NodeError where no way leads there.
        """
        if not outpoints:
            return {}
        offered = self._capabilities()
        if offered is not self._offered:
            self._offered, self._failed = offered, set()
        for way in self._ways(offered, outpoints):
            found = self._by(way, block_hash, outpoints)
            if found is not None:
                return found
            self._failed.add(way)
            log.info(
                "the node at %s does not show previous outputs by %s", self._rpc.place, way.value
            )
        self._failed.clear()
        raise NodeError(
            f"the node at {self._rpc.place} cannot show what transactions spend; "
            "start bitcoind with txindex=1, or use Bitcoin Core 25 or later"
        )

    def _ways(
        self, offered: Capabilities, outpoints: Mapping[Outpoint, Spending]
    ) -> Sequence[Prevouts]:
        """What is worth trying, in this order."""
        ways = [way for way in offered.prevouts if way not in self._failed]
        if ways == [Prevouts.SPENDING, Prevouts.BLOCK]:
            count = len({spending.txid for spending in outpoints.values()})
            if not self.costs.prefer_transactions(count):
                ways.reverse()
        return ways

    def _by(
        self, way: Prevouts, block_hash: bytes, outpoints: Mapping[Outpoint, Spending]
    ) -> dict[Outpoint, bytes] | None:
        if way is Prevouts.REST:
            raw = self._rpc.rest(f"spenttxouts/{hash_hex(block_hash)}.bin")
            return None if raw is None else scripts_of_spent_outputs(raw, outpoints)
        if way is Prevouts.TRANSACTIONS:
            return self._by_previous(outpoints)
        began = self._clock()
        if way is Prevouts.BLOCK:
            found = self._by_block(block_hash, outpoints)
            if found is not None:
                self.costs.learn_block(self._clock() - began)
            return found
        txids = list({spending.txid: None for spending in outpoints.values()})
        found = self._by_spending(block_hash, txids, outpoints)
        if found is not None:
            self.costs.learn_transactions(len(txids), self._clock() - began)
        return found

    def _by_previous(self, wanted: Collection[Outpoint]) -> dict[Outpoint, bytes] | None:
        txids = list(dict.fromkeys(txid for txid, _ in wanted))
        shown = self._batch([("getrawtransaction", (hash_hex(txid), False)) for txid in txids])
        if shown is None:
            return None
        outputs = {
            txid: outputs_of(self._rpc, raw, txid) for txid, raw in zip(txids, shown, strict=True)
        }
        try:
            return {(txid, index): outputs[txid][index].script for txid, index in wanted}
        except IndexError:
            raise NodeError("a block spends an output that its transaction never had") from None

    def _by_spending(
        self, block_hash: bytes, txids: Sequence[bytes], wanted: Collection[Outpoint]
    ) -> dict[Outpoint, bytes] | None:
        place = hash_hex(block_hash)
        shown = self._batch([("getrawtransaction", (hash_hex(txid), 2, place)) for txid in txids])
        if shown is None or not all(isinstance(transaction, dict) for transaction in shown):
            return None
        for txid, transaction in zip(txids, shown, strict=True):
            outputs_of(self._rpc, transaction.get("hex"), txid)
        return scripts_of_verbose_transactions(shown, wanted)

    def _by_block(
        self, block_hash: bytes, wanted: Collection[Outpoint]
    ) -> dict[Outpoint, bytes] | None:
        try:
            shown = self._rpc.call("getblock", hash_hex(block_hash), 3)
        except NodeRpcError as failure:
            log.info("%s", failure)
            return None
        transactions = shown.get("tx") if isinstance(shown, dict) else None
        return scripts_of_verbose_transactions(transactions or (), wanted)

    def _batch(self, calls: Sequence[Call]) -> list[Any] | None:
        """The results; None where some call has none, or where we may not ask so."""
        try:
            shown = self._rpc.batch(calls)
        except NodeRefused:
            return None
        return None if any(isinstance(result, NodeRpcError) for result in shown) else shown


def outputs_of(rpc: Rpc, raw: object, txid: bytes) -> Sequence[TxOut]:
    """What the transaction pays that getrawtransaction answered; NodeError: it is not ``txid``."""
    try:
        transaction = parse_transaction(rpc.bytes_in(raw, "getrawtransaction"))
    except CorruptTransaction:
        raise rpc.nonsense("getrawtransaction") from None
    if transaction.txid != txid:
        raise rpc.nonsense("getrawtransaction")
    return transaction.outputs
