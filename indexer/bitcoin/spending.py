"""May this input spend that output: signatures of p2pkh and of m-of-n multisig behind p2sh.

What must stay true: nothing is accepted that Bitcoin Core would refuse under its standard
flags (BIP 16, 66, 146, 147, clean stack); other script kinds are refused and named, never
waved through. The texts of failures are those of Bitcoin Core, as programs match on them.
"""

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from embit import ec
from embit.hashes import hash160

from indexer.bitcoin.transactions import (
    Transaction,
    TxIn,
    TxOut,
    double_sha256,
    is_p2pkh,
    is_p2sh,
    serialize_transaction,
)

SIGHASH_ALL, SIGHASH_NONE, SIGHASH_SINGLE, SIGHASH_ANYONECANPAY = 1, 2, 3, 0x80
HALF_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 // 2
MAX_REDEEM_SCRIPT = 520
MAX_MULTISIG_KEYS = 15
_OP_CHECKMULTISIG = 0xAE

FALSE_TOP = "Script evaluated without error but finished with a false/empty top stack element"
NOT_PUSHES = "Only push operators allowed in signatures"
STACK_SIZE = "Operation not valid with the current stack size"
UNCLEAN = "Stack size must be exactly one after execution"
WRONG_SIGNATURE = "Signature must be zero for failed CHECK(MULTI)SIG operation"


class ScriptFailed(Exception):
    """The input may not spend the output; the text is Bitcoin Core's name for the reason."""


class UnknownScript(Exception):
    """An output of a kind whose spending this node does not check, and so does not allow."""


def verify_input(transaction: Transaction, index: int, spent_script: bytes) -> None:
    """Check input ``index`` against the scriptPubKey it spends; ScriptFailed or UnknownScript."""
    stack = read_pushes(transaction.inputs[index].script_sig)
    if is_p2pkh(spent_script):
        _verify_p2pkh(transaction, index, spent_script, stack)
    elif is_p2sh(spent_script):
        _verify_p2sh(transaction, index, spent_script, stack)
    else:
        raise UnknownScript("only p2pkh and p2sh multisig outputs can be spent on this node")


def _verify_p2pkh(
    transaction: Transaction, index: int, spent_script: bytes, stack: Sequence[bytes]
) -> None:
    if len(stack) < 2:
        raise ScriptFailed(STACK_SIZE)
    signature, public_key = stack[-2:]
    if hash160(public_key) != spent_script[3:23]:
        raise ScriptFailed("Script failed an OP_EQUALVERIFY operation")
    if not _signature_holds(transaction, index, spent_script, signature, public_key):
        raise ScriptFailed(WRONG_SIGNATURE if signature else FALSE_TOP)
    if len(stack) > 2:
        raise ScriptFailed(UNCLEAN)


def _verify_p2sh(
    transaction: Transaction, index: int, spent_script: bytes, stack: Sequence[bytes]
) -> None:
    if not stack:
        raise ScriptFailed(STACK_SIZE)
    redeem_script = stack[-1]
    if len(redeem_script) > MAX_REDEEM_SCRIPT:
        raise ScriptFailed("Push value size limit exceeded")
    if hash160(redeem_script) != spent_script[2:22]:
        raise ScriptFailed(FALSE_TOP)
    policy = read_multisig(redeem_script)
    if policy is None:
        raise UnknownScript("of p2sh outputs only those of m-of-n multisig can be spent here")
    required, public_keys = policy
    signatures = stack[:-1]
    if len(signatures) < required + 1:
        raise ScriptFailed(STACK_SIZE)
    dummy, signatures = signatures[-required - 1], signatures[-required:]
    remaining = list(public_keys)
    for signature in signatures:
        while True:
            if not remaining:
                empty = not any(signatures)
                raise ScriptFailed(FALSE_TOP if empty else WRONG_SIGNATURE)
            if _signature_holds(transaction, index, redeem_script, signature, remaining.pop(0)):
                break
    if dummy:
        raise ScriptFailed("Dummy CHECKMULTISIG argument must be zero")
    if len(stack) > required + 2:
        raise ScriptFailed(UNCLEAN)


def read_pushes(script: bytes) -> list[bytes]:
    """What a script of pushes alone leaves on the stack; ScriptFailed for any other script."""
    stack = []
    at = 0
    while at < len(script):
        code = script[at]
        at += 1
        if code <= 0x4B:
            size = code
        elif code <= 0x4E:
            width = 1 << (code - 0x4C)
            if at + width > len(script):
                raise ScriptFailed("Opcode missing or not understood")
            size = int.from_bytes(script[at : at + width], "little")
            at += width
        elif code == 0x4F or 0x51 <= code <= 0x60:
            stack.append(b"\x81" if code == 0x4F else bytes((code - 0x50,)))
            continue
        else:
            raise ScriptFailed(NOT_PUSHES)
        if at + size > len(script):
            raise ScriptFailed("Opcode missing or not understood")
        stack.append(script[at : at + size])
        at += size
    return stack


def push(payload: bytes) -> bytes:
    """The script that pushes ``payload``, in its shortest form."""
    if len(payload) < 0x4C:
        return bytes((len(payload),)) + payload
    if len(payload) < 0x100:
        return bytes((0x4C, len(payload))) + payload
    return b"\x4d" + len(payload).to_bytes(2, "little") + payload


def multisig_script(required: int, public_keys: Sequence[bytes]) -> bytes:
    """The redeem script of ``required`` of these keys, in this order; ValueError if none fits."""
    if not 1 <= required <= len(public_keys) <= MAX_MULTISIG_KEYS:
        raise ValueError(f"{required} of {len(public_keys)} keys is no multisig of 1 to 15 keys")
    if any(len(key) not in (33, 65) for key in public_keys):
        raise ValueError("a public key has 33 or 65 bytes")
    tail = bytes((0x50 + len(public_keys), _OP_CHECKMULTISIG))
    script = bytes((0x50 + required,)) + b"".join(map(push, public_keys)) + tail
    if len(script) > MAX_REDEEM_SCRIPT:
        raise ValueError(f"a redeem script has at most 520 bytes; this one has {len(script)}")
    return script


def read_multisig(script: bytes) -> tuple[int, tuple[bytes, ...]] | None:
    """(m, public keys) of ``m <key>... n OP_CHECKMULTISIG``, 1 <= m <= n <= 15; else None."""
    if len(script) < 3 or script[-1] != _OP_CHECKMULTISIG:
        return None
    required = script[0] - 0x50
    try:
        keys = tuple(read_pushes(script[1:-2]))
        return (required, keys) if multisig_script(required, keys) == script else None
    except (ScriptFailed, ValueError):
        return None


def signature_hash(
    transaction: Transaction, index: int, script_code: bytes, hash_type: int
) -> bytes:
    """The hash that a legacy signature of input ``index`` signs (all hash types)."""
    kind = hash_type & 0x1F
    if kind == SIGHASH_SINGLE and index >= len(transaction.outputs):
        return b"\x01" + bytes(31)  # as Bitcoin has computed it since its first release
    inputs = [
        TxIn(
            spent.previous_txid,
            spent.previous_index,
            script_code if place == index else b"",
            0 if place != index and kind in (SIGHASH_NONE, SIGHASH_SINGLE) else spent.sequence,
        )
        for place, spent in enumerate(transaction.inputs)
    ]
    if hash_type & SIGHASH_ANYONECANPAY:
        inputs = [inputs[index]]
    outputs = list(transaction.outputs)
    if kind == SIGHASH_NONE:
        outputs = []
    elif kind == SIGHASH_SINGLE:
        outputs = [TxOut(0xFFFFFFFFFFFFFFFF, b"")] * index + [outputs[index]]
    signed = serialize_transaction(transaction.version, inputs, outputs, transaction.locktime)
    return double_sha256(signed + hash_type.to_bytes(4, "little"))


def _signature_holds(
    transaction: Transaction, index: int, script_code: bytes, signature: bytes, public_key: bytes
) -> bool:
    """Whether the signature is that key's; ScriptFailed when either is badly encoded."""
    if not signature:
        return False
    if not _is_strict_der(signature):
        raise ScriptFailed("Non-canonical DER signature")
    hash_type = signature[-1]
    if hash_type & ~SIGHASH_ANYONECANPAY not in (SIGHASH_ALL, SIGHASH_NONE, SIGHASH_SINGLE):
        raise ScriptFailed("Signature hash type missing or not understood")
    if decode_dss_signature(signature[:-1])[1] > HALF_ORDER:
        raise ScriptFailed("Non-canonical signature: S value is unnecessarily high")
    prefix, size = public_key[:1], len(public_key)
    if not ((size == 33 and prefix in (b"\x02", b"\x03")) or (size == 65 and prefix == b"\x04")):
        raise ScriptFailed("Public key is neither compressed or uncompressed")
    digest = signature_hash(transaction, index, script_code, hash_type)
    try:
        key = ec.PublicKey.parse(public_key)
        return bool(key.verify(ec.Signature.parse(signature[:-1]), digest))
    except Exception:  # noqa: BLE001 - a point off the curve or r out of range: no signature
        return False


def _is_strict_der(signature: bytes) -> bool:
    """BIP 66: two positive numbers in DER without padding, and a hash type."""
    try:
        decode_dss_signature(signature[:-1])
    except ValueError:
        return False
    return 9 <= len(signature) <= 73
