"""The JSON form of DNS over HTTPS: a query string to a query, a reply to a JSON object.

Field names are those that Google's and Cloudflare's public resolvers share (RFC 8427 is another
form, which nobody asks for). What must stay true: whatever the query string holds, the outcome is
a query of ours or one sentence; record data is written as in a zone file.
"""

import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import dns.exception
import dns.message
import dns.name
import dns.rdata
import dns.rdatatype
from dns.rdataclass import RdataClass

from resolver.dns.codes import AD, CD, RA, RD, TC
from resolver.dns.message import UDP_LIMIT
from resolver.dns.upstream_reply import read_reply
from resolver.dns.zones import Labels

MAX_FIELDS = 16
MAX_NAME_TEXT = 1_100  # 255 octets, each written \DDD, and some dots

_TRUE, _FALSE = ("1", "true"), ("", "0", "false")


class BadQuestion(ValueError):
    """A query string that asks nothing; the text says what is wrong with it."""


def read_fields(query_string: str) -> Mapping[str, str]:
    """The fields of a URL's query string. Raises BadQuestion."""
    try:
        pairs = parse_qsl(
            query_string,
            keep_blank_values=True,
            strict_parsing=bool(query_string),
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise BadQuestion("the query string cannot be read") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadQuestion("a field of the query string stands there twice")
    return fields


def query_packet(fields: Mapping[str, str]) -> bytes:
    """The DNS query that ``name``, ``type``, ``cd`` and ``do`` ask for. Raises BadQuestion.

    Other fields (``random_padding``, ``edns_client_subnet``, ``ct``) change nothing.
    """
    text = fields.get("name", "")
    if not text:
        raise BadQuestion("the field name is missing")
    query = dns.message.make_query(
        _name(text),
        _rtype(fields.get("type", "A") or "A"),
        use_edns=0,
        want_dnssec=_switch(fields, "do"),
        payload=UDP_LIMIT,
        id=0,
        flags=RD | (CD if _switch(fields, "cd") else 0),
    )
    return query.to_wire()


def reply_json(packet: bytes) -> dict[str, Any]:
    """A reply of ours as JSON. Raises ``reply.BadReply`` if it is none."""
    reply = read_reply(packet)
    flags = {"TC": TC, "RD": RD, "RA": RA, "AD": AD, "CD": CD}
    message: dict[str, Any] = {"Status": reply.rcode}
    message |= {name: bool(reply.flags & flag) for name, flag in flags.items()}
    if reply.qtype:
        message["Question"] = [{"name": _text(reply.qname), "type": reply.qtype}]
    for title, section in (
        ("Answer", reply.answer),
        ("Authority", reply.authority),
        ("Additional", reply.additional),
    ):
        records = [
            {
                "name": _text(records.owner),
                "type": records.rtype,
                "TTL": records.ttl,
                "data": _rdata_text(records.rtype, rdata),
            }
            for records in section
            for rdata in records.rdatas
        ]
        if records:
            message[title] = records
    if reply.errors:
        message["Comment"] = [
            f"EDE({error.code}): {error.text}" if error.text else f"EDE({error.code})"
            for error in reply.errors
        ]
    return message


def _name(text: str) -> dns.name.Name:
    if len(text) > MAX_NAME_TEXT:
        raise BadQuestion("the name is too long")
    try:
        return dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError, ValueError) as error:
        raise BadQuestion(f"the name cannot be read: {_first_line(error)}") from None


def _rtype(text: str) -> dns.rdatatype.RdataType:
    if text.isascii() and text.isdigit() and len(text) <= 5:
        number = int(text)
    else:
        try:
            number = int(dns.rdatatype.from_text(text[:20]))
        except (dns.exception.DNSException, ValueError):
            number = 0
    if not 0 < number < 0x10000:
        raise BadQuestion(f"there is no record type {text[:20]!r}")
    return dns.rdatatype.RdataType.make(number)


def _switch(fields: Mapping[str, str], name: str) -> bool:
    text = fields.get(name, "").lower()
    if text not in (*_TRUE, *_FALSE):
        raise BadQuestion(f"the field {name} is 1 or 0")
    return text in _TRUE


def _text(labels: Labels) -> str:
    return dns.name.Name((*labels, b"")).to_text()


def _rdata_text(rtype: int, rdata: bytes) -> str:
    """As in a zone file; in the form of RFC 3597 where the type is unknown or the data odd."""
    try:
        kind = dns.rdatatype.RdataType.make(rtype)
        return dns.rdata.from_wire(RdataClass.IN, kind, rdata, 0, len(rdata)).to_text()
    except (dns.exception.DNSException, ValueError, IndexError, struct.error):
        return rf"\# {len(rdata)} {rdata.hex()}".rstrip()


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]
