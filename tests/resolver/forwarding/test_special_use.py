"""Names that mean something elsewhere are not asked of anybody (RFC 6761, RFC 6303)."""

import dns.flags
import dns.message
import dns.name
import dns.reversename
import dns.rrset
import pytest

from resolver.dns.codes import Rcode
from resolver.forwarding.special_use import kept_answer, kept_zone
from tests.resolver.forwarding.test_parts import labels


@pytest.mark.parametrize(
    "name",
    [
        "printer.local", "LOCAL", "x.onion", "a.b.alt", "a.bit", "a.invalid", "nas.home.arpa",
        "_dns.resolver.arpa", "1.0.168.192.in-addr.arpa", "10.in-addr.arpa",
        "5.31.172.in-addr.arpa", "1.64.100.in-addr.arpa", "1.254.169.in-addr.arpa",
        "8.b.d.0.1.0.0.2.ip6.arpa", "1.d.f.ip6.arpa", "a.b.e.f.ip6.arpa", "2.0.0.127.in-addr.arpa",
    ],
)  # fmt: skip
def test_a_name_that_means_something_elsewhere_is_not_there(name):
    answer = kept_answer(labels(name), 1)
    apex = kept_zone(labels(name)) == tuple(part.lower() for part in labels(name))
    assert answer.rcode == (Rcode.NOERROR if apex else Rcode.NXDOMAIN)
    assert answer.answer == ()
    (soa,) = answer.authority
    assert soa.rtype == 6
    assert soa.owner == kept_zone(labels(name))


@pytest.mark.parametrize(
    "name",
    ["example.com", "localhost.example", "notlocal", "bit.ly", "in-addr.arpa", "ip6.arpa",
     "8.8.8.8.in-addr.arpa", "15.172.in-addr.arpa", "32.172.in-addr.arpa", "63.100.in-addr.arpa",
     "1.2.ip6.arpa", "c.f.ip6.arpa", ""],
)  # fmt: skip
def test_other_names_may_be_asked_of_others(name):
    assert kept_answer(labels(name), 1) is None


def test_who_validates_is_told_by_the_parent_that_home_arpa_is_unsigned():
    assert kept_answer(labels("Home.arpa"), 43) is None
    assert kept_answer(labels("nas.home.arpa"), 43).rcode == Rcode.NXDOMAIN


@pytest.mark.parametrize("name", ["localhost", "LocalHost", "www.localhost"])
def test_localhost_is_this_machine(name):
    assert kept_answer(labels(name), 1).answer[0].rdatas == (b"\x7f\0\0\1",)
    assert kept_answer(labels(name), 28).answer[0].rdatas == (bytes(15) + b"\1",)
    empty = kept_answer(labels(name), 15)
    assert (empty.rcode, empty.answer, len(empty.authority)) == (Rcode.NOERROR, (), 1)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_addresses_of_this_machine_are_called_localhost(address):
    name = dns.reversename.from_address(address).labels[:-1]
    answer = kept_answer(name, 12)
    assert answer.answer[0].rdatas == (b"\x09localhost\0",)
    assert kept_answer(name, 1).rcode == Rcode.NOERROR
    if address == "127.0.0.1":
        assert kept_answer(name[1:], 12).rcode == Rcode.NOERROR  # something is below it
        assert kept_answer((b"9", *name[1:]), 12).rcode == Rcode.NXDOMAIN
