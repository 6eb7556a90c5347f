"""What is read of a packet, what is refused unread, and how a reply is made to fit."""

import struct

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.dns.answer import Answer, ExtendedError
from resolver.dns.asker import Asker
from resolver.dns.codes import Rcode
from resolver.dns.lookup import RecordSet
from resolver.dns.message import (
    STREAM_LIMIT,
    UDP_LIMIT,
    ServerOptions,
    reply_limit,
    write_reply,
    write_short,
)
from resolver.dns.query import Query, Short, read_query
from resolver.dns.zones import name_wire
from tests.resolver.fakes import errors

QUESTION = b"\x05alice\x02bs\x00\x00\x10\x00\x01"
OPT = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"


def packet(
    body: bytes = QUESTION, counts=(1, 0, 0, 0), flags: int = 0x0100, ident: int = 0x1234
) -> bytes:
    return struct.pack("!HHHHHH", ident, flags, *counts) + body


def opt(
    options: bytes = b"", *, size: int = 1232, version: int = 0, flags: int = 0, length=None
) -> bytes:
    length = len(options) if length is None else length
    return b"\0" + struct.pack("!HHBBHH", 41, size, 0, version, flags, length) + options


def option(code: int, octets: bytes = b"") -> bytes:
    return struct.pack("!HH", code, len(octets)) + octets


def refused(wire: bytes) -> dns.message.Message:
    query = read_query(wire)
    assert isinstance(query, Short), query
    decoded = dns.message.from_wire(write_short(query, query.rcode))
    assert decoded.id == struct.unpack_from("!H", wire)[0]
    assert decoded.flags & dns.flags.QR
    assert not decoded.answer
    assert not decoded.authority
    return decoded


def test_a_question_is_read_with_its_case():
    query = read_query(packet(b"\x05AlIcE\x02bS\x00\x00\x10\x00\x01"))
    assert isinstance(query, Query)
    assert query.labels == (b"AlIcE", b"bS")
    assert (query.qtype, query.qclass, query.edns) == (16, 1, None)


def test_opt_is_read_by_hand():
    body = QUESTION + opt(option(3) + option(65001, b"xyz"), size=4096, flags=0x8080)
    query = read_query(packet(body, (1, 0, 0, 1)))
    assert isinstance(query, Query)
    assert query.edns is not None
    assert (query.edns.size, query.edns.wants_dnssec) == (4096, True)
    assert query.edns.options == ((3, b""), (65001, b"xyz"))


@pytest.mark.parametrize("length", range(12))
def test_under_twelve_bytes_there_is_silence(length):
    assert read_query(packet()[:length]) is None


def test_a_reply_gets_no_reply():
    assert read_query(packet(flags=0x8100)) is None
    assert read_query(packet(b"junk", (9, 9, 9, 9), flags=0xFFFF)) is None


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 6, 15])
def test_other_opcodes_are_not_implemented(opcode):
    question = b"\x02bs\x00\x00\x06\x00\x01"  # SOA, the only one an UPDATE may have
    reply = refused(packet(question + OPT, (1, 0, 0, 1), flags=opcode << 11))
    assert reply.rcode() == dns.rcode.NOTIMP
    assert reply.opcode() == opcode
    assert reply.edns == 0


def test_an_update_is_not_implemented_whatever_its_sections_hold():
    zone = b"\x02bs\x00\x00\x06\x00\x01"
    wire = packet(zone + b"\xc0\x0c\x00\xff\x00\xff" + bytes(6), (1, 0, 1, 0), 5 << 11)
    assert refused(wire).rcode() == dns.rcode.NOTIMP


@pytest.mark.parametrize(
    "wire",
    [
        packet(b"", (0, 0, 0, 0)),
        packet(QUESTION * 2, (2, 0, 0, 0)),
        packet(b"", (1, 0, 0, 0)),
        packet(QUESTION[:-1]),
        packet(QUESTION[:4]),
        packet(b"\xc0\x0c\x00\x10\x00\x01"),
        packet(b"\x41" + b"x" * 65 + b"\0\0\x10\0\x01"),
        packet((b"\x3f" + b"x" * 63) * 4 + b"\0\0\x10\0\x01"),
        packet(QUESTION + b"junk"),
        packet(QUESTION + b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04abcd", (1, 1, 0, 0)),
        packet(QUESTION + b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04abcd", (1, 0, 1, 0)),
        packet(QUESTION + OPT + OPT, (1, 0, 0, 2)),
        packet(QUESTION + b"\x01x" + OPT, (1, 0, 0, 1)),
        packet(QUESTION + opt(b"\0\x03\0\x05abc"), (1, 0, 0, 1)),
        packet(QUESTION + opt(b"\0\x03"), (1, 0, 0, 1)),
        packet(QUESTION + opt(length=9), (1, 0, 0, 1)),
        packet(QUESTION + opt(length=0xFFFF), (1, 0, 0, 1)),
        packet(QUESTION + opt(option(9) * 65), (1, 0, 0, 1)),
        packet(QUESTION, (1, 0, 0, 1)),
        packet(QUESTION + OPT * 300, (1, 0, 0, 300)),
        packet(b"\x05alice\x02bs\x00\x00\x29\x00\x01"),
        packet(b"\x05alice\x02bs\x00\x00\xfa\x00\x01"),
    ],
)
def test_a_broken_query_gets_formerr_with_its_id(wire):
    assert refused(wire).rcode() == dns.rcode.FORMERR


def test_a_refusal_echoes_the_question_where_there_is_one():
    reply = refused(packet(b"\x05AlIcE\x02bS\x00\x00\x10\x00\x01" + b"junk"))
    assert reply.question[0].name.labels == (b"AlIcE", b"bS", b"")


def test_a_refusal_has_opt_exactly_when_the_query_had():
    assert refused(packet(QUESTION + OPT + OPT, (1, 0, 0, 2))).edns == 0
    assert refused(packet(QUESTION + opt(length=9), (1, 0, 0, 1))).edns == 0
    assert refused(packet(OPT, (0, 0, 0, 1))).edns == 0
    assert refused(packet(QUESTION + b"junk")).edns == -1


def test_a_later_edns_version_is_told_which_one_we_speak():
    reply = refused(packet(QUESTION + opt(b"\xff", version=100), (1, 0, 0, 1)))
    assert reply.rcode() == dns.rcode.BADVERS
    assert (reply.edns, reply.payload) == (0, UDP_LIMIT)


@pytest.mark.parametrize("rtype", [249, 253, 254])
def test_question_types_nobody_uses_are_not_implemented(rtype):
    wire = packet(b"\x05alice\x02bs\x00" + struct.pack("!HH", rtype, 1))
    assert refused(wire).rcode() == dns.rcode.NOTIMP


def test_an_incremental_transfer_may_bring_its_soa():
    soa = b"\xc0\x0c\0\x06\0\x01\0\0\0\0\0\x16\0\0" + bytes(20)
    question = b"\x02bs\x00\x00\xfb\x00\x01"
    assert isinstance(read_query(packet(question + soa, (1, 0, 1, 0))), Query)


def test_records_beside_opt_are_skipped_without_following_their_pointers():
    record = b"\xff\xff\0\xfe\0\x01\0\0\0\0\0\x02\xc0\x0c"
    query = read_query(packet(QUESTION + record + OPT, (1, 0, 0, 2)))
    assert isinstance(query, Query)
    assert query.edns is not None


@given(st.binary(max_size=600))
def test_reading_never_raises(octets):
    result = read_query(octets)
    assert result is None or isinstance(result, Short | Query)


@given(
    st.binary(max_size=80),
    st.tuples(*[st.integers(0, 3)] * 4),
    st.sampled_from([0x0100, 0, 0x1000, 0x7810]),
)
def test_reading_never_raises_behind_a_plausible_header(body, counts, flags):
    for wire in (packet(body, counts, flags), packet(QUESTION + body, counts, flags)):
        result = read_query(wire)
        if isinstance(result, Short):
            reply = write_short(result, result.rcode)
            assert len(reply) <= 512
            dns.message.from_wire(reply)


# Replies


def a_query(*, size: int | None = 1232, options: bytes = b"", labels=(b"AlIcE", b"bS")) -> Query:
    name = b"".join(bytes((len(x),)) + x for x in labels) + b"\0"
    body = name + b"\x00\x10\x00\x01"
    if size is not None:
        body += opt(options, size=size)
    query = read_query(packet(body, (1, 0, 0, int(size is not None))))
    assert isinstance(query, Query)
    return query


def txt(owner, *sizes: int) -> RecordSet:
    rdatas = tuple(
        bytes((size - 1,)) + bytes((n + 33,)) * (size - 1) for n, size in enumerate(sizes)
    )
    return RecordSet(owner, 16, 300, rdatas)


ALICE = (b"alice", b"bs")


@pytest.mark.parametrize(
    ("size", "limit", "room"),
    [
        (None, UDP_LIMIT, 512),
        (512, UDP_LIMIT, 512),
        (0, UDP_LIMIT, 512),
        (900, UDP_LIMIT, 900),
        (4096, UDP_LIMIT, 1232),
        (512, STREAM_LIMIT, 65535),
        (None, STREAM_LIMIT, 65535),
    ],
)
def test_a_reply_is_as_long_as_door_and_client_allow(size, limit, room):
    assert reply_limit(a_query(size=size), limit) == room


def test_the_question_comes_back_with_its_case_and_owners_point_at_it():
    wire = write_reply(a_query(), Answer(0, True, (txt(ALICE, 20),)), UDP_LIMIT)
    assert wire.count(b"AlIcE") == 1
    assert b"alice" not in wire
    reply = dns.message.from_wire(wire)
    assert reply.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD
    assert reply.answer[0].name == reply.question[0].name


def test_opt_offers_our_size_and_echoes_do_but_no_other_flag():
    query = read_query(packet(QUESTION + opt(option(100, b"x"), flags=0xFFFF), (1, 0, 0, 1)))
    assert isinstance(query, Query)
    reply = dns.message.from_wire(write_reply(query, Answer(0), UDP_LIMIT))
    assert (reply.payload, reply.ednsflags, reply.options) == (1232, dns.flags.DO, ())


def test_nsid_and_keepalive_are_given_to_those_who_ask():
    options = ServerOptions(b"ns1", 100)
    asked = a_query(options=option(3) + option(11))
    silent = write_reply(a_query(), Answer(0), STREAM_LIMIT, options)
    assert dns.message.from_wire(silent).options == ()
    codes = lambda limit, asker: [  # noqa: E731
        int(o.otype)
        for o in dns.message.from_wire(write_reply(asked, Answer(0), limit, options, asker)).options
    ]
    assert codes(STREAM_LIMIT, Asker(keeps_connection=True)) == [3, 11]
    assert codes(STREAM_LIMIT, Asker(encrypted=True)) == [3]  # HTTP has its own
    assert codes(UDP_LIMIT, Asker()) == [3]  # RFC 7828 3.2.1: never over UDP


@pytest.mark.parametrize("length", [1, 100, 380, 381, 382, 383, 384, 385, 386, 900, 64_900, 65_300])
def test_an_encrypted_reply_is_padded_to_whole_blocks_where_the_query_was_padded(length):
    padded, plain = a_query(options=option(12, bytes(9))), a_query()
    big = RecordSet(ALICE, 65280, 300, (bytes(length),))
    answer = Answer(0, True, (big,), errors=(ExtendedError(0, "why"),))
    secret = Asker(encrypted=True)
    wire = write_reply(padded, answer, STREAM_LIMIT, asker=secret)
    assert len(wire) % 468 == 0 or len(wire) == STREAM_LIMIT
    reply = dns.message.from_wire(wire)
    assert [int(o.otype) for o in reply.options] == [15, 12]
    assert not any(reply.options[1].data)
    bare = write_reply(padded, answer, STREAM_LIMIT)
    assert 0 < len(wire) - len(bare) <= 468 + 4
    assert len(write_reply(plain, answer, STREAM_LIMIT, asker=secret)) == len(bare)
    assert len(write_reply(padded, answer, STREAM_LIMIT)) == len(bare)


def test_a_long_answer_is_cut_at_a_whole_rrset_and_says_so():
    short, long = txt(ALICE, 100, 100), txt((b"w", *ALICE), *[200] * 6)
    reply = dns.message.from_wire(write_reply(a_query(), Answer(0, True, (short, long)), UDP_LIMIT))
    assert reply.flags & dns.flags.TC
    assert [len(rrset) for rrset in reply.answer] == [2]
    assert reply.edns == 0


def test_nothing_follows_an_rrset_that_did_not_fit():
    long, short = txt(ALICE, *[200] * 7), txt((b"w", *ALICE), 20)
    reply = dns.message.from_wire(
        write_reply(a_query(), Answer(0, True, (long,), (short,), (short,)), UDP_LIMIT)
    )
    assert reply.flags & dns.flags.TC
    assert not reply.answer
    assert not reply.authority
    assert not reply.additional


def test_the_last_byte_that_fits_is_used():
    sizes = range(460, 500)
    verdicts = []
    for size in sizes:
        records = RecordSet(ALICE, 10, 300, (bytes(size),))
        wire = write_reply(a_query(size=None), Answer(0, True, (records,)), UDP_LIMIT)
        assert len(wire) <= 512
        verdicts.append((bool(wire[2] & 2), len(wire)))
    assert (False, 512) in verdicts
    assert verdicts == sorted(verdicts, key=lambda verdict: verdict[0])


def test_additional_records_go_before_anything_else_and_without_tc():
    answer, extra = txt(ALICE, 200, 200, 200, 200, 200), txt((b"ns", *ALICE), 200)
    reply = dns.message.from_wire(
        write_reply(a_query(), Answer(0, True, (answer,), additional=(extra,)), UDP_LIMIT)
    )
    assert not reply.flags & dns.flags.TC
    assert len(reply.answer[0]) == 5
    assert not reply.additional


def test_glue_that_does_not_fit_sets_tc():
    glue = txt((b"ns", *ALICE), *[250] * 5)
    reply = dns.message.from_wire(write_reply(a_query(), Answer(0, glue=(glue,)), UDP_LIMIT))
    assert reply.flags & dns.flags.TC


def test_the_text_of_an_error_goes_before_data():
    error = ExtendedError(0, "é" * 100)
    small = write_reply(a_query(), Answer(0, True, (txt(ALICE, 20),), errors=(error,)), UDP_LIMIT)
    assert errors(dns.message.from_wire(small)) == [(0, "é" * 100)]
    seen = []
    for last in range(20, 124):
        large = Answer(0, True, (txt(ALICE, 200, 200, 200, 200, 200, last),), errors=(error,))
        reply = dns.message.from_wire(write_reply(a_query(), large, UDP_LIMIT))
        assert not reply.flags & dns.flags.TC
        if errors(reply) not in seen:
            seen.append(errors(reply))
    assert seen == [[(0, "")], []]


def test_a_long_error_text_is_cut_between_characters():
    error = ExtendedError(0, "x" + "é" * 400)
    reply = dns.message.from_wire(write_reply(a_query(), Answer(2, errors=(error,)), UDP_LIMIT))
    assert errors(reply) == [(0, "x" + "é" * 119)]


def test_errors_need_edns():
    wire = write_reply(a_query(size=None), Answer(2, errors=(ExtendedError(0, "x"),)), UDP_LIMIT)
    assert dns.message.from_wire(wire).edns == -1


def test_thirty_name_servers_fit_a_datagram_for_their_names_are_compressed():
    servers = [(b"ns%d" % number, b"Cut", b"alice", b"bs") for number in range(30)]
    cut = RecordSet((b"cut", *ALICE), 2, 300, tuple(map(name_wire, servers)))
    addresses = [RecordSet(server, 1, 300, (b"\xc0\0\2\1",)) for server in servers]
    exchanges = RecordSet(ALICE, 15, 300, tuple(b"\0\1" + name_wire(s) for s in servers))
    referral = Answer(Rcode.NOERROR, authority=(cut,), glue=tuple(addresses[:20]))
    wire = write_reply(a_query(), referral, UDP_LIMIT)
    reply = dns.message.from_wire(wire)
    assert not reply.flags & dns.flags.TC
    assert len(wire) < 14 * 50 + 60 + 16 * 20
    assert {str(record.target).lower() for record in reply.authority[0]} == {
        f"ns{number}.cut.alice.bs." for number in range(30)
    }
    wire = write_reply(a_query(), Answer(Rcode.NOERROR, answer=(exchanges,)), UDP_LIMIT)
    assert len(wire) < 30 * 22 + 60
    assert str(dns.message.from_wire(wire).answer[0][0].exchange).lower() == "ns0.cut.alice.bs."


def test_names_beyond_the_reach_of_a_pointer_are_written_out():
    far = tuple(txt((b"n%d" % n, b"far", b"away"), 250, 250) for n in range(60))
    wire = write_reply(a_query(), Answer(0, True, far), STREAM_LIMIT)
    assert len(wire) > 0x4000
    reply = dns.message.from_wire(wire)
    assert [rrset.name for rrset in reply.answer] == [
        dns.name.from_text(f"n{n}.far.away.") for n in range(60)
    ]


def test_the_largest_data_fits_a_stream():
    records = RecordSet(ALICE, 16, 300, ((b"\xff" + b"x" * 255) * 160,))
    reply = dns.message.from_wire(write_reply(a_query(), Answer(0, True, (records,)), STREAM_LIMIT))
    assert not reply.flags & dns.flags.TC
    assert len(reply.answer[0][0].strings) == 160


def test_extended_rcodes_need_edns_and_get_it():
    reply = dns.message.from_wire(write_reply(a_query(), Answer(Rcode.BADVERS), UDP_LIMIT))
    assert reply.rcode() == dns.rcode.BADVERS


record_sets = st.lists(
    st.builds(
        RecordSet,
        st.lists(st.binary(min_size=1, max_size=40), max_size=4).map(tuple),
        st.sampled_from([16, 65280, 10]),
        st.integers(0, 86400),
        st.lists(st.binary(max_size=300), min_size=1, max_size=4, unique=True).map(tuple),
    ).filter(lambda r: r.rtype != 16),
    max_size=4,
).map(tuple)


@given(
    st.integers(0, 65535) | st.none(),
    st.sampled_from([UDP_LIMIT, STREAM_LIMIT]),
    record_sets,
    record_sets,
    record_sets,
    st.lists(st.builds(ExtendedError, st.integers(0, 30), st.text(max_size=300)), max_size=3),
)
def test_no_reply_is_longer_than_allowed_or_unreadable(size, limit, one, two, three, remarks):
    query = a_query(size=size)
    answer = Answer(0, True, one, two, three, one, errors=tuple(remarks))
    wire = write_reply(query, answer, limit)
    assert len(wire) <= reply_limit(query, limit)
    reply = dns.message.from_wire(wire)
    assert reply.question[0].name.labels == (b"AlIcE", b"bS", b"")
