"""The signer whose keys are in a wallet of the Bitcoin node (Bitcoin Core's descriptor wallets).

What must stay true: no key leaves the wallet; what comes back from it is the transaction that
it was to sign, or is thrown away; nothing is sent from here. What several must sign, or a
device that the node does not know, is handed on as a PSBT.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from indexer.bitcoin.transactions import (
    TxOut,
    address_script,
    hash_hex,
    is_p2pkh,
    is_p2sh,
    parse_transaction,
    payment_script,
    script_address,
)
from indexer.bitcoin.witness import is_p2wpkh, virtual_size
from indexer.networks import Network
from indexer.node.node import BitcoinNode, NodeError
from indexer.wallet.coins import Coin, Unsigned, spending_size, transaction_size
from indexer.wallet.node_coins import coin_of, largest_first, listed, previous_transactions
from indexer.wallet.payment import compose_payment
from indexer.wallet.psbt import BadPsbt, raw_unsigned, signed_transaction, write_psbt
from indexer.wallet.signers import (
    InsufficientFunds,
    NeedsSignature,
    NoLegacyAddresses,
    NotSigned,
    NoWallet,
    Payment,
    SignerError,
    WrongNetwork,
    spends_any,
)
from indexer.wallet.wallet_door import BadParameter, WalletDoor

log = logging.getLogger("blockstore.registrar")

MAX_LABEL = 100
DEEPEST = 9_999_999
_TRIES = 3
"""How often a payment is made where it proves larger than was reckoned."""


class NodeWallet:
    """A ``Signer``: one wallet of the node. May be shared by threads."""

    kind = "node-wallet"

    def __init__(
        self,
        node: BitcoinNode,
        network: Network,
        wallet: str | None = None,
        in_use: Callable[[bytes], bool] = lambda script: False,
    ) -> None:
        """``wallet``: its name, where more than one may be loaded; ValueError for a bad one.
        ``in_use``: whether a script owns names, so that its coins are not joined with others."""
        self._in_use = in_use
        self._node = node
        self._network = network
        self.door = WalletDoor(node, wallet)
        self._sizes: dict[bytes, float] = {}
        """What the wallet has told of the scripts behind its coins."""

    def __repr__(self) -> str:
        return f"NodeWallet({self.door.wallet!r} at {self._node.place})"

    def close(self) -> None:
        """End its own connections."""
        self.door.close()

    # Addresses and coins

    def fresh_script(self, label: str) -> bytes:
        """See ``Signer``. The address is a new one of the wallet, which shows ``label`` by it."""
        address = str(self.door.ask("getnewaddress", label[:MAX_LABEL], "legacy"))
        try:
            script = address_script(address, self._network)
        except ValueError:
            raise WrongNetwork(
                f"the wallet gave {address[:100]!r}, which is no legacy address of "
                f"{self._network.name}; check that the node is on that network"
            ) from None
        if not is_p2pkh(script) or not self.owns(script):
            raise NoLegacyAddresses(
                "the wallet gave an address that it cannot sign for by itself; use a wallet with "
                "private keys and legacy (pkh) descriptors. Nothing was paid"
            )
        return script

    def owns(self, script: bytes) -> bool:
        """See ``Signer``: whether the wallet can solve the script, alone or with others."""
        address = script_address(script, self._network)
        if address is None:
            return False
        shown = self.door.ask_object("getaddressinfo", address)
        if shown.get("scriptPubKey") != script.hex():
            raise self.door.nonsense("getaddressinfo")
        return shown.get("ismine") is True and shown.get("solvable") is True

    def coins(self, script: bytes) -> list[Coin]:
        """See ``Signer``."""
        return self._of_script(script, "spendable")

    def watched(self, script: bytes) -> list[Coin] | None:
        """The coins of a script that the wallet knows, if only by its public keys; None where it
        does not, or where there is no wallet."""
        try:
            return self._of_script(script, "solvable") if self.owns(script) else None
        except NoWallet:
            return None

    def _of_script(self, script: bytes, can: str) -> list[Coin]:
        address = script_address(script, self._network)
        if address is None:
            return []
        shown = self._unspent(1, [address])
        return largest_first(
            coin for coin, entry in shown if coin.script == script and _is_legacy(entry, can)
        )

    def held(self) -> tuple[bytes, ...]:
        """The legacy scripts with coins that the wallet can sign for, those waiting included."""
        shown = self._unspent(0, [], unsafe=True)
        return tuple(dict.fromkeys(coin.script for coin, entry in shown if _is_legacy(entry)))

    def legacy_coins(self) -> list[Coin]:
        """The coins of all of them: confirmed, mature, and not locked."""
        shown = self._unspent(1, [])
        return largest_first(coin for coin, entry in shown if _is_legacy(entry, "spendable"))

    def spare(self, sender: bytes) -> int:
        """Satoshis that ``pay`` may move to a script, by and by: what the wallet trusts, of coins
        of any kind, but for those of that script and of scripts that own names."""
        mine = self.door.ask_object("getbalances").get("mine")
        if not isinstance(mine, Mapping) or not isinstance(mine.get("trusted"), Decimal | int):
            raise self.door.nonsense("getbalances")
        trusted = int(mine["trusted"] * 10**8)
        paying = self._paying(0)
        apart = [c for c in paying if c.script == sender or self._owns_names(c.script)]
        return max(0, trusted - sum(coin.value for coin in apart))

    def _paying(self, confirmations: int) -> list[Coin]:
        """Coins of any kind that the wallet can spend and trusts."""
        shown = self._unspent(confirmations, [])
        spendable = [coin for coin, entry in shown if entry.get("spendable") is True]
        # or a wallet without private keys, whose owner signs elsewhere
        return spendable or [coin for coin, entry in shown if entry.get("solvable") is True]

    def _unspent(
        self, confirmations: int, addresses: Sequence[str], *, unsafe: bool = False
    ) -> list[tuple[Coin, dict[str, Any]]]:
        shown = self.door.ask("listunspent", confirmations, DEEPEST, addresses, unsafe)
        try:
            found = [(coin_of(entry), entry) for entry in listed(shown)]
            for coin, entry in found:
                behind = (entry.get("redeemScript", ""), entry.get("witnessScript", ""))
                self._sizes[coin.script] = spending_size(coin.script, *map(bytes.fromhex, behind))
        except (NodeError, TypeError, ValueError) as failure:
            raise SignerError(f"{failure}; nothing was paid") from None
        return found

    def _owns_names(self, script: bytes) -> bool:
        return (is_p2pkh(script) or is_p2sh(script)) and self._in_use(script)

    def spending_size(self, script: bytes) -> float:
        """See ``Signer``: the wallet's keys are compressed."""
        return self._sizes.get(script) or spending_size(script)

    # Signing

    def sign(self, unsigned: Unsigned) -> bytes:
        """See ``Signer``. A wallet that lacks keys gives NeedsSignature with what it signed."""
        raw = raw_unsigned(unsigned).hex()
        signed = self.door.ask_object("signrawtransactionwithwallet", raw)
        if signed.get("complete") is True:
            return self._checked(str(signed.get("hex")), unsigned)
        try:
            psbt = write_psbt(unsigned, previous_transactions(self._node, unsigned.coins))
        except (NodeError, BadPsbt) as failure:
            raise NotSigned(f"{failure}; nothing was paid") from None
        processed = self.door.ask_object("walletprocesspsbt", psbt, True, "ALL", True)
        if not isinstance(processed.get("psbt"), str):
            raise self.door.nonsense("walletprocesspsbt")
        if processed.get("complete") is True:
            return self._checked(processed["psbt"], unsigned)
        by_one_key = all(is_p2pkh(c.script) or is_p2wpkh(c.script) for c in unsigned.coins)
        if not by_one_key or not self._has_keys():
            raise NeedsSignature(processed["psbt"], unsigned)
        raise NotSigned(
            f"the wallet cannot sign this: {_why(signed)}; use the wallet that owns the coins. "
            "Nothing was paid"
        )

    def _has_keys(self) -> bool:
        return self.door.ask_object("getwalletinfo").get("private_keys_enabled", True) is True

    def _checked(self, signed: str, unsigned: Unsigned) -> bytes:
        try:
            return signed_transaction(signed, unsigned)
        except BadPsbt as flaw:
            log.error(
                "the wallet at %s gave back what it was not given: %s", self._node.place, flaw
            )
            raise NotSigned(
                f"what the wallet gave back is not what it was to sign ({flaw}); nothing was paid. "
                "Check the node"
            ) from None

    # Paying

    def pay(
        self,
        outputs: Sequence[TxOut],
        fee_rate: float,
        *,
        spending: Sequence[Coin] = (),
        leaves: Callable[[Coin], bool] = spends_any,
    ) -> Payment:
        """See ``Signer``. Coins may be of any kind, and are chosen here: the wallet by itself would
        join those of different names. Only confirmed ones: others may be gone with what is
        replaced."""
        free = self._paying(1)
        named = {script for script in {c.script for c in free} if self._owns_names(script)}
        usable = [coin for coin in free if coin.script not in named and not leaves(coin)]
        change, rate = self._change_script(), fee_rate
        for _ in range(_TRIES):
            try:
                unsigned = compose_payment(
                    outputs,
                    largest_first(coin for coin in usable if coin not in spending),
                    change,
                    fee_rate=rate,
                    spending=spending,
                    size_of=self.spending_size,
                )
            except InsufficientFunds as short:
                apart = sum(coin.value for coin in free if coin.script in named)
                stays = f" {apart} satoshis on addresses that own names stay there." * bool(apart)
                raise InsufficientFunds(
                    f"the wallet{self.door.named} has too few confirmed coins for this payment and "
                    f"its fee: {short.missing} satoshis more are needed; nothing was paid.{stays} "
                    "Send coins to it, or wait until those that are on their way are in a block",
                    short.missing,
                ) from None
            self._prove(unsigned.coins)
            raw = self.sign(unsigned)
            size = virtual_size(raw)
            if unsigned.fee >= int(fee_rate * size):
                break
            reckoned = transaction_size(unsigned.coins, unsigned.outputs, self.spending_size)
            rate = fee_rate * (size + 1) / reckoned  # some input is larger than was reckoned
        return Payment(raw, parse_transaction(raw).txid, unsigned)

    def _change_script(self) -> bytes:
        address = str(self.door.ask("getrawchangeaddress"))
        try:
            return payment_script(address, self._network)
        except ValueError:
            raise WrongNetwork(
                f"the wallet gave {address[:100]!r} for change, which is no address of "
                f"{self._network.name}; check that the node is on that network"
            ) from None

    def _prove(self, coins: Sequence[Coin]) -> None:
        """That these are what the transactions that made them say; else NotSigned."""
        try:
            known = previous_transactions(self._node, coins)
            for coin in coins:
                output = parse_transaction(known[coin.txid]).outputs[coin.index]
                if output != (coin.value, coin.script):
                    raise NodeError(f"{hash_hex(coin.txid)} does not hold what it shows")
        except (NodeError, IndexError) as failure:
            raise NotSigned(f"cannot see what the wallet spends: {failure}; nothing paid") from None

    # Keeping coins

    def keep(self, coins: Sequence[Coin]) -> None:
        """See ``Signer``. The lock outlives a restart of the node."""
        self._lock(coins, True)

    def let_go(self, coins: Sequence[Coin]) -> None:
        """See ``Signer``. Only what is locked is asked to be unlocked, however many are named."""
        shown = self.door.ask("listlockunspent")
        try:
            locked = {(str(one["txid"]), int(one["vout"])) for one in listed(shown)}
        except (KeyError, TypeError, ValueError, NodeError):
            raise self.door.nonsense("listlockunspent") from None
        self._lock([c for c in coins if (hash_hex(c.txid), c.index) in locked], False)

    def _lock(self, coins: Sequence[Coin], locked: bool) -> None:
        for coin in coins:
            place = [{"txid": hash_hex(coin.txid), "vout": coin.index}]
            try:
                if locked:
                    self.door.ask("lockunspent", False, place, True)
                else:
                    self.door.ask("lockunspent", True, place)
            except BadParameter as failure:
                log.debug("a coin is left as it is: %s", failure)  # spent, or as is wanted


def _is_legacy(entry: Mapping[str, Any], can: str = "solvable") -> bool:
    """Whether a coin as ``listunspent`` shows it is spent without a witness, by who ``can``."""
    nested = str(entry.get("desc", "")).startswith("sh(w")
    nested = nested or str(entry.get("redeemScript", "")).startswith(("0014", "0020"))
    script = bytes.fromhex(entry["scriptPubKey"])
    able = entry.get("solvable") is True and entry.get(can) is True
    return able and (is_p2pkh(script) or (is_p2sh(script) and not nested))


def _why(signed: Mapping[str, Any]) -> str:
    flaws = signed.get("errors")
    if isinstance(flaws, list) and flaws and isinstance(flaws[0], Mapping):
        return str(flaws[0].get("error", ""))[:200]
    return "it does not say why"
