"""Whoever holds the keys: what the registrar asks of a signer, and why a signer may say no.

What must stay true: a signer never sends anything; what it signs is exactly what it was given;
every refusal is a sentence that says what to do next, and no secret is in it. Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from indexer.bitcoin.transactions import TxOut
from indexer.wallet.coins import Coin, Unsigned


class SignerError(Exception):
    """Nothing was signed or paid; ``str()`` says why, and what to do next."""

    hint = "`bitcoin-cli getwalletinfo` shows the wallet of the node"
    """What to look at next."""


class SignerUnavailable(SignerError):
    """The signer or its node cannot be asked now: trying again later may help."""

    hint = "try again when the node answers; `blockstored status` says how it is"


class WalletLocked(SignerError):
    """The wallet is encrypted and locked: somebody must unlock it."""

    hint = "unlock it with `bitcoin-cli walletpassphrase`, and try again"


class NoWallet(SignerError):
    """The node has no wallet, or not the one that was named."""

    hint = (
        "`bitcoin-cli listwallets` shows what is loaded; the setting node_wallet names one of them"
    )


class NoLegacyAddresses(SignerError):
    """The wallet makes no p2pkh addresses, which are the only ones that can send operations."""

    hint = "use another wallet (node_wallet), or keys in a file (signer and key_file)"


class InsufficientFunds(SignerError):
    """The coins do not pay for what is asked; the text says how much is missing."""

    hint = "send coins there or wait for a block, and try again"

    def __init__(self, sentence: str, missing: int = 0) -> None:
        super().__init__(sentence)
        self.missing = missing
        """Satoshis, where they could be told; else 0."""


class WrongNetwork(SignerError):
    """A key, an address or a wallet of another network."""

    hint = "check the setting network, and on which network the node is"


class NotSigned(SignerError):
    """The signer lacks a key, refused, or gave back something else than what it was to sign."""

    hint = "sign with whoever owns the coins: signer, --key-file or --psbt"


class NeedsSignature(SignerError):
    """Somebody else must sign: ``psbt`` (BIP 174, base64) is what to sign, ``unsigned`` the same.

    No failure, but the way in which a signer without keys answers.
    """

    def __init__(self, psbt: str, unsigned: Unsigned) -> None:
        super().__init__(
            "this step waits for a signature; sign the PSBT where the keys are and hand it back"
        )
        self.psbt = psbt
        self.unsigned = unsigned


@dataclass(frozen=True, slots=True)
class Payment:
    """An ordinary payment, signed and not sent: its bytes, its txid, what it spends and pays."""

    raw: bytes
    txid: bytes
    unsigned: Unsigned


def spends_any(coin: Coin) -> bool:
    """What ``pay`` must leave alone, where that is nothing."""
    return False


class Signer(Protocol):
    """Holds keys, or knows who does. May block on a node; its methods raise SignerError."""

    @property
    def kind(self) -> str:
        """node-wallet, key-file or offline."""
        ...

    def fresh_script(self, label: str) -> bytes:
        """A p2pkh scriptPubKey that it can sign for; ``label`` is what a wallet shows with it.

        New at each call where the signer can make keys, else one of those it has. Raises
        NoLegacyAddresses, WalletLocked, NoWallet.
        """
        ...

    def owns(self, script: bytes) -> bool:
        """Whether it can sign for a scriptPubKey, alone or (offline) by whoever it hands to."""
        ...

    def coins(self, script: bytes) -> list[Coin]:
        """The unspent, mature, confirmed coins of this very p2pkh or p2sh script, largest first.

        Without those that the mempool spends, and those that are kept (``keep``).
        """
        ...

    def spending_size(self, script: bytes) -> float:
        """The most bytes that a scriptSig of its own, spending ``script``, can have."""
        ...

    def sign(self, unsigned: Unsigned) -> bytes:
        """The signed raw transaction, checked to be ``unsigned`` but for its signatures.

        Raises NeedsSignature, NotSigned, WalletLocked.
        """
        ...

    def pay(
        self,
        outputs: Sequence[TxOut],
        fee_rate: float,
        *,
        spending: Sequence[Coin] = (),
        leaves: Callable[[Coin], bool] = spends_any,
    ) -> Payment:
        """An ordinary payment of ``outputs``, in this order, with change of its own.

        ``fee_rate``: satoshis a virtual byte. It spends every coin of ``spending`` (so that it
        excludes another payment that spends one of them, or replaces it) and whatever else it
        takes, of any script that it owns and that owns no names: a payment joins on the chain what
        it spends. ``leaves``: which other coins it leaves alone. Raises InsufficientFunds and what
        ``sign`` raises.
        """
        ...

    def keep(self, coins: Sequence[Coin]) -> None:
        """Let nobody else spend these coins (a wallet's lockunspent). Safe to repeat."""
        ...

    def let_go(self, coins: Sequence[Coin]) -> None:
        """Take ``keep`` back. Safe to repeat, and for coins that are spent by now."""
        ...
