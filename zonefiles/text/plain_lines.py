"""The plain lines that nearly every zone file is made of, read without a tokenizer.

What must stay true:
1. what is read here is what ``zonefile.py`` reads by dnspython, to the last byte: whatever is not
   certain to mean the same there and here makes the whole file not plain, and nothing of it is
   taken from here;
2. what is wrong with a file is never said here: such a file is not plain;
3. nothing is raised, and the work is linear in the input.

Plain is a file of ASCII without backslashes and parentheses, with ``$ORIGIN``, ``$TTL`` (in
seconds), comments, and records of class IN of the types in ``_FIELDS``. Of the real zone files of
the chain no well-formed one is anything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final

import dns.exception
import dns.ipv6

from zonefiles.text.recordsets import (
    DEFAULT_TTL,
    MAX_NAME_OCTETS,
    MAX_NAME_WORK,
    MAX_RECORDS,
    MAX_TTL,
    Growing,
    Labels,
    Record,
    Zonefile,
    labels_wire,
)

_PLAIN: Final = bytes({*range(0x20, 0x7F), *b"\t\r\n"} - {*b"\\()"})
_TOKENS = re.compile(rb'"[^"]*"|;.*|[^ \t";]+')
_CHAIN_NAME = re.compile(r"[A-Za-z0-9_+-]{1,63}(\.[A-Za-z0-9_+-]{1,63})*")
_MAX_LABEL: Final = 63
_MAX_ADDRESS: Final = 45

_A, _NS, _CNAME, _PTR, _MX, _TXT, _AAAA, _SRV, _URI, _CAA = 1, 2, 5, 12, 15, 16, 28, 33, 256, 257
_u16 = Struct("!H")
_two_u16 = Struct("!HH")
_three_u16 = Struct("!HHH")

_Fields = tuple[bytes, bytes | None]
"""RDATA as far as no name is in it, and the name, as written, that ends it, if one does."""


class _NotPlain(Exception):
    """Not, or not surely, to be read here."""


def read_plain_lines(data: bytes, name: str) -> Zonefile | None:
    """The zone file of the chain name ``name`` in ``data``; None unless all of it is plain."""
    if data.translate(None, _PLAIN) or not _CHAIN_NAME.fullmatch(name):
        return None
    if len(name) > MAX_NAME_OCTETS - 2:
        return None
    if b"\r" in data:
        # Inside quotes it would be no end of a line, but then a line without its closing quote
        # comes of this, and that is not plain.
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    reader = _Reader(name)
    try:
        for line in data.split(b"\n"):
            if line:
                reader.line(line)
    except (_NotPlain, dns.exception.DNSException):
        return None
    return reader.zonefile()


class _Reader:
    """One pass over the lines. Every method but ``zonefile`` raises _NotPlain."""

    __slots__ = (
        "_count",
        "_default_ttl",
        "_dropped",
        "_name",
        "_name_work",
        "_origin",
        "_owner",
        "_owners",
        "_stated_ttl",
        "_zone",
        "_zone_text",
    )

    def __init__(self, name: str) -> None:
        self._name = name
        self._zone_text = name.lower().encode()
        self._zone = tuple(self._zone_text.split(b"."))
        self._origin: Labels = self._zone
        self._owner: Labels | None = ()  # relative to the zone; None: outside of it
        self._default_ttl: int | None = None
        self._stated_ttl = DEFAULT_TTL
        self._owners: dict[Labels, dict[int, Growing]] = {}
        self._count = 0
        self._dropped = 0
        self._name_work = 0

    def line(self, line: bytes) -> None:
        """Read one line, which is not empty."""
        if b'"' in line:
            if line.count(b'"') % 2:
                raise _NotPlain  # open, or in a comment
            tokens = _TOKENS.findall(line)
            if tokens and tokens[-1].startswith(b";"):
                tokens.pop()
        else:
            tokens = (line.partition(b";")[0] if b";" in line else line).split()
        if not tokens:
            return
        if line[0] in b" \t":
            self._record(tokens, 0)
        elif line[0] == 0x24:
            self._directive(tokens)
        else:
            labels = self._inside(self._labels(tokens[0], self._origin))
            self._owner = None if labels is None else tuple([label.lower() for label in labels])
            self._record(tokens, 1)

    def zonefile(self) -> Zonefile:
        """All that was read."""
        return Zonefile(self._name, self._owners, self._dropped)

    def _directive(self, tokens: list[bytes]) -> None:
        if len(tokens) != 2:
            raise _NotPlain
        directive, word = tokens[0].upper(), tokens[1]
        if directive == b"$TTL":
            self._default_ttl = _number(word, MAX_TTL)
        elif directive == b"$ORIGIN":
            if word.lower() == self._zone_text and len(self._zone) > 1:  # as nearly all begin
                self._origin = self._labels(b"@", self._zone)
                return
            if word == b"@":
                return
            labels = self._labels(word, ())
            relative = len(labels) == 1 and not word.endswith(b".")
            self._origin = self._labels(word, self._origin) if relative else labels
        else:
            raise _NotPlain

    def _record(self, tokens: list[bytes], at: int) -> None:
        """Read the record whose owner is known and whose other fields are ``tokens[at:]``."""
        owner = self._owner
        if owner is None:
            self._dropped += 1
            return
        ttl: int | None = None
        has_class = False
        for number in range(at, len(tokens)):
            word = tokens[number].upper()
            kind = _FIELDS.get(word)
            if kind is not None:
                break
            if ttl is None and word[:1].isdigit():
                ttl = self._stated_ttl = _number(word, MAX_TTL)
            elif not has_class and word == b"IN":
                has_class = True
            elif word == b"ALIAS":
                self._dropped += 1
                return
            else:
                raise _NotPlain
        else:
            raise _NotPlain
        if ttl is None:
            ttl = self._stated_ttl if self._default_ttl is None else self._default_ttl
        rtype, read = kind
        head, target = read(tokens[number + 1 :])
        key: tuple[bytes, bool]
        if target is None:
            record = Record(head)
            key = (head, False)
        else:
            labels = self._labels(target, self._origin)
            inside = self._inside(labels)
            if inside is None:
                wire = labels_wire(labels) + b"\0"
                record = Record(head + wire)
                key = (head + wire.lower(), False)
            else:
                wire = labels_wire(inside)
                record = Record(head + wire, moves=True, longest=len(wire))
                key = (head + wire.lower(), True)
        self._keep(owner, rtype, ttl, record, key)

    def _keep(
        self, owner: Labels, rtype: int, ttl: int, record: Record, key: tuple[bytes, bool]
    ) -> None:
        sets = self._owners.get(owner)
        if sets is None:
            sets = self._owners[owner] = {}
        growing = sets.get(rtype)
        if growing is None:
            if sets and (rtype == _CNAME or _CNAME in sets):
                raise _NotPlain
            growing = sets[rtype] = Growing(ttl)
        elif ttl < growing.ttl:
            growing.ttl = ttl
        if key in growing.records:
            return
        self._count += 1
        if self._count > MAX_RECORDS or (rtype == _CNAME and growing.records):
            raise _NotPlain
        growing.records[key] = record

    def _labels(self, word: bytes, origin: Labels) -> Labels:
        """The labels of the absolute name that ``word`` means, without that of the root."""
        if word == b"@":
            labels = origin
        elif word == b".":
            labels = ()
        elif word.startswith(b'"'):
            raise _NotPlain
        else:
            if word.endswith(b"."):
                labels = tuple(word[:-1].split(b"."))
            else:
                labels = (*word.split(b"."), *origin)
            if b"" in labels or (len(word) > _MAX_LABEL and max(map(len, labels)) > _MAX_LABEL):
                raise _NotPlain
            if sum(map(len, labels)) + len(labels) >= MAX_NAME_OCTETS:
                raise _NotPlain
        # The budget that names have there is never used up before it is here.
        self._name_work += (len(labels) + 1) ** 2
        if self._name_work > MAX_NAME_WORK:
            raise _NotPlain
        return labels

    def _inside(self, labels: Labels) -> Labels | None:
        """``labels`` relative to the zone, or None where they lie outside of it."""
        cut = len(labels) - len(self._zone)
        if cut < 0:
            return None
        suffix = labels[cut:]
        if suffix != self._zone and tuple([label.lower() for label in suffix]) != self._zone:
            return None
        return labels[:cut]


def _number(word: bytes, most: int) -> int:
    """A number of digits alone, at most ``most``."""
    if len(word) > 10 or not word.isdigit():
        raise _NotPlain
    number = int(word)
    if number > most:
        raise _NotPlain
    return number


def _string(word: bytes) -> bytes:
    """What a field, quoted or not, holds."""
    return word[1:-1] if word.startswith(b'"') else word


def _address4(fields: list[bytes]) -> _Fields:
    (address,) = _exactly(1, fields)
    numbers = [_NUMBERS.get(part, -1) for part in address.split(b".", 4)]
    if len(numbers) != 4 or -1 in numbers:
        raise _NotPlain
    return bytes(numbers), None


def _address6(fields: list[bytes]) -> _Fields:
    (address,) = _exactly(1, fields)
    if len(address) > _MAX_ADDRESS:
        raise _NotPlain
    return dns.ipv6.inet_aton(address), None


def _name(fields: list[bytes]) -> _Fields:
    (target,) = _exactly(1, fields)
    return b"", target


def _mx(fields: list[bytes]) -> _Fields:
    preference, exchange = _exactly(2, fields)
    return _u16.pack(_number(preference, 0xFFFF)), exchange


def _srv(fields: list[bytes]) -> _Fields:
    *numbers, target = _exactly(4, fields)
    return _three_u16.pack(*[_number(word, 0xFFFF) for word in numbers]), target


def _txt(fields: list[bytes]) -> _Fields:
    parts: list[bytes] = []
    for word in fields:
        string = _string(word)
        if len(string) > 0xFF:
            raise _NotPlain
        parts += (_OCTETS[len(string)], string)
    if not parts:
        raise _NotPlain
    return b"".join(parts), None


def _uri(fields: list[bytes]) -> _Fields:
    priority, weight, word = _exactly(3, fields)
    target = _string(word)
    if not target:
        raise _NotPlain
    return _two_u16.pack(_number(priority, 0xFFFF), _number(weight, 0xFFFF)) + target, None


def _caa(fields: list[bytes]) -> _Fields:
    flags, word, value = _exactly(3, fields)
    tag = _string(word)
    if not tag.isalnum() or len(tag) > 0xFF:
        raise _NotPlain
    return _OCTETS[_number(flags, 0xFF)] + _OCTETS[len(tag)] + tag + _string(value), None


def _exactly(count: int, fields: list[bytes]) -> list[bytes]:
    if len(fields) != count:
        raise _NotPlain
    return fields


_OCTETS = tuple(bytes((number,)) for number in range(256))
_NUMBERS = {b"%d" % number: number for number in range(256)}

_FIELDS: Mapping[bytes, tuple[int, Callable[[list[bytes]], _Fields]]] = {
    b"A": (_A, _address4),
    b"AAAA": (_AAAA, _address6),
    b"CAA": (_CAA, _caa),
    b"CNAME": (_CNAME, _name),
    b"MX": (_MX, _mx),
    b"NS": (_NS, _name),
    b"PTR": (_PTR, _name),
    b"SRV": (_SRV, _srv),
    b"TXT": (_TXT, _txt),
    b"URI": (_URI, _uri),
}
"""Of each type its number and what reads its fields."""
