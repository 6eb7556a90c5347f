"""The signers without a wallet of the node: keys in this process, or in somebody else's hands.

What must stay true: what is signed is checked before it leaves; what these keys cannot sign alone
goes out as a PSBT that carries all that a device must see, with whatever they could sign; nothing
is sent from here, and no secret is in any text.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from indexer.bitcoin.transactions import (
    TxOut,
    hash_hex,
    is_p2pkh,
    parse_transaction,
    script_address,
)
from indexer.networks import Network
from indexer.node.node import BitcoinNode, NodeError
from indexer.wallet.coins import Coin, Unsigned, spending_size
from indexer.wallet.keys import CannotSign, KeyRing, script_of_redeem_script
from indexer.wallet.node_coins import previous_transactions
from indexer.wallet.payment import compose_payment
from indexer.wallet.psbt import BadPsbt, NotYetSigned, sign_psbt, signed_transaction, write_psbt
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


class Offline:
    """A ``Signer`` that holds no keys: whatever is to be signed is handed out as a PSBT.

    May be shared by threads.
    """

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
        """``scripts``: those of the person who will sign; multisig by ``redeem_scripts``.
        ``in_use``: whether a script owns names, so that it is not given to another."""
        self._redeem_scripts = {script_of_redeem_script(one): one for one in redeem_scripts}
        self.scripts = tuple(dict.fromkeys((*scripts, *self._redeem_scripts)))
        """The scriptPubKeys whose coins it may spend."""
        self._node = node
        self._network = network
        self._source = source
        self._in_use = in_use
        self._kept: dict[tuple[bytes, int], Coin] = {}
        self._given: set[bytes] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.scripts)} scripts)"

    def fresh_script(self, label: str) -> bytes:
        """See ``Signer``: the first of its p2pkh scripts that nobody was given and that is not in
        use; when there is none such left, NoLegacyAddresses."""
        with self._lock:
            for script in self.scripts:
                if is_p2pkh(script) and script not in self._given and not self._in_use(script):
                    self._given.add(script)
                    return script
        raise NoLegacyAddresses(
            f"all addresses of this signer are in use, so there is none for {label[:100]}; add "
            "keys to it, or name the owner's address yourself (--owner). Nothing was paid"
        )

    def owns(self, script: bytes) -> bool:
        """See ``Signer``."""
        return script in self.scripts

    def coins(self, script: bytes) -> list[Coin]:
        """See ``Signer``."""
        return self._free([script]) if self.owns(script) else []

    def held(self) -> tuple[bytes, ...]:
        """The scripts whose coins it may spend, with coins or without."""
        return self.scripts

    def legacy_coins(self) -> list[Coin]:
        """The coins of all of them."""
        return self._free(self.scripts)

    def spare(self, sender: bytes) -> int:
        """Satoshis that ``pay`` may move to a script of its own from elsewhere, by and by: what is
        kept for something else and not spent comes back."""
        with self._lock:
            kept = [coin for coin in self._kept.values() if coin.script in self.scripts]
        calls = [("gettxout", (hash_hex(coin.txid), coin.index, True)) for coin in kept]
        try:
            replies = self._node.batch(calls) if calls else []
        except NodeError as failure:
            raise SignerUnavailable(f"{failure}; nothing was paid") from None
        there = zip(kept, replies, strict=True)
        coming = [coin for coin, reply in there if isinstance(reply, Mapping)]
        used = {*filter(self._in_use, self.scripts), sender}
        free = [*coming, *self._free(self.scripts)]
        return sum(coin.value for coin in free if coin.script not in used)

    def _free(self, scripts: Sequence[bytes]) -> list[Coin]:
        found = self._source.coins(scripts, self.scripts)
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

    def spending_size(self, script: bytes) -> float:
        """See ``Signer``."""
        return spending_size(script, self._redeem_scripts.get(script, b""))

    def sign(self, unsigned: Unsigned) -> bytes:
        """See ``Signer``: always NeedsSignature, but for what cannot be written down."""
        raise NeedsSignature(self._psbt(unsigned), unsigned)

    def _psbt(self, unsigned: Unsigned) -> str:
        try:
            previous = previous_transactions(self._node, unsigned.coins)
            return write_psbt(unsigned, previous, self._redeem_scripts.values())
        except (NodeError, BadPsbt) as failure:
            raise NotSigned(f"{failure}; nothing was paid") from None

    def pay(
        self,
        outputs: Sequence[TxOut],
        fee_rate: float,
        *,
        spending: Sequence[Coin] = (),
        leaves: Callable[[Coin], bool] = spends_any,
    ) -> Payment:
        """See ``Signer``."""
        used = set(filter(self._in_use, self.scripts))
        free = self._free(self.scripts)
        coins = [coin for coin in free if coin.script not in used and not leaves(coin)]
        mine = [*spending, *coins]
        if not mine:
            first = script_address(self.scripts[0], self._network) if self.scripts else None
            raise InsufficientFunds(
                "there are no coins to pay with (those on addresses that own names stay there); "
                "nothing was paid. Send some to "
                f"{first or 'one of its addresses'} and try again"
            )
        unsigned = compose_payment(
            outputs,
            coins,
            mine[0].script,  # back to where the largest came from
            fee_rate=fee_rate,
            spending=spending,
            size_of=self.spending_size,
        )
        raw = self.sign(unsigned)
        return Payment(raw, parse_transaction(raw).txid, unsigned)


class KeyFile(Offline):
    """A ``Signer``: private keys in this process. May be shared by threads."""

    kind = "key-file"

    def __init__(
        self,
        ring: KeyRing,
        node: BitcoinNode,
        network: Network,
        source: CoinSource,
        in_use: Callable[[bytes], bool] = lambda script: False,
    ) -> None:
        """``ring``: see ``key_storage.load_keys``. ``in_use``: as of ``Offline``."""
        redeem_scripts = [s for s in map(ring.redeem_script, ring.scripts) if s is not None]
        super().__init__(ring.scripts, node, network, source, redeem_scripts, in_use)
        self._ring = ring

    def sign(self, unsigned: Unsigned) -> bytes:
        """See ``Signer``. NeedsSignature where others must sign too, of a multisig owner."""
        psbt = self._psbt(unsigned)
        try:
            psbt = sign_psbt(psbt, self._ring)
            return signed_transaction(psbt, unsigned)
        except NotYetSigned:
            if all(map(self.owns, (coin.script for coin in unsigned.coins))):
                raise NeedsSignature(psbt, unsigned) from None
            raise NotSigned(
                "some coin is of a key that is not in the key file; use the signer "
                "that owns it. Nothing was paid"
            ) from None
        except (BadPsbt, CannotSign) as flaw:
            raise NotSigned(f"the key file cannot sign this: {flaw}. Nothing was paid") from None

    def spending_size(self, script: bytes) -> float:
        """See ``Signer``."""
        return self._ring.spending_size(script)
