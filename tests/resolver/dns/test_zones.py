"""Where a qname points, and what a zone says of itself."""

import dns.rdata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.dns.zones import (
    AtName,
    BadZone,
    NeverAName,
    NotOurs,
    ZoneApex,
    Zones,
    name_text,
    name_wire,
)

ZONES = Zones.from_settings({"bs": "id", "podcast.example.net": "podcast", "cast.BS": "podcast"})


def split(text: str):
    return ZONES.split_qname(tuple(text.encode().split(b".")) if text else ())


def test_the_label_left_of_the_suffix_is_the_name():
    place = split("alice.bs")
    assert isinstance(place, AtName)
    assert (place.chain_name, place.left, place.anchor) == ("alice.id", (), (b"alice", b"bs"))


def test_labels_left_of_the_name_are_kept_leftmost_first():
    place = split("a.b.alice.bs")
    assert isinstance(place, AtName)
    assert place.left == (b"a", b"b")


def test_a_suffix_of_several_labels_is_served():
    place = split("www.show.podcast.example.net")
    assert isinstance(place, AtName)
    assert place.chain_name == "show.podcast"
    assert place.anchor == (b"show", b"podcast", b"example", b"net")


def test_the_longest_suffix_decides():
    place = split("show.cast.bs")
    assert isinstance(place, AtName)
    assert place.chain_name == "show.podcast"


def test_two_suffixes_may_stand_for_one_namespace():
    one, other = split("x.cast.bs"), split("x.podcast.example.net")
    assert isinstance(one, AtName)
    assert isinstance(other, AtName)
    assert one.chain_name == other.chain_name
    assert one.anchor != other.anchor


def test_upper_case_is_the_same_name():
    assert split("WWW.AlIcE.bS") == split("www.alice.bs")


def test_the_suffix_itself_is_the_apex():
    assert isinstance(split("BS"), ZoneApex)


@pytest.mark.parametrize("text", ["", "com", "example.com", "example.net", "bs.com", "xbs"])
def test_other_names_are_not_ours(text):
    assert isinstance(split(text), NotOurs)


@pytest.mark.parametrize(
    "label", [b"a.b", b"a+b", b"\xff", b"a b", b"*", b"\0", b"x" * 35, b"caf\xc3\xa9", b"a\n"]
)
def test_a_label_that_no_chain_name_can_bear_is_known_as_such(label):
    assert isinstance(ZONES.split_qname((b"www", label, b"bs")), NeverAName)


def test_the_longest_name_of_the_chain_is_still_a_name():
    assert isinstance(ZONES.split_qname((b"x" * 34, b"bs")), AtName)


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=12))
def test_every_sequence_of_labels_has_a_place(labels):
    for tail in ((), (b"bs",), (b"podcast", b"example", b"net")):
        place = ZONES.split_qname((*labels, *tail))
        if isinstance(place, AtName):
            assert place.chain_name.count(".") == 1
            assert (*place.left, *place.anchor) == tuple(x.lower() for x in (*labels, *tail))


@pytest.mark.parametrize(
    ("suffixes", "says"),
    [
        ({}, "no zone"),
        ({"": "id"}, "empty"),
        ({".": "id"}, "empty"),
        ({"b s": "id"}, "'b s'"),
        ({"-bs": "id"}, "-bs"),
        ({"a..bs": "id"}, "''"),
        ({"bücher": "id"}, "xn--"),
        ({"x" * 64: "id"}, "1 to 63"),
        ({".".join(["x" * 60] * 4): "id"}, "200"),
        ({"bs": "I.D"}, "namespace"),
        ({"bs": ""}, "namespace"),
        ({"bs": "id\n"}, "namespace"),
        ({"bs": "x" * 20}, "namespace"),
        ({"bs": "id", "BS.": "podcast"}, "twice"),
        ({f"z{n}": "id" for n in range(65)}, "64"),
    ],
)
def test_a_zone_that_cannot_be_served_is_refused_with_a_sentence(suffixes, says):
    with pytest.raises(BadZone, match=says):
        Zones.from_settings(suffixes)


def test_a_zone_needs_a_name_server():
    with pytest.raises(BadZone, match="name server"):
        Zones.from_settings({"bs": "id"}, nameservers=())


def test_the_soa_serial_is_the_height_of_the_chain():
    zones = Zones.from_settings(
        {"bs": "id"}, nameservers=["ns1.example.net."], hostmaster="dns.example.net"
    )
    (zone,) = zones
    rdata = zone.soa_rdata(547_921)
    soa = dns.rdata.from_wire("IN", "SOA", rdata, 0, len(rdata))
    assert soa.mname.to_text() == "ns1.example.net."
    assert soa.rname.to_text() == "dns.example.net."
    assert (soa.serial, soa.minimum) == (547_921, 300)


def test_a_name_is_written_for_people_without_control_characters():
    assert name_text((b"a\n.b", b"bs")) == "a\\010\\046b.bs"
    assert name_text(()) == "."
    assert name_wire((b"a", b"bs")) == b"\x01a\x02bs\0"
