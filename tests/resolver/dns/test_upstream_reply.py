"""Replies of other servers: what is read of them, and that nothing else comes of any bytes."""

import struct
import time

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resolver.dns.upstream_reply import BadReply, Reply, least_ttl, read_name, read_reply
from resolver.dns.zones import name_wire

RECORDS = {
    "A": "192.0.2.1", "AAAA": "2001:db8::1", "NS": "ns.a.example.", "CNAME": "b.a.example.",
    "SOA": "ns.a.example. mail.a.example. 1 2 3 4 5", "MX": "10 mx.a.example.",
    "PTR": "a.example.", "SRV": "1 2 3 srv.a.example.", "DNAME": "other.a.example.",
    "NAPTR": '1 2 "u" "E2U" "!x!y!" a.example.', "TXT": '"a" "b"',
    "RP": "m.a.example. t.a.example.",
    "AFSDB": "1 a.example.", "KX": "1 a.example.", "PX": "1 a.example. b.example.",
    "CAA": '0 issue "ca.example"', "TYPE65280": r"\# 3 c00c00",
    "HTTPS": "1 . alpn=h2", "DS": "1 8 2 " + "00" * 32,
    "RRSIG": "A 8 2 300 20300101000000 20200101000000 1 a.example. AAAA",
}  # fmt: skip


def response(*rrsets: dns.rrset.RRset, qname="a.example.", rtype="A") -> dns.message.Message:
    message = dns.message.make_response(dns.message.make_query(qname, rtype, use_edns=0))
    message.answer.extend(rrsets)
    return message


@pytest.mark.parametrize("rtype", RECORDS)
def test_every_type_comes_out_uncompressed(rtype):
    rrset = dns.rrset.from_text("a.example.", 300, "IN", rtype, RECORDS[rtype])
    reply = read_reply(response(rrset).to_wire())
    (records,) = reply.answer
    assert records.owner == (b"a", b"example")
    assert (records.rtype, records.ttl) == (int(rrset.rdtype), 300)
    assert records.rdatas == (rrset[0].to_wire(),)


def test_records_of_one_set_come_together_with_the_least_ttl_and_each_once():
    message = response()
    for ttl, address in ((300, "192.0.2.1"), (60, "192.0.2.2"), (90, "192.0.2.1")):
        message.answer.append(dns.rrset.from_text("A.example.", ttl, "IN", "A", address))
    (records,) = read_reply(message.to_wire()).answer
    assert records.ttl == 60
    assert records.rdatas == (b"\xc0\0\2\1", b"\xc0\0\2\2")


def test_the_rcode_has_twelve_bits_and_extended_errors_are_read():
    message = response()
    message.use_edns(0, options=[dns.edns.EDEOption(6, "bo\ngus"), dns.edns.EDEOption(9)])
    message.set_rcode(dns.rcode.BADVERS)
    reply = read_reply(message.to_wire())
    assert reply.rcode == 16
    assert [(error.code, error.text) for error in reply.errors] == [(6, "bo?gus"), (9, "")]
    assert reply.additional == ()


def test_a_ttl_with_the_highest_bit_is_zero():
    wire = bytearray(response(dns.rrset.from_text("a.example.", 1, "IN", "A", "1.2.3.4")).to_wire())
    at = wire.index(b"\0\0\0\1\0\4")
    wire[at] = 0x80
    assert read_reply(bytes(wire)).answer[0].ttl == 0


def test_other_classes_and_meta_types_are_no_part_of_an_answer():
    message = response()
    message.answer.append(dns.rrset.from_text("a.example.", 1, "CH", "TXT", "x"))
    assert read_reply(message.to_wire()).answer == ()


def test_of_a_truncated_reply_the_whole_records_are_read():
    message = response(dns.rrset.from_text("a.example.", 300, "IN", "A", "192.0.2.1", "192.0.2.2"))
    message.flags |= dns.flags.TC
    wire = message.to_wire()
    for cut in range(len(wire)):
        try:
            assert read_reply(wire[:cut]).truncated
        except BadReply:
            assert cut < 27  # within header and question


HEAD = struct.pack("!HHHHHH", 1, 0x8000, 0, 1, 0, 0)


@pytest.mark.parametrize(
    "wire",
    [
        b"", b"\0" * 11, dns.message.make_query("a", "A", id=1).to_wire(),
        HEAD, HEAD + b"\xc0", HEAD + b"\xc0\x0c", HEAD + b"\xc0\xff", HEAD + b"\x40a",
        HEAD + b"\1a\xc0\x0c", HEAD + b"\5ab", HEAD + b"\0\0\1\0\1",
        HEAD + b"\0\0\1\0\1\0\0\0\1\0\3abc", HEAD + b"\0\0\1\0\1\0\0\0\1\0\5abc",
        HEAD + b"\0\0\2\0\1\0\0\0\1\0\1\1", HEAD + b"\0\0\2\0\1\0\0\0\1\0\2\0\0",
        HEAD + b"\0\0\x23\0\1\0\0\0\1\0\5\0\1\0\1\xff",
        struct.pack("!HHHHHH", 1, 0x8000, 2, 0, 0, 0),
        struct.pack("!HHHHHH", 1, 0x8000, 0, 65535, 0, 0),
        HEAD + (b"\x3f" + b"a" * 63) * 5 + b"\0",
    ],
)  # fmt: skip
def test_what_is_no_reply_is_told_so(wire):
    with pytest.raises(BadReply):
        read_reply(wire)


def test_octets_behind_the_last_record_are_no_part_of_it():
    wire = HEAD + b"\0\0\x10\0\1\0\0\0\1\0\2\1x"
    assert read_reply(wire + b"behind") == read_reply(wire)


def chained(pointers: int, records: int) -> bytes:
    """A reply whose names are chains of pointers, each to the one before."""
    chain = b"".join(struct.pack("!H", 0xC000 | (21 + 2 * n if n else 12)) for n in range(pointers))
    head = struct.pack("!HHHHHH", 1, 0x8000, 0, records + 1, 0, 0)
    first = b"\0" + struct.pack("!HHIH", 16, 1, 1, len(chain)) + chain
    last = struct.pack("!H", 0xC000 | (23 + 2 * (pointers - 1)))
    return head + first + (last + struct.pack("!HHIH", 1, 1, 1, 4) + b"1234") * records


def test_a_chain_of_pointers_costs_next_to_nothing():
    """Followed without a bound this would be 22 million hops, many seconds of work."""
    started = time.perf_counter()
    with pytest.raises(BadReply):
        read_reply(chained(8_000, 2_800))
    assert time.perf_counter() - started < 0.5
    started = time.perf_counter()
    assert len(read_reply(chained(127, 4_000)).answer) == 2
    assert time.perf_counter() - started < 2


@given(st.binary(max_size=300))
@example(HEAD + b"\0\0\x23\0\1\0\0\0\1\0\0")
def test_any_bytes_are_a_reply_or_are_told_not_to_be(octets):
    for wire in (octets, HEAD + octets, HEAD[:2] + b"\x82" + HEAD[3:] + octets):
        try:
            reply = read_reply(wire)
        except BadReply:
            continue
        assert isinstance(reply, Reply)
        assert least_ttl(reply) is None or least_ttl(reply) >= 0


LABEL = st.binary(min_size=1, max_size=20)


@given(st.lists(LABEL, max_size=8), st.integers(0, 30))
def test_a_name_that_was_written_is_read(labels, before):
    wire = bytes(before) + name_wire(tuple(labels)) + b"behind"
    assert read_name(wire, before) == (tuple(labels), len(wire) - 6)


def soa(ttl: int, minimum: int) -> dns.rrset.RRset:
    return dns.rrset.from_text("example.", ttl, "IN", "SOA", f"a. b. 1 2 3 4 {minimum}")


@pytest.mark.parametrize(
    ("answer", "authority", "rcode", "kept"),
    [
        ([("a.example.", 300, "A", "1.2.3.4")], [], 0, 300),
        ([("a.example.", 50, "CNAME", "b."), ("b.", 300, "A", "1.2.3.4")], [], 0, 50),
        ([("a.example.", 50, "CNAME", "b.")], [soa(900, 30)], 0, 30),
        ([("a.example.", 50, "CNAME", "b.")], [soa(900, 600)], 3, 50),
        ([("a.example.", 50, "CNAME", "b.")], [], 0, None),
        ([], [soa(900, 600)], 0, 600),
        ([], [soa(10, 600)], 3, 10),
        ([], [], 3, None),
        ([], [soa(10, 600)], 2, None),
        ([("a.example.", 300, "A", "1.2.3.4")], [], 5, None),
    ],
)
def test_how_long_an_answer_may_be_kept(answer, authority, rcode, kept):
    message = response(*(dns.rrset.from_text(o, t, "IN", r, d) for o, t, r, d in answer))
    message.authority.extend(authority)
    message.set_rcode(rcode)
    assert least_ttl(read_reply(message.to_wire())) == kept
