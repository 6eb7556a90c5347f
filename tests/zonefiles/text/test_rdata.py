"""RDATA is held to the form of its type, in fields and in octets alike."""

import dns.name
import dns.rdata
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zonefiles.text.edits import EditError, edit_zonefile
from zonefiles.text.rdata import MalformedRdata, is_loaded_everywhere, rdata_of
from zonefiles.text.zonefile import ZonefileError, parse_zonefile

ANCHOR = (b"alice", b"bs")
HTTPS = 65


def read(text: str, **options):
    return parse_zonefile(text.encode(), "alice.id", **options)


def wires(zonefile, rtype: int) -> list[bytes]:
    rrset = zonefile.rrset((b"x",), rtype)
    return [] if rrset is None else list(rrset.to_wire(ANCHOR))


MALFORMED = [
    r"TYPE61 \# 0",
    r"TYPE7 \# 0",
    r"MB \# 3 c00c00",
    r"A \# 3 0a0000",
    r"A \# 5 0a00000000",
    r"TXT \# 0",
    r"MX \# 2 0001",
    r"NS \# 2 c00c",
    r"TYPE14 \# 1 00",
    r"TYPE32769 \# 4 00010801",
    "HTTPS 1 . alpn=h2 dohpath=/x",
    "HTTPS 1 . alpn=h2 dohpath=x{?dns}",
    "HTTPS 1 . no-default-alpn",
    "HTTPS 1 . mandatory=alpn",
    "SVCB 1 . alpn=h2 dohpath=/x{?dnssec}",
    r"HTTPS \# 7 00010000010000",
    r"HTTPS \# 11 000100 0003000101 000000",
]


@pytest.mark.parametrize("record", MALFORMED)
def test_a_malformed_record_on_the_chain_is_dropped_and_counted_alone(record):
    zonefile = read(f"@ TXT hello\nx {record} ; a note\nx TYPE65280 \\# 1 00\ny A 192.0.2.1\n")
    assert (zonefile.record_count, zonefile.dropped) == (3, 1)
    assert wires(zonefile, 65280) == [b"\0"]
    assert zonefile.rrset((b"y",), 1) is not None


@pytest.mark.parametrize("record", MALFORMED)
def test_a_malformed_record_to_be_paid_for_is_refused_with_its_line(record):
    with pytest.raises(ZonefileError, match=r"^line 2: malformed [A-Z0-9]+ record: "):
        read(f"@ TXT hello\nx {record}\n", strict=True)
    with pytest.raises(EditError, match="malformed"):
        edit_zonefile(None, "alice.id", records=[f"x {record}"])


@pytest.mark.parametrize(
    ("record", "rtype", "wire"),
    [
        ("MB mail", 7, b"\4mail\5alice\2bs\0"),
        ("MG mail.example.net.", 8, b"\4mail\7example\3net\0"),
        ("MR @", 9, b"\5alice\2bs\0"),
        ("MINFO mail .", 14, b"\4mail\5alice\2bs\0\0"),
        (r"TYPE7 \# 1 00", 7, b"\0"),
        (r"MB \# 15 046d61696c 05616c696365 026964 00", 7, b"\4mail\5alice\2bs\0"),
        ("CLASS1 A 192.0.2.1", 1, b"\xc0\0\2\1"),
        ("60 class1 A 192.0.2.1", 1, b"\xc0\0\2\1"),
        ("CLASS1 60 A 192.0.2.1", 1, b"\xc0\0\2\1"),
        ("HTTPS 0 svc", HTTPS, b"\0\0\3svc\5alice\2bs\0"),
        ("HTTPS 0 . alpn=h2 port=1", HTTPS, b"\0\0\0\0\1\0\3\2h2\0\3\0\2\0\1"),
        (r"HTTPS \# 10 0000 00 0001 0003 026832", HTTPS, b"\0\0\0\0\1\0\3\2h2"),
        ("HTTPS 1 . alpn=h2 dohpath=/q{?dns}", HTTPS, b"\0\1\0\0\1\0\3\2h2\0\7\0\x08/q{?dns}"),
        ("HTTPS 1 . dohpath=/{x}{?a,dns*}", HTTPS, b"\0\1\0\0\7\0\x0d/{x}{?a,dns*}"),
    ],
)
def test_what_is_well_formed_is_served(record, rtype, wire):
    zonefile = read(f"x {record}\n", strict=True)
    assert (zonefile.record_count, zonefile.dropped) == (1, 0)
    assert wires(zonefile, rtype) == [wire]


@pytest.mark.parametrize("word", ["CLASS3", "CLASS0", "CLASS255", "CLASS65535", "CH"])
def test_another_class_is_named(word):
    with pytest.raises(ZonefileError, match=f"class {word}; only IN is served"):
        read(f"x {word} A 192.0.2.1\n")


@pytest.mark.parametrize("record", ["A 192.0.2.1", "DNAME ."])
def test_an_origin_of_at_stays_what_it_was(record):
    """Of plain lines, and of those that are not."""
    zonefile = read(f"$ORIGIN @\n$ORIGIN x\n$ORIGIN @\n@ {record}\ny A 192.0.2.2\n")
    assert zonefile.dropped == 0
    assert list(zonefile.owners()) == [(b"x",), (b"y", b"x")]


def test_a_file_of_which_nothing_can_be_served_is_still_a_zone_file():
    zonefile = read("x A \\# 0\n")
    assert (zonefile.record_count, zonefile.dropped) == (0, 1)
    assert not zonefile.exists((b"x",))


def test_what_only_some_server_refuses_is_served_and_known_for_it():
    zonefile = read("x MD y\nx TYPE38 \\# 2 80 00\n")
    assert zonefile.dropped == 0
    assert [is_loaded_everywhere(t, w) for t in (3, 38) for w in wires(zonefile, t)] == [False] * 2
    assert is_loaded_everywhere(1, b"\xc0\0\2\1")
    assert is_loaded_everywhere(65280, b"")


@given(
    st.sampled_from([*range(1, 41), *range(42, 128), *range(256, 270), 32768, 32769, 65280]),
    st.binary(max_size=60) | st.binary(max_size=6).map(lambda tail: b"\0\1\0" + tail),
)
def test_any_octets_come_out_as_they_came_or_are_malformed(rtype, wire):
    zone = dns.name.from_text("alice.id.")
    try:
        rdata = rdata_of(dns.rdatatype.RdataType.make(rtype), wire, zone)
    except MalformedRdata:
        return
    assert rdata.to_wire(origin=zone) == wire
    assert is_loaded_everywhere(rtype, wire) in (True, False)


@pytest.mark.parametrize(
    ("expression", "is_taken"),
    [
        ("", True),
        ("!^.*$!sip:x@example.com!i", True),
        (r"!^(tel:)?([0-9]{1,3}|x)*$!\\2\\1!", True),
        (r"!a\\!b!c!", True),
        ("!a!b", False),  # no third delimiter
        ("!a!b!x", False),  # no such flag
        ("1a1b1", False),  # a digit is no delimiter
        ("!(a!b!", False),
        (r"!(a)!\\2!", False),  # a group that is not there
        (r"!(a)!\\0!", False),
        ("!a|!b!", False),
        ("!a**!b!", False),
        ("!(?:a)!b!", False),
        ("![[:alpha:]--x]!b!", False),
        ("!!b!", False),
        (r"!a\\", False),
    ],
)
def test_a_substitution_that_some_server_may_not_read_stays_out_of_transfers(expression, is_taken):
    zonefile = parse_zonefile(f'x NAPTR 1 2 "u" "E2U+sip" "{expression}" .'.encode(), "alice.id")
    (wire,) = wires(zonefile, 35)
    assert is_loaded_everywhere(35, wire) is is_taken
