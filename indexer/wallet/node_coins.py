"""What a Bitcoin node shows of coins: the unspent ones of a script, and where they come from.

What must stay true: nothing is believed that a transaction's own bytes do not prove; a scan of
the whole set of unspent outputs is made at most once a block; all is bounded.
"""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

from indexer.bitcoin.transactions import CorruptTransaction, hash_bytes, hash_hex, parse_transaction
from indexer.node.node import BitcoinNode, NodeError, NodeRefused, NodeRpcError, NodeUnavailable
from indexer.wallet.coins import Coin
from indexer.wallet.signers import SignerError, SignerUnavailable

log = logging.getLogger("blockstore.registrar")

COINBASE_MATURITY = 100
SCAN_SECONDS = 600.0
"""How long a node may take to look through all unspent outputs: minutes on the main network."""
MAX_COINS = 10_000
MAX_SCRIPTS = 1_000
_METHOD_NOT_FOUND, _BUSY = -32601, -8


class Watching(Protocol):
    """A wallet that may know scripts, with keys or without: ``NodeWallet``."""

    def watched(self, script: bytes) -> list[Coin] | None:
        """The confirmed, mature coins of a script; None where the wallet knows nothing of it."""
        ...


class NodeCoins:
    """The coins of scripts that no wallet of the node need know. May be shared by threads."""

    def __init__(self, node: BitcoinNode, watching: Watching | None = None) -> None:
        """``watching``: a wallet that is asked first, for a scan of the main network's unspent
        outputs takes minutes."""
        self._node = node
        self._watching = watching
        self._patient = BitcoinNode(**{**node.place_and_key, "timeout": SCAN_SECONDS})
        self._lock = threading.Lock()
        self._tip = b""
        self._known: dict[bytes, list[Coin]] = {}

    def close(self) -> None:
        """End its own connections."""
        self._patient.close()

    def coins(self, scripts: Sequence[bytes], soon: Sequence[bytes] = ()) -> list[Coin]:
        """The confirmed, mature coins of these scripts that no waiting transaction spends.

        Largest first. ``soon``: scripts that are asked about next, so that one scan is enough.
        Raises SignerError.
        """
        with self._lock:
            try:
                found: list[Coin] = []
                unknown: list[bytes] = []
                for script in dict.fromkeys(scripts):
                    known = None if self._watching is None else self._watching.watched(script)
                    found += known or []
                    if known is None:
                        unknown.append(script)
                if unknown:
                    found += self._unspent(self._confirmed(unknown, soon))
                return largest_first(found)
            except (NodeUnavailable, NodeRefused) as failure:
                raise SignerUnavailable(f"{failure}; nothing was paid") from None
            except NodeError as failure:
                raise SignerError(f"{failure}; nothing was paid") from None

    def _confirmed(self, scripts: Sequence[bytes], soon: Sequence[bytes]) -> list[Coin]:
        tip = self._node.chain_info().best_block_hash
        before: tuple[bytes, ...] = ()
        if tip != self._tip:
            # Whatever was asked about before will be asked about again: one scan for all.
            before = tuple(self._known)
            self._tip, self._known = tip, {}
        if any(script not in self._known for script in scripts):
            wanted = dict.fromkeys((*scripts, *soon, *before))
            missing = [script for script in wanted if script not in self._known]
            del missing[max(len(scripts), MAX_SCRIPTS) :]
            found: dict[bytes, list[Coin]] = {script: [] for script in missing}
            for coin in self._scan(missing):
                found[coin.script].append(coin)
            self._known |= found
        return [coin for script in scripts for coin in self._known[script]]

    def _scan(self, scripts: Sequence[bytes]) -> list[Coin]:
        wanted = set(scripts)
        try:
            shown = self._patient.call(
                "scantxoutset", "start", [f"raw({script.hex()})" for script in scripts]
            )
        except NodeRpcError as failure:
            if failure.code == _METHOD_NOT_FOUND:
                raise NodeError(
                    f"the node at {self._node.place} cannot look through its unspent outputs "
                    "(scantxoutset); use Bitcoin Core, or a wallet of the node"
                ) from None
            if failure.code == _BUSY and "progress" in failure.message:
                raise NodeUnavailable(
                    f"the node at {self._node.place} is already looking through its unspent "
                    "outputs for somebody; try again in a few minutes"
                ) from None
            raise
        if not isinstance(shown, dict) or shown.get("success") is not True:
            raise NodeError(
                f"the node at {self._node.place} broke off looking through its unspent outputs; "
                "try again"
            )
        found = []
        for entry in listed(shown.get("unspents")):
            coin = coin_of(entry)
            height = entry.get("height")
            deep = isinstance(height, int) and shown["height"] - height >= COINBASE_MATURITY
            if coin.script in wanted and (deep or not entry.get("coinbase", False)):
                found.append(coin)
        return found

    def _unspent(self, coins: Sequence[Coin]) -> list[Coin]:
        """Those that neither the chain nor the mempool has spent since."""
        calls = [("gettxout", (hash_hex(coin.txid), coin.index, True)) for coin in coins]
        replies = self._node.batch(calls) if calls else []
        return [
            coin for coin, reply in zip(coins, replies, strict=True) if isinstance(reply, Mapping)
        ]


def largest_first(coins: Iterable[Coin]) -> list[Coin]:
    """In the order in which signers show coins."""
    return sorted(coins, key=lambda coin: (-coin.value, coin.txid, coin.index))


def listed(value: object) -> list[dict[str, Any]]:
    """A list of objects, of which there are not too many; NodeError for anything else."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise NodeError("the node showed coins in no form that is known; use another node")
    if len(value) > MAX_COINS:
        raise NodeError(
            f"there are {len(value)} coins; pay them to yourself in a few larger ones first"
        )
    return value


def coin_of(entry: Mapping[str, Any]) -> Coin:
    """A coin as ``listunspent`` and ``scantxoutset`` show it; NodeError where it is none."""
    try:
        script = bytes.fromhex(entry["scriptPubKey"])
        return Coin(
            hash_bytes(entry["txid"]), int(entry["vout"]), satoshis(entry["amount"]), script
        )
    except (KeyError, TypeError, ValueError):
        raise NodeError("the node showed a coin in no form that is known") from None


def satoshis(bitcoins: object) -> int:
    """Satoshis of an amount in bitcoin as a node writes it; ValueError where it is none."""
    try:
        value = Decimal(str(bitcoins)) * 10**8
    except InvalidOperation:
        raise ValueError("this is no amount") from None
    if not value.is_finite() or value != int(value) or not 0 <= value <= 21 * 10**14:
        raise ValueError("this is no amount")
    return int(value)


def previous_transactions(node: BitcoinNode, coins: Iterable[Coin]) -> dict[bytes, bytes]:
    """The whole transaction that each coin is an output of, checked by its txid.

    From the node's mempool, its index of transactions, or the block that it is in, which is
    found by the confirmations of the coin. Raises NodeError.
    """
    return {
        txid: _transaction(node, txid, index)
        for txid, index in {coin.txid: coin.index for coin in coins}.items()
    }


def _transaction(node: BitcoinNode, txid: bytes, index: int) -> bytes:
    try:
        return node.raw_transaction(txid)
    except NodeRpcError as failure:
        if failure.code == _METHOD_NOT_FOUND:
            raise
    shown = node.call("gettxout", hash_hex(txid), index, False)
    try:
        confirmations = int(shown["confirmations"])
        tip = node.call("getblockheader", shown["bestblock"])
        block = node.call("getblockhash", int(tip["height"]) - confirmations + 1)
        raw = bytes.fromhex(node.call("getrawtransaction", hash_hex(txid), False, block))
        if parse_transaction(raw).txid == txid:
            return raw
    except (KeyError, TypeError, ValueError, CorruptTransaction):
        pass
    raise NodeError(
        f"the node at {node.place} cannot show transaction {hash_hex(txid)}, which a signer must "
        "see; start it with txindex=1, or wait until the transaction is in a block"
    )
