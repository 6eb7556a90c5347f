"""Transactions that have nothing to do with names, in the shapes that fill real blocks.

What must stay true: the bytes are well-formed and their txids are right, so a block of them passes
every check of the scan; keys, signatures and witnesses are random bytes of real lengths.
"""

import random
from collections.abc import Callable

from indexer.bitcoin.transactions import compact_size, double_sha256, p2pkh_script, p2sh_script

Made = tuple[bytes, bytes]
"""A transaction as it stands in its block, and its txid."""

_VERSION = (2).to_bytes(4, "little")
_LOCKTIME = bytes(4)
_SEQUENCE = b"\xfd\xff\xff\xff"


def stranger(rng: random.Random) -> Made:
    """One transaction: mostly payments, one in ten with an OP_RETURN of somebody else."""
    shape = rng.choices(_SHAPES, _WEIGHTS)[0]
    return shape(rng)


def finish(inputs: list[bytes], outputs: list[bytes], witnesses: list[list[bytes]]) -> Made:
    """Put serialised inputs and outputs together; without witnesses in the form of old."""
    body = compact_size(len(inputs)) + b"".join(inputs)
    body += compact_size(len(outputs)) + b"".join(outputs)
    plain = _VERSION + body + _LOCKTIME
    txid = double_sha256(plain)
    if not witnesses:
        return plain, txid
    shown = b"".join(
        compact_size(len(items)) + b"".join(compact_size(len(item)) + item for item in items)
        for items in witnesses
    )
    return _VERSION + b"\0\1" + body + shown + _LOCKTIME, txid


def _input(rng: random.Random, script_sig: bytes = b"") -> bytes:
    outpoint = rng.randbytes(32) + rng.randrange(4).to_bytes(4, "little")
    return outpoint + compact_size(len(script_sig)) + script_sig + _SEQUENCE


def _output(rng: random.Random, script: bytes) -> bytes:
    value = int(rng.lognormvariate(14, 2))
    return value.to_bytes(8, "little") + compact_size(len(script)) + script


def _any_output(rng: random.Random) -> bytes:
    chance = rng.random()
    if chance < 0.45:
        return _output(rng, p2pkh_script(rng.randbytes(20)))
    if chance < 0.70:
        return _output(rng, p2sh_script(rng.randbytes(20)))
    if chance < 0.93:
        return _output(rng, b"\0\x14" + rng.randbytes(20))
    if chance < 0.97:
        return _output(rng, b"\0\x20" + rng.randbytes(32))
    return _output(rng, b"\x51\x20" + rng.randbytes(32))


def _signature(rng: random.Random) -> bytes:
    return b"\x30" + rng.randbytes(rng.choice((70, 71, 71))) + b"\x01"


def _key(rng: random.Random) -> bytes:
    return rng.choice((b"\2", b"\3")) + rng.randbytes(32)


def _legacy(rng: random.Random) -> Made:
    inputs = []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        signature = _signature(rng)
        push = bytes((len(signature),)) + signature + b"\x21" + _key(rng)
        inputs.append(_input(rng, push))
    return finish(inputs, [_any_output(rng), _any_output(rng)], [])


def _segwit(rng: random.Random) -> Made:
    count = rng.choice((1, 1, 1, 2, 2, 4))
    inputs = [_input(rng) for _ in range(count)]
    witnesses = [[_signature(rng), _key(rng)] for _ in range(count)]
    return finish(inputs, [_any_output(rng), _any_output(rng)], witnesses)


def _nested_segwit(rng: random.Random) -> Made:
    inputs = [_input(rng, b"\x16\0\x14" + rng.randbytes(20))]
    return finish(inputs, [_any_output(rng), _any_output(rng)], [[_signature(rng), _key(rng)]])


def _multisig(rng: random.Random) -> Made:
    script = b"\x52" + b"".join(b"\x21" + _key(rng) for _ in range(3)) + b"\x53\xae"
    witness = [b"", _signature(rng), _signature(rng), script]
    return finish([_input(rng)], [_any_output(rng), _any_output(rng)], [witness])


def _taproot(rng: random.Random) -> Made:
    return finish([_input(rng)], [_any_output(rng)], [[rng.randbytes(64)]])


def _batch(rng: random.Random) -> Made:
    """An exchange pays many at once."""
    outputs = [_any_output(rng) for _ in range(rng.randint(10, 60))]
    return finish([_input(rng), _input(rng)], outputs, [[_signature(rng), _key(rng)]] * 2)


def _op_return(rng: random.Random) -> Made:
    """Another protocol's data; now and then our magic stands in it, or begins it."""
    chance = rng.random()
    if chance < 0.7:
        payload = b"omni" + bytes(4) + rng.randbytes(12)
    elif chance < 0.9:
        payload = rng.randbytes(32)
    elif chance < 0.97:
        payload = rng.randbytes(20) + b"id" + rng.randbytes(18)
    else:
        payload = b"id" + b"=" + rng.randbytes(20)  # no operation of the protocol
    outputs = [_output(rng, b"\x6a" + bytes((len(payload),)) + payload), _any_output(rng)]
    return finish([_input(rng)], outputs, [[_signature(rng), _key(rng)]])


_SHAPES: tuple[Callable[[random.Random], Made], ...] = (
    _legacy,
    _segwit,
    _nested_segwit,
    _multisig,
    _taproot,
    _batch,
    _op_return,
)
_WEIGHTS = (40, 25, 12, 7, 3, 3, 10)
