"""Upstreams as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.forwarding.upstreams import Upstream, read_upstream


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("192.0.2.53", Upstream("192.0.2.53", 53)),
        (" 192.0.2.53:5353 ", Upstream("192.0.2.53", 5353)),
        ("192.0.2.53@5353", Upstream("192.0.2.53", 5353)),  # unbound
        ("2001:DB8::53", Upstream("2001:db8::53", 53)),
        ("2001:db8::53@5353", Upstream("2001:db8::53", 5353)),
        ("[2001:db8::53]", Upstream("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", Upstream("2001:db8::53", 5353)),
        ("64:ff9b::192.0.2.1", Upstream("64:ff9b::c000:201", 53)),
        ("tls://9.9.9.9", Upstream("9.9.9.9", 853, True)),
        ("tls://9.9.9.9/", Upstream("9.9.9.9", 853, True)),
        ("TLS://9.9.9.9#DNS.Quad9.net.", Upstream("9.9.9.9", 853, True, "dns.quad9.net")),
        ("tls://9.9.9.9:8853#dns.quad9.net", Upstream("9.9.9.9", 8853, True, "dns.quad9.net")),
        ("tls://[2620:fe::fe]#dns.quad9.net", Upstream("2620:fe::fe", 853, True, "dns.quad9.net")),
        ("tls://2620:fe::fe#dns.quad9.net", Upstream("2620:fe::fe", 853, True, "dns.quad9.net")),
        ("9.9.9.9#dns.quad9.net", Upstream("9.9.9.9", 853, True, "dns.quad9.net")),  # resolved
        ("9.9.9.9@853#dns.quad9.net", Upstream("9.9.9.9", 853, True, "dns.quad9.net")),  # unbound
    ],
)
def test_what_other_programs_write_is_read(text, read):
    assert read_upstream(text) == read
    assert read_upstream(str(read)) == read


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is needed"),
        ("192.0.2.53:", "is needed"),
        ("192.0.2.53:port", "is needed"),
        ("192.0.2.53:0", "1 to 65535"),
        ("192.0.2.53:65536", "1 to 65535"),
        ("192.0.2.256", "no IP address"),
        ("dns.quad9.net", "no IP address"),
        ("tls://dns.quad9.net", "such as tls://9.9.9.9#dns.quad9.net"),
        ("9.9.9.9#", "behind #"),
        ("9.9.9.9#a..b", "behind #"),
        ("9.9.9.9#a#b", "is needed"),
        ("9.9.9.9#-a", "behind #"),
        ("https://9.9.9.9/dns-query", "tls://ADDRESS#NAME"),
        ("udp://9.9.9.9", "is needed"),
        ("[9.9.9.9", "is needed"),
        ("9.9.9.9 #a", "is needed"),
    ],
)
def test_what_is_none_is_refused_with_what_is_needed(text, says):
    with pytest.raises(ValueError, match=says):
        read_upstream(text)


@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)),
    st.integers(1, 65_535),
    st.booleans(),
)
def test_its_text_is_read_again_as_the_same(address, port, tls):
    upstream = Upstream(str(address), port, tls, "dns.example" if tls else "")
    assert read_upstream(str(upstream)) == upstream


@given(st.text(alphabet="tls:/[]@#.0159aF- ", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        read = read_upstream(text)
    except ValueError:
        return
    assert read_upstream(str(read)) == read
