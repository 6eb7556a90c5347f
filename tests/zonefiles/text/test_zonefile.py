"""Reading zone files: the real ones, the forms the format allows, and whatever strangers write."""

import contextlib
import json
import time

import dns.rdata
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import DATA
from tests.rings import sampled
from zonefiles.text.zonefile import MAX_BYTES, ZonefileError, parse_zonefile, value_hash

A, NS, CNAME, SOA, MX, TXT, SRV, AAAA, HTTPS, URI = 1, 2, 5, 6, 15, 16, 33, 28, 65, 256
ANCHOR = (b"alice", b"bs")


def read(text: str | bytes, name: str = "alice.id"):
    return parse_zonefile(text.encode() if isinstance(text, str) else text, name)


def error_of(text: str | bytes, name: str = "alice.id") -> ZonefileError:
    with pytest.raises(ZonefileError) as caught:
        read(text, name)
    return caught.value


def shown(zonefile, *labels: bytes, rtype: int, anchor=ANCHOR) -> list[str]:
    """The records there, decoded from the wire by dnspython."""
    rrset = zonefile.rrset(labels, rtype)
    if rrset is None:
        return []
    wires = rrset.to_wire(anchor)
    return [dns.rdata.from_wire(1, rtype, w, 0, len(w)).to_text() for w in wires]


def real_zonefiles() -> list[dict]:
    with (DATA / "zonefiles" / "real.jsonl").open() as rows:
        return [json.loads(row) for row in rows]


def test_the_hash_is_the_one_the_chain_holds_for_the_text_of_the_specification():
    text = (
        "$ORIGIN muneeb.id\n$TTL 3600\n_http._tcp URI 10 1 "
        '"https://gaia.blockstack.org/hub/1J3PUxY5uDShUnHRrMyU6yKtoHEUPhKULs/0/profile.json"\n'
    )
    assert value_hash(text.encode()).hex() == "37aecf837c6ae9bdc9dbd98a268f263dacd00361"


@pytest.mark.data
def test_every_real_zone_file_has_its_hash_and_can_be_read():
    """Refused are at most one in a hundred; each of those must be refused by its line."""
    rows = real_zonefiles()
    refused = {}
    for row in rows:
        text = row["zonefile"].encode()
        assert value_hash(text).hex() == row["hash"], row["name"]
        try:
            zonefile = parse_zonefile(text, row["name"])
        except ZonefileError as error:
            refused[row["name"]] = str(error)
            continue
        lines = [s for s in row["zonefile"].splitlines() if s.strip() and s.strip()[0] not in "$;"]
        kept = zonefile.record_count + zonefile.dropped
        assert kept <= len(lines), row["name"]
        assert kept or not lines, row["name"]
        for owner in zonefile.owners():
            for rrset in zonefile.rrsets(owner).values():
                assert all(rrset.to_wire(ANCHOR)), row["name"]
    assert len(refused) <= max(2, len(rows) // 100), refused
    if any(row["name"] == "test-personal.id" for row in rows):
        assert "expected the end of the line" in refused["test-personal.id"]


@pytest.mark.data
def test_real_uri_records_come_out_as_they_were_written():
    seen = 0
    for row in real_zonefiles():
        if row["zonefile"].count("URI") != 1 or "\\" in row["zonefile"]:
            continue
        try:
            zonefile = parse_zonefile(row["zonefile"].encode(), row["name"])
        except ZonefileError:
            continue
        for owner in zonefile.owners():
            for wire in (r.to_wire(ANCHOR) for r in [zonefile.rrset(owner, URI)] if r):
                target = row["zonefile"].split("URI")[1].split('"')[1]
                assert [w[4:] for w in wire] == [target.encode()]
                seen += 1
    assert seen


@pytest.mark.parametrize(
    "text",
    [
        "$ORIGIN alice.id\nwww IN A 192.0.2.1\n",
        "$ORIGIN alice.id.\nwww IN A 192.0.2.1",
        "$origin ALICE.id\nwww\ta\t192.0.2.1\n\n\n",
        "www 3600 IN A 192.0.2.1",
        "www IN 1h A 192.0.2.1",
        "WWW.alice.id. A 192.0.2.1 ; with a comment",
        "$ORIGIN www.alice.id\n@ A 192.0.2.1",
        "$ORIGIN alice.id\n$ORIGIN www\n@ A 192.0.2.1",
        "www A (\n 192.0.2.1 ; inside\n )\n",
        "www A 192.0.2.1\r\n\r\n",
        "\ufeff$ORIGIN alice.id\n  \n\t; nothing\nwww A 192.0.2.1",
        "www TYPE1 \\# 4 c0000201",
        "www A \\# 4 ( c000\n0201 )",
    ],
)
def test_the_same_record_written_in_other_ways(text):
    zonefile = read(text)
    assert shown(zonefile, b"www", rtype=A) == ["192.0.2.1"]
    assert zonefile.rrset((b"www",), A).ttl == 3600
    assert (zonefile.record_count, zonefile.dropped) == (1, 0)


def test_a_record_without_a_name_belongs_to_the_one_before():
    zonefile = read("$ORIGIN alice.id\n  TXT first\nwww A 192.0.2.1\n  A 192.0.2.2\n\tTXT hello\n")
    assert shown(zonefile, rtype=TXT) == ['"first"']
    assert shown(zonefile, b"www", rtype=A) == ["192.0.2.1", "192.0.2.2"]
    assert shown(zonefile, b"www", rtype=TXT) == ['"hello"']


def test_ttls_come_from_the_record_then_from_ttl_lines_then_from_the_last_stated():
    zonefile = read(
        "a A 192.0.2.1\nb 5 A 192.0.2.1\nc A 192.0.2.1\n$TTL 1h30m\nd A 192.0.2.1\ne 1d A 192.0.2.1"
    )
    ttls = [zonefile.rrset((owner,), A).ttl for owner in (b"a", b"b", b"c", b"d", b"e")]
    assert ttls == [3600, 5, 5, 5400, 86400]


def test_a_set_has_each_record_once_and_the_least_ttl():
    zonefile = read("a 60 A 192.0.2.1\nA 30 A 192.0.2.1\na 90 A 192.0.2.2\nb NS NS\nB NS ns")
    rrset = zonefile.rrset((b"a",), A)
    assert (len(rrset), rrset.ttl, rrset.rtype) == (2, 30, A)
    assert len(zonefile.rrset((b"b",), NS)) == 1
    assert zonefile.record_count == 3


def test_records_outside_the_name_are_dropped_and_counted():
    zonefile = read(
        "$ORIGIN alice.id\nwww.bob.id. A 192.0.2.1\nid. TXT x\n. NS a.\nxalice.id. A 192.0.2.1\n"
        "$ORIGIN bob.id\n@ TXT not even ( checked\n further )\n$ORIGIN example.com.\n"
        "@ A 192.0.2.1\nok.alice.id. A 192.0.2.1\n"
    )
    assert zonefile.dropped == 6
    assert list(zonefile.owners()) == [(b"ok",)]


def test_alias_records_have_no_form_in_dns_and_are_dropped():
    zonefile = read("@ 300 IN ALIAS example.com.\n@ TXT kept")
    assert (zonefile.dropped, zonefile.record_count) == (1, 1)


def test_names_of_the_zone_file_move_under_the_anchor_and_others_stay():
    zonefile = read(
        "$ORIGIN alice.id\n@ MX 10 mail\n@ MX 20 Mail.Alice.ID.\n@ MX 30 mail.example.com.\n"
        "@ MX 0 .\nwww CNAME @\n_s._tcp SRV 1 2 53 www\nh HTTPS 1 . alpn=h2\n"
        "h HTTPS 2 svc port=53\ng CNAME \\# 14 03777777 05616c696365 026964 00\n"
    )
    assert shown(zonefile, rtype=MX) == [
        "10 mail.alice.bs.",
        "20 Mail.alice.bs.",
        "30 mail.example.com.",
        "0 .",
    ]
    assert zonefile.rrset((), MX).targets(ANCHOR) == (
        (b"mail", b"alice", b"bs"),
        (b"mail", b"alice", b"bs"),
        (b"mail", b"example", b"com"),
        (),
    )
    assert shown(zonefile, b"www", rtype=CNAME) == ["alice.bs."]
    assert shown(zonefile, b"www", rtype=CNAME, anchor=(b"a", b"podcast", b"net")) == [
        "a.podcast.net."
    ]
    assert shown(zonefile, b"_s", b"_tcp", rtype=SRV) == ["1 2 53 www.alice.bs."]
    assert zonefile.rrset((b"_s", b"_tcp"), SRV).targets(ANCHOR) == ((b"www", b"alice", b"bs"),)
    assert zonefile.rrset((b"h",), HTTPS).targets(ANCHOR) == ((), (b"svc", b"alice", b"bs"))
    assert shown(zonefile, b"g", rtype=CNAME) == ["www.alice.bs."]


def test_a_target_too_long_under_the_anchor_is_left_out_and_nothing_raises():
    label = "a" * 60
    long_name = ".".join([label] * 4)  # 244 octets; 254 under alice.id
    zonefile = read(f"@ MX 1 {long_name}\n@ MX 2 short\n")
    at_home = zonefile.rrset((), MX)
    assert len(at_home.to_wire((b"alice", b"id"))) == 2
    assert len(at_home.to_wire((b"alice", b"idx"))) == 2  # 255 exactly
    assert len(at_home.to_wire((b"alice", b"idxx"))) == 1
    assert at_home.targets((b"alice", b"idxx")) == ((b"short", b"alice", b"idxx"),)


def test_what_lies_above_a_record_exists():
    zonefile = read("a.b.c TXT x\n*.w A 192.0.2.1")
    for labels in [(), (b"c",), (b"b", b"c"), (b"a", b"b", b"c"), (b"w",), (b"*", b"w")]:
        assert zonefile.exists(labels), labels
    for labels in [(b"a",), (b"b",), (b"x", b"a", b"b", b"c"), (b"v", b"w")]:
        assert not zonefile.exists(labels), labels
    assert dict(zonefile.rrsets((b"b", b"c"))) == {}
    assert zonefile.rrset((b"c",), TXT) is None


def test_strings_of_txt_keep_their_bytes():
    zonefile = read('@ TXT "a;b" "\\"q\\"" \\228\\000 "é" ""\nb TXT "owner=1A" "zf0=YQ\\=\\="')
    assert zonefile.rrset((), TXT).to_wire(ANCHOR) == (
        b'\x03a;b\x03"q"\x02\xe4\x00\x02\xc3\xa9\x00',
    )
    assert zonefile.rrset((b"b",), TXT).to_wire(ANCHOR) == (b"\x08owner=1A\x08zf0=YQ==",)


def test_types_that_nobody_knows_pass_through():
    zonefile = read(
        "@ TYPE65280 \\# 3 010203\n@ CAA 0 issue x\n@ TLSA 3 1 0 abcd\n@ LOC 1 N 1 E 1m"
    )
    assert zonefile.rrset((), 65280).to_wire(ANCHOR) == (b"\1\2\3",)
    assert len(zonefile.rrsets(())) == 4


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("\n\nwww A 192.0.2.256", 3, "unreadable A record: its fields do not fit the type"),
        ("www A 192.0.2.1 extra", 1, 'expected the end of the line, found "extra"'),
        ("@ TXT (\n a\n b", 1, "unbalanced parentheses"),
        ('@ TXT x\n@ TXT "open\n', 2, "newline in quoted string"),
        ('{"name": {"formatted": "Taylor Swift"}}', 1, "expected a record type"),
        ("$INCLUDE /etc/passwd", 1, "$INCLUDE is not allowed"),
        ("$GENERATE 1-9999 h$ A 192.0.2.$", 1, "$GENERATE is not allowed"),
        ("@ CH TXT x", 1, "class CH; only IN is served"),
        ("@ AXFR x", 1, "asked for, never stored"),
        ("@ TYPE41 \\# 0", 1, "asked for, never stored"),
        ("@ FOO x", 1, '"FOO" is not a record type'),
        ("@ 4294967296 A 192.0.2.1", 1, "is not a time of 32 bits"),
        ("$TTL soon", 1, "TTL soon is not a time"),
        ("$TTL", 1, "$TTL without a value"),
        ("$ORIGIN", 1, "$ORIGIN without a name"),
        ("a..b A 192.0.2.1", 1, "label is empty"),
        ("a" * 64 + " A 192.0.2.1", 1, "63 octets"),
        ("a." * 2000 + " A 192.0.2.1", 1, "longer than 255 octets"),
        ("@ A 192.0.2.1\nx CNAME @\nx A 192.0.2.1", 3, "a record beside the CNAME at x"),
        ("x A 192.0.2.1\nx CNAME @", 2, "a CNAME beside other records at x"),
        ("x CNAME a\nx CNAME b", 2, "a second, different CNAME record at x"),
        (b"@ TXT a\n@ TXT \xff", 2, "byte 0xff is not UTF-8 text"),
        (b"x" * (MAX_BYTES + 1), 1, "40961 bytes are more than the 40960 allowed"),
        ("@ FOO\x1b[31m x", 1, "?[31M"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, line, reason):
    error = error_of(text)
    assert error.line == line
    assert reason in error.reason
    assert str(error) == f"line {line}: {error.reason}"
    assert str(error).isprintable()
    assert len(str(error)) < 250


def test_what_only_a_whole_zone_has_is_left_out_and_makes_no_node():
    rrsig = "RRSIG CNAME 8 2 60 20300101000000 20200101000000 1 @ AAAA"
    soa = "SOA ns. me. (\n1 2 3\n4 5 ) ; as in any zone"
    zonefile = read(f"x CNAME @\nx {rrsig}\nn NSEC @ A\na.s {soa}\nz A 1.2.3.4")
    assert (zonefile.record_count, zonefile.dropped) == (2, 3)
    assert zonefile.rrsets((b"x",)).keys() == {CNAME}
    assert not any(zonefile.exists(labels) for labels in [(b"n",), (b"a", b"s"), (b"s",)])


def test_a_cname_may_stand_beside_a_key():
    zonefile = read("x CNAME @\nx KEY 512 3 5 AQID\ny KEY 512 3 5 AQID\ny CNAME @\nx CNAME @")
    assert zonefile.record_count == 4


def test_a_time_with_its_highest_bit_set_counts_as_zero():
    zonefile = read("$TTL 4294967295\nwww A 192.0.2.1\nold 2147483648 A 192.0.2.1")
    assert {zonefile.rrset((label,), A).ttl for label in (b"www", b"old")} == {0}
    assert "is not a time" in error_of("www 4294967296 A 192.0.2.1").reason


def test_an_owner_may_stand_in_quotes():
    zonefile = read('"www" A 192.0.2.1\n"w w" A 192.0.2.2')
    assert list(zonefile.owners()) == [(b"www",), (b"w w",)]
    assert error_of('"" A 192.0.2.1').reason == "expected a name"


def test_at_most_4096_records_are_read():
    records = [f"{n:x} A 1.2.3.4" for n in range(2900)]
    assert read("\n".join(records)).record_count == 2900
    text = "\n".join(f"A \\# 4 {n:08x}" if n == 0 else f" A \\# 4 {n:08x}" for n in range(4097))
    assert len(text) > MAX_BYTES, "the byte bound is met long before with records of this kind"
    short = "a NS a\n" + "\n".join(f" NS {n:x}" for n in range(4097))
    assert error_of(short).reason == "more than 4096 records"


HOSTILE = {
    "a very long word": b"a" * MAX_BYTES,
    "backslashes": b"\\" * MAX_BYTES,
    "opened parentheses": b"(" * MAX_BYTES,
    "pairs of parentheses": b"()" * (MAX_BYTES // 2),
    "empty strings": b"@ TXT " + b'""' * 20_000,
    "empty lines": b"\n" * MAX_BYTES,
    "carriage returns": b"\r" * MAX_BYTES,
    "a comment": b";" * MAX_BYTES,
    "the same record again and again": b"@ TXT a\n" * 5_000,
    "a number of 40,000 digits": b"@ MX " + b"1" * 40_000 + b" a",
    "a TTL of many units": b"@ " + b"1w" * 20_000 + b" A 1.2.3.4",
    "labels beyond ASCII": "é".encode() * 20_000,
    "many $ORIGIN lines": b"$ORIGIN a\n" * 4_000,
    "deep owners and targets": b"$ORIGIN "
    + b"a." * 119
    + b"alice.id\n"
    + b"".join(b"%x CNAME %x\n" % (n, n) for n in range(2_000)),
    "deep names in one record": b"$ORIGIN "
    + b"a." * 119
    + b"alice.id\n@ HIP 2 00 AAAA "
    + b"a " * 20_000,
    "many service parameters": b"@ HTTPS 1 . "
    + b" ".join(b"key%d=a" % n for n in range(100, 4_000)),
    "many types in a bitmap": b"@ NSEC a " + b" ".join(b"TYPE%d" % n for n in range(300, 5_000)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_costs_no_more_than_honest_text_of_its_size(kind):
    began = time.process_time()
    with contextlib.suppress(ZonefileError):
        read(HOSTILE[kind][:MAX_BYTES])
    assert time.process_time() - began < 1.0


def parse_any(text: bytes) -> None:
    """Read it; only ZonefileError may come out, and what is kept can be served anywhere."""
    try:
        zonefile = parse_zonefile(text, "alice.id")
    except ZonefileError as refusal:
        error = refusal
    else:
        error = None
    if error is not None:
        assert 1 <= error.line <= text.count(b"\n") + text.count(b"\r") + 1
        return
    for anchor in (ANCHOR, (b"x" * 63,) * 3 + (b"y" * 50,)):
        for owner in zonefile.owners():
            assert zonefile.exists(owner)
            assert owner == tuple(label.lower() for label in owner)
            for rtype, rrset in zonefile.rrsets(owner).items():
                assert rrset.rtype == rtype
                assert 0 <= rrset.ttl < 2**31
                wires = rrset.to_wire(anchor)
                assert len(wires) <= len(rrset)
                assert len(rrset.targets(anchor)) in (0, len(wires))
                for target in rrset.targets(anchor):
                    assert sum(len(label) + 1 for label in target) < 255


@given(st.binary(max_size=300))
def test_reading_any_bytes_raises_nothing_else(text):
    parse_any(text)


WORDS = [
    "@ A AAAA CNAME DNAME MX NS SOA SRV TXT URI HTTPS SVCB CAA HIP NAPTR NSEC TYPE65280 RRSIG LOC",
    "IN CH 0 1 65535 65536 4294967296 1h -1 1.2.3.4 ::1 a a. www.alice.id. . .. * \\# \\000 \\256",
    'alpn=h2 mandatory=alpn key1= AAAA dead "x" "" ( ) ; $TTL $ORIGIN alice.id é \\ 20300101000000',
]
words = st.sampled_from([w for row in WORDS for w in row.split()])
lines = st.lists(words, max_size=9).map(" ".join)


@settings(max_examples=sampled(300))
@given(st.lists(lines, max_size=6).map("\n".join))
def test_reading_any_words_of_the_format_raises_nothing_else(text):
    parse_any(text.encode())


@pytest.mark.data
@settings(max_examples=sampled(60), deadline=None)
@given(st.data())
def test_reading_damaged_real_zone_files_raises_nothing_else(draw):
    rows = real_rows()
    text = bytearray(rows[draw.draw(st.integers(0, len(rows) - 1))])
    for _ in range(draw.draw(st.integers(1, 6))):
        at = draw.draw(st.integers(0, max(0, len(text) - 1)))
        piece = draw.draw(st.one_of(st.binary(max_size=4), words.map(str.encode)))
        text[at : at + draw.draw(st.integers(0, 4))] = piece
    parse_any(bytes(text[:MAX_BYTES]))


_rows: list[bytes] = []


def real_rows() -> list[bytes]:
    """The texts of the smaller real zone files, read once."""
    if not _rows:
        _rows.extend(
            row["zonefile"].replace(row["name"], "alice.id").encode()
            for row in real_zonefiles()
            if len(row["zonefile"]) < 4000
        )
    return _rows
