"""The signer that holds no keys: it knows whose coins are meant, and hands out what to sign.

What must stay true: what goes out is a PSBT that carries all that a device must see; nothing is
sent from here. Signers with keys of their own build on the same knowledge of coins.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from indexer.bitcoin.transactions import TxOut, hash_hex, is_p2pkh, script_address
from indexer.networks import Network
from indexer.node.node import BitcoinNode, NodeError
from indexer.wallet.coins import Coin, Unsigned
from indexer.wallet.keys import script_of_redeem_script
from indexer.wallet.node_coins import previous_transactions
from indexer.wallet.payment import any_script_sig_size, compose_payment
from indexer.wallet.psbt import BadPsbt, write_psbt
from indexer.wallet.signers import (
    InsufficientFunds,
    NeedsSignature,
    NoLegacyAddresses,
    NotSigned,
    Payment,
    SignerUnavailable,
    spends_any,
)


class CoinSource(Protocol):
    """Where the coins of scripts are learned: ``NodeCoins``."""

    def coins(self, scripts: Sequence[bytes], soon: Sequence[bytes] = ()) -> list[Coin]:
        """The confirmed, mature coins that nobody spends, largest first. Raises SignerError.

        ``soon``: scripts that may be asked about next.
        """
        ...


class WatchedScripts:
    """What signers without a wallet share: coins of some scripts, composed payments, PSBTs."""

    def __init__(
        self,
        node: BitcoinNode,
        network: Network,
        scripts: Sequence[bytes],
        redeem_scripts: Iterable[bytes],
        source: CoinSource,
        in_use: Callable[[bytes], bool],
    ) -> None:
        self._node = node
        self._network = network
        self._scripts = tuple(dict.fromkeys(scripts))
        self._redeem_scripts = tuple(redeem_scripts)
        self._source = source
        self._in_use = in_use
        self._kept: dict[tuple[bytes, int], Coin] = {}
        self._given: set[bytes] = set()
        self._lock = threading.Lock()

    @property
    def scripts(self) -> tuple[bytes, ...]:
        """The scriptPubKeys whose coins it may spend."""
        return self._scripts

    def fresh_script(self, label: str) -> bytes:
        """See ``Signer``: the first of its p2pkh scripts that nobody was given and that is not in
        use; when there is none such left, NoLegacyAddresses."""
        with self._lock:
            for script in self._scripts:
                if is_p2pkh(script) and script not in self._given and not self._in_use(script):
                    self._given.add(script)
                    return script
        raise NoLegacyAddresses(
            f"all addresses of this signer are in use, so there is none for {label[:100]}; add "
            "keys to it, or name the owner's address yourself (--owner). Nothing was paid"
        )

    def owns(self, script: bytes) -> bool:
        """See ``Signer``."""
        return script in self._scripts

    def coins(self, script: bytes) -> list[Coin]:
        """See ``Signer``."""
        return self._free([script]) if self.owns(script) else []

    def held(self) -> tuple[bytes, ...]:
        """The scripts whose coins it may spend, with coins or without."""
        return self._scripts

    def legacy_coins(self) -> list[Coin]:
        """The coins of all of them."""
        return self._free(self._scripts)

    def spare(self, sender: bytes) -> int:
        """Satoshis that ``pay`` may move to a script of its own from elsewhere, by and by: what is
        kept for something else and not spent comes back."""
        with self._lock:
            kept = [coin for coin in self._kept.values() if coin.script in self._scripts]
        calls = [("gettxout", (hash_hex(coin.txid), coin.index, True)) for coin in kept]
        try:
            replies = self._node.batch(calls) if calls else []
        except NodeError as failure:
            raise SignerUnavailable(f"{failure}; nothing was paid") from None
        there = zip(kept, replies, strict=True)
        coming = [coin for coin, reply in there if isinstance(reply, Mapping)]
        free = [*coming, *self._free(self._scripts)]
        used = {script for script in self._scripts if self._in_use(script)} | {sender}
        return sum(coin.value for coin in free if coin.script not in used)

    def _payable(self, leaves: Callable[[Coin], bool]) -> list[Coin]:
        used = {script for script in self._scripts if self._in_use(script)}
        free = self._free(self._scripts)
        return [coin for coin in free if coin.script not in used and not leaves(coin)]

    def _free(self, scripts: Sequence[bytes]) -> list[Coin]:
        found = self._source.coins(scripts, self._scripts)
        with self._lock:
            return [coin for coin in found if (coin.txid, coin.index) not in self._kept]

    def keep(self, coins: Sequence[Coin]) -> None:
        """See ``Signer``. Lasts as long as this object."""
        with self._lock:
            self._kept.update({(coin.txid, coin.index): coin for coin in coins})

    def let_go(self, coins: Sequence[Coin]) -> None:
        """See ``Signer``."""
        with self._lock:
            for coin in coins:
                self._kept.pop((coin.txid, coin.index), None)

    def _compose(
        self,
        outputs: Sequence[TxOut],
        fee_rate: float,
        spending: Sequence[Coin],
        leaves: Callable[[Coin], bool],
    ) -> Unsigned:
        coins = self._payable(leaves)
        mine = [*spending, *coins]
        if not mine:
            first = script_address(self._scripts[0], self._network) if self._scripts else None
            raise InsufficientFunds(
                "there are no coins to pay with (those on addresses that own names stay there); "
                "nothing was paid. Send some to "
                f"{first or 'one of its addresses'} and try again"
            )
        change = mine[0].script  # back to where the largest came from
        return compose_payment(
            outputs,
            coins,
            change,
            fee_rate=fee_rate,
            spending=spending,
            script_sig_size=self.script_sig_size,
        )

    def script_sig_size(self, script: bytes) -> int:
        """See ``Signer``."""
        return any_script_sig_size(script)

    def _psbt(self, unsigned: Unsigned) -> str:
        try:
            previous = previous_transactions(self._node, unsigned.coins)
            return write_psbt(unsigned, previous, self._redeem_scripts)
        except (NodeError, BadPsbt) as failure:
            raise NotSigned(f"{failure}; nothing was paid") from None


class Offline(WatchedScripts):
    """A ``Signer`` that holds no keys: whatever is to be signed is handed out as a PSBT."""

    kind = "offline"

    def __init__(
        self,
        scripts: Sequence[bytes],
        node: BitcoinNode,
        network: Network,
        source: CoinSource,
        redeem_scripts: Iterable[bytes] = (),
        in_use: Callable[[bytes], bool] = lambda script: False,
    ) -> None:
        """``scripts``: those of the person who will sign; multisig by ``redeem_scripts``."""
        behind = tuple(redeem_scripts)
        everything = (*scripts, *map(script_of_redeem_script, behind))
        super().__init__(node, network, everything, behind, source, in_use)

    def __repr__(self) -> str:
        return f"Offline({len(self._scripts)} scripts)"

    def sign(self, unsigned: Unsigned) -> bytes:
        """See ``Signer``: always NeedsSignature, but for what cannot be written down."""
        raise NeedsSignature(self._psbt(unsigned), unsigned)

    def pay(
        self,
        outputs: Sequence[TxOut],
        fee_rate: float,
        *,
        spending: Sequence[Coin] = (),
        leaves: Callable[[Coin], bool] = spends_any,
    ) -> Payment:
        """See ``Signer``: NeedsSignature with the payment."""
        unsigned = self._compose(outputs, fee_rate, spending, leaves)
        raise NeedsSignature(self._psbt(unsigned), unsigned)
