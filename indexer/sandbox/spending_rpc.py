"""The wallet methods of the sandbox node's JSON-RPC that compose, fund, sign and send payments.

What must stay true: each public method is a method of the RPC, with the names, defaults, error
codes and words of Bitcoin Core's; nothing is signed while the wallet is locked.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from io import BytesIO
from typing import Any

from embit.ec import PublicKey
from embit.psbt import PSBT
from embit.script import Script
from embit.transaction import Transaction as EmbitTransaction
from embit.transaction import TransactionOutput as EmbitOutput

from indexer.bitcoin.transactions import (
    CorruptTransaction,
    Transaction,
    TxIn,
    TxOut,
    hash_hex,
    parse_transaction,
)
from indexer.bitcoin.witness import is_p2wpkh
from indexer.registrar.planning import compose
from indexer.sandbox.blocks import serialize
from indexer.sandbox.coins import Coin
from indexer.sandbox.core_json import Json, amount
from indexer.sandbox.envelope import (
    RPC_PARAMETER,
    RpcError,
    flag,
    hex_of,
    integer,
    list_of,
    outpoint_of,
    satoshis_of,
    script_of,
    text_of,
)
from indexer.sandbox.policy import RPC_DESERIALIZATION
from indexer.sandbox.wallet import SandboxWallet, holds
from indexer.sandbox.wallet_rpc import RPC_WALLET_ERROR, WalletRpc
from indexer.wallet import psbt
from indexer.wallet.payment import compose_payment
from indexer.wallet.signers import InsufficientFunds

RPC_INSUFFICIENT_FUNDS = -6
REPLACEABLE, NOT_FINAL = 0xFFFFFFFD, 0xFFFFFFFE
MAX_FEE_RATE = 10_000
_VERSION = 2
_NO_INPUT, _NO_INPUT_BYTES = TxIn(bytes(32), 0, b"", 0), 41
"""Stands in for the inputs of a transaction that is to be funded and has none."""
_NO_FEE = (
    "Fee estimation failed. Fallbackfee is disabled. Wait a few blocks or enable -fallbackfee."
)
_NO_TRANSACTION = "TX decode failed. Make sure the tx has at least one input."
_OPTIONS = frozenset(
    ["add_inputs", "changeAddress", "changePosition", "change_type", "feeRate", "fee_rate"]
).union(["include_unsafe", "inputs", "lockUnspents", "maxconf", "minconf", "replaceable"])


class SpendingRpc(WalletRpc):
    """What the node does with the coins of its wallets. Whoever calls holds the chain's lock."""

    # Composing

    def createrawtransaction(
        self,
        inputs: object,
        outputs: object,
        locktime: object = 0,
        replaceable: object = True,
    ) -> str:
        composed = self._composed(inputs, outputs, locktime, flag(replaceable))
        if composed.inputs:
            return serialize(composed).hex()
        raw = serialize(dataclasses.replace(composed, inputs=(_NO_INPUT,)))
        return (raw[:4] + b"\x00" + raw[5 + _NO_INPUT_BYTES :]).hex()

    def _composed(
        self, inputs: object, outputs: object, locktime: object, replaceable: bool
    ) -> Transaction:
        default = REPLACEABLE if replaceable else NOT_FINAL
        spent = []
        for entry in list_of(inputs):
            txid, index = outpoint_of(entry)
            sequence = entry.get("sequence", default)
            if isinstance(sequence, bool) or not isinstance(sequence, int):
                raise RpcError(RPC_PARAMETER, "Invalid parameter, sequence number is out of range")
            if not 0 <= sequence <= 0xFFFFFFFF:
                raise RpcError(RPC_PARAMETER, "Invalid parameter, sequence number is out of range")
            spent.append(TxIn(txid, index, b"", sequence))
        lock = integer(locktime)
        if lock < 0:
            raise RpcError(RPC_PARAMETER, "Invalid parameter, locktime out of range")
        paid = _outputs_of(outputs)
        return Transaction(bytes(32), _VERSION, tuple(spent), tuple(paid), lock)

    def fundrawtransaction(
        self, hexstring: object, options: object = None, iswitness: object = None
    ) -> Json:
        transaction = _bare(hex_of(hexstring, "TX decode failed"))
        funded, fee, position = self._funded(transaction, options)
        return {"hex": serialize(funded).hex(), "fee": amount(fee), "changepos": position}

    def walletcreatefundedpsbt(
        self,
        inputs: object,
        outputs: object,
        locktime: object = 0,
        options: object = None,
        bip32derivs: object = True,
    ) -> Json:
        asked = options if isinstance(options, dict) else {}
        replaceable = flag(asked.get("replaceable", True))
        transaction = self._composed(inputs, outputs, locktime, replaceable)
        funded, fee, position = self._funded(transaction, options)
        form = PSBT(EmbitTransaction.read_from(BytesIO(serialize(funded))))
        self._fill(form)
        return {"psbt": form.to_base64(), "fee": amount(fee), "changepos": position}

    def _funded(
        self, transaction: Transaction, options: object, code: int = RPC_WALLET_ERROR
    ) -> tuple[Transaction, int, int]:
        """With the coins and the change that it takes; the fee; where the change is, or -1."""
        wallet = self._wallet()
        asked = {} if options is None else options
        if not isinstance(asked, dict):
            raise RpcError(-3, "JSON value is not of expected type object")
        for name in asked:
            if name not in _OPTIONS:
                raise RpcError(-3, f"Unexpected key {name:.40}")
        rate = self._rate(asked, code)
        if not transaction.outputs:
            raise RpcError(RPC_PARAMETER, "TX must have at least one output")
        pinned = [self._pinned(wallet, spending) for spending in transaction.inputs]
        others: list[compose.Coin] = []
        if flag(asked.get("add_inputs", not pinned)):
            others = self._selectable(wallet, asked)
        change = self._change_script(wallet, asked)
        try:
            paid = compose_payment(
                transaction.outputs, others, change, fee_rate=rate, spending=pinned
            )
        except InsufficientFunds:
            reason = "Insufficient funds"
            if pinned and not others:
                reason = (
                    "The preselected coins total amount does not cover the transaction target. "
                    "Please allow other inputs to be automatically selected or include more "
                    "coins manually"
                )
            raise RpcError(code, reason) from None
        outputs = list(transaction.outputs)
        position = -1
        if len(paid.outputs) > len(outputs):
            position = integer(asked.get("changePosition", 0))
            if not 0 <= position <= len(outputs):
                raise RpcError(RPC_PARAMETER, "changePosition out of bounds")
            outputs.insert(position, paid.outputs[-1])
        sequence = REPLACEABLE if flag(asked.get("replaceable", True)) else NOT_FINAL
        known = {spending[:2]: spending for spending in transaction.inputs}
        inputs = [
            known.get((coin.txid, coin.index), TxIn(coin.txid, coin.index, b"", sequence))
            for coin in paid.coins
        ]
        if flag(asked.get("lockUnspents", False)):
            for coin in paid.coins:
                wallet.lock((coin.txid, coin.index), True, False)
        funded = Transaction(
            bytes(32), transaction.version, tuple(inputs), tuple(outputs), transaction.locktime
        )
        return funded, paid.fee, position

    def _pinned(self, wallet: SandboxWallet, spending: TxIn) -> compose.Coin:
        coin = wallet.coin((spending.previous_txid, spending.previous_index))
        if coin is None:
            reason = "Not found pre-selected input"
            outpoint = f"COutPoint({hash_hex(spending.previous_txid)[:10]}, "
            raise RpcError(RPC_WALLET_ERROR, f"{reason} {outpoint}{spending.previous_index})")
        return compose.Coin(
            spending.previous_txid, spending.previous_index, coin.value, coin.script
        )

    def _selectable(self, wallet: SandboxWallet, asked: dict[str, Any]) -> list[compose.Coin]:
        least = integer(asked.get("minconf", 0))
        found = [
            compose.Coin(*c.outpoint, c.coin.value, c.coin.script)
            for c in wallet.coins()
            if c.safe and c.mature and c.confirmations >= least and c.outpoint not in wallet.locked
        ]
        return sorted(found, key=lambda coin: -coin.value)

    def _change_script(self, wallet: SandboxWallet, asked: dict[str, Any]) -> bytes:
        if "changeAddress" in asked:
            return script_of(asked["changeAddress"])
        return wallet.new_script(None, bech32=self._is_bech32(asked.get("change_type")))

    def _rate(self, asked: dict[str, Any], code: int) -> float:
        """Satoshis a byte."""
        if "fee_rate" in asked and "feeRate" in asked:
            raise RpcError(
                RPC_PARAMETER,
                "Cannot specify both fee_rate (sat/vB) and feeRate (BTC/kvB)",
            )
        if "feeRate" in asked:
            return satoshis_of(asked["feeRate"]) / 1000
        if "fee_rate" not in asked:
            if self._switches.fee_rate is None:
                raise RpcError(code, _NO_FEE)
            return self._switches.fee_rate / 1000
        try:
            rate = Decimal(str(asked["fee_rate"]))
        except InvalidOperation:
            raise RpcError(-3, "Invalid amount") from None
        if not rate.is_finite() or not 0 <= rate < MAX_FEE_RATE or rate != round(rate, 3):
            raise RpcError(-3, "Amount out of range")
        if rate < 1:
            reason = f"Fee rate ({rate:.3f} sat/vB) is lower than the minimum fee rate setting"
            raise RpcError(code, f"{reason} (1.000 sat/vB)")
        return float(rate)

    # Signing

    def signrawtransactionwithwallet(
        self, hexstring: object, prevtxs: object = None, sighashtype: object = "DEFAULT"
    ) -> Json:
        wallet = self._wallet()
        transaction = _bare(hex_of(hexstring, _NO_TRANSACTION, RPC_DESERIALIZATION))
        self._check_unlocked()
        _check_hash_type(sighashtype)
        places = [(i.previous_txid, i.previous_index) for i in transaction.inputs]
        spent = [wallet.coin(place) for place in places]
        raw = wallet.sign(transaction, spent)
        signed = parse_transaction(raw)
        flaws = []
        for place, (spending, coin) in enumerate(zip(signed.inputs, spent, strict=True)):
            if coin is not None and holds(raw, signed, place, coin):
                continue
            reason = "Input not found or already spent"
            if coin is not None:
                reason = "Unable to sign input, invalid stack size (possibly missing key)"
            flaws.append(
                {
                    "txid": hash_hex(spending.previous_txid),
                    "vout": spending.previous_index,
                    "witness": [],
                    "scriptSig": spending.script_sig.hex(),
                    "sequence": spending.sequence,
                    "error": reason,
                }
            )
        shown: Json = {"hex": raw.hex(), "complete": not flaws}
        return shown | {"errors": flaws} if flaws else shown

    def walletprocesspsbt(
        self,
        psbt: object,
        sign: object = True,
        sighashtype: object = "DEFAULT",
        bip32derivs: object = True,
        finalize: object = True,
    ) -> Json:
        form = _read(psbt)
        _check_hash_type(sighashtype)
        coins = self._fill(form)
        if flag(sign):
            self._check_unlocked()
            self._sign(form, coins)
        text = str(form.to_base64())
        raw = self._complete(text, coins) if flag(finalize) else None
        if raw is None:
            return {"psbt": text, "complete": False}
        for place, spending in enumerate(EmbitTransaction.read_from(BytesIO(raw)).vin):
            if spending.witness.items:
                form.inputs[place].final_scriptwitness = spending.witness
            else:
                form.inputs[place].final_scriptsig = spending.script_sig
            form.inputs[place].partial_sigs.clear()
        return {"psbt": form.to_base64(), "complete": True, "hex": raw.hex()}

    def _fill(self, form: PSBT) -> list[Coin | None]:
        """Put in the previous transactions that the node knows; the coins that are spent."""
        wallet = self._wallet()
        coins = []
        for scope in form.inputs:
            txid = bytes(reversed(scope.txid))
            coins.append(wallet.coin((txid, scope.vout)))
            found = self._transaction(txid)
            if scope.non_witness_utxo is None and found is not None:
                raw = serialize(found[0])
                scope.non_witness_utxo = EmbitTransaction.read_from(BytesIO(raw))
            if coins[-1] is not None and is_p2wpkh(coins[-1].script):
                scope.witness_utxo = EmbitOutput(coins[-1].value, Script(coins[-1].script))
        return coins

    def _sign(self, form: PSBT, coins: Sequence[Coin | None]) -> None:
        wallet = self._wallet()
        scripts = [coin.script for coin in coins if coin is not None]
        unsigned = bytes(form.tx.serialize())
        for place, coin in enumerate(coins):
            if coin is not None and is_p2wpkh(coin.script) and wallet.owns(coin.script):
                signature, public_key = wallet.sign_witness(unsigned, place, coin)
                form.inputs[place].partial_sigs[PublicKey.parse(public_key)] = signature
        try:
            signed = psbt.sign_psbt(form.to_base64(), wallet.ring(scripts))
        except psbt.BadPsbt:
            return  # none of its inputs is ours
        for mine, theirs in zip(form.inputs, PSBT.from_string(signed).inputs, strict=True):
            mine.partial_sigs.update(theirs.partial_sigs)

    def _complete(self, text: str, coins: Sequence[Coin | None]) -> bytes | None:
        """The raw transaction, where every input is signed."""
        if any(coin is None for coin in coins):
            return None
        spent = [coin for coin in coins if coin is not None]
        try:
            raw = psbt.assembled(text, [coin.script for coin in spent])
        except psbt.BadPsbt:
            return None
        transaction = parse_transaction(raw)
        good = all(holds(raw, transaction, place, coin) for place, coin in enumerate(spent))
        return raw if good else None

    def finalizepsbt(self, psbt: object, extract: object = True) -> Json:
        form = _read(psbt)
        chain = self._chain
        places = [(bytes(reversed(scope.txid)), scope.vout) for scope in form.inputs]
        coins = [chain.coins.get(p) or chain.mempool.coin(p, chain.height + 1) for p in places]
        text = str(form.to_base64())
        raw = self._complete(text, coins)
        if raw is None or not flag(extract):
            return {"psbt": text, "complete": raw is not None}
        return {"hex": raw.hex(), "complete": True}

    # Sending

    def sendtoaddress(
        self,
        address: object,
        amount: object,
        comment: object = "",
        comment_to: object = "",
        subtractfeefromamount: object = False,
        replaceable: object = None,
        conf_target: object = None,
        estimate_mode: object = None,
        avoid_reuse: object = None,
        fee_rate: object = None,
        verbose: object = False,
    ) -> object:
        wallet = self._wallet()
        script, value = script_of(address), satoshis_of(amount)
        if flag(subtractfeefromamount):
            raise RpcError(RPC_PARAMETER, "this node takes fees from no amount that is sent")
        self._check_unlocked()
        options: dict[str, Any] = {} if fee_rate is None else {"fee_rate": fee_rate}
        options["replaceable"] = True if replaceable is None else replaceable
        bare = Transaction(bytes(32), _VERSION, (), (TxOut(value, script),), 0)
        funded, _, _ = self._funded(bare, options, RPC_INSUFFICIENT_FUNDS)
        places = [(i.previous_txid, i.previous_index) for i in funded.inputs]
        raw = wallet.sign(funded, [wallet.coin(place) for place in places])
        txid = hash_hex(self._chain.submit(raw))
        return {"txid": txid, "fee_reason": "Fallback fee"} if flag(verbose) else txid


def _outputs_of(outputs: object) -> list[TxOut]:
    """Outputs as objects of address (or data) to amount, in a list or all in one."""
    pairs: list[tuple[str, object]] = []
    for entry in [outputs] if isinstance(outputs, dict) else list_of(outputs):
        if not isinstance(entry, dict):
            raise RpcError(-3, "JSON value is not of expected type object")
        pairs += entry.items()
    found: list[TxOut] = []
    for name, value in pairs:
        if name == "data":
            payload = hex_of(value, f"Data must be hexadecimal string (not '{value!s:.80}')")
            if len(payload) >= 256:
                raise RpcError(RPC_PARAMETER, "this node writes at most 255 bytes of data")
            push = bytes((len(payload),)) if len(payload) < 0x4C else bytes((0x4C, len(payload)))
            found.append(TxOut(0, b"\x6a" + push + payload))
            continue
        script = script_of(name)
        if any(output.script == script for output in found):
            raise RpcError(RPC_PARAMETER, f"Invalid parameter, duplicated address: {name:.100}")
        found.append(TxOut(satoshis_of(value), script))
    return found


def _bare(raw: bytes) -> Transaction:
    """A transaction that may as yet have no inputs, which looks like one with a witness."""
    try:
        return parse_transaction(raw)
    except CorruptTransaction:
        no_inputs = len(raw) > 10 and raw[4] == 0
    if no_inputs:
        one_input = raw[:4] + b"\x01" + bytes(_NO_INPUT_BYTES) + raw[5:]
        with contextlib.suppress(CorruptTransaction):
            found = parse_transaction(one_input)
            return Transaction(found.txid, found.version, (), found.outputs, found.locktime)
    raise RpcError(RPC_DESERIALIZATION, _NO_TRANSACTION)


def _read(text: object) -> PSBT:
    try:
        return PSBT.from_string(text_of(text))
    except RpcError:
        raise
    except Exception:  # noqa: BLE001 - embit raises whatever it stumbles over
        raise RpcError(RPC_DESERIALIZATION, "TX decode failed invalid base64") from None


def _check_hash_type(value: object) -> None:
    if text_of(value) not in ("DEFAULT", "ALL"):
        raise RpcError(RPC_PARAMETER, "this node's wallets sign with ALL only")
