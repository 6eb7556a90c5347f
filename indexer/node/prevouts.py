"""The scripts that the transactions of a block spend, by the fastest way that the node offers."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from indexer.bitcoin.headers import hash_hex
from indexer.bitcoin.transactions import CorruptTransaction, TxOut, parse_transaction
from indexer.node.capabilities import Capabilities, Prevouts
from indexer.node.failures import NodeError, NodeRpcError
from indexer.node.rpc import Rpc
from indexer.node.spent_outputs import (
    Outpoint,
    Place,
    scripts_of_spent_outputs,
    scripts_of_verbose_transactions,
)

log = logging.getLogger("blockstore.indexer")


class PreviousOutputs:
    """Reads them off one node."""

    def __init__(self, rpc: Rpc, capabilities: Callable[[], Capabilities]) -> None:
        self._rpc = rpc
        self._capabilities = capabilities
        self._offered: Capabilities | None = None
        self._failed: set[Prevouts] = set()

    def scripts(
        self, block_hash: bytes, outpoints: Collection[Outpoint] | Mapping[Outpoint, Place]
    ) -> dict[Outpoint, bytes]:
        """The scriptPubKey of each outpoint that some transaction of this block spends.

        The outputs that REST shows are without names, so that way needs ``outpoints`` as keys of
        where they are spent. NodeError where no way leads there.
        """
        wanted = list(dict.fromkeys(outpoints))
        places = outpoints if isinstance(outpoints, Mapping) else None
        if not wanted:
            return {}
        offered = self._capabilities()
        if offered is not self._offered:
            self._offered, self._failed = offered, set()
        for way in offered.prevouts:
            if way in self._failed or (way is Prevouts.REST and places is None):
                continue
            found: dict[Outpoint, bytes] | None
            if way is Prevouts.REST and places is not None:
                raw = self._rpc.rest(f"spenttxouts/{hash_hex(block_hash)}.bin")
                found = None if raw is None else scripts_of_spent_outputs(raw, places)
            elif way is Prevouts.TRANSACTIONS:
                found = self._by_transaction(wanted)
            else:
                found = self._by_block(block_hash, wanted)
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

    def _by_transaction(self, wanted: Sequence[Outpoint]) -> dict[Outpoint, bytes] | None:
        txids = list(dict.fromkeys(txid for txid, _ in wanted))
        calls = [("getrawtransaction", (hash_hex(txid), False)) for txid in txids]
        outputs: dict[bytes, Sequence[TxOut]] = {}
        for txid, result in zip(txids, self._rpc.batch(calls), strict=True):
            if isinstance(result, NodeRpcError):
                return None
            outputs[txid] = outputs_of(self._rpc, result, txid)
        try:
            return {(txid, index): outputs[txid][index].script for txid, index in wanted}
        except IndexError:
            raise NodeError("a block spends an output that its transaction never had") from None

    def _by_block(
        self, block_hash: bytes, wanted: Sequence[Outpoint]
    ) -> dict[Outpoint, bytes] | None:
        try:
            shown = self._rpc.call("getblock", hash_hex(block_hash), 3)
        except NodeRpcError as failure:
            log.info("%s", failure)
            return None
        transactions = shown.get("tx") if isinstance(shown, dict) else None
        return scripts_of_verbose_transactions(transactions or (), wanted)


def outputs_of(rpc: Rpc, raw: object, txid: bytes) -> Sequence[TxOut]:
    """What the transaction pays that getrawtransaction answered; NodeError: it is not ``txid``."""
    try:
        transaction = parse_transaction(rpc.bytes_in(raw, "getrawtransaction"))
    except CorruptTransaction:
        raise rpc.nonsense("getrawtransaction") from None
    if transaction.txid != txid:
        raise rpc.nonsense("getrawtransaction")
    return transaction.outputs
