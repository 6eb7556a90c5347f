"""Partially signed transactions (BIP 174): out to whoever holds the keys, and back.

What must stay true: what comes back is used only when it is the very transaction that went out,
every signature holds and covers all of it (SIGHASH_ALL). Nothing secret is ever in here. Pure
but for embit, which reads and writes the format.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO

from embit import ec
from embit.hashes import hash160
from embit.psbt import PSBT
from embit.script import Script, Witness
from embit.transaction import Transaction as EmbitTransaction

from indexer.bitcoin.spending import (
    SIGHASH_ALL,
    ScriptFailed,
    UnknownScript,
    read_pushes,
    verify_input,
)
from indexer.bitcoin.transactions import (
    CorruptTransaction,
    Transaction,
    is_p2pkh,
    is_p2sh,
    parse_transaction,
    serialize_transaction,
)
from indexer.bitcoin.witness import is_p2wpkh, verify_p2wpkh, witnesses
from indexer.wallet.coins import Coin, Unsigned
from indexer.wallet.keys import CannotSign, KeyRing, script_of_redeem_script, script_sig_of

VERSION, LOCKTIME = 1, 0
"""Of every transaction that is made here."""
_VERSIONS = (1, 2)
"""Of those that a wallet makes too; they differ only where an input has a relative lock."""
MAX_PSBT_BYTES = 4_000_000
MAX_COMBINED = 32
_MAGIC = b"psbt\xff"


class BadPsbt(ValueError):
    """No PSBT, not ours, or not (rightly) signed; ``str()`` says which, and what to do."""


class NotYetSigned(BadPsbt):
    """The right transaction, with signatures missing: combine it with others, or sign on."""


def raw_unsigned(unsigned: Unsigned) -> bytes:
    """The transaction as it is before anybody signs."""
    return serialize_transaction(VERSION, unsigned.inputs, unsigned.outputs, LOCKTIME)


# Out


def write_psbt(
    unsigned: Unsigned, previous: Mapping[bytes, bytes], redeem_scripts: Iterable[bytes] = ()
) -> str:
    """The PSBT (version 0, base64) of a transaction that nobody has signed yet.

    ``previous``: the raw transaction of each txid that is spent, whole: a signer learns the
    amounts from it. ``redeem_scripts``: of multisig coins. BadPsbt where a coin is not in them.
    """
    psbt = PSBT(EmbitTransaction.read_from(BytesIO(raw_unsigned(unsigned))))
    by_script = {script_of_redeem_script(script): script for script in redeem_scripts}
    for scope, coin in zip(psbt.inputs, unsigned.coins, strict=True):
        raw = previous.get(coin.txid, b"")
        try:
            spent = parse_transaction(raw)
            held = spent.outputs[coin.index]
        except (CorruptTransaction, IndexError):
            raise BadPsbt("a transaction whose output is spent is missing or cut short") from None
        if spent.txid != coin.txid or (held.value, held.script) != (coin.value, coin.script):
            raise BadPsbt("a coin is not what its transaction says; ask the node for it again")
        scope.non_witness_utxo = EmbitTransaction.read_from(BytesIO(raw))
        if _has_witness(coin.script):
            scope.witness_utxo = scope.non_witness_utxo.vout[coin.index]
        if coin.script in by_script:
            scope.redeem_script = Script(by_script[coin.script])
    return str(psbt.to_base64())


def unsigned_of(psbt: str | bytes) -> Unsigned:
    """What a PSBT spends, pays and costs, for whoever is asked to sign it.

    The coins are those that the previous transactions in it prove. BadPsbt where one is missing,
    or where it would not be signed as it stands (another version, lock time or sequence).
    """
    form = _read(psbt)
    transaction = _transaction(form)
    coins = []
    for index, scope in enumerate(form.inputs):
        script = _spent_script(form, index)
        if script is None:
            raise BadPsbt(f"the PSBT does not prove what input {index} spends; make it anew")
        spent = transaction.inputs[index]
        value = int(scope.non_witness_utxo.vout[scope.vout].value)
        coins.append(Coin(spent.previous_txid, spent.previous_index, value, script))
    fee = sum(coin.value for coin in coins) - sum(out.value for out in transaction.outputs)
    if fee < 0:
        raise BadPsbt("the PSBT pays more than it spends; make it anew")
    unsigned = Unsigned(tuple(coins), transaction.outputs, fee)
    _check_same(transaction, unsigned)
    return unsigned


# Signing, by keys at hand


def sign_psbt(psbt: str | bytes, ring: KeyRing) -> str:
    """The PSBT (base64) with what ``ring`` can sign added; BadPsbt where that is nothing.

    Signs what it is given: showing its outputs to the owner of the keys comes first.
    """
    form = _read(psbt)
    bare = _transaction(form)
    raw = serialize_transaction(bare.version, bare.inputs, bare.outputs, bare.locktime)
    added = 0
    for index, scope in enumerate(form.inputs):
        script = _spent_script(form, index)
        redeem_script = bytes(scope.redeem_script.data) if scope.redeem_script else None
        if script is None or scope.sighash_type not in (None, SIGHASH_ALL):
            continue
        for public_key, signature in ring.partial_signatures(
            raw, index, script, redeem_script
        ).items():
            scope.partial_sigs[ec.PublicKey.parse(public_key)] = signature
            added += 1
            known = ring.redeem_script(script)
            if known is not None:
                scope.redeem_script = Script(known)
    if not added:
        raise BadPsbt("none of the keys here belongs to an input of this PSBT; use another key")
    return str(form.to_base64())


def combine(psbts: Sequence[str | bytes]) -> str:
    """The signatures of several copies of one PSBT in one (base64); BadPsbt if they differ."""
    if not 1 <= len(psbts) <= MAX_COMBINED:
        raise BadPsbt(f"one to {MAX_COMBINED} PSBTs can be combined")
    first, *others = map(_read, psbts)
    wanted = _transaction(first)
    for other in others:
        if _transaction(other) != wanted:
            raise BadPsbt("these PSBTs are of different transactions; combine copies of one")
        for mine, theirs in zip(first.inputs, other.inputs, strict=True):
            mine.update(theirs)
    return str(first.to_base64())


# Back


def signed_transaction(signed: str | bytes, unsigned: Unsigned) -> bytes:
    """The raw transaction to send, out of a signed PSBT or a signed raw transaction.

    ``signed``: a PSBT as bytes or base64, or a transaction as hex. Raises NotYetSigned where
    signatures are missing, BadPsbt where it is another transaction than ``unsigned``, or a
    signature is wrong or covers less than all of it.
    """
    content = _content(signed)
    raw = content
    if content.startswith(_MAGIC):
        form = _parsed(content)
        _check_same(_transaction(form), unsigned)
        raw = _assembled(form, [coin.script for coin in unsigned.coins])
    check_signed(raw, unsigned)
    return raw


def check_signed(raw: bytes, unsigned: Unsigned) -> None:
    """That ``raw`` is ``unsigned``, with signatures that hold and cover the whole.

    Legacy and p2wpkh inputs are verified; of other kinds the node that relays it is the judge.
    Raises NotYetSigned and BadPsbt as above.
    """
    try:
        transaction = parse_transaction(raw)
    except CorruptTransaction:
        raise BadPsbt("what came back is neither a PSBT nor a transaction") from None
    _check_same(transaction, unsigned)
    shown = witnesses(raw)
    for index, (coin, spent) in enumerate(zip(unsigned.coins, transaction.inputs, strict=True)):
        if not (shown[index] or spent.script_sig):
            raise NotYetSigned(f"input {index} is not signed yet; sign it and hand it in again")
        try:
            if is_p2pkh(coin.script) or (is_p2sh(coin.script) and not shown[index]):
                _check_legacy(transaction, index, coin.script)
            elif is_p2wpkh(coin.script):
                verify_p2wpkh(raw, index, coin.script, coin.value)
        except (ScriptFailed, UnknownScript) as failure:
            raise BadPsbt(
                f"the signature of input {index} does not hold: {failure}; sign the PSBT again"
            ) from None


def _check_same(transaction: Transaction, unsigned: Unsigned) -> None:
    inputs = tuple(spent._replace(script_sig=b"") for spent in transaction.inputs)
    if inputs != unsigned.inputs:
        raise BadPsbt("what came back spends other coins than what was to be signed; sign again")
    if transaction.outputs != unsigned.outputs:
        raise BadPsbt("what came back pays something else than what was to be signed; sign again")
    if transaction.version not in _VERSIONS or transaction.locktime != LOCKTIME:
        raise BadPsbt("what came back has another version or lock time; sign the PSBT unchanged")


def _check_legacy(transaction: Transaction, index: int, script: bytes) -> None:
    verify_input(transaction, index, script)
    pushes = read_pushes(transaction.inputs[index].script_sig)
    signatures = pushes[:1] if is_p2pkh(script) else pushes[1:-1]
    if any(signature[-1:] != bytes((SIGHASH_ALL,)) for signature in signatures):
        raise BadPsbt(f"the signature of input {index} covers only a part; sign with SIGHASH_ALL")


def assembled(psbt: str | bytes, spent_scripts: Sequence[bytes]) -> bytes:
    """The raw transaction of a PSBT with its final fields, or of the signatures that are there.

    ``spent_scripts``: the scriptPubKey of each input. Nothing is verified. Raises NotYetSigned
    where a multisig input has too few signatures; other inputs stay without.
    """
    return _assembled(_read(psbt), spent_scripts)


def _assembled(form: PSBT, spent_scripts: Sequence[bytes]) -> bytes:
    transaction = form.tx
    for index, (scope, script) in enumerate(zip(form.inputs, spent_scripts, strict=True)):
        spending = transaction.vin[index]
        if scope.final_scriptsig is not None or scope.final_scriptwitness is not None:
            spending.script_sig = scope.final_scriptsig or Script(b"")
            spending.witness = scope.final_scriptwitness or Witness([])
            continue
        signatures = {bytes(key.sec()): bytes(s) for key, s in scope.partial_sigs.items()}
        if (is_p2pkh(script) and signatures) or is_p2sh(script):
            redeem_script = bytes(scope.redeem_script.data) if scope.redeem_script else None
            try:
                spending.script_sig = Script(script_sig_of(script, redeem_script, signatures))
            except CannotSign as flaw:
                raise NotYetSigned(
                    f"input {index} {flaw}; let more keys sign it, or finalise it where it is known"
                ) from None
        for public_key, signature in signatures.items():
            if script == b"\x00\x14" + hash160(public_key):
                spending.witness = Witness([signature, public_key])
    return bytes(transaction.serialize())


# Reading


def _read(psbt: str | bytes) -> PSBT:
    content = _content(psbt)
    if not content.startswith(_MAGIC):
        raise BadPsbt("this is no PSBT: it does not begin as one")
    return _parsed(content)


def _content(given: str | bytes) -> bytes:
    """The bytes of a PSBT or transaction, given as such, in base64 or in hex."""
    if len(given) > 2 * MAX_PSBT_BYTES:
        raise BadPsbt("this is too large for a PSBT of ours")
    if isinstance(given, bytes) and given.startswith(_MAGIC):
        return given
    try:
        text = given if isinstance(given, str) else given.decode("ascii")
        text = "".join(text.split())
        if text and all(c in "0123456789abcdefABCDEF" for c in text):
            return bytes.fromhex(text)
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise BadPsbt("this is neither a PSBT nor a transaction in hex") from None


def _parsed(content: bytes) -> PSBT:
    try:
        form = PSBT.read_from(BytesIO(content))
        form.verify(ignore_missing=True)
        return form
    except Exception:  # noqa: BLE001 - embit raises whatever it stumbles over
        raise BadPsbt("this PSBT cannot be read; export it again") from None


def _transaction(form: PSBT) -> Transaction:
    try:
        return parse_transaction(bytes(form.tx.serialize()))
    except Exception:  # noqa: BLE001 - as above
        raise BadPsbt("this PSBT holds no whole transaction; export it again") from None


def _spent_script(form: PSBT, index: int) -> bytes | None:
    """The script that an input spends, as its whole previous transaction proves it."""
    scope = form.inputs[index]
    if scope.non_witness_utxo is None or not scope.is_verified:
        return None
    outputs = scope.non_witness_utxo.vout
    if scope.vout >= len(outputs):
        return None
    return bytes(outputs[scope.vout].script_pubkey.data)


def _has_witness(script: bytes) -> bool:
    return not (is_p2pkh(script) or is_p2sh(script))
