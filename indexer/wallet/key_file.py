"""The signer whose keys are in this process, read from a key file.

What must stay true: what is signed is checked before it leaves; what these keys cannot sign alone
goes out as a PSBT with whatever they could sign; nothing is sent from here, and no secret is in
any text.
"""

from collections.abc import Callable, Sequence

from indexer.bitcoin.transactions import TxOut, parse_transaction
from indexer.networks import Network
from indexer.node.node import BitcoinNode
from indexer.wallet.coins import Coin, Unsigned, usual_script_sig_size
from indexer.wallet.keys import CannotSign, KeyRing
from indexer.wallet.offline import CoinSource, WatchedScripts
from indexer.wallet.psbt import BadPsbt, NotYetSigned, sign_psbt, signed_transaction
from indexer.wallet.signers import NeedsSignature, NotSigned, Payment, spends_any


class KeyFile(WatchedScripts):
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
        """``ring``: see ``key_storage.load_keys``. ``in_use``: whether a script owns names, so
        that it is not given to another."""
        redeem_scripts = [s for s in map(ring.redeem_script, ring.scripts) if s is not None]
        super().__init__(node, network, ring.scripts, redeem_scripts, source, in_use)
        self._ring = ring

    def __repr__(self) -> str:
        return f"KeyFile({self._ring!r})"

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

    def pay(
        self,
        outputs: Sequence[TxOut],
        fee_rate: float,
        *,
        spending: Sequence[Coin] = (),
        leaves: Callable[[Coin], bool] = spends_any,
    ) -> Payment:
        """See ``Signer``."""
        unsigned = self._compose(outputs, fee_rate, spending, leaves)
        raw = self.sign(unsigned)
        return Payment(raw, parse_transaction(raw).txid, unsigned)

    def script_sig_size(self, script: bytes) -> int:
        """See ``Signer``."""
        try:
            return self._ring.script_sig_size(script)
        except CannotSign:
            return usual_script_sig_size(script)
