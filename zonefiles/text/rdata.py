"""RDATA of one type: read from text, and held to the form that its specification gives it.

What must stay true: octets written generically (RFC 3597 section 5, ``\\#``) are held to the same
form as those written field by field; nothing malformed gets through, for a peer that meets it in a
transfer throws the whole transfer away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import dns.exception
import dns.ipv6
import dns.name
import dns.rdata
import dns.rdataclass
import dns.tokenizer
import dns.wire
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.DS import DS
from dns.rdtypes.ANY.NS import NS
from dns.rdtypes.ANY.RP import RP

from zonefiles.text.recordsets import rdata_wire

_IN: Final = dns.rdataclass.IN
_MD, _MF, _MB, _MG, _MR, _MINFO, _EID, _NIMLOC, _ATMA = 3, 4, 7, 8, 9, 14, 31, 32, 34
_NXT, _A6, _SINK, _RKEY, _TALINK, _DOA, _TA, _DLV = 30, 38, 40, 57, 58, 259, 32768, 32769
_DOHPATH: Final = 7

_SAME_FIELDS: Mapping[int, type[dns.rdata.Rdata]] = {
    **dict.fromkeys((_MD, _MF, _MB, _MG, _MR), NS),  # RFC 1035 sections 3.3.3 to 3.3.8
    **dict.fromkeys((_MINFO, _TALINK), RP),  # RFC 1035 section 3.3.7
    **dict.fromkeys((_TA, _DLV), DS),  # RFC 4431
}
"""Of types that dnspython has no fields for, a type that has the same."""


class MalformedRdata(ValueError):
    """The octets are no RDATA of their type; ``str()`` says why."""


def read_rdata(
    tokens: dns.tokenizer.Tokenizer,
    rtype: RdataType,
    origin: dns.name.Name,
    zone: dns.name.Name,
) -> dns.rdata.Rdata:
    """The rest of a line as RDATA of ``rtype``, its names at or under ``zone`` relative to that.

    Raises MalformedRdata, the line being read to its end, where the text is understood and makes
    no RDATA of that type; whatever else the tokenizer and dnspython raise where it is not.
    """
    kind: Any
    first = tokens.get()
    tokens.unget(first)
    if first.is_identifier() and first.value == r"\#":
        kind = dns.rdata.GenericRdata
        generic = kind.from_text(_IN, rtype, tokens)
        tokens.get_eol_as_token()
        return rdata_of(rtype, generic.data, zone)
    kind = _class_of(rtype)
    try:
        if rtype in (RdataType.SVCB, RdataType.HTTPS):
            rdata = _read_service(kind, tokens, rtype, origin, zone)
        else:
            rdata = kind.from_text(_IN, rtype, tokens, origin, True, zone)
    except ValueError as error:
        while not tokens.get().is_eol_or_eof():
            pass
        raise MalformedRdata(str(error)) from None
    tokens.get_eol_as_token()
    return _checked(rtype, rdata, zone)


def rdata_of(rtype: RdataType, wire: bytes, zone: dns.name.Name) -> dns.rdata.Rdata:
    """Uncompressed RDATA, its names at or under ``zone`` relative to that.

    Raises MalformedRdata.
    """
    is_alias = rtype in (RdataType.SVCB, RdataType.HTTPS) and wire[:2] == b"\0\0"
    kind: Any = _class_of(rtype)
    try:
        # RFC 9460 section 2.4.2: parameters beside priority 0 are ignored, and no error.
        parser = dns.wire.Parser(b"\0\1" + wire[2:] if is_alias else wire)
        rdata: dns.rdata.Rdata = kind.from_wire_parser(_IN, rtype, parser, zone)
        if is_alias:
            rdata = rdata.replace(priority=0)
        rest = parser.remaining()
    except (dns.exception.DNSException, ValueError) as error:
        raise MalformedRdata(str(error) or "its octets do not fit the type") from None
    if rest:
        raise MalformedRdata(f"{rest} octets follow its last field")
    if rdata_wire(rdata, zone) != wire:
        raise MalformedRdata("a name in it is compressed, or a field is not in its one form")
    return _checked(rtype, rdata, zone)


def is_loaded_everywhere(rtype: int, wire: bytes) -> bool:
    """Whether BIND, Knot and NSD all load this RDATA, which is well-formed and uncompressed.

    False: it is served to who asks, and kept out of transfers, for a secondary that refuses one
    record refuses the whole zone.
    """
    refused = _REFUSED_BY_SOME.get(rtype)
    return refused is None or not refused(wire)


def _class_of(rtype: RdataType) -> type[dns.rdata.Rdata]:
    find: Any = dns.rdata.get_rdata_class  # which has no types
    known: type[dns.rdata.Rdata] = find(_IN, rtype)
    return _SAME_FIELDS.get(rtype, known)


def _read_service(
    kind: Any,
    tokens: dns.tokenizer.Tokenizer,
    rtype: RdataType,
    origin: dns.name.Name,
    zone: dns.name.Name,
) -> dns.rdata.Rdata:
    """A SVCB or HTTPS record, in AliasMode with parameters too (RFC 9460 section 2.4.2)."""
    priority = tokens.get_uint16()
    stand_in = dns.tokenizer.Token(dns.tokenizer.IDENTIFIER, str(priority or 1))
    tokens.unget(stand_in)
    rdata: dns.rdata.Rdata = kind.from_text(_IN, rtype, tokens, origin, True, zone)
    return rdata if priority else rdata.replace(priority=0)


def _checked(rtype: RdataType, rdata: dns.rdata.Rdata, zone: dns.name.Name) -> dns.rdata.Rdata:
    """``rdata``, unless its type's specification forbids what dnspython lets pass."""
    rule = _RULES.get(rtype)
    if rule is not None:
        is_kept, sentence = rule
        try:
            kept = is_kept(rdata, rdata_wire(rdata, zone))
        except (dns.exception.DNSException, IndexError):
            kept = False
        if not kept:
            raise MalformedRdata(sentence)
    return rdata


def _has(field: str) -> Callable[[Any, bytes], bool]:
    return lambda rdata, wire: bool(getattr(rdata, field))


def _key_agrees(rdata: Any, wire: bytes) -> bool:
    flags: int = rdata.flags
    return (flags & 0xC000 == 0xC000) != bool(rdata.key)


def _has_dohpath_of_dns(rdata: Any, wire: bytes) -> bool:
    param = rdata.params.get(_DOHPATH)
    if param is None:
        return _DOHPATH not in rdata.params
    try:
        template = param.value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    variables = [
        variable.rstrip("*").partition(":")[0]
        for expression in re.findall(r"\{[+#./;?&]?([^{}]*)\}", template)
        for variable in expression.split(",")
    ]
    return template.startswith("/") and "dns" in variables


def _is_nxt(rdata: Any, wire: bytes) -> bool:
    """A name and a bitmap of at most 16 octets without zeros at its end (RFC 2535 section 5.2)."""
    parser = dns.wire.Parser(wire)
    parser.get_name()
    bitmap = parser.get_remaining()
    return bitmap != b"" and (bitmap[0] & 0x80 != 0 or (len(bitmap) <= 16 and bitmap[-1] != 0))


def _is_a6(rdata: Any, wire: bytes) -> bool:
    """A prefix length, the other bits of an address, a name where there is a prefix."""
    prefix, octets = wire[0], (128 - wire[0] + 7) // 8
    parser = dns.wire.Parser(wire, 1)
    suffix = parser.get_bytes(octets) if prefix <= 128 else b""
    if prefix > 128 or (suffix and suffix[0] >> (8 - prefix % 8) and prefix % 8):
        return False
    if prefix:
        parser.get_name()
    return parser.remaining() == 0


_Rule = tuple[Callable[[Any, bytes], bool], str]

_DIGEST: _Rule = (_has("digest"), "without a digest (RFC 4034 section 5.1)")
_KEY: _Rule = (_has("key"), "without a key (RFC 4034 section 2.1)")
_ASSOCIATION: _Rule = (_has("cert"), "without association data (RFC 6698 section 2.1)")
_SERVICE: _Rule = (_has_dohpath_of_dns, "dohpath is no template with {?dns} (RFC 9461 section 5)")

_RULES: Mapping[int, _Rule] = {
    RdataType.X25: (
        lambda rdata, wire: len(rdata.address) >= 4 and rdata.address.isdigit(),
        "a PSDN address has four digits or more (RFC 1183 section 3.1)",
    ),
    RdataType.NSAP: (_has("address"), "without an address (RFC 1706 section 5)"),
    RdataType.KEY: (_key_agrees, "its flags and its key do not agree (RFC 2535 section 3.1.2)"),
    RdataType.DS: _DIGEST,
    RdataType.CDS: _DIGEST,
    _TA: _DIGEST,
    _DLV: _DIGEST,
    RdataType.DNSKEY: _KEY,
    RdataType.CDNSKEY: _KEY,
    RdataType.TLSA: _ASSOCIATION,
    RdataType.SMIMEA: _ASSOCIATION,
    RdataType.NSEC: (_has("windows"), "without a type (RFC 4034 section 4.1.2)"),
    RdataType.DHCID: (lambda rdata, wire: len(wire) > 3, "without a digest (RFC 4701 section 3.3)"),
    RdataType.HIP: (
        lambda rdata, wire: bool(rdata.hit and rdata.key),
        "without an identity or a key (RFC 8005 section 5)",
    ),
    RdataType.OPENPGPKEY: (_has("key"), "without a key (RFC 7929 section 2.1)"),
    RdataType.HHIT: (lambda rdata, wire: bool(wire), "empty (RFC 9886 section 5.1)"),
    RdataType.BRID: (lambda rdata, wire: bool(wire), "empty (RFC 9886 section 5.2)"),
    RdataType.SVCB: _SERVICE,
    RdataType.HTTPS: _SERVICE,
    _NXT: (_is_nxt, "no name with a bitmap of types (RFC 2535 section 5.2)"),
    _A6: (_is_a6, "no prefix length, address and name that agree (RFC 2874 section 3.1)"),
}
"""Of each type what must hold of its RDATA beyond what dnspython sees to, and the sentence that
says so."""


def _is_shorter(least: int) -> Callable[[bytes], bool]:
    return lambda wire: len(wire) < least


def _always(wire: bytes) -> bool:
    return True


def _bind_refuses_address(wire: bytes) -> bool:
    return len(wire) < 2 or (wire[0] == 1 and not wire[1:].isdigit())


def _bind_refuses_object(wire: bytes) -> bool:
    return len(wire) < 10 or len(wire) < 10 + wire[9]


def _has_no_key(wire: bytes) -> bool:
    """Of IPSECKEY: algorithm 0, no key (RFC 4025 section 2.4), which BIND does not take."""
    at = {0: 3, 1: 7, 2: 19}.get(wire[1])
    if at is None:
        parser = dns.wire.Parser(wire, 3)
        parser.get_name()
        return parser.remaining() == 0
    return len(wire) <= at


_DOUBTFUL = re.compile(
    rb"""(?:^|[(|])(?:[*+?{|)]|$) | [$^][*+?{]            # nothing to repeat, or an empty branch
    | [*+?}][*+?{] | \(\? | \\\d | -- | && | ~~           # what Python reads otherwise
    | \{(?!\d{1,2}(?:,\d{0,2})?\})                         # braces that count nothing
    | \[(?!\^?(?:[^][\\-](?:-[^][\\-])?)*[^][\\-]-?[^][\\-]?\])  # more than signs and ranges
    | [^ -~]
    """,
    re.VERBOSE,
)
"""In a regular expression: what servers may not read as Python does."""


def _bind_doubts_substitution(wire: bytes) -> bool:
    """Of NAPTR: a substitution (RFC 3402 section 3.2) that is not sure to be well-formed."""
    at = 4
    for _ in range(2):
        at += 1 + wire[at]
    written = wire[at + 1 : at + 1 + wire[at]]
    if not written:
        return False
    delimiter = re.escape(written[:1])
    part = rb"((?:\\[^\0]|(?!%b)[^\\\0])*)" % delimiter
    found = re.fullmatch(rb"%b%b%b%b%bi*" % (delimiter, part, delimiter, part, delimiter), written)
    if found is None or written[:1] in b"0123456789\\i" or _DOUBTFUL.search(found[1]):
        return True
    try:
        groups = re.compile(found[1]).groups
    except (re.error, OverflowError):
        return True
    used = [int(digit) for digit in re.findall(rb"\\(?:(\d)|.)", found[2]) if digit]
    return 0 in used or max(used, default=0) > groups


_REFUSED_BY_SOME: Mapping[int, Callable[[bytes], bool]] = {
    _MD: _always,  # obsolete: BIND
    _MF: _always,
    _A6: _always,
    RdataType.WKS: lambda wire: len(wire) > 5 and wire[-1] == 0,  # a bitmap that ends in zeros
    _EID: _is_shorter(1),
    _NIMLOC: _is_shorter(1),
    _ATMA: _bind_refuses_address,
    RdataType.NAPTR: _bind_doubts_substitution,
    RdataType.CERT: _is_shorter(6),
    _SINK: _is_shorter(3),
    RdataType.IPSECKEY: _has_no_key,
    _RKEY: lambda wire: len(wire) < 5 or wire[:2] != b"\0\0",
    _DOA: _bind_refuses_object,
}
"""Of each type what some server refuses though no RFC forbids it."""
