"""A wallet of the sandbox node: its keys, what they own on the chain, and signing with them.

What must stay true: the keys follow from the wallet's name and a count, so that a restart finds
them all again from what was kept; they guard coins that are worth nothing, and nothing else
may ever be paid to them. Not safe for threads: whoever calls holds the chain's lock.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from indexer.bitcoin.spending import ScriptFailed, UnknownScript
from indexer.bitcoin.transactions import (
    Transaction,
    hash_bytes,
    hash_hex,
    serialize_transaction,
)
from indexer.bitcoin.witness import is_p2wpkh, p2wpkh_script, with_witnesses, witness_digest
from indexer.sandbox.chain import SandboxChain
from indexer.sandbox.coins import COINBASE_MATURITY, Coin, Outpoint, check_input
from indexer.wallet.keys import Key, KeyRing

WALLET = b"W"
"""The kind of the records that wallets keep in the file of their chain."""


class WalletCoin(NamedTuple):
    """An unspent output of the wallet; confirmations 0 while it waits for a block."""

    outpoint: Outpoint
    coin: Coin
    confirmations: int
    safe: bool

    @property
    def mature(self) -> bool:
        """Whether it can be in the next block."""
        return not self.coin.coinbase or self.confirmations > COINBASE_MATURITY


class SandboxWallet:
    """One wallet: p2pkh and p2wpkh keys of its own, labels, and outputs that are locked."""

    def __init__(
        self, name: str, chain: SandboxChain, keep: Callable[[dict[str, Any]], None]
    ) -> None:
        """``keep`` writes down what ``restore`` of a later start is given again."""
        self.name = name
        self._chain = chain
        self._keep = keep
        self._keys: dict[bytes, Key] = {}
        self.labels: dict[bytes, str | None] = {}
        """What stands at each scriptPubKey; None for those of change."""
        self.locked: dict[Outpoint, bool] = {}
        """The outputs that are not to be spent, and whether that outlives a restart."""

    def __len__(self) -> int:
        return len(self._keys)

    def new_script(self, label: str | None, *, bech32: bool = False) -> bytes:
        """A p2pkh (or p2wpkh) scriptPubKey that was never given out; ``label`` None: for change."""
        self._keep({"wallet": self.name, "label": label, "bech32": bech32})
        return self._add(label, bech32)

    def _add(self, label: str | None, bech32: bool) -> bytes:
        seed = f"blockstore sandbox wallet: {self.name}: {len(self._keys)}"
        key = Key(sha256(seed.encode()).digest())
        script = p2wpkh_script(key.public_key) if bech32 else key.script
        self._keys[script] = key
        self.labels[script] = label
        return script

    def restore(self, record: dict[str, Any]) -> None:
        """Take in what was kept before."""
        if "label" in record:
            self._add(record["label"], record.get("bech32") is True)
        elif "locked" in record:
            txid, index = record["outpoint"]
            self._lock((hash_bytes(txid), index), record["locked"], True)

    def owns(self, script: bytes) -> bool:
        """Whether the wallet has the key of a scriptPubKey."""
        return script in self._keys

    def public_key(self, script: bytes) -> bytes:
        """The public key behind one of its scripts; KeyError for any other."""
        return self._keys[script].public_key

    def lock(self, outpoint: Outpoint, locked: bool, persistent: bool) -> None:
        """Leave an output out of what the wallet chooses by itself, or no longer."""
        if persistent or self.locked.get(outpoint):
            shown = [hash_hex(outpoint[0]), outpoint[1]]
            self._keep({"wallet": self.name, "outpoint": shown, "locked": locked})
        self._lock(outpoint, locked, persistent)

    def _lock(self, outpoint: Outpoint, locked: bool, persistent: bool) -> None:
        if locked:
            self.locked[outpoint] = persistent
        else:
            self.locked.pop(outpoint, None)

    # Coins

    def coins(self) -> Iterator[WalletCoin]:
        """What it owns and nobody spends yet, immature and waiting outputs too."""
        height, mempool = self._chain.height, self._chain.mempool
        for script in self._keys:
            for unspent in self._chain.unspent(script):
                outpoint = (unspent.txid, unspent.output_index)
                if mempool.spender(outpoint) is None:
                    coin = Coin(*unspent[2:])
                    yield WalletCoin(outpoint, coin, height - coin.height + 1, True)
        for entry in mempool:
            own: bool | None = None
            for index, (value, script) in enumerate(entry.transaction.outputs):
                outpoint = (entry.transaction.txid, index)
                if script not in self._keys or mempool.spender(outpoint) is not None:
                    continue
                own = self._sent(entry.transaction) if own is None else own
                yield WalletCoin(outpoint, Coin(value, script, height + 1, False), 0, own)

    def coin(self, outpoint: Outpoint) -> Coin | None:
        """The output at ``outpoint``, also where the mempool spends it already."""
        found = self._chain.coins.get(outpoint)
        return found or self._chain.mempool.coin(outpoint, self._chain.height + 1)

    def _sent(self, transaction: Transaction) -> bool:
        spent = [self.coin((i.previous_txid, i.previous_index)) for i in transaction.inputs]
        return all(coin is not None and self.owns(coin.script) for coin in spent)

    # Signing

    def signature(self, unsigned: bytes, place: int, coin: Coin) -> tuple[bytes, bytes] | None:
        """The signature and the public key that spend one of its coins; None for another's.

        ``unsigned``: the raw transaction without scriptSigs and witnesses.
        """
        key = self._keys.get(coin.script)
        if key is None:
            return None
        if is_p2wpkh(coin.script):
            digest = witness_digest(unsigned, place, coin.script, coin.value)
            return key.sign(digest), key.public_key
        ((public_key, signature),) = (
            KeyRing([key]).partial_signatures(unsigned, place, coin.script).items()
        )
        return signature, public_key

    def sign(self, transaction: Transaction, spent: Sequence[Coin | None]) -> bytes:
        """The raw transaction with whatever this wallet can sign; other scriptSigs stay."""
        shown: list[tuple[bytes, ...]] = [() for _ in spent]
        version, locktime = transaction.version, transaction.locktime
        signed = list(transaction.inputs)
        bare = [spending._replace(script_sig=b"") for spending in signed]
        unsigned = serialize_transaction(version, bare, transaction.outputs, locktime)
        for place, coin in enumerate(spent):
            found = None if coin is None else self.signature(unsigned, place, coin)
            if coin is None or found is None:
                continue
            if is_p2wpkh(coin.script):
                shown[place] = found
            else:
                script_sig = b"".join(bytes((len(push),)) + push for push in found)
                signed[place] = bare[place]._replace(script_sig=script_sig)
        raw = serialize_transaction(version, signed, transaction.outputs, locktime)
        return with_witnesses(raw, shown) if any(shown) else raw


def holds(raw: bytes, transaction: Transaction, place: int, coin: Coin) -> bool:
    """Whether an input is signed as it must be; ``raw``: the transaction with its witness."""
    try:
        check_input(transaction, raw, place, coin)
    except (ScriptFailed, UnknownScript):
        return False
    return True


class Wallets:
    """The wallets that a sandbox node has, and those of them that are loaded.

    One without a name is there from the start; others are loaded by whoever wants them.
    """

    def __init__(self, chain: SandboxChain) -> None:
        self._chain = chain
        self._known: dict[str, SandboxWallet] = {}
        self.loaded: dict[str, SandboxWallet] = {"": self._wallet("")}
        self.chosen: str | None = None
        """The name that the request at hand came with, if any."""

    def choose(self, name: str | None) -> None:
        """Of the next question or order; None: whichever is loaded alone."""
        self.chosen = name

    def __contains__(self, name: str) -> bool:
        return name in self._known

    @property
    def names(self) -> list[str]:
        """Of all that there are."""
        return list(self._known)

    def load(self, name: str) -> SandboxWallet:
        """The wallet of a known name, from now on among those that are loaded."""
        self.loaded[name] = self._known[name]
        return self.loaded[name]

    def make(self, name: str) -> SandboxWallet:
        """A new wallet, kept and loaded."""
        self._keep({"wallet": name})
        self._wallet(name)
        return self.load(name)

    def restore(self, payload: bytes) -> None:
        """Take in a record of an earlier start; ValueError or KeyError where it is none."""
        record = json.loads(payload)
        if not isinstance(record, dict) or not isinstance(record["wallet"], str):
            raise ValueError("no record of a wallet")
        self._wallet(record["wallet"]).restore(record)

    def _wallet(self, name: str) -> SandboxWallet:
        if name not in self._known:
            self._known[name] = SandboxWallet(name, self._chain, self._keep)
        return self._known[name]

    def _keep(self, record: dict[str, Any]) -> None:
        self._chain.keep(WALLET, json.dumps(record).encode())
