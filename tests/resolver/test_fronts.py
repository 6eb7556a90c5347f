"""Real resolvers in front of our doors find every answer they ask for, and so do their clients."""

import re
from types import SimpleNamespace

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.conftest import ROOT
from tests.resolver.doors.every_door import doors
from tests.resolver.forwarding.authority import Authority, serving_in_thread
from tests.resolver.fronts import FRONTS, program, running

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def others():
    """An ordinary DNS server in a thread of its own."""
    authority = Authority()
    authority.add("www.example.org", 300, "A", "192.0.2.80")
    authority.add("alias.example.org", 300, "CNAME", "www.example.org.")
    with serving_in_thread(authority):
        yield authority


@pytest.fixture(scope="module")
def ours(others, tmp_path_factory):
    with doors(tmp_path_factory.mktemp("doors"), forward=others.port) as running_doors:
        yield running_doors


@pytest.fixture(scope="module", params=FRONTS)
def front(request, ours, others, tmp_path_factory):
    needed = FRONTS[request.param][0]
    if program(needed) is None:
        pytest.skip(f"{needed} is missing: install it from Debian, or do as .ci/run does")
    folder = tmp_path_factory.mktemp("front")
    with running(request.param, folder, ours.dns, others.port) as port:
        yield SimpleNamespace(name=request.param, port=port)


@pytest.fixture
def ask(front):
    def ask(qname: str, rtype: str = "A", **more: object) -> dns.message.Message:
        query = dns.message.make_query(qname, rtype, use_edns=0, payload=1232, **more)
        reply, _ = dns.query.udp_with_fallback(query, "127.0.0.1", 10, front.port)
        assert query.is_response(reply)
        return reply

    return ask


@pytest.mark.parametrize(
    ("title", "front"),
    [
        ("unbound", "unbound with a stub-zone"),
        ("dnsmasq", "dnsmasq"),
        ("Knot Resolver", "knot-resolver"),
        *([("systemd-resolved", "systemd-resolved")] if "systemd-resolved" in FRONTS else []),
    ],
)
def test_the_readme_shows_what_is_run_here(title, front, tmp_path):
    """Every line of the snippet for a resolver is one that it is started with."""
    text = (ROOT / "resolver" / "forwarding" / "README.md").read_text("utf-8")
    found = re.search(rf"^{title}.*:\n\n((?:    .*\n)+)", text, re.MULTILINE)
    assert found is not None
    shown = {line.strip() for line in found[1].splitlines()}
    command = FRONTS[front][1](tmp_path, 1, 6253, 2)
    started_with = {word.removeprefix("--") for word in command}
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        started_with |= {line.strip() for line in file.read_text().splitlines()}
    assert shown <= started_with


def test_a_name_of_the_chain(ask):
    reply = ask("alice.bs", "TXT")
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.answer[0][0].strings == (b"hello",)
    assert reply.flags & dns.flags.RA
    assert ask("www.alice.bs").answer[0][0].address == "192.0.2.1"
    assert ask("www.alice.bs", "AAAA").answer[0][0].address == "2001:db8::1"


def test_the_case_of_a_question(ask):
    reply = ask("WwW.aLiCe.Bs")
    assert reply.question[0].name.to_text() == "WwW.aLiCe.Bs."
    assert reply.answer[0][0].address == "192.0.2.1"


def test_an_answer_too_long_for_a_datagram(ask):
    (rdata,) = ask("big.bs", "TXT").answer[0]
    assert b"".join(rdata.strings) == bytes(range(32, 127)) * 400


def test_data_that_must_be_fetched(ask):
    assert ask("slow.bs", "TXT").answer[0][0].strings == (b"over the network",)


def test_what_is_not_there_and_what_cannot_be_had(ask):
    missing = ask("nosuch.bs")
    assert missing.rcode() == dns.rcode.NXDOMAIN
    assert missing.authority[0].name.to_text() == "bs."
    empty = ask("alice.bs", "MX")
    assert (empty.rcode(), empty.answer) == (dns.rcode.NOERROR, [])
    assert ask("lost.bs", "TXT").rcode() == dns.rcode.SERVFAIL


def test_an_ordinary_name(ask):
    assert ask("www.example.org").answer[-1][0].address == "192.0.2.80"
    assert ask("alias.example.org").answer[-1][0].address == "192.0.2.80"
    assert ask("nosuch.example.org").rcode() == dns.rcode.NXDOMAIN


def test_no_name_of_ours_was_asked_of_the_ordinary_server(ask, others):
    ask("alice.bs", "TXT")
    asked = {query.question[0].name.to_text().lower() for query in others.asked}
    assert not {name for name in asked if name.endswith("bs.")}
