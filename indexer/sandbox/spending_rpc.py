"""The wallet methods of the sandbox node's JSON-RPC that compose, sign and send payments.

What must stay true: each public method is a method of the RPC, with the names, defaults, error
codes and words of Bitcoin Core's; nothing is signed while the wallet is locked.
"""

from decimal import Decimal, InvalidOperation
from io import BytesIO

from embit.ec import PublicKey
from embit.psbt import PSBT
from embit.transaction import Transaction as EmbitTransaction

from indexer.bitcoin.transactions import (
    CorruptTransaction,
    Transaction,
    TxIn,
    TxOut,
    hash_hex,
    parse_transaction,
    serialize_transaction,
)
from indexer.sandbox.core_json import Json
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
from indexer.sandbox.wallet import holds
from indexer.sandbox.wallet_rpc import WalletRpc
from indexer.wallet import psbt as forms
from indexer.wallet.coins import Coin
from indexer.wallet.payment import compose_payment
from indexer.wallet.signers import InsufficientFunds

RPC_INSUFFICIENT_FUNDS = -6
REPLACEABLE, NOT_FINAL = 0xFFFFFFFD, 0xFFFFFFFE
MAX_FEE_RATE = 10_000
_VERSION = 2
_NO_FEE = (
    "Fee estimation failed. Fallbackfee is disabled. Wait a few blocks or enable -fallbackfee."
)
_NO_TRANSACTION = "TX decode failed. Make sure the tx has at least one input."


class SpendingRpc(WalletRpc):
    """What the node does with the coins of its wallets. Whoever calls holds the chain's lock."""

    def createrawtransaction(
        self, inputs: object, outputs: object, locktime: object = 0, replaceable: object = True
    ) -> str:
        sequence = REPLACEABLE if flag(replaceable) else NOT_FINAL
        spent = [TxIn(*outpoint_of(entry), b"", sequence) for entry in list_of(inputs)]
        if not spent:
            raise RpcError(RPC_PARAMETER, "this node composes no transaction without inputs")
        paid = []
        for entry in [outputs] if isinstance(outputs, dict) else list_of(outputs):
            if not isinstance(entry, dict):
                raise RpcError(-3, "JSON value is not of expected type object")
            paid += [TxOut(satoshis_of(value), script_of(name)) for name, value in entry.items()]
        lock = integer(locktime)
        if lock < 0:
            raise RpcError(RPC_PARAMETER, "Invalid parameter, locktime out of range")
        return serialize_transaction(_VERSION, spent, paid, lock).hex()

    def signrawtransactionwithwallet(
        self, hexstring: object, prevtxs: object = None, sighashtype: object = "DEFAULT"
    ) -> Json:
        wallet = self._wallet()
        try:
            bare = parse_transaction(hex_of(hexstring, _NO_TRANSACTION))
        except CorruptTransaction:
            raise RpcError(RPC_DESERIALIZATION, _NO_TRANSACTION) from None
        self._check_unlocked()
        _check_hash_type(sighashtype)
        spent = [wallet.coin((i.previous_txid, i.previous_index)) for i in bare.inputs]
        raw = wallet.sign(bare, spent)
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
        wallet = self._wallet()
        try:
            form = PSBT.from_string(text_of(psbt))
        except RpcError:
            raise
        except Exception:  # noqa: BLE001 - embit raises whatever it stumbles over
            raise RpcError(RPC_DESERIALIZATION, "TX decode failed invalid base64") from None
        _check_hash_type(sighashtype)
        coins = [wallet.coin((bytes(reversed(s.txid)), s.vout)) for s in form.inputs]
        if flag(sign):
            self._check_unlocked()
            unsigned = bytes(form.tx.serialize())
            for place, coin in enumerate(coins):
                found = None if coin is None else wallet.signature(unsigned, place, coin)
                if found is not None:
                    form.inputs[place].partial_sigs[PublicKey.parse(found[1])] = found[0]
        spent = [coin for coin in coins if coin is not None]
        if not flag(finalize) or len(spent) < len(coins):
            return {"psbt": form.to_base64(), "complete": False}
        try:
            raw = forms.assembled(str(form.to_base64()), [coin.script for coin in spent])
        except forms.BadPsbt:
            return {"psbt": form.to_base64(), "complete": False}
        whole = parse_transaction(raw)
        if not all(holds(raw, whole, place, coin) for place, coin in enumerate(spent)):
            return {"psbt": form.to_base64(), "complete": False}
        for scope, spending in zip(
            form.inputs, EmbitTransaction.read_from(BytesIO(raw)).vin, strict=True
        ):
            if spending.witness.items:
                scope.final_scriptwitness = spending.witness
            else:
                scope.final_scriptsig = spending.script_sig
            scope.partial_sigs.clear()
        return {"psbt": form.to_base64(), "complete": True, "hex": raw.hex()}

    def sendtoaddress(
        self,
        address: object,
        amount: object,
        comment: object = "",
        comment_to: object = "",
        subtractfeefromamount: object = False,
        replaceable: object = True,
        conf_target: object = None,
        estimate_mode: object = None,
        avoid_reuse: object = None,
        fee_rate: object = None,
    ) -> str:
        wallet = self._wallet()
        paid = TxOut(satoshis_of(amount), script_of(address))
        if flag(subtractfeefromamount):
            raise RpcError(RPC_PARAMETER, "this node takes fees from no amount that is sent")
        self._check_unlocked()
        free = [
            c for c in wallet.coins() if c.safe and c.mature and c.outpoint not in wallet.locked
        ]
        coins = [Coin(*found.outpoint, found.coin.value, found.coin.script) for found in free]
        coins.sort(key=lambda coin: -coin.value)
        rate, change = self._rate(fee_rate), wallet.new_script(None, bech32=self._is_bech32(None))
        try:
            payment = compose_payment([paid], coins, change, fee_rate=rate)
        except InsufficientFunds:
            raise RpcError(RPC_INSUFFICIENT_FUNDS, "Insufficient funds") from None
        sequence = NOT_FINAL if replaceable is False else REPLACEABLE
        inputs = tuple(TxIn(coin.txid, coin.index, b"", sequence) for coin in payment.coins)
        bare = Transaction(bytes(32), _VERSION, inputs, tuple(payment.outputs), 0)
        spent = [wallet.coin((coin.txid, coin.index)) for coin in payment.coins]
        return hash_hex(self._chain.submit(wallet.sign(bare, spent)))

    def _rate(self, given: object) -> float:
        """Satoshis a byte."""
        if given is None:
            if self._switches.fee_rate is None:
                raise RpcError(RPC_INSUFFICIENT_FUNDS, _NO_FEE)
            return self._switches.fee_rate / 1000
        try:
            rate = Decimal(str(given))
        except InvalidOperation:
            raise RpcError(-3, "Invalid amount") from None
        if not rate.is_finite() or not 0 <= rate < MAX_FEE_RATE or rate != round(rate, 3):
            raise RpcError(-3, "Amount out of range")
        if rate < 1:
            reason = f"Fee rate ({rate:.3f} sat/vB) is lower than the minimum fee rate setting"
            raise RpcError(RPC_INSUFFICIENT_FUNDS, f"{reason} (1.000 sat/vB)")
        return float(rate)


def _check_hash_type(value: object) -> None:
    if text_of(value) not in ("DEFAULT", "ALL"):
        raise RpcError(RPC_PARAMETER, "this node's wallets sign with ALL only")
