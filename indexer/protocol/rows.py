"""Records to bytes and back: the fields of a record one after the other, nothing between.

A row is as long as its content and has one form only, so equal records are equal bytes. Reading
is the inverse of writing; a row that is cut or too long raises ``DamagedRow``.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class DamagedRow(ValueError):
    """Bytes in the database that no writer of ours wrote."""


_NUMBER_BITS = 65 * 7
_SHORT = [bytes((number,)) for number in range(0x80)]


def write_number(number: int) -> bytes:
    """A non-negative integer in as few bytes as it needs, seven bits a byte, lowest first.

    Raises ``ValueError`` for one that ``read_number`` would not read.
    """
    if 0 <= number < 0x80:
        return _SHORT[number]
    if number < 0 or number.bit_length() > _NUMBER_BITS:
        raise ValueError(f"{number} is no number of a row")
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_number(row: bytes, at: int) -> tuple[int, int]:
    """The integer that stands at ``at`` and the place behind it."""
    if at < len(row) and row[at] < 0x80:
        return row[at], at + 1
    number = shift = 0
    while True:
        if at >= len(row) or shift >= _NUMBER_BITS:
            raise DamagedRow("a number runs past the end of its row")
        byte = row[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def write_bytes(value: bytes | None) -> bytes:
    """Bytes behind their length; None is told from no bytes."""
    if value is None:
        return b"\0"
    size = len(value) + 1
    return (_SHORT[size] if size < 0x80 else write_number(size)) + value


def read_bytes(row: bytes, at: int) -> tuple[bytes | None, int]:
    """The inverse of ``write_bytes``."""
    if at < len(row) and row[at] < 0x80:
        size = row[at]
        at += 1
    else:
        size, at = read_number(row, at)
    if size == 0:
        return None, at
    end = at + size - 1
    if end > len(row):
        raise DamagedRow("bytes run past the end of their row")
    return row[at:end], end


def _read_some(row: bytes, at: int) -> tuple[bytes, int]:
    end = at + row[at] if at < len(row) else 0
    if at < end < at + 0x80 and end <= len(row):  # as nearly all are
        return row[at + 1 : end], end
    value, at = read_bytes(row, at)
    if value is None:
        raise DamagedRow("a field that is never empty is empty")
    return value, at


def _read_text(row: bytes, at: int) -> tuple[str, int]:
    value, at = _read_some(row, at)
    return value.decode("utf-8", "replace"), at


def _read_text_or_none(row: bytes, at: int) -> tuple[str | None, int]:
    if at < len(row) and not row[at]:
        return None, at + 1
    value, at = read_bytes(row, at)
    return None if value is None else value.decode("utf-8", "replace"), at


def _read_truth(row: bytes, at: int) -> tuple[bool, int]:
    number, at = read_number(row, at)
    return number != 0, at


def _read_real(row: bytes, at: int) -> tuple[float, int]:
    if at + 8 > len(row):
        raise DamagedRow("a number runs past the end of its row")
    return struct.unpack_from(">d", row, at)[0], at + 8


def _read_numbers(row: bytes, at: int) -> tuple[tuple[int, ...], int]:
    value, at = _read_some(row, at)
    return tuple(value), at


_Reader = Callable[[bytes, int], tuple[Any, int]]
_KINDS: dict[object, tuple[Callable[[Any], bytes], _Reader]] = {
    int: (write_number, read_number),
    bool: (lambda v: b"\1" if v else b"\0", _read_truth),
    bytes: (write_bytes, _read_some),
    bytes | None: (write_bytes, read_bytes),
    str: (lambda v: write_bytes(v.encode()), _read_text),
    str | None: (lambda v: write_bytes(None if v is None else v.encode()), _read_text_or_none),
    float: (struct.Struct(">d").pack, _read_real),
    tuple[int, ...]: (lambda v: write_bytes(bytes(v)), _read_numbers),
}


class RowOf(Generic[T]):
    """Writes and reads the rows of one record class, by the types of its fields."""

    def __init__(self, record: type[T]) -> None:
        self._record = record
        columns = fields(record)  # type: ignore[arg-type]
        self._values = attrgetter(*(column.name for column in columns))
        self._writers = [_KINDS[column.type][0] for column in columns]
        self._readers = [_KINDS[column.type][1] for column in columns]

    def write(self, record: T) -> bytes:
        """The row of ``record``."""
        values = self._values(record)
        return b"".join([write(v) for write, v in zip(self._writers, values, strict=True)])

    def read(self, row: bytes) -> T:
        """The record of ``row``. Raises ``DamagedRow``."""
        at = 0
        values = []
        for read in self._readers:
            value, at = read(row, at)
            values.append(value)
        if at != len(row):
            raise DamagedRow(f"{len(row) - at} bytes too many in a row of {self._record.__name__}")
        return self._record(*values)


def write_pairs(pairs: Sequence[tuple[bytes, bytes | None]]) -> bytes:
    """Keys with what each held (None: nothing)."""
    return b"".join([write_bytes(part) for pair in pairs for part in pair])


def read_pairs(row: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """The inverse of ``write_pairs``."""
    at = 0
    while at < len(row):
        key, at = _read_some(row, at)
        value, at = read_bytes(row, at)
        yield key, value
