"""The datagrams: exactly the right ones are read, and nothing else does anything."""

import struct

import pytest
import umsgpack
from hypothesis import given
from hypothesis import strategies as st

from zonefiles.dht.limits import Allowance, Shunned
from zonefiles.dht.messages import (
    DHT_MAX_VALUE,
    Contact,
    K,
    Request,
    clean_contacts,
    contact_rows,
    is_reachable,
    read_datagram,
    read_found,
    read_id,
    read_request,
    read_stored,
    unpack,
    write_reply,
    write_request,
)

ID, KEY, MESSAGE = b"i" * 20, b"k" * 20, b"m" * 20


def body_of(packet: bytes) -> bytes:
    return read_datagram(packet).body


@pytest.mark.parametrize(
    "request_",
    [
        Request("ping", ID),
        Request("find_node", ID, KEY),
        Request("find_value", ID, KEY),
        Request("store", ID, KEY, b"v" * DHT_MAX_VALUE),
        Request("store", ID, KEY, b""),
    ],
)
def test_what_is_written_is_read(request_):
    arguments = [request_.sender_id, request_.key, request_.value]
    count = {"ping": 1, "find_node": 2, "find_value": 2, "store": 3}[request_.function]
    packet = write_request(MESSAGE, request_.function, *arguments[:count])
    datagram = read_datagram(packet)
    assert (datagram.is_request, datagram.message_id) == (True, MESSAGE)
    assert read_request(datagram.body) == request_


def test_a_stun_request_has_no_arguments():
    assert read_request(body_of(write_request(MESSAGE, "stun"))) == Request("stun", b"")


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        ["ping"],
        ["ping", []],
        ["ping", [ID, KEY]],
        ["ping", [ID[:19]]],
        ["ping", [ID + b"x"]],
        ["ping", ["i" * 20]],
        ["ping", ID],
        ["ping", [ID], 1],
        [b"ping", [ID]],
        ["_timeout", [ID]],
        ["__init__", [ID]],
        ["find_node", [ID]],
        ["find_node", [ID, 7]],
        ["find_value", [ID, KEY[:3]]],
        ["store", [ID, KEY, "text"]],
        ["store", [ID, KEY, 1]],
        ["store", [ID, KEY, ["a"]]],
        ["store", [ID, KEY, b"v" * (DHT_MAX_VALUE + 1)]],
        {"ping": [ID]},
        ["stun", [ID]],
    ],
)
def test_a_request_that_is_not_exactly_right_is_none(message):
    assert read_request(umsgpack.packb(message)) is None


@pytest.mark.parametrize(
    "packet",
    [b"", b"\0", b"\0" * 21, b"\2" + MESSAGE + b"\xc0", b"\0" + MESSAGE + b"x" * 8193],
)
def test_a_packet_of_a_wrong_size_or_kind_is_none(packet):
    assert read_datagram(packet) is None


def test_replies_are_read_for_what_was_asked():
    assert read_id(body_of(write_reply(MESSAGE, ID))) == ID
    assert read_stored(body_of(write_reply(MESSAGE, True)))
    contacts = [Contact(bytes([n]) * 20, "192.0.2.1", 1000 + n) for n in range(K)]
    contacts = [c._replace(ip=f"203.0.114.{n}") for n, c in enumerate(contacts)]
    body = body_of(write_reply(MESSAGE, contact_rows(contacts)))
    assert read_found(body, "203.0.114.9") == contacts
    assert read_found(body_of(write_reply(MESSAGE, {"value": b"v"})), "203.0.114.9") == b"v"
    for odd in (None, 1, "x", {"value": "v"}, {"value": None}, {"other": b"v"}, {}, True):
        assert read_found(umsgpack.packb(odd), "203.0.114.9") is None
        assert read_id(umsgpack.packb(odd)) is None
    for odd in (None, 1, "x", {"value": "v"}, False, [True], 1.0):
        assert not read_stored(umsgpack.packb(odd))


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        [ID, "8.8.8.8"],
        [ID, "8.8.8.8", 53, 1],
        ["i" * 20, "8.8.8.8", 53],
        [ID[:19], "8.8.8.8", 53],
        [ID, "localhost", 53],
        [ID, "example.com", 53],
        [ID, "::1", 53],
        [ID, "8.8.8.8.", 53],
        [ID, "8.8.8", 53],
        [ID, "08.8.8.8", 53],
        [ID, 134744072, 53],
        [ID, None, 53],
        [ID, "8.8.8.8", 0],
        [ID, "8.8.8.8", -1],
        [ID, "8.8.8.8", 65536],
        [ID, "8.8.8.8", "53"],
        [ID, "8.8.8.8", 53.0],
        [ID, "8.8.8.8", True],
        [ID, "0.0.0.0", 53],
        [ID, "224.0.0.1", 53],
        [ID, "255.255.255.255", 53],
        [ID, "127.0.0.1", 53],
        [ID, "192.168.1.1", 53],
        [ID, "169.254.169.254", 80],
    ],
)
def test_a_row_that_is_no_contact_for_a_stranger_to_name_is_left_out(row):
    good = [KEY, "9.9.9.9", 6265]
    assert clean_contacts([row, good], "1.1.1.1") == [Contact(*good)]


def test_inside_a_house_its_own_addresses_are_believed():
    assert is_reachable("127.0.0.1", "127.0.0.1")
    assert is_reachable("192.168.1.1", "10.0.0.1")
    assert is_reachable("8.8.8.8", "127.0.0.1")
    assert not is_reachable("127.0.0.1", "10.0.0.1")


def test_no_more_than_k_contacts_are_read_each_address_once():
    rows = [[bytes([n]) * 20, "8.8.8.8", 1 + n % 5] for n in range(100)]
    assert len(clean_contacts(rows, "1.1.1.1")) == 5
    rows = [[bytes([n]) * 20, "8.8.8.8", 1 + n] for n in range(100)]
    assert len(clean_contacts(rows, "1.1.1.1")) == K


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False),
        st.binary(max_size=400),
        st.text(max_size=400),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=20),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers(0, 99)), inner, max_size=5),
    ),
    max_leaves=20,
)


def depth(value) -> int:
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    if isinstance(value, list | dict):
        return 1 + max(map(depth, inner), default=0)
    return 0


@given(values)
def test_our_reader_and_the_package_agree_on_messagepack(value):
    if depth(value) <= 4:
        assert unpack(umsgpack.packb(value)) == value


@given(st.binary(max_size=400))
def test_reading_any_bytes_never_raises(body):
    unpack(body)
    read_request(body)
    read_id(body)
    read_stored(body)
    read_found(body, "1.1.1.1")
    read_datagram(body)


@pytest.mark.parametrize(
    "body",
    [
        b"\x91" * 8000,
        b"\x81" * 8000,
        b"\xdd\xff\xff\xff\xff" + b"\x01" * 8000,
        b"\xdf\xff\xff\xff\xff" + b"\x01" * 8000,
        b"\xc6\xff\xff\xff\xff" + b"\x01" * 8000,
        b"\xdb\xff\xff\xff\xff" + b"\x01" * 8000,
        b"\xdc\x1f\x40" + b"\x01" * 8000,
        b"\xc7\x04\x01abcd",
        b"\xd4\x00\x00",
        b"\xc1",
        b"\xa2\xff\xfe",
        b"\x82\x90\x01\x02",
        b"\x01\x01",
        struct.pack(">B", 0xCB),
    ],
)
def test_messagepack_bombs_and_fragments_are_none(body):
    assert unpack(body) is None


def test_each_source_has_an_allowance_of_its_own_that_refills():
    allowance = Allowance(rate=2, burst=4)
    assert [allowance.take("a", 0.0) for _ in range(6)] == [True] * 4 + [False] * 2
    assert allowance.take("b", 0.0)
    assert [allowance.take("a", 1.0) for _ in range(3)] == [True, True, False]
    allowance.charge("a", 10)
    assert not allowance.take("a", 5.0)
    assert allowance.take("a", 100.0, cost=4)


def test_forged_sources_do_not_fill_the_memory():
    allowance, shunned = Allowance(1, 1, max_sources=10), Shunned(60, max_sources=10)
    for n in range(100):
        allowance.take(n, float(n))
        assert shunned.add(n, float(n))
    assert len(allowance) == 10
    assert len(shunned.offences()) == 10


def test_a_liar_is_left_alone_for_a_while_and_a_forged_offence_only_counted():
    shunned = Shunned(60)
    assert shunned.add("liar", 0.0)
    assert not shunned.add("liar", 1.0)
    assert shunned.covers("liar", 60.0)
    assert not shunned.covers("liar", 61.0)
    assert shunned.add("victim", 0.0, shun=False)
    assert not shunned.covers("victim", 0.0)
    assert shunned.offences() == {"liar": 2, "victim": 1}
