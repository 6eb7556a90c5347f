"""What the data of a name says to a question, and what is said where there is none."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.dns import answer as say
from resolver.dns.answer import (
    Answer,
    Basis,
    NameData,
    ServerIdentity,
    answer_from_data,
    chaos_answer,
    character_strings,
    expires_soon,
)
from resolver.dns.codes import Rcode, Rtype
from resolver.dns.contents import Contents, read_data
from resolver.dns.lookup import (
    Alias,
    AliasTooLong,
    Found,
    NoSuchNode,
    NoSuchType,
    Referral,
    TtlLimits,
)
from resolver.dns.zones import name_wire
from zonefiles.text.zonefile import value_hash

ANCHOR = (b"alice", b"bs")
TTLS = TtlLimits(60, 86_400)


def held(records: str) -> NameData:
    read = read_data(f"$ORIGIN alice.id\n$TTL 3600\n{records}\n".encode(), "alice.id")
    assert read.zonefile is not None, read.flaw
    return read


def ask(records: str | NameData, left: str, rtype: int, anchor=ANCHOR):
    labels = tuple(left.encode().split(b".")) if left else ()
    data = records if isinstance(records, NameData) else held(records)
    return answer_from_data(data, labels, rtype, anchor, TTLS)


def test_a_record_is_found_under_the_name_that_was_asked():
    outcome = ask("www A 192.0.2.1\nwww A 192.0.2.2", "www", Rtype.A)
    assert isinstance(outcome, Found)
    assert outcome.records.owner == (b"www", *ANCHOR)
    assert outcome.records.rdatas == (b"\xc0\0\x02\x01", b"\xc0\0\x02\x02")


@pytest.mark.parametrize(("written", "served"), [(0, 60), (59, 60), (300, 300), (999_999, 86_400)])
def test_a_ttl_is_clamped(written, served):
    outcome = ask(f"www {written} A 192.0.2.1", "www", Rtype.A)
    assert isinstance(outcome, Found)
    assert outcome.records.ttl == served


def test_targets_of_the_name_itself_move_to_the_suffix_that_was_asked():
    outcome = ask("@ MX 10 mail\n@ MX 20 mail.example.net.", "", 15, (b"alice", b"cast", b"net"))
    assert isinstance(outcome, Found)
    assert outcome.records.rdatas == (
        b"\0\x0a" + name_wire((b"mail", b"alice", b"cast", b"net")),
        b"\0\x14" + name_wire((b"mail", b"example", b"net")),
    )


def test_no_such_type_and_no_such_label_are_kept_apart():
    assert ask("www A 192.0.2.1", "www", Rtype.AAAA) == NoSuchType()
    assert ask("www A 192.0.2.1", "ftp", Rtype.A) == NoSuchNode()
    assert ask("a.b A 192.0.2.1", "b", Rtype.A) == NoSuchType()  # an empty non-terminal
    assert ask("a.b A 192.0.2.1", "x.a.b", Rtype.A) == NoSuchNode()


# The wildcard examples of RFC 4592 2.2.1, with the apex as "example".
RFC4592 = """
*                    TXT "this is a wildcard"
*                    MX  10 host1
sub.*                TXT "this is not a wildcard"
host1                A   192.0.2.1
_ssh._tcp.host1      SRV 0 0 22 host1
_ssh._tcp.host2      SRV 0 0 22 host2
subdel               NS  ns.example.com.
subdel               NS  ns.example.net.
"""


@pytest.mark.parametrize(
    ("left", "rtype", "kind"),
    [
        ("host3", 15, Found),
        ("host3", 1, NoSuchType),
        ("foo.bar", 16, Found),
        ("host1", 15, NoSuchType),
        ("sub.*", 15, NoSuchType),
        ("_telnet._tcp.host1", 33, NoSuchNode),
        ("host.subdel", 1, Referral),
        ("ghost.*", 15, NoSuchNode),
        ("*", 16, Found),
        ("host2", 16, NoSuchType),
        ("x._tcp.host2", 16, NoSuchNode),
    ],
)
def test_wildcards_are_those_of_rfc_4592(left, rtype, kind):
    outcome = ask(RFC4592, left, rtype)
    assert isinstance(outcome, kind)
    if isinstance(outcome, Found):
        assert outcome.records.owner == (*left.encode().split(b"."), *ANCHOR)


def test_a_wildcard_that_holds_nothing_itself_still_answers_for_its_place():
    assert ask("x.* A 192.0.2.1", "foo", Rtype.A) == NoSuchType()


def test_a_wildcard_never_stands_for_the_name_itself():
    assert ask("* A 192.0.2.1", "", Rtype.A) == NoSuchType()


def test_a_cname_points_on_unless_it_is_asked_for():
    records = "www CNAME web.example.net."
    outcome = ask(records, "www", Rtype.A)
    assert isinstance(outcome, Alias)
    assert outcome.target == (b"web", b"example", b"net")
    assert isinstance(ask(records, "www", Rtype.CNAME), Found)
    assert isinstance(ask(records, "www", Rtype.ANY), Found)


def test_a_wildcard_cname_takes_the_name_that_was_asked():
    outcome = ask("* CNAME web", "foo.bar", Rtype.A)
    assert isinstance(outcome, Alias)
    assert outcome.records[0].owner == (b"foo", b"bar", *ANCHOR)
    assert outcome.target == (b"web", *ANCHOR)


def test_a_dname_moves_what_is_below_it_and_not_itself():
    records = "old DNAME new\nold A 192.0.2.9\nwww.new A 192.0.2.1"
    outcome = ask(records, "www.old", Rtype.A)
    assert isinstance(outcome, Alias)
    dname, cname = outcome.records
    assert (dname.rtype, dname.owner) == (39, (b"old", *ANCHOR))
    assert (cname.rtype, cname.owner) == (5, (b"www", b"old", *ANCHOR))
    assert cname.rdatas == (name_wire((b"www", b"new", *ANCHOR)),)
    assert cname.ttl == dname.ttl
    assert isinstance(ask(records, "old", Rtype.A), Found)
    assert isinstance(ask(records, "old", Rtype.DNAME), Found)


def test_a_dname_at_the_name_itself_moves_everything_below():
    outcome = ask("@ DNAME example.net.\n@ TXT x", "a.b", Rtype.A)
    assert isinstance(outcome, Alias)
    assert outcome.target == (b"a", b"b", b"example", b"net")
    assert isinstance(ask("@ DNAME example.net.\n@ TXT x", "", Rtype.TXT), Found)


def test_a_dname_that_makes_too_long_a_name_is_said_to():
    long = ".".join(["x" * 60] * 3)
    outcome = ask(f"old DNAME {long}.example.net.", ".".join(["y" * 60] * 2) + ".old", Rtype.A)
    assert isinstance(outcome, AliasTooLong)


DELEGATION = """
sub      NS ns1.sub
sub      NS ns2
sub      NS ns.example.net.
sub      DS 1 8 2 aabbccddaabbccddaabbccddaabbccddaabbccddaabbccddaabbccddaabbccdd
ns1.sub  A 192.0.2.1
ns1.sub  AAAA 2001:db8::1
ns2      A 192.0.2.2
www.sub  A 192.0.2.3
"""


@pytest.mark.parametrize("left", ["sub", "www.sub", "no.such.sub", "ns1.sub"])
def test_below_a_delegation_there_is_only_the_referral(left):
    outcome = ask(DELEGATION, left, Rtype.A)
    assert isinstance(outcome, Referral)
    assert outcome.nameservers.owner == (b"sub", *ANCHOR)
    assert len(outcome.nameservers.rdatas) == 3
    assert [(r.owner[0], r.rtype) for r in outcome.glue] == [(b"ns1", 1), (b"ns1", 28)]
    assert [(r.owner[0], r.rtype) for r in outcome.siblings] == [(b"ns2", 1)]


def test_the_ds_of_a_delegation_is_answered_on_this_side():
    assert isinstance(ask(DELEGATION, "sub", Rtype.DS), Found)
    assert isinstance(ask(DELEGATION, "x.sub", Rtype.DS), Referral)
    assert ask("sub NS ns.example.net.", "sub", Rtype.DS) == NoSuchType()


def test_ns_records_at_the_name_itself_are_data():
    records = "@ NS ns.example.net.\nwww A 192.0.2.1"
    assert isinstance(ask(records, "", Rtype.NS), Found)
    assert isinstance(ask(records, "www", Rtype.A), Found)


def test_any_gets_one_rrset_and_always_the_same():
    records = "www TXT x\nwww A 192.0.2.1\nwww AAAA ::1"
    outcome = ask(records, "www", Rtype.ANY)
    assert isinstance(outcome, Found)
    assert outcome.records.rtype == Rtype.A


def test_an_soa_or_a_signature_in_a_zone_file_is_not_served():
    records = "@ SOA ns. host. 1 2 3 4 5\n@ A 192.0.2.1\nsub SOA ns. host. 1 2 3 4 5"
    assert ask(records, "", Rtype.SOA) == NoSuchType()
    assert ask(records, "", Rtype.RRSIG) == NoSuchType()
    assert ask(records, "sub", Rtype.SOA) == NoSuchNode()  # as where a transfer took the zone


@pytest.mark.parametrize("rtype", [Rtype.RRSIG, Rtype.NSEC, Rtype.KEY])
def test_what_may_stand_beside_an_alias_is_not_led_on_by_it(rtype):
    assert ask("www CNAME far.example.", "www", rtype) == NoSuchType()
    key = ask("www CNAME far.example.\nwww KEY 512 3 5 AQID", "www", Rtype.KEY)
    assert isinstance(key, Found)
    assert key.records.rtype == Rtype.KEY


@pytest.mark.parametrize(
    "record",
    [
        'URI 10 1 "https://example.net/"',
        'CAA 0 issue "ca.example.net"',
        "TLSA 3 0 0 aabb",
        "SSHFP 1 1 aabbccddaabbccddaabbccddaabbccddaabbccdd",
        'NAPTR 100 50 "s" "http" "" _http._tcp.example.net.',
        "SVCB 1 svc alpn=h2",
        "HTTPS 1 . alpn=h2",
        "LOC 51 30 12.748 N 0 7 39.612 W 0.00m",
        'HINFO "PC" "Linux"',
        'SPF "v=spf1 -all"',
        "OPENPGPKEY aGVsbG8=",
        "PTR host.example.net.",
        "TYPE65280 \\# 3 abcdef",
    ],
)
def test_every_type_of_record_is_served(record):
    data = held(f"x {record}")
    assert data.zonefile is not None
    (rtype,) = data.zonefile.rrsets((b"x",))
    outcome = ask(data, "x", rtype)
    assert isinstance(outcome, Found)
    assert len(outcome.records.rdatas) == 1


# TXT at the name (what shows the data itself)


def test_txt_at_the_name_is_the_zone_files_own_where_it_has_some():
    outcome = ask('@ TXT "mine"', "", Rtype.TXT)
    assert isinstance(outcome, Found)
    assert outcome.records.rdatas == (b"\x04mine",)


def test_txt_at_the_name_is_the_data_where_the_zone_file_has_none():
    data = held("www A 192.0.2.1")
    outcome = ask(data, "", Rtype.TXT)
    assert isinstance(outcome, Found)
    assert outcome.records.rdatas == (character_strings(data.data),)
    assert ask(data, "www", Rtype.TXT) == NoSuchType()


def test_an_alias_at_the_name_stands_before_its_data():
    assert isinstance(ask("@ CNAME example.net.", "", Rtype.TXT), Alias)


JSON = read_data(b'{"name":{"formatted": "Taylor Swift"}}', "swiftonsecurity.id")


def test_data_that_is_no_zone_file_is_shown_as_txt():
    assert JSON.zonefile is None
    outcome = ask(JSON, "", Rtype.TXT)
    assert isinstance(outcome, Found)
    assert outcome.records.rdatas == (b'&{"name":{"formatted": "Taylor Swift"}}',)
    assert isinstance(ask(JSON, "", Rtype.ANY), Found)


@pytest.mark.parametrize(("left", "rtype"), [("", 1), ("www", 1), ("www", 16), ("a.b", 255)])
def test_data_that_is_no_zone_file_denies_no_node(left, rtype):
    assert ask(JSON, left, rtype) == NoSuchType()


@given(st.binary(max_size=2_000))
def test_strings_hold_the_data_verbatim(data):
    rdata = character_strings(data)
    pieces, at = [], 0
    while at < len(rdata):
        pieces.append(rdata[at + 1 : at + 1 + rdata[at]])
        at += 1 + rdata[at]
    assert b"".join(pieces) == data
    assert len(pieces) == max(1, -(-len(data) // 255))


def test_the_largest_data_is_one_record():
    assert len(character_strings(bytes(40_960))) == 40_960 + 161


@given(st.binary(max_size=300), st.lists(st.binary(min_size=1, max_size=20), max_size=4))
def test_no_data_makes_an_answer_raise(data, left):
    for octets in (data, b"$ORIGIN alice.id\n" + data):
        for rtype in (1, 2, 5, 16, 255):
            answer_from_data(read_data(octets, "alice.id"), tuple(left), rtype, ANCHOR, TTLS)


# Sentences


def test_an_expiry_has_a_date():
    error = expires_soon(1_144, 1_000, 1_767_225_600, 600.0)
    assert (error.code, error.text) == (0, "expires at block 1144 (about 2026-01-02)")


def test_an_absurd_expiry_has_no_date():
    assert expires_soon(10**12, 0, 0, 600.0).text == f"expires at block {10**12}"


def test_unavailable_data_is_named():
    answer = say.data_unavailable(b"\xab" * 20, "alice.id", 1)
    assert answer.rcode == Rcode.SERVFAIL
    assert [(e.code, e.text) for e in answer.errors] == [
        (22, f"data {'ab' * 20} of alice.id not available from 1 source")
    ]


@pytest.mark.parametrize(
    ("qname", "text"),
    [
        ((b"VERSION", b"bind"), b"\x03one"),
        ((b"version", b"server"), b"\x03one"),
        ((b"hostname", b"bind"), b"\x03two"),
        ((b"id", b"server"), b"\x03two"),
    ],
)
def test_the_server_says_what_it_is(qname, text):
    answer = chaos_answer(qname, Rtype.TXT, ServerIdentity("one", "two"))
    assert answer.answer[0].rdatas == (text,)
    assert chaos_answer(qname, Rtype.A, ServerIdentity("one", "two")).answer == ()
    assert chaos_answer(qname, Rtype.TXT, ServerIdentity()).rcode == Rcode.REFUSED


def test_chaos_knows_no_other_name():
    assert chaos_answer((b"x", b"bs"), 16, ServerIdentity("one", "two")).rcode == Rcode.REFUSED


# What was read is kept, within bounds


def test_data_is_read_once_for_each_name_that_has_it():
    reads = []

    def read(data: bytes, name: str) -> NameData:
        reads.append(name)
        return read_data(data, name)

    contents = Contents(read=read)
    data = b"$ORIGIN a.id\nwww A 192.0.2.1\n"
    digest = value_hash(data)
    assert contents.get(digest, "a.id") is None
    added = contents.add(digest, "a.id", data)
    assert contents.get(digest, "a.id") is added
    assert contents.get(digest, "b.id") is None  # its records are outside that name
    assert reads == ["a.id"]


def test_the_least_recently_asked_goes_first():
    contents = Contents(max_entries=2)
    for name in ("a.id", "b.id"):
        contents.add(name.encode(), name, b"x")
    contents.get(b"a.id", "a.id")
    contents.add(b"c.id", "c.id", b"x")
    assert contents.get(b"b.id", "b.id") is None
    assert contents.get(b"a.id", "a.id") is not None
    assert len(contents) == 2


def test_what_is_kept_is_bounded_in_bytes():
    contents = Contents(max_bytes=1_000)
    for number in range(50):
        contents.add(bytes((number,)), "a.id", bytes(300))
        assert contents.bytes_held <= 1_000
    contents.add(b"large", "a.id", bytes(2_000))
    assert contents.bytes_held == len(contents) == 0


def test_an_answer_keeps_every_part_when_its_basis_is_added():
    """The copy is made by hand, for speed; a new part of an answer must not get lost in it."""
    parts = {field.name: object() for field in dataclasses.fields(Answer)}
    parts |= {"answer": (), "authority": (), "errors": ()}
    whole = Answer(**parts)
    again = whole.made_of(frozenset({"alice.id"}), None)
    for name, part in parts.items():
        assert name == "basis" or getattr(again, name) is part or getattr(again, name) == part
    assert again.basis == Basis(frozenset({"alice.id"}), None, False)
