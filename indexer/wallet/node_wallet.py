"""The signer whose keys are in a wallet of the Bitcoin node (Bitcoin Core's descriptor wallets).

What must stay true: no key leaves the wallet; what comes back from it is the transaction that
it was to sign, or is thrown away; nothing is sent from here. What several must sign, or a
device that the node does not know, is handed on as a PSBT.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

from indexer.bitcoin.scripts import payment_address
from indexer.bitcoin.transactions import (
    CorruptTransaction,
    Transaction,
    TxOut,
    address_script,
    hash_hex,
    is_p2pkh,
    is_p2sh,
    p2pkh_script,
    parse_transaction,
    script_address,
)
from indexer.networks import Network
from indexer.node.node import BitcoinNode, NodeError, NodeRefused, NodeRpcError, NodeUnavailable
from indexer.wallet.coins import (
    FINAL_SEQUENCE,
    Coin,
    Unsigned,
    transaction_size,
    usual_script_sig_size,
)
from indexer.wallet.node_coins import coin_of, largest_first, listed, previous_transactions
from indexer.wallet.payment import any_script_sig_size, compose_payment
from indexer.wallet.psbt import (
    BadPsbt,
    check_signatures,
    raw_unsigned,
    signed_transaction,
    transaction_of,
    write_psbt,
)
from indexer.wallet.signers import (
    InsufficientFunds,
    NeedsSignature,
    NoLegacyAddresses,
    NotSigned,
    NoWallet,
    Payment,
    SignerError,
    SignerUnavailable,
    WalletLocked,
    WrongNetwork,
    spends_any,
)

log = logging.getLogger("blockstore.registrar")

MAX_WALLET_NAME = 200
MAX_LABEL = 100
DEEPEST = 9_999_999
_FEE_SLACK = 1_000
"""Satoshis that the wallet may go beyond the rate asked for: change too small for an output."""

_OUTPUT_BYTES = 34
WALLET_ERROR, FUNDS, KEYPOOL, UNLOCK, NO_WALLET, WHICH_WALLET = -4, -6, -12, -13, -18, -19
_METHOD_NOT_FOUND, _PARAMETER = -32601, -8


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
        self._name = wallet
        self._door = node if wallet is None else _door_to(node, wallet)

    def __repr__(self) -> str:
        return f"NodeWallet({self._name!r} at {self._node.place})"

    def close(self) -> None:
        """End its own connections."""
        if self._door is not self._node:
            self._door.close()

    # Addresses and coins

    def fresh_script(self, label: str) -> bytes:
        """See ``Signer``. The address is a new one of the wallet, which shows ``label`` by it."""
        address = self._ask("getnewaddress", label[:MAX_LABEL], "legacy")
        try:
            script = address_script(str(address), self._network)
        except ValueError:
            raise WrongNetwork(
                f"the wallet gave {str(address)[:100]!r}, which is no legacy address of "
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
        shown = self._ask("getaddressinfo", address)
        if not isinstance(shown, Mapping) or shown.get("scriptPubKey") != script.hex():
            raise self._nonsense("getaddressinfo")
        return shown.get("ismine") is True and shown.get("solvable") is True

    def coins(self, script: bytes) -> list[Coin]:
        """See ``Signer``."""
        return self._listed(script, spendable=True)

    def watched(self, script: bytes) -> list[Coin] | None:
        """The coins of a script that the wallet knows, if only by its public keys; None where it
        does not, or where there is no wallet."""
        try:
            return self._listed(script, spendable=False) if self.owns(script) else None
        except NoWallet:
            return None

    def _listed(self, script: bytes, *, spendable: bool) -> list[Coin]:
        address = script_address(script, self._network)
        if address is None:
            return []
        found = []
        try:
            for entry in listed(self._ask("listunspent", 1, DEEPEST, [address], False)):
                coin, ours = coin_of(entry), entry.get("spendable") is True or not spendable
                if coin.script == script and _is_legacy(entry) and ours:
                    found.append(coin)
        except NodeError as failure:
            raise SignerError(f"{failure}; nothing was paid") from None
        return largest_first(found)

    def held(self) -> tuple[bytes, ...]:
        """The legacy scripts with coins that the wallet can sign for, those waiting included."""
        entries = listed(self._ask("listunspent", 0, DEEPEST, [], True))
        legacy = (coin_of(entry).script for entry in entries if _is_legacy(entry))
        return tuple(dict.fromkeys(legacy))

    def legacy_coins(self) -> list[Coin]:
        """The coins of all of them: confirmed, mature, and not locked."""
        entries = listed(self._ask("listunspent", 1, DEEPEST, [], False))
        ours = (entry for entry in entries if entry.get("spendable") is True)
        return largest_first(coin_of(entry) for entry in ours if _is_legacy(entry))

    def spare(self, sender: bytes) -> int:
        """Satoshis that ``pay`` may move to a script, by and by: what the wallet trusts, of coins
        of any kind, but for those of that script and of scripts that own names."""
        shown = self._ask("getbalances")
        mine = shown.get("mine") if isinstance(shown, Mapping) else None
        if not isinstance(mine, Mapping) or not isinstance(mine.get("trusted"), Decimal | int):
            raise self._nonsense("getbalances")
        trusted = int(mine["trusted"] * 10**8)
        apart = [
            coin
            for coin in self._paying(0)
            if coin.script == sender or self._owns_names(coin.script)
        ]
        return max(0, trusted - sum(coin.value for coin in apart))

    def _paying(self, confirmations: int) -> list[Coin]:
        """Coins of any kind that the wallet can spend and trusts."""
        entries = listed(self._ask("listunspent", confirmations, DEEPEST, [], False))
        spendable = [entry for entry in entries if entry.get("spendable") is True]
        if not spendable:  # a wallet without private keys, whose owner signs elsewhere
            spendable = [entry for entry in entries if entry.get("solvable") is True]
        return [coin_of(entry) for entry in spendable]

    def _owns_names(self, script: bytes) -> bool:
        return (is_p2pkh(script) or is_p2sh(script)) and self._in_use(script)

    def script_sig_size(self, script: bytes) -> int:
        """See ``Signer``: the wallet's keys are compressed."""
        return usual_script_sig_size(script)

    # Signing

    def sign(self, unsigned: Unsigned) -> bytes:
        """See ``Signer``. A wallet that lacks keys gives NeedsSignature with what it signed."""
        signed = self._ask("signrawtransactionwithwallet", raw_unsigned(unsigned).hex())
        if not isinstance(signed, Mapping):
            raise self._nonsense("signrawtransactionwithwallet")
        if signed.get("complete") is True:
            return self._checked(str(signed.get("hex")), unsigned)
        psbt = self._psbt(unsigned)
        processed = self._ask("walletprocesspsbt", psbt, True, "ALL", True)
        if not isinstance(processed, Mapping) or not isinstance(processed.get("psbt"), str):
            raise self._nonsense("walletprocesspsbt")
        if processed.get("complete") is True:
            return self._checked(processed["psbt"], unsigned)
        if any(is_p2sh(coin.script) for coin in unsigned.coins) or not self._has_keys():
            raise NeedsSignature(processed["psbt"], unsigned)
        raise NotSigned(
            f"the wallet cannot sign this: {_why(signed)}; use the wallet that owns the coins. "
            "Nothing was paid"
        )

    def _psbt(self, unsigned: Unsigned) -> str:
        try:
            return write_psbt(unsigned, previous_transactions(self._node, unsigned.coins))
        except (NodeError, BadPsbt) as failure:
            raise NotSigned(f"{failure}; nothing was paid") from None

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

    def _has_keys(self) -> bool:
        shown = self._ask("getwalletinfo")
        if not isinstance(shown, Mapping):
            raise self._nonsense("getwalletinfo")
        return shown.get("private_keys_enabled", True) is True

    # Paying

    def pay(
        self,
        outputs: Sequence[TxOut],
        fee_rate: float,
        *,
        spending: Sequence[Coin] = (),
        leaves: Callable[[Coin], bool] = spends_any,
    ) -> Payment:
        """See ``Signer``. Coins may be of any kind; the wallet says what they cost, and where
        change goes."""
        rate = math.ceil(max(fee_rate, 1.0) * 1000) / 1000
        joined = _joined(outputs, rate)
        psbt, chosen = self._funded(joined, rate, spending, leaves)
        if len(joined) < len(outputs):
            return self._split(psbt, joined, outputs, rate, chosen)
        processed = self._ask("walletprocesspsbt", psbt, True, "ALL", True)
        if not isinstance(processed, Mapping) or not isinstance(processed.get("psbt"), str):
            raise self._nonsense("walletprocesspsbt")
        final = self._ask("finalizepsbt", processed["psbt"])
        if not isinstance(final, Mapping):
            raise self._nonsense("finalizepsbt")
        try:
            if final.get("complete") is not True:
                transaction = transaction_of(processed["psbt"])
                unsigned = self._payment(transaction, outputs, chosen)
                self._check_fee(unsigned, len(processed["psbt"]), rate)
                raise NeedsSignature(processed["psbt"], unsigned)
            raw = bytes.fromhex(str(final.get("hex")))
            transaction = parse_transaction(raw)
            unsigned = self._payment(transaction, outputs, chosen)
            self._check_fee(unsigned, len(raw), rate)
            check_signatures(raw, unsigned.coins)
        except (BadPsbt, CorruptTransaction, ValueError) as flaw:
            raise self._other_payment(flaw) from None
        return Payment(raw, transaction.txid, unsigned)

    def _funded(
        self,
        outputs: Sequence[TxOut],
        rate: float,
        spending: Sequence[Coin],
        leaves: Callable[[Coin], bool],
    ) -> tuple[str, Sequence[Coin]]:
        """The PSBT that the wallet makes of coins that are chosen here, and these: by itself it
        would join those of different names. Only confirmed ones: others may be gone with what is
        replaced."""
        try:
            free = self._paying(1)
        except NodeError as failure:
            raise SignerError(f"{failure}; nothing was paid") from None
        named = {script for script in {c.script for c in free} if self._owns_names(script)}
        usable = [coin for coin in free if coin.script not in named and not leaves(coin)]
        rest = largest_first(coin for coin in usable if coin not in spending)
        change = p2pkh_script(bytes(20))  # a stand-in that is as large as any
        try:
            wanted = compose_payment(outputs, rest, change, fee_rate=rate, spending=spending).coins
        except InsufficientFunds as short:
            apart = sum(coin.value for coin in free if coin.script in named)
            stays = f" {apart} satoshis on addresses that own names stay there." if apart else ""
            raise InsufficientFunds(
                f"the wallet{self._named} has too few confirmed coins for this payment and its fee:"
                f" {short.missing} satoshis more are needed; nothing was paid.{stays} Send coins to"
                " it, or wait until those that are on their way are in a block",
                short.missing,
            ) from None
        chosen = list(wanted)
        rest = [coin for coin in rest if coin not in chosen]
        paid = [{self._address(output.script): _bitcoins(output.value)} for output in outputs]
        options = {
            "add_inputs": False,
            "fee_rate": rate,
            "changePosition": len(outputs),
            "replaceable": True,
        }
        while True:
            inputs = [{"txid": hash_hex(c.txid), "vout": c.index} for c in chosen]
            try:
                made = self._ask("walletcreatefundedpsbt", inputs, paid, 0, options)
            except InsufficientFunds:  # some input is larger than was reckoned
                if not rest:
                    raise
                chosen.append(rest.pop(0))
                continue
            if not isinstance(made, Mapping) or not isinstance(made.get("psbt"), str):
                raise self._nonsense("walletcreatefundedpsbt")
            return made["psbt"], chosen

    def _split(
        self,
        psbt: str,
        joined: Sequence[TxOut],
        outputs: Sequence[TxOut],
        rate: float,
        spending: Sequence[Coin],
    ) -> Payment:
        """What the wallet made of ``joined``, as a payment of ``outputs``: its RPC takes no address
        twice."""
        try:
            whole = self._payment(transaction_of(psbt), joined, spending)
            rest = whole.outputs[len(joined) :]
            fee = sum(coin.value for coin in whole.coins) - sum(o.value for o in (*outputs, *rest))
            change = len(outputs) if rest else None
            unsigned = Unsigned(whole.coins, (*outputs, *rest), fee, change)
            size = transaction_size(unsigned.coins, unsigned.outputs, any_script_sig_size)
            self._check_fee(unsigned, size, rate)
        except (BadPsbt, CorruptTransaction, ValueError) as flaw:
            raise self._other_payment(flaw) from None
        raw = self.sign(unsigned)
        return Payment(raw, parse_transaction(raw).txid, unsigned)

    def _other_payment(self, flaw: Exception) -> NotSigned:
        return NotSigned(
            f"the wallet made another payment than it was asked for: {flaw}. Nothing was paid; "
            "check the node"
        )

    def _payment(
        self, transaction: Transaction, outputs: Sequence[TxOut], spending: Sequence[Coin]
    ) -> Unsigned:
        """What the wallet made, where it is what was asked for; else BadPsbt."""
        coins = self._spent(transaction)
        paid, rest = transaction.outputs[: len(outputs)], transaction.outputs[len(outputs) :]
        if paid != tuple(outputs) or len(rest) > 1:
            raise BadPsbt("it pays something else")
        if {(c.txid, c.index) for c in spending} != {(c.txid, c.index) for c in coins}:
            raise BadPsbt("it spends other coins")
        if any(spent.sequence != FINAL_SEQUENCE for spent in transaction.inputs):
            raise BadPsbt("its fee could not be raised")
        fee = sum(c.value for c in coins) - sum(output.value for output in transaction.outputs)
        change = len(outputs) if rest else None
        return Unsigned(tuple(coins), transaction.outputs, fee, change)

    def _check_fee(self, unsigned: Unsigned, size: int, rate: float) -> None:
        if not 0 <= unsigned.fee <= size * rate + _FEE_SLACK:
            raise BadPsbt(f"its fee is {unsigned.fee} satoshis")

    def _spent(self, transaction: Transaction) -> list[Coin]:
        """The coins that it spends, as the transactions that made them prove."""
        places = [(i.previous_txid, i.previous_index) for i in transaction.inputs]
        bare = [Coin(txid, index, 0, b"") for txid, index in places]
        try:
            known = previous_transactions(self._node, bare)
            return [Coin(t, i, *parse_transaction(known[t]).outputs[i]) for t, i in places]
        except (NodeError, IndexError) as failure:
            raise NotSigned(f"cannot see what the wallet spends: {failure}; nothing paid") from None

    def _address(self, script: bytes) -> str:
        address = payment_address(script, self._network)
        if address is None:
            raise NotSigned("the wallet pays to addresses only, not to scripts; nothing was paid")
        return address

    # Keeping coins

    def keep(self, coins: Sequence[Coin]) -> None:
        """See ``Signer``. The lock outlives a restart of the node."""
        self._lock(coins, True)

    def let_go(self, coins: Sequence[Coin]) -> None:
        """See ``Signer``. Only what is locked is asked to be unlocked, however many are named."""
        shown = self._ask("listlockunspent")
        try:
            locked = {(str(one["txid"]), int(one["vout"])) for one in listed(shown)}
        except (KeyError, TypeError, ValueError, NodeError):
            raise self._nonsense("listlockunspent") from None
        self._lock([c for c in coins if (hash_hex(c.txid), c.index) in locked], False)

    def _lock(self, coins: Sequence[Coin], locked: bool) -> None:
        for coin in coins:
            place = [{"txid": hash_hex(coin.txid), "vout": coin.index}]
            try:
                if locked:
                    self._ask("lockunspent", False, place, True)
                else:
                    self._ask("lockunspent", True, place)
            except _BadParameter as failure:
                log.debug("a coin is left as it is: %s", failure)  # spent, or as is wanted

    # Asking

    def _ask(self, method: str, *params: object) -> Any:
        try:
            return self._door.call(method, *params)
        except (NodeUnavailable, NodeRefused) as failure:
            raise SignerUnavailable(f"{failure}; nothing was paid") from None
        except NodeRpcError as failure:
            raise self._translated(failure) from None
        except NodeError as failure:
            raise SignerError(f"{failure}; nothing was paid") from None

    @property
    def _named(self) -> str:
        return "" if self._name is None else f" {self._name!r}"

    def _translated(self, failure: NodeRpcError) -> SignerError:
        named, place = self._named, self._node.place
        if failure.code == UNLOCK:
            return WalletLocked(
                f"the wallet{named} of the node at {place} is locked; unlock it (bitcoin-cli "
                "walletpassphrase) and it goes on. Nothing was paid"
            )
        if failure.code == NO_WALLET:
            return NoWallet(
                f"the node at {place} has no wallet{named} loaded; load it (bitcoin-cli "
                "loadwallet) or make one (createwallet). Nothing was paid"
            )
        if failure.code == WHICH_WALLET:
            return NoWallet(
                f"the node at {place} has several wallets loaded; say in node_wallet which "
                "one is to pay. Nothing was paid"
            )
        if failure.code == _METHOD_NOT_FOUND:
            return NoWallet(
                f"the node at {place} knows no {failure.method}: its wallet is off "
                "(disablewallet=1), or it is not Bitcoin Core; use another node or a key file. "
                "Nothing was paid"
            )
        if failure.code == KEYPOOL and "ran out" in failure.message:
            return WalletLocked(
                f"the wallet{named} has no addresses left that were made before it was locked; "
                "unlock it (bitcoin-cli walletpassphrase) and let it make more (keypoolrefill). "
                "Nothing was paid"
            )
        if failure.code == KEYPOOL or "legacy" in failure.message:
            return NoLegacyAddresses(
                f"the wallet{named} makes no legacy addresses ({failure.message}), and no others "
                "can own names; import a pkh() descriptor, or use another wallet. Nothing was paid"
            )
        if failure.code == FUNDS or (
            failure.code == WALLET_ERROR
            and ("nsufficient funds" in failure.message or "preselected coins" in failure.message)
        ):
            return InsufficientFunds(
                f"the wallet{named} has too few confirmed coins for this payment and its fee "
                f"({failure.message}); nothing was paid. Send coins to it, or wait until those "
                "that are on their way are in a block"
            )
        if failure.code == _PARAMETER:
            return _BadParameter(f"{failure}; nothing was paid")
        return SignerError(f"{failure}; nothing was paid")

    def _nonsense(self, method: str) -> SignerError:
        return SignerError(
            f"the node at {self._node.place} answered {method} with something that is no answer to "
            "it; nothing was paid. Check that it is Bitcoin Core 25 or later"
        )


class _BadParameter(SignerError):
    """Core's -8."""


def _door_to(node: BitcoinNode, wallet: str) -> BitcoinNode:
    if len(wallet) > MAX_WALLET_NAME or not wallet.isprintable():
        raise ValueError("this is no name of a wallet")
    path = "/wallet/" + quote(wallet, safe="")
    given = node.place_and_key
    return BitcoinNode(**{**given, "url": urlsplit(given["url"])._replace(path=path).geturl()})


def _is_legacy(entry: Mapping[str, Any]) -> bool:
    """Whether a coin as ``listunspent`` shows it is spent without a witness."""
    nested = str(entry.get("desc", "")).startswith(("sh(w", "wsh", "wpkh", "tr("))
    redeem_script = str(entry.get("redeemScript", ""))
    return (
        not nested
        and not redeem_script.startswith(("0014", "0020"))
        and (entry.get("solvable") is True)
    )


def _joined(outputs: Sequence[TxOut], rate: float) -> Sequence[TxOut]:
    """One output for each script, with the fee of those that are left out."""
    totals: dict[bytes, int] = {}
    for output in outputs:
        extra = math.ceil(_OUTPUT_BYTES * rate) if output.script in totals else 0
        totals[output.script] = totals.get(output.script, 0) + output.value + extra
    return [TxOut(value, script) for script, value in totals.items()]


def _bitcoins(satoshis: int) -> str:
    return f"{satoshis // 10**8}.{satoshis % 10**8:08d}"


def _why(signed: Mapping[str, Any]) -> str:
    flaws = signed.get("errors")
    if isinstance(flaws, list) and flaws and isinstance(flaws[0], Mapping):
        return str(flaws[0].get("error", ""))[:200]
    return "it does not say why"
