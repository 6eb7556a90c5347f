"""The layouts that nearly all transactions have, as regular expressions: C walks over them at once.

What must stay true: what matches is laid out as the protocol of Bitcoin says, byte for byte, every
length in its shortest form, and none of its outputs can be an operation's; what does not match
means nothing. The expressions never go back: a field is as long as the byte before it says.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

MOST_INPUTS, MOST_OUTPUTS = 6, 8
"""A transaction with more is walked run by run."""
LONGEST_USUAL = 5_500
"""Bytes that no transaction of a usual shape is longer than."""
RUNS = (32, 4)
"""How many inputs, outputs or witnesses are passed over at once; in descending order."""

_SCRIPT_SIGS = (107, 106, 0, 23, 35, 253, 139, 138, 217, 254, 252, 218)
_RARER_SCRIPT_SIGS = (105, 108, 72, 71, 73, 140, 216, 219, 251, 255)
"""Lengths of what inputs show, the frequent ones first: a signature and a key, nothing, a nested
witness program, two or three signatures and their script."""
_ITEMS = (71, 72, 33, 0, 64, 70, 65, 105, 34, 1, 73)
"""Lengths of what a witness shows: signatures, keys, scripts of two of three."""
_ITEMS_A_WITNESS = (2, 1, 4, 3, 0)
_PROGRAMS = (rb"\x19\x76.{24}+", rb"\x17\xa9.{22}+", rb"\x16\x00.{21}+", rb"\x22[\x00\x51].{33}+")
"""Lengths with the first opcode of p2pkh, p2sh, p2wpkh, and p2wsh or p2tr."""
_SPENT_SCRIPTS = (25, 23, 22, 34, 35, 67, 71, 105)
_LONGEST_OTHER = 96  # OP_RETURN with 80 bytes, and bare keys

Findall = Callable[[bytes, int, int], list[tuple[bytes, ...]]]
Runs = tuple[tuple[int, Callable[[bytes, int], re.Match[bytes] | None]], ...]


class Shapes(NamedTuple):
    """The expressions for one magic.

    ``transactions`` finds whole transactions from a place on, one after the other: of each the
    pieces that its txid covers, in order, between empty ones. Where the next one has no usual
    shape, or none ends in front of the given end, there is one last tuple, whose last piece is all
    that is left. ``inputs``, ``outputs`` and ``witnesses`` match so many at once.
    """

    transactions: Findall
    inputs: Runs
    outputs: Runs
    witnesses: Runs


@lru_cache(maxsize=8)
def shapes(magic: bytes) -> Shapes:
    """Made once for each magic, in about a tenth of a second."""
    outputs = _output(magic)
    return Shapes(
        re.compile(b"(?s)" + _transaction(outputs) + b"|(.+)").findall,
        _runs(_INPUT),
        _runs(outputs),
        _runs(_WITNESS),
    )


@lru_cache(maxsize=1)
def spent_lists() -> Runs:
    """Of what transactions spend, a list for each: a number of outputs, and that many."""
    output = _any(8) + _one_of(_length(size) + _any(size) for size in _SPENT_SCRIPTS)
    return _runs(_one_of(_length(n) + _times(output, n) for n in range(1, MOST_INPUTS + 1)))


def _bytes(raw: bytes) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in raw)


def _length(size: int) -> bytes:
    return _bytes(bytes((size,)) if size < 253 else b"\xfd" + size.to_bytes(2, "little"))


def _any(size: int) -> bytes:
    return b".{%d}+" % size if size else b""


def _one_of(forms: Iterable[bytes]) -> bytes:
    return b"(?>" + b"|".join(forms) + b")"


def _times(form: bytes, count: int) -> bytes:
    return form if count == 1 else b"(?:" + form + b"){%d}+" % count


_INPUT = _any(36) + _one_of(
    _length(size) + _any(size + 4) for size in _SCRIPT_SIGS + _RARER_SCRIPT_SIGS
)
_ITEM = _one_of(_length(size) + _any(size) for size in _ITEMS)
_WITNESS = _one_of(
    _length(items) + (_times(_ITEM, items) if items else b"") for items in _ITEMS_A_WITNESS
)


def _output(magic: bytes) -> bytes:
    """An output of any script up to a length, but for those that a candidate has."""
    # OP_RETURN, the push of each kind (1, 2, 3 or 5 bytes), and the magic.
    none = b"(?!\\x6a(?:.|..|...|.....)" + _bytes(magic) + b")"
    others = [
        b"(?=[%s-%s])" % (_length(low), _length(low + 15))
        + _one_of(_length(size) + none + _any(size) for size in range(low, low + 16))
        for low in range(0, _LONGEST_OTHER, 16)
    ]
    return _any(8) + _one_of([*_PROGRAMS, *others])


def _transaction(output: bytes) -> bytes:
    """Groups: version, body and locktime with their bytes, and empty ones that only tell.

    Group 2 tells of a witness, group 3 + n of n inputs, which is how many witnesses follow.
    """
    inputs = _one_of(
        _length(count) + b"()" + _times(_INPUT, count) for count in range(1, MOST_INPUTS + 1)
    )
    outputs = _one_of(
        _length(count) + _times(output, count) for count in (2, 1, *range(3, MOST_OUTPUTS + 1))
    )
    witnesses = b"(?!)"
    for count in range(MOST_INPUTS, 0, -1):
        witnesses = b"(?(%d)%s|%s)" % (3 + count, _times(_WITNESS, count), witnesses)
    marker = rb"(?>\x00\x01()|)"
    return b"(....)" + marker + b"(" + inputs + outputs + b")(?(2)" + witnesses + b")(....)"


def _runs(form: bytes) -> Runs:
    return tuple((count, re.compile(b"(?s)" + _times(form, count)).match) for count in RUNS)
