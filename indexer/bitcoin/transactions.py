"""Transactions to values and back, with the scripts and addresses in them, and their hashes.

What must stay true: any bytes give a value, None or an error with a sentence; an address of another
network is never taken for one of ours; hashes are in the order in which they are hashed and stored
("internal"), and ``hash_hex`` and ``hash_bytes`` are the only way to and from the reversed order
that people and nodes write.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from embit import base58, bech32

from indexer.networks import Network

MAX_BLOCK_BYTES = 4_000_000
"""BIP 141: a block weighs at most 4,000,000, and a byte weighs at least one."""
NULL_HASH = bytes(32)


class CorruptTransaction(ValueError):
    """Bytes that are no transaction; the text says why, for people."""


class TxIn(NamedTuple):
    """One input: the outpoint it spends and what it shows to be allowed to."""

    previous_txid: bytes
    previous_index: int
    script_sig: bytes
    sequence: int


class TxOut(NamedTuple):
    """One output: satoshis and the scriptPubKey that guards them."""

    value: int
    script: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction without its witness; the txid does not cover a witness either."""

    txid: bytes
    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    locktime: int


# Hashes


def double_sha256(data: bytes) -> bytes:
    """SHA256 of the SHA256: the hash of transactions, headers and merkle nodes."""
    return sha256(sha256(data).digest()).digest()


def hash_hex(value: bytes) -> str:
    """Display form (reversed hex) of a hash in internal order."""
    return value[::-1].hex()


def hash_bytes(text: str) -> bytes:
    """Internal order of a 32-byte hash in display form; ValueError if it is none."""
    try:
        value = bytes.fromhex(text)
    except (ValueError, TypeError):
        value = b""
    if len(value) != 32 or len(text) != 64:
        raise ValueError(f"{text!r:.80} is not a hash of 64 hexadecimal digits")
    return value[::-1]


# Transactions


def size_at(raw: bytes, at: int) -> tuple[int, int]:
    """The CompactSize at ``at``, which counts bytes or things that follow, and where it ends.

    IndexError past the end, and for more than could follow; ValueError when a shorter form
    exists, which no node accepts.
    """
    size = raw[at]
    if size < 253:
        return size, at + 1
    width = 1 << (size - 252)
    end = at + 1 + width
    if end > len(raw):
        raise IndexError
    size = int.from_bytes(raw[at + 1 : end], "little")
    if size < 253 or (width > 2 and not size >> 4 * width):
        raise ValueError("a length is not written in its shortest form")
    if size > len(raw):
        raise IndexError
    return size, end


def compact_size(number: int) -> bytes:
    """``number`` as CompactSize (0 .. 2**64-1)."""
    if number < 253:
        return bytes((number,))
    if number < 1 << 16:
        return b"\xfd" + number.to_bytes(2, "little")
    if number < 1 << 32:
        return b"\xfe" + number.to_bytes(4, "little")
    return b"\xff" + number.to_bytes(8, "little")


def parse_transaction(raw: bytes) -> Transaction:
    """The one transaction that ``raw`` is, with or without witness (BIP 144).

    Raises CorruptTransaction: truncated, trailing bytes, no inputs, a witness form without
    any witness, lengths not in their shortest form, more than a block could hold.
    """
    raw = bytes(raw)
    if len(raw) > MAX_BLOCK_BYTES:
        raise CorruptTransaction(f"{len(raw)} bytes are more than a block can hold")
    try:
        transaction, end = read_transaction(raw, 0)
    except IndexError:
        raise CorruptTransaction("the transaction is cut short") from None
    except CorruptTransaction:
        raise
    except ValueError as flaw:
        raise CorruptTransaction(str(flaw)) from None
    if end != len(raw):
        raise CorruptTransaction(f"{len(raw) - end} bytes follow the end of the transaction")
    return transaction


def read_transaction(raw: bytes, start: int) -> tuple[Transaction, int]:
    """The transaction that begins at ``start`` and where it ends; IndexError when cut short."""
    number = int.from_bytes
    length = len(raw)
    at = start + 4
    witness = raw[at] == 0
    if witness:
        if raw[at + 1] == 0:
            raise CorruptTransaction("the transaction has no inputs")
        if raw[at + 1] != 1:
            raise CorruptTransaction(f"unknown transaction form (flag {raw[at + 1]})")
        at += 2
    body = at
    count, at = size_at(raw, at)
    if count == 0:
        raise CorruptTransaction("the transaction has no inputs")
    inputs = []
    for _ in range(count):
        size, script = size_at(raw, at + 36)
        end = script + size
        if end + 4 > length:
            raise IndexError
        inputs.append(
            TxIn(
                raw[at : at + 32],
                number(raw[at + 32 : at + 36], "little"),
                raw[script:end],
                number(raw[end : end + 4], "little"),
            )
        )
        at = end + 4
    count, at = size_at(raw, at)
    outputs = []
    for _ in range(count):
        size, script = size_at(raw, at + 8)
        end = script + size
        if end > length:
            raise IndexError
        outputs.append(TxOut(number(raw[at : at + 8], "little"), raw[script:end]))
        at = end
    body_end = at
    if witness:
        shown = 0
        for _ in inputs:
            items, at = size_at(raw, at)
            shown += items
            for _ in range(items):
                size, at = size_at(raw, at)
                at += size
        if not shown:
            raise CorruptTransaction("the transaction has the form of one with a witness, and none")
    if at + 4 > length:
        raise IndexError
    version, locktime = raw[start : start + 4], raw[at : at + 4]
    txid = double_sha256(version + raw[body:body_end] + locktime)
    return (
        Transaction(
            txid,
            number(version, "little"),
            tuple(inputs),
            tuple(outputs),
            number(locktime, "little"),
        ),
        at + 4,
    )


def serialize_transaction(
    version: int, inputs: Sequence[TxIn], outputs: Sequence[TxOut], locktime: int
) -> bytes:
    """The bytes of a transaction, without witness; ValueError where a field does not fit.

    A transaction without inputs is refused: its bytes would read as the witness form.
    """
    if not inputs:
        raise ValueError("a transaction needs an input")
    try:
        parts = [version.to_bytes(4, "little"), compact_size(len(inputs))]
        for previous_txid, previous_index, script_sig, sequence in inputs:
            if len(previous_txid) != 32:
                raise ValueError(f"a txid has 32 bytes, not {len(previous_txid)}")
            parts += (
                previous_txid,
                previous_index.to_bytes(4, "little"),
                compact_size(len(script_sig)),
                script_sig,
                sequence.to_bytes(4, "little"),
            )
        parts.append(compact_size(len(outputs)))
        for value, script in outputs:
            parts += (value.to_bytes(8, "little"), compact_size(len(script)), script)
        parts.append(locktime.to_bytes(4, "little"))
    except OverflowError:
        raise ValueError("a number of the transaction does not fit its field") from None
    return b"".join(parts)


def is_coinbase_input(spent: TxIn) -> bool:
    """Whether the input spends nothing, as only that of a coinbase may."""
    return spent.previous_index == 0xFFFFFFFF and spent.previous_txid == NULL_HASH


# Scripts and addresses

SEGWIT_PREFIXES = ("bc", "tb", "bcrt")
"""What addresses of segregated witness begin with, on some network."""
_OP_RETURN = 0x6A
_OP_PUSHDATA1, _OP_PUSHDATA4 = 0x4C, 0x4E


def op_return_payload(script: bytes) -> bytes | None:
    """The data of ``OP_RETURN <one push>`` (1..75 bytes directly, or PUSHDATA1/2/4), else None."""
    if len(script) < 2 or script[0] != _OP_RETURN:
        return None
    push = script[1]
    if push < _OP_PUSHDATA1:
        at, size = 2, push
        if not push:
            return None  # OP_0 pushes nothing and is a small integer to every parser
    elif push <= _OP_PUSHDATA4:
        at = 2 + (1 << (push - _OP_PUSHDATA1))
        if len(script) < at:
            return None
        size = int.from_bytes(script[2:at], "little")
    else:
        return None
    return script[at:] if len(script) == at + size else None


def is_p2pkh(script: bytes) -> bool:
    """Whether ``script`` pays to the hash of a public key."""
    return len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac"


def is_p2sh(script: bytes) -> bool:
    """Whether ``script`` pays to the hash of a script (BIP 16)."""
    return len(script) == 23 and script[:2] == b"\xa9\x14" and script[22] == 0x87


def p2pkh_script(digest: bytes) -> bytes:
    """The scriptPubKey that pays to a 20-byte public key hash."""
    return b"\x76\xa9\x14" + digest + b"\x88\xac"


def p2sh_script(digest: bytes) -> bytes:
    """The scriptPubKey that pays to a 20-byte script hash."""
    return b"\xa9\x14" + digest + b"\x87"


def script_address(script: bytes, network: Network) -> str | None:
    """The base58check address of a p2pkh or p2sh script; None for every other script."""
    if is_p2pkh(script):
        return _base58check(bytes((network.p2pkh_version,)) + script[3:23])
    if is_p2sh(script):
        return _base58check(bytes((network.p2sh_version,)) + script[2:22])
    return None


@lru_cache(maxsize=16_384)  # the same few owners act again and again
def _base58check(versioned: bytes) -> str:
    return str(base58.encode_check(versioned))


def address_script(address: str, network: Network) -> bytes:
    """The scriptPubKey of a p2pkh or p2sh address; ValueError with a sentence for people."""
    if not 25 <= len(address) <= 36 or not address.isascii():
        raise ValueError(f"{address!r:.80} is no address of the kind that can own names")
    try:
        decoded = bytes(base58.decode_check(address))
    except Exception:  # noqa: BLE001 - embit raises its own error, KeyError or OverflowError
        raise ValueError(f"{address!r} is no address: its checksum is wrong") from None
    if len(decoded) != 21:
        raise ValueError(f"{address!r} is no address: it has the wrong length")
    if decoded[0] == network.p2pkh_version:
        return p2pkh_script(decoded[1:])
    if decoded[0] == network.p2sh_version:
        return p2sh_script(decoded[1:])
    raise ValueError(f"{address} is an address of another network, not of {network.name}")


def payment_script(address: str, network: Network) -> bytes:
    """The scriptPubKey of an address of any kind, those of segregated witness among them (BIP 173,
    BIP 350); ValueError with a sentence for people."""
    prefix, mark, _ = address.lower().rpartition("1")
    if not mark or prefix not in SEGWIT_PREFIXES:
        return address_script(address, network)
    if prefix != network.segwit_prefix:
        raise ValueError(f"{address:.100} is an address of another network, not of {network.name}")
    version, program = bech32.decode(prefix, address)
    if version not in (0, 1) or (version == 1 and len(program) != 32):
        raise ValueError(f"{address!r:.100} is no address: its checksum or its length is wrong")
    return bytes((0x51 if version else 0, len(program), *program))


def payment_address(script: bytes, network: Network) -> str | None:
    """The address that ``payment_script`` reads as ``script``; None where it has none."""
    if script[:2] in (b"\x00\x14", b"\x00\x20", b"\x51\x20") and len(script) == 2 + script[1]:
        return str(bech32.encode(network.segwit_prefix, min(script[0], 1), list(script[2:])))
    return script_address(script, network)
