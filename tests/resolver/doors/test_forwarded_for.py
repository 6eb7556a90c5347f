"""Who asks behind proxies: only named ones are believed, and only for what they add themselves."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.doors.forwarded_for import client_address

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
