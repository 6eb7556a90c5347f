"""Who asks behind proxies: only named ones are believed, and only for what they add themselves."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.doors.proxies import MAX_HEADER, BadHeader, client_address, read_header
from tests.resolver.doors.proxy_headers import LOCAL, SIGNATURE, proxied

PROXIES = [ipaddress.ip_network(one) for one in ("127.0.0.1/32", "10.0.0.0/8", "fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["127.0.0.1"], "192.0.2.1"),  # what a stranger writes of itself
        ("127.0.0.2", ["127.0.0.1"], None),  # a proxy of this machine that nobody named
        ("127.0.0.2", [], "127.0.0.2"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["127.0.0.1, 192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["127.0.0.1", "192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["192.0.2.1", "10.1.1.1"], "192.0.2.1"),
        ("127.0.0.1", ["127.0.0.1, 192.0.2.1, 10.1.1.1 ,fd00::1"], "192.0.2.1"),
        ("127.0.0.1", ["10.1.1.1"], "10.1.1.1"),
        ("127.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("::ffff:127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["192.0.2.1, unknown"], None),
        ("127.0.0.1", ["unknown, 192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", [""], None),
        ("127.0.0.1", ["192.0.2.1:80"], None),
        ("fe80::1%eth0", ["192.0.2.1"], "fe80::1%eth0"),
    ],
)
def test_the_client_is_the_right_most_address_that_is_no_proxy(peer, forwarded, client):
    assert client_address(peer, forwarded, PROXIES) == client


@given(st.ip_addresses().map(str), st.lists(st.text(max_size=50), max_size=5))
def test_nobody_but_a_named_proxy_changes_who_asks(peer, forwarded):
    for proxies in ([], PROXIES):
        client = client_address(peer, forwarded, proxies)
        assert client is None or ipaddress.ip_address(client.partition("%")[0])
        if not proxies:
            assert client in (peer, None)


@given(st.text(max_size=60), st.ip_addresses(v=4).filter(lambda ip: ip not in PROXIES[1]))
def test_what_the_client_wrote_itself_counts_for_nothing(written, ip):
    if ip.is_loopback:
        return
    assert client_address("127.0.0.1", [written, str(ip)], PROXIES) == str(ip)


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (proxied("192.0.2.1"), "192.0.2.1"),
        (proxied("192.0.2.1", transport=2), "192.0.2.1"),
        (proxied("2001:db8::1", tlv=300), "2001:db8::1"),
        (proxied("::ffff:192.0.2.1"), "192.0.2.1"),
        (LOCAL, None),
        (proxied("192.0.2.1", command=0x20), None),
        (SIGNATURE + b"\x21\0\0\x05abcde", None),
        (proxied("192.0.2.1", tlv=MAX_HEADER - 31), "192.0.2.1"),
    ],
)
def test_a_proxy_header_tells_who_asks_wherever_it_is_split(header, client):
    for cut in range(len(header)):
        assert read_header(header[:cut]) is None
    for rest in (b"", b"\0\x1fquestion", header):
        assert read_header(header + rest) == (len(header), client)


@pytest.mark.parametrize(
    "octets",
    [
        b"PROXY TCP4 192.0.2.1 127.0.0.1 5000 53\r\n",
        b"\0\x1f" + bytes(31),
        b"\x16\x03\x01",
        proxied("192.0.2.1", command=0x11),
        proxied("192.0.2.1", command=0x22),
        proxied("192.0.2.1", transport=0),
        proxied("192.0.2.1", tlv=MAX_HEADER - 30),
        SIGNATURE + b"\x21\x31\0\xd8" + bytes(216),
        SIGNATURE + b"\x21\x11\0\x0b" + bytes(11),
        SIGNATURE + b"\x21\x21\0\x23" + bytes(35),
    ],
    ids=["version 1", "dns", "tls", "version", "command", "transport", "long", "unix", "short",
         "short IPv6"],
)  # fmt: skip
def test_another_header_or_none_is_refused(octets):
    with pytest.raises(BadHeader):
        read_header(octets)


@given(st.binary(max_size=100), st.booleans())
def test_no_header_breaks_the_reader(octets, signed):
    octets = SIGNATURE + octets if signed else octets
    try:
        header = read_header(octets)
    except BadHeader:
        return
    assert header is None or header.length <= len(octets)
    if header is not None and header.client is not None:
        ipaddress.ip_address(header.client)
