"""Witnesses of transactions: how large one is with them, and whether a key's may spend its coin.

What must stay true: a raw transaction is taken apart here, never changed. Pure but for embit,
which reads the form with a witness (BIP 144) and computes what is signed (BIP 143).
"""

from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO

from embit import ec
from embit.hashes import hash160
from embit.script import Script, Witness
from embit.transaction import Transaction as EmbitTransaction

from indexer.bitcoin.spending import WRONG_SIGNATURE, ScriptFailed
from indexer.bitcoin.transactions import p2pkh_script

SCALE = 4
"""What a byte weighs that is no part of a witness (BIP 141)."""
RESERVED = bytes(32)
"""The witness of a coinbase here, which BIP 141 leaves free."""
_COMMITMENT = b"\x6a\x24\xaa\x21\xa9\xed"


def is_p2wpkh(script: bytes) -> bool:
    """Whether a scriptPubKey pays to a key by its witness (BIP 141)."""
    return len(script) == 22 and script[:2] == b"\x00\x14"


def p2wpkh_script(public_key: bytes) -> bytes:
    """The scriptPubKey that pays to a compressed key by its witness."""
    return b"\x00\x14" + bytes(hash160(public_key))


def has_witness(raw: bytes) -> bool:
    """Whether a raw transaction is in the form with a witness."""
    return raw[4] == 0


def stripped(raw: bytes) -> bytes:
    """The raw transaction without its witness, which is what its txid covers."""
    if not has_witness(raw):
        return raw
    form = _form(raw)
    for spending in form.vin:
        spending.witness = Witness([])
    return bytes(form.serialize())


def virtual_size(raw: bytes) -> int:
    """Virtual bytes of a raw transaction: a fee rate is for these."""
    return -(-weight(raw) // SCALE)


def weight(raw: bytes) -> int:
    """The weight of a raw transaction (BIP 141)."""
    return (SCALE - 1) * len(stripped(raw)) + len(raw)


def witnesses(raw: bytes) -> tuple[tuple[bytes, ...], ...]:
    """What the witness of each input shows."""
    return tuple(tuple(map(bytes, spending.witness.items)) for spending in _form(raw).vin)


def with_witnesses(raw: bytes, shown: Sequence[Sequence[bytes]]) -> bytes:
    """The raw transaction with these witnesses, one for each input, in place of its own."""
    form = _form(raw)
    for spending, items in zip(form.vin, shown, strict=True):
        spending.witness = Witness(list(items))
    return bytes(form.serialize())


def witness_digest(raw: bytes, index: int, script: bytes, value: int) -> bytes:
    """What a key signs of input ``index`` that spends ``value`` satoshis of its p2wpkh script."""
    code = Script(p2pkh_script(script[2:]))
    return bytes(_form(raw).sighash_segwit(index, code, value))


def verify_p2wpkh(raw: bytes, index: int, script: bytes, value: int) -> None:
    """Check that input ``index`` may spend a p2wpkh output; ScriptFailed."""
    items = witnesses(raw)[index]
    if len(items) != 2:
        raise ScriptFailed("Witness program was passed an empty witness" if not items else _WRONG)
    signature, public_key = items
    if hash160(public_key) != script[2:] or signature[-1:] != b"\x01":
        raise ScriptFailed(_WRONG)
    try:
        key, found = ec.PublicKey.parse(public_key), ec.Signature.parse(signature[:-1])
        good = bool(key.verify(found, witness_digest(raw, index, script, value)))
    except Exception:  # noqa: BLE001 - whatever is no key or no signature
        good = False
    if not good:
        raise ScriptFailed(WRONG_SIGNATURE)


_WRONG = "Witness program hash mismatch"


def split(raws: bytes, count: int) -> list[bytes]:
    """``count`` raw transactions that stand one behind the other, as in a block."""
    stream, found = BytesIO(raws), []
    for _ in range(count):
        begin = stream.tell()
        EmbitTransaction.read_from(stream)
        found.append(raws[begin : stream.tell()])
    return found


def commitment_script(wtxid_root: bytes) -> bytes:
    """The output by which a coinbase commits to the witnesses of its block (BIP 141)."""
    return _COMMITMENT + sha256(sha256(wtxid_root + RESERVED).digest()).digest()


def _form(raw: bytes) -> EmbitTransaction:
    return EmbitTransaction.read_from(BytesIO(raw))
