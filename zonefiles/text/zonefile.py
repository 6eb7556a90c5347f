"""Bytes to their hash; bytes to record sets, or what is wrong with them, and in which line.

A zone file is text that a stranger wrote. It speaks of itself by its chain name
(``$ORIGIN alice.id``, no trailing dot) and mostly has neither SOA nor NS. What must stay true:

1. Reading never raises anything but ``ZonefileError`` and takes time linear in the input.
2. Nothing outside the name is ever kept, and nothing outside the input is ever read
   (no $INCLUDE) or multiplied (no $GENERATE).
3. A name at or under the zone file's own name, owner or target, is kept relative to it, so that
   the same parsed zone file is served under any suffix; every other name stays absolute.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import dns.exception
import dns.name
import dns.rdata
import dns.rdatatype
import dns.tokenizer
import dns.ttl
from embit.hashes import hash160

from zonefiles.text.plain_lines import read_plain_lines
from zonefiles.text.rdata import MalformedRdata, read_rdata
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
    rdata_wire,
)

MAX_BYTES: Final = 40_960
"""The largest zone file that nodes of the chain ever accepted (protocol spec section 6.4)."""

_MAX_NAME_TEXT = 4 * MAX_NAME_OCTETS + 1  # each octet may be written \DDD
_MAX_REASON = 200

CLASS_WORD: Final = re.compile(r"IN|CH|HS|CS|ANY|NONE|CLASS\d{1,5}")
"""A class in upper case, by its mnemonic or its number (RFC 3597 section 5)."""
_SERVED_CLASS = re.compile(r"IN|CLASS0*1")
_SINGLE = frozenset({dns.rdatatype.CNAME, dns.rdatatype.DNAME})
# Types of a whole zone. A name's zone file is a part of one, which has its own.
_OF_A_ZONE = frozenset(
    {
        dns.rdatatype.SOA,
        dns.rdatatype.RRSIG,
        dns.rdatatype.NSEC,
        dns.rdatatype.NSEC3,
        dns.rdatatype.NSEC3PARAM,
    }
)


def value_hash(data: bytes) -> bytes:
    """The 20 bytes that the chain holds for ``data``: HASH160, as hashed (protocol spec 6.1)."""
    digest: bytes = hash160(data)
    return digest


class ZonefileError(ValueError):
    """The data cannot be read as a zone file: ``line`` (from 1) and ``reason`` in plain words."""

    def __init__(self, line: int, reason: str) -> None:
        printable = "".join(c if " " <= c <= "~" else "?" for c in reason)
        if len(printable) > _MAX_REASON:
            printable = printable[: _MAX_REASON - 3] + "..."
        super().__init__(f"line {line}: {printable}")
        self.line = line
        self.reason = printable


class _Unreadable(Exception):
    """What is wrong with the line being read."""


def parse_zonefile(data: bytes, name: str, *, strict: bool = False) -> Zonefile:
    """Read ``data`` as the zone file of the chain name ``name`` ("alice.id").

    Format: RFC 1035 section 5 and RFC 2308 section 4 without $INCLUDE and $GENERATE, in UTF-8.
    An ``$ORIGIN`` of several labels is absolute, with or without its trailing dot; of one label,
    relative to the one before. A record without TTL takes that of $TTL, else the last one stated,
    else an hour. A record whose text is understood, and whose RDATA has not the form of its type,
    is dropped and counted; with ``strict``, for data that is still to be paid for, it is an error.
    SOA records and those of DNSSEC's proofs are dropped and counted, for they were made for a zone
    of their own, which this is not; so are ALIAS records, and records of owners outside the name.
    Raises ZonefileError, and nothing else, for whatever else is wrong with the data.
    """
    if len(data) > MAX_BYTES:
        raise ZonefileError(1, f"{len(data)} bytes are more than the {MAX_BYTES} allowed")
    plain = read_plain_lines(data, name)
    return read_all_lines(data, name, strict=strict) if plain is None else plain


def read_all_lines(data: bytes, name: str, *, strict: bool = False) -> Zonefile:
    """``parse_zonefile`` by way of dnspython, whatever the lines are. Raises ZonefileError."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ZonefileError(line, f"byte 0x{data[error.start]:02x} is not UTF-8 text") from None
    return _Reader(text, name, strict).read()


class _Tokens(dns.tokenizer.Tokenizer):
    """dnspython's tokenizer with bounded work on names and with errors in plain words."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._name_work = 0

    def as_name(
        self,
        token: dns.tokenizer.Token,
        origin: dns.name.Name | None = None,
        relativize: bool = False,
        relativize_to: dns.name.Name | None = None,
    ) -> dns.name.Name:
        if not token.is_identifier():
            raise _Unreadable("expected a name")
        if len(token.value) > _MAX_NAME_TEXT:
            raise _Unreadable("a name is longer than 255 octets")
        name = super().as_name(token, origin, relativize, relativize_to)
        # Writing a name costs dnspython the square of its labels, and "$ORIGIN a.a.a..." makes
        # each short name of the file a long one: without a budget 40 KB cost seconds.
        self._name_work += len(name.labels) ** 2
        if self._name_work > MAX_NAME_WORK:
            raise _Unreadable("too many names of too many labels")
        return name

    def get_eol_as_token(self) -> dns.tokenizer.Token:
        token = self.get()
        if not token.is_eol_or_eof():
            shown = token.value if len(token.value) <= 40 else token.value[:37] + "..."
            raise _Unreadable(f'expected the end of the line, found "{shown}"')
        return token


class _Reader:
    """One pass over the text, line by line."""

    def __init__(self, text: str, name: str, strict: bool) -> None:
        self._name = name
        self._strict = strict
        self._zone = dns.name.from_text(name, dns.name.root)
        self._tokens = _Tokens(text)
        self._origin = self._zone
        self._owner = self._zone
        self._default_ttl: int | None = None
        self._stated_ttl = DEFAULT_TTL
        self._owners: dict[Labels, dict[int, Growing]] = {}
        self._count = 0
        self._dropped = 0

    def read(self) -> Zonefile:
        more = True
        while more:
            line = self._tokens.where()[1]
            try:
                more = self._line()
            except Exception as error:  # noqa: BLE001 - rule 1: whatever a reader of RDATA leaks
                raise ZonefileError(line, str(error) or type(error).__name__) from None
        return Zonefile(self._name, self._owners, self._dropped)

    def _line(self) -> bool:
        """Read one logical line; False at the end of the text."""
        token = self._tokens.get(want_leading=True)
        if token.is_whitespace():
            token = self._tokens.get()
            if token.is_eol_or_eof():
                return not token.is_eof()
            self._tokens.unget(token)
        elif token.is_eol_or_eof():
            return not token.is_eof()
        elif token.is_identifier() and token.value.startswith("$"):
            self._directive(token.value.upper())
            return True
        else:
            if token.is_quoted_string() and token.value:  # as BIND takes it
                token = dns.tokenizer.Token(dns.tokenizer.IDENTIFIER, token.value)
            self._owner = self._tokens.as_name(token, self._origin)
        self._record()
        return True

    def _directive(self, word: str) -> None:
        if word == "$TTL":
            token = self._tokens.get()
            if not token.is_identifier():
                raise _Unreadable("$TTL without a value")
            self._default_ttl = _read_ttl(token.value)
        elif word == "$ORIGIN":
            token = self._tokens.get()
            if token.is_eol_or_eof():
                raise _Unreadable("$ORIGIN without a name")
            # On the chain a name is written without the final dot (protocol spec 6.4), so a
            # dotted origin is a whole name. One label cannot be one: it is meant as in RFC 1035.
            absolute = self._tokens.as_name(token, dns.name.root)
            if token.value == "@":
                absolute = self._origin
            one_label = len(absolute.labels) == 2 and not token.value.endswith(".")
            self._origin = self._tokens.as_name(token, self._origin) if one_label else absolute
        else:
            raise _Unreadable(f"{word[:20]} is not allowed in a zone file")
        self._tokens.get_eol()

    def _record(self) -> None:
        """Read the rest of a record whose owner is known (RFC 1035 section 5.1)."""
        if not self._owner.is_subdomain(self._zone):
            self._skip_line()
            return
        ttl: int | None = None
        has_class = False
        while True:
            token = self._tokens.get()
            if not token.is_identifier():
                raise _Unreadable("expected a record type")
            word = token.value.upper()
            if ttl is None and word[:1].isdigit():
                ttl = self._stated_ttl = _read_ttl(word)
            elif not has_class and CLASS_WORD.fullmatch(word):
                has_class = True
                if not _SERVED_CLASS.fullmatch(word):
                    raise _Unreadable(f"class {word}; only IN is served")
            else:
                break
        if word == "ALIAS" or (rtype := _read_type(word)) in _OF_A_ZONE:
            self._skip_line()
            return
        if ttl is None:
            ttl = self._stated_ttl if self._default_ttl is None else self._default_ttl
        self._keep(rtype, ttl)

    def _skip_line(self) -> None:
        while not self._tokens.get().is_eol_or_eof():
            pass
        self._dropped += 1

    def _keep(self, rtype: dns.rdatatype.RdataType, ttl: int) -> None:
        shown = dns.rdatatype.to_text(rtype)
        try:
            rdata = read_rdata(self._tokens, rtype, self._origin, self._zone)
        except MalformedRdata as error:
            if self._strict:
                raise _Unreadable(f"malformed {shown} record: {error}") from None
            self._dropped += 1
            return
        except (dns.exception.DNSException, SyntaxError, ValueError) as error:
            # The default sentence of a SyntaxError says nothing: the record type says more.
            why = str(error).replace("Text input is malformed.", "its fields do not fit the type")
            raise _Unreadable(f"unreadable {shown} record: {why}") from None
        own_names = [n.labels for n in _names_in(rdata) if not n.is_absolute()]
        longest = max((sum(map(len, n)) + len(n) for n in own_names), default=0)
        wire = rdata_wire(rdata, self._zone)
        if len(wire) > 0xFFFF:
            raise _Unreadable("a record is longer than 65,535 bytes")
        key = rdata.to_digestable(self._zone)

        owner = self._owner.relativize(self._zone)
        labels = tuple(label.lower() for label in owner.labels)
        sets = self._owners.setdefault(labels, {})
        self._check_company(rtype, sets, key, labels)
        growing = sets.setdefault(rtype, Growing(ttl))
        growing.ttl = min(growing.ttl, ttl)
        if key in growing.records:
            return
        self._count += 1
        if self._count > MAX_RECORDS:
            raise _Unreadable(f"more than {MAX_RECORDS} records")
        if own_names:
            growing.records[key] = Record(b"", moves=True, longest=longest, rdata=rdata)
        else:
            growing.records[key] = Record(wire)

    def _check_company(
        self,
        rtype: dns.rdatatype.RdataType,
        sets: Mapping[int, Growing],
        key: bytes,
        labels: Labels,
    ) -> None:
        """Refuse what a DNS server refuses to load: RFC 1034 section 3.6.2, RFC 2181 section 10.1.

        Which of the two was meant cannot be guessed, so the file is refused with its line rather
        than half of it served.
        """
        at = ".".join(label.decode("ascii", "replace") for label in labels) or "@"
        if rtype in _SINGLE and rtype in sets and key not in sets[rtype].records:
            shown = dns.rdatatype.to_text(rtype)
            raise _Unreadable(f"a second, different {shown} record at {at}")
        if rtype == dns.rdatatype.KEY:  # RFC 3007 section 2.2
            return
        has_cname = dns.rdatatype.CNAME in sets
        if rtype != dns.rdatatype.CNAME and has_cname:
            raise _Unreadable(f"a record beside the CNAME at {at}")
        if rtype == dns.rdatatype.CNAME and not has_cname and sets.keys() - {dns.rdatatype.KEY}:
            raise _Unreadable(f"a CNAME beside other records at {at}")


def _read_ttl(word: str) -> int:
    try:
        if len(word) > 40:
            raise dns.ttl.BadTTL
        ttl = dns.ttl.from_text(word)
    except dns.ttl.BadTTL:
        raise _Unreadable(f"TTL {word[:20]} is not a time of 32 bits") from None
    return ttl if ttl <= MAX_TTL else 0  # RFC 2181 section 8


def _read_type(word: str) -> dns.rdatatype.RdataType:
    try:
        rtype = dns.rdatatype.from_text(word)
    except (dns.exception.DNSException, ValueError):
        raise _Unreadable(f'"{word[:20]}" is not a record type') from None
    if rtype == dns.rdatatype.NONE or dns.rdatatype.is_metatype(rtype):
        raise _Unreadable(f"{word[:20]} is asked for, never stored")
    return rtype


def _names_in(rdata: dns.rdata.Rdata) -> Iterator[dns.name.Name]:
    """Every domain name among the fields of ``rdata``."""
    for cls in type(rdata).__mro__:
        for slot in getattr(cls, "__slots__", ()):
            value = getattr(rdata, slot, None)
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, dns.name.Name):
                    yield part
