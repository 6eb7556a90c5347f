"""The short way through a zone file says what the long way says, or nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rings import sampled
from tests.zonefiles.text.test_zonefile import HOSTILE, read, real_zonefiles
from zonefiles.text.plain_lines import read_plain_lines
from zonefiles.text.recordsets import MAX_RECORDS, RRset, Zonefile
from zonefiles.text.zonefile import MAX_BYTES, ZonefileError, read_all_lines

NAME = "alice.id"
ANCHORS = ((b"alice", b"bs"), (b"a", b"podcast", b"net"), (b"x" * 63,) * 3 + (b"y" * 50,))


def served(rrset: RRset) -> list[object]:
    return [(rrset.to_wire(anchor), rrset.targets(anchor)) for anchor in ANCHORS]


def everything(zonefile: Zonefile) -> list[object]:
    """All that can be learnt of a zone file, under several names."""
    sets = [
        (owner, int(rtype), int(rrset.rtype), rrset.ttl, len(rrset), served(rrset))
        for owner in zonefile.owners()
        for rtype, rrset in zonefile.rrsets(owner).items()
    ]
    counts = (zonefile.name, zonefile.dropped, zonefile.record_count)
    above = {owner[at:] for owner in zonefile.owners() for at in range(len(owner) + 1)}
    return [counts, sets, [zonefile.exists(labels) for labels in sorted(above)]]


def is_plain(text: str | bytes, name: str = NAME) -> bool:
    """Whether the short way takes ``text``; and then it must say what the long way says."""
    octets = text.encode() if isinstance(text, str) else text
    plain = read_plain_lines(octets, name)
    if plain is not None:
        assert everything(plain) == everything(read_all_lines(octets, name))
    return plain is not None


@pytest.mark.data
def test_of_the_real_zone_files_that_can_be_read_nearly_all_are_plain():
    rows = real_zonefiles()
    plain = readable = 0
    for row in rows:
        plain += is_plain(row["zonefile"], row["name"])
        try:
            read_all_lines(row["zonefile"].encode(), row["name"])
            readable += 1
        except ZonefileError:
            pass
    assert readable * 0.99 <= plain <= readable


PLAIN = [
    "",
    "\n\n",
    "; nothing but a comment",
    '$ORIGIN alice.id\n$TTL 3600\n_http._tcp\tIN\tURI\t10\t1\t"https://a.example/p.json"\n\n',
    "$origin ALICE.id.\n$ttl 5\nWww IN 7 a 192.0.2.1\nwww 6 IN A 192.0.2.2 ; two\r\n",
    "@ 300 IN A 192.0.2.1\n\t60 AAAA 2001:db8::1\n  AAAA ::ffff:192.0.2.1\n \n\t; none",
    "@ MX 10 mail\n@ MX 20 Mail.Alice.ID.\n@ MX 30 mail.example.com.\n@ MX 0 .\nwww CNAME @",
    "x CNAME a\nx CNAME A\n@ NS ns\n@ NS NS\n@ NS ns.Example.com.\n@ NS ns.example.COM.",
    "_s._tcp SRV 1 2 53 www\n_s._tcp SRV 01 0002 53 WWW\n4.3 PTR host.example.",
    '@ TXT a "b c" "" "d;e" f"g"h\n@ TXT "semi;colon" ; but "this" is a comment',
    '@ CAA 0 issue "ca.example; account=1"\n@ CAA 128 "iodef" x\n_h URI 1 1 ftp://x/',
    "$ORIGIN id.\nalice A 192.0.2.1\nbob A 192.0.2.2\n$ORIGIN alice\n@ A 192.0.2.3",
    "$ORIGIN www.alice.id\n@ A 192.0.2.1\n$ORIGIN deep\n@ A 192.0.2.2\n$ORIGIN .\n@ TXT x",
    "$ORIGIN example.com\n@ A nonsense\nalice.id. CNAME www\nnested.alice.id.example.com. TXT x",
    "@ 300 IN ALIAS example.com.\n@ TXT kept\n@ alias x",
    "a 5 A 192.0.2.1\nb A 192.0.2.1\n$TTL 9\nb A 192.0.2.1\n* A 192.0.2.9\n*.w A 192.0.2.9",
    "a A 192.0.2.1\rb A 192.0.2.2\n\rc A 192.0.2.3\r\r\n",
    "@@ A 192.0.2.1\n-x_y! TXT @\n@. A 192.0.2.1",
    "@ MX 1 " + ".".join(["a" * 60] * 4),
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_lines_are_read_the_short_way(text):
    assert is_plain(text)


NOT_PLAIN = [
    "\ufeffwww A 192.0.2.1",
    "é A 192.0.2.1",
    "www A ( 192.0.2.1 )",
    '@ TXT "(in a string)"',
    "w\\119w A 192.0.2.1",
    "@ TXT a\x0bb",
    "@ TXT a\0b",
    '@ TXT "open\n@ TXT closed"',
    '@ TXT "open\r@ TXT closed"',
    '@ TXT x ; a "comment',
    "$TTL 1h\n@ A 192.0.2.1",
    "$INCLUDE /etc/passwd",
    "$TTL 1 2",
    "$ORIGIN",
    '$ORIGIN "alice.id"',
    '"www" A 192.0.2.1',
    'www "A" 192.0.2.1',
    'www A "192.0.2.1"',
    'www MX "10" mail',
    'www MX 10 "mail"',
    "www 1h A 192.0.2.1",
    "www 2147483648 A 192.0.2.1",
    "www 1 2 A 192.0.2.1",
    "www IN IN A 192.0.2.1",
    "www CH A 192.0.2.1",
    "www TYPE1 192.0.2.1",
    "www SOA ns mail 1 2 3 4 5",
    "www",
    "www A",
    "www A 192.0.2.256",
    "www A 192.0.2.01",
    "www A 192.0.2.1 192.0.2.2",
    "www A " + "1" * 5_000 + ".0.0.1",
    "www AAAA fe80::1%eth0",
    "www AAAA 1:2:3",
    "www AAAA " + ":" * 5_000,
    "www MX 65536 mail",
    "www MX -1 mail",
    "www SRV 1 2 3",
    "www TXT",
    "www TXT " + "a" * 256,
    "www URI 1 1 " + '""',
    "www CAA 256 issue x",
    "www CAA 0 is-sue x",
    "www CAA 0 issue",
    "a..b A 192.0.2.1",
    ".a A 192.0.2.1",
    "a" * 64 + " A 192.0.2.1",
    ".".join(["a" * 60] * 5) + " A 192.0.2.1",
    "x CNAME a\nx CNAME b",
    "x CNAME a\nx A 192.0.2.1",
    "x A 192.0.2.1\nx CNAME a",
    "a NS a\n" + "\n".join(f" NS {n:x}" for n in range(MAX_RECORDS + 1)),
]


@pytest.mark.parametrize("text", NOT_PLAIN)
def test_what_may_mean_something_else_goes_the_long_way(text):
    assert not is_plain(text)


@pytest.mark.parametrize(
    "name", ["", ".", "alice.id.", "a\\.b.id", "é.id", "a" * 64 + ".id", "a@b"]
)
def test_a_name_with_odd_signs_goes_the_long_way(name):
    assert read_plain_lines(b"@ A 192.0.2.1", name) is None


@pytest.mark.parametrize("name", ["alice", "Alice.ID", "a.b.alice.id"])
def test_an_origin_that_is_the_name_means_the_same_both_ways(name):
    text = "$ORIGIN {}\n@ A 192.0.2.1\nwww CNAME @\nMX MX 1 Mail\n$ORIGIN x\ny NS z\n"
    for origin in (name, name.lower(), name.upper(), name + "."):
        assert is_plain(text.format(origin), name)


def test_the_budget_for_names_is_never_larger_than_on_the_long_way():
    deep = "$ORIGIN " + "a." * 119 + "alice.id\n"
    assert is_plain(deep + "@ CNAME x\n" * 10)
    assert not is_plain(deep + "@ CNAME x\n" * 2_000)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_plain_only_if_it_means_the_same(kind):
    text = HOSTILE[kind][:MAX_BYTES]
    if not is_plain(text):
        return
    assert read(text).record_count <= MAX_RECORDS


OWNERS = "@ www WWW a.b *.w _x._tcp www.alice.id. Alice.ID. id. bob.id. . alice.id $ a$ 7 in a"
NAMES = "@ www Mail mail.alice.id. mail.ALICE.id. mail.example.com. . a.b id. 10 a..b"
NUMBERS = "0 1 10 007 65535 65536 255 256 -1 1h 3600 4294967295 2147483647 x"
STRINGS = [
    "a",
    "l" * 30,
    "@",
    '""',
    '"b;c"',
    '"d e"',
    '" "',
    "f;g",
    '"h"i',
    'j"k"',
    '"',
    "\\x",
    "(",
]
number = st.sampled_from(NUMBERS.split())
a_name = st.sampled_from(NAMES.split())
a_string = st.sampled_from(STRINGS)
address4 = st.sampled_from(["192.0.2.1", "192.0.2.2", "1.2.3", "1.2.3.256", "01.2.3.4"])
address6 = st.sampled_from(["::", "::1", "2001:DB8::1", "2001:db8::1", "1::2::3", "::1.2.3.4"])
spaces = st.sampled_from([" ", "\t", "  ", " \t "])


def joined(*fields: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*fields).map(" ".join)


rdata = st.one_of(
    joined(st.sampled_from(["A", "a"]), address4),
    joined(st.just("AAAA"), address6),
    joined(st.sampled_from(["NS", "CNAME", "cname", "PTR", "DNAME"]), a_name),
    joined(st.just("MX"), number, a_name),
    joined(st.just("SRV"), number, number, number, a_name),
    joined(st.sampled_from(["URI", "uri"]), number, number, a_string),
    joined(st.just("CAA"), number, st.sampled_from(["issue", '"iodef"', "-"]), a_string),
    st.lists(a_string, max_size=4).map(lambda strings: " ".join(["TXT", *strings])),
    st.sampled_from(["ALIAS x", "TLSA 3 1 0 abcd", "A \\# 4 c0000201", "A", "FOO x"]),
)
before = st.lists(st.sampled_from(["IN", "in", "300", "60", "5", "CH", "1h"]), max_size=2)


@st.composite
def a_record(draw: st.DrawFn) -> str:
    owner = draw(st.sampled_from(["", "", "\t", *OWNERS.split()]))
    fields = [owner, *draw(before), draw(rdata)]
    end = draw(
        st.sampled_from(["", "", "", " ", " ; comment", ";c", '; "quoted"', ' ; "open', " x"])
    )
    return draw(spaces).join(fields) + end


a_line = st.one_of(
    a_record(),
    a_record(),
    a_record(),
    joined(st.sampled_from(["$TTL", "$ttl"]), number),
    joined(st.sampled_from(["$ORIGIN", "$origin"]), st.sampled_from([*OWNERS.split(), "alice.id"])),
    st.sampled_from(["", " ", "; comment", "\t;", "$GENERATE 1-2 a A 1.2.3.4"]),
)
a_file = st.tuples(
    st.lists(a_line, max_size=5), st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\n\r"])
).map(lambda parts: parts[1].join(parts[0]))


@settings(max_examples=sampled(400), deadline=None)
@given(a_file)
def test_a_file_that_is_plain_means_what_it_means_the_long_way(text):
    is_plain(text)


own_name = st.from_regex(
    r"[A-Za-z0-9_-]{1,20}(\.[a-z0-9]{1,9}){0,3}(\.alice\.id\.)?", fullmatch=True
)
any_name = st.one_of(own_name, st.sampled_from(["@", ".", "ns.example.com.", "Alice.ID."]))
small = st.integers(0, 0xFFFF).map(str)
word = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"();\\'))
any_string = st.one_of(word.filter(bool), word.map('"{}"'.format), st.just('"a; b"'))
plain_rdata = st.one_of(
    joined(st.just("A"), st.ip_addresses(v=4).map(str)),
    joined(st.just("AAAA"), st.ip_addresses(v=6).map(str)),
    joined(st.sampled_from(["NS", "PTR", "ns"]), any_name),
    joined(st.just("MX"), small, any_name),
    joined(st.just("SRV"), small, small, small, any_name),
    joined(st.just("URI"), small, small, any_string.filter(lambda string: string != '""')),
    joined(st.just("CAA"), st.integers(0, 255).map(str), st.just("issue"), any_string),
    joined(st.just("TXT"), any_string, any_string),
)
times = st.integers(0, 2**31 - 1).map(str)
in_any_order = st.one_of(
    st.sampled_from(["", "IN "]), times.map("{} ".format), times.map("{} IN ".format)
)
plain_record = st.builds(
    "{} {}{}".format, st.one_of(st.just(""), any_name), in_any_order, plain_rdata
)
plain_line = st.one_of(plain_record, plain_record, times.map("$TTL {}".format), st.just("; c"))


@settings(max_examples=sampled(200), deadline=None)
@given(st.lists(plain_line, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_lawful_records_in_plain_words_are_always_plain(lines, end):
    lines = ["$ORIGIN alice.id", "$TTL 3600", *lines]
    assert is_plain(end.join(lines))


@pytest.mark.data
@settings(max_examples=sampled(100), deadline=None)
@given(st.data())
def test_a_damaged_real_zone_file_means_the_same_both_ways(draw):
    row = draw.draw(st.sampled_from([r for r in _rows() if len(r["zonefile"]) < 1_000]))
    text = bytearray(row["zonefile"].encode())
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(text)))
        piece = draw.draw(
            st.sampled_from([b"", b" ", b"\n", b'"', b";", b".", b"@", b"$", b"1", b"\r"])
        )
        text[at : at + draw.draw(st.integers(0, 2))] = piece
    is_plain(bytes(text), row["name"])


_read_rows: list[dict] = []


def _rows() -> list[dict]:
    if not _read_rows:
        _read_rows.extend(real_zonefiles())
    return _read_rows
